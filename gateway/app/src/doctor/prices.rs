//! Prices: how old they are, and models that tenants may use and no cap can be kept with.

use tollgate_core::policy::{Policy, Tenant};
use tollgate_core::price::PriceBook;
use tollgate_core::time::Timestamp;

use super::finding::{Area, Finding};

const AREA: Area = Area("prices");

/// Providers change prices every few weeks.
const STALE_DAYS: u64 = 60;
const DAY_SECONDS: u64 = 86_400;

pub(super) struct Facts {
    pub(super) now: Timestamp,
    /// As of when the catalogue in force is.
    pub(super) as_of: Timestamp,
    /// Models that are named in policy and have no price: whose, the provider's, which.
    pub(super) unpriced: Vec<(String, String, String)>,
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let days = facts.now.since(facts.as_of).as_secs() / DAY_SECONDS;
    let mut found = vec![if days > STALE_DAYS {
        AREA.warning(
            format!("the catalogue is {days} days old"),
            "fetch genai-prices' data.json, compare it with `tollgate prices diff`, install it with `tollgate prices update`",
        )
    } else {
        AREA.ok(format!("the catalogue is {days} days old"))
    }];
    for (tenant, provider, model) in &facts.unpriced {
        found.push(AREA.warning(
            format!("tenant `{tenant}` may use `{model}` of {provider}, which has no price: under its cap such calls are refused (model_not_priced)"),
            "correct the name, or give it a price in `prices_file`",
        ));
    }
    found
}

/// Models that a capped tenant's grants name in full and that have no price.
pub(super) fn unpriced(
    policy: &Policy,
    prices: &PriceBook,
    at: Timestamp,
) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for tenant in policy.tenants.values().filter(|tenant| is_capped(tenant)) {
        for grant in &tenant.grants {
            let Some(provider) = policy.providers.get(grant.provider.as_str()) else {
                continue;
            };
            let Some(catalogue) = &provider.prices else {
                continue;
            };
            let named = grant.models.iter().map(ToString::to_string);
            for model in named.filter(|model| !model.ends_with('*')) {
                let alias = provider
                    .aliases
                    .iter()
                    .find(|(alias, _)| alias.as_str() == model);
                let means = alias.map_or(model.as_str(), |(_, model)| model.as_str());
                if prices.rates(catalogue, means, at).is_none() {
                    found.push((tenant.id.to_string(), provider.name.to_string(), model));
                }
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

fn is_capped(tenant: &Tenant) -> bool {
    tenant.caps.daily.is_some() || tenant.caps.monthly.is_some() || tenant.task_cap.is_some()
}

/// That they cannot be used.
pub(super) fn unusable(why: &str) -> Finding {
    AREA.problem(format!("cannot be used: {why}"), "correct the file; a gateway would not start with it, and one that runs keeps the last good ones")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn old_prices_and_models_without_one_are_told() {
        let judged = |as_of: &str, unpriced| {
            judge(&Facts {
                now: "2026-11-23T12:00:00Z".parse().unwrap(),
                as_of: as_of.parse().unwrap(),
                unpriced,
            })
        };
        let model = (
            "acme".to_owned(),
            "openai".to_owned(),
            "gpt-typo".to_owned(),
        );
        let found = judged("2026-11-01T00:00:00Z", vec![model]);
        assert_eq!(
            (found[0].level, found[1].level),
            (Level::Ok, Level::Warning)
        );
        assert!(found[1].what.contains("`gpt-typo` of openai"), "{found:?}");
        let found = judged("2026-06-01T00:00:00Z", Vec::new());
        assert_eq!(found[0].level, Level::Warning);
        assert_eq!(found[0].what, "the catalogue is 175 days old");
        // A clock that was put back is told elsewhere.
        assert_eq!(
            judged("2027-06-01T00:00:00Z", Vec::new())[0].level,
            Level::Ok
        );
    }
}
