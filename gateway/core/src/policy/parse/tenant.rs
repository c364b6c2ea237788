//! Reads one file of `tenants/`, against the providers already known.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroU64};
use std::str::FromStr;

use super::{Providers, certificate, credential, elevated, records};
use crate::ids::{AgentId, ProviderName};
use crate::money::PicoUsd;
use crate::policy::reader::{self, Section};
use crate::policy::{
    Caps, Clamp, Grant, ModelLimits, NamePattern, PathPattern, Provider, ScopeLimits, Tenant,
    Unreported,
};
use crate::rate::{Limits, RateLimit};

/// Assumed where neither the request nor the model bounds the output: what common models give at
/// most by default, so that the reservation is an upper bound without being absurd.
const DEFAULT_MAX_OUTPUT_TOKENS: u64 = 16_384;

/// Shares of a cap that are worth a notice unless the policy says otherwise.
const DEFAULT_SHARES: [u8; 3] = [50, 80, 100];

const UNREPORTED: &[(&str, Unreported)] = &[
    ("estimate", Unreported::Estimate),
    ("reservation", Unreported::Reservation),
];

/// A name that is spoken of in two places: the provider, or at least that it exists.
pub(super) enum Known<'p> {
    Whole(&'p Provider),
    /// Its own file holds mistakes, which are reported there.
    Broken,
}

/// A tenant, where its id stands, and the certificates of its agents.
pub(super) type TenantFile = (Tenant, usize, Vec<certificate::Mapping>);

pub(super) fn read(root: &Section<'_>, providers: &Providers) -> Option<TenantFile> {
    if !root.has("tenant") {
        root.mistake(0, "a tenant file begins with [tenant]");
    }
    let head = root.table("tenant", |section| {
        let id = section.required("id", reader::parsed);
        let enabled = section.optional("enabled", reader::boolean);
        let bound = section.optional("default_max_output_tokens", reader::integer(1..=10_000_000));
        Some((id?, section.at("id"), enabled, bound))
    });
    let (caps, task_cap, notify_percent, unreported) = root
        .table("caps", |section| {
            let task = section.optional("task_usd", reader::money);
            let unreported = section.optional("unreported_usage", reader::one_of(UNREPORTED));
            let caps = read_caps(section);
            (
                caps,
                task,
                read_shares(section),
                unreported.unwrap_or_default(),
            )
        })
        .unwrap_or_else(|| {
            let shares = DEFAULT_SHARES.to_vec();
            (Caps::default(), None, shares, Unreported::default())
        });
    let limits = root.table("limits", read_limits).unwrap_or_default();
    let clamp = root.table("clamp", |section| Clamp {
        max_output_tokens: section.optional("max_output_tokens", reader::integer(1..=10_000_000)),
    });
    let grants = root
        .tables("allow", |section| read_grant(section, providers))
        .into_iter()
        .flatten()
        .collect();
    let elevated = elevated::read(root, providers);
    let (agents, disabled_agents) = read_agents(root);
    let records = records::read(root);
    let usage_readers = root.table("usage", |section| patterns(section, "readers"));
    let models = read_models(root);
    let head = head.flatten();
    let id = head.as_ref().map(|(id, ..)| id);
    let credentials = credential::read(root, providers, id);
    let certificates = certificate::read(root, id);
    let (id, at, enabled, bound) = head?;
    let tenant = Tenant {
        id,
        enabled: enabled.unwrap_or(true),
        caps,
        task_cap,
        limits,
        default_max_output_tokens: bound.unwrap_or(DEFAULT_MAX_OUTPUT_TOKENS),
        clamp,
        unreported,
        notify_percent,
        grants,
        elevated,
        credentials,
        agents,
        disabled_agents,
        models,
        records,
        usage_readers: usage_readers.unwrap_or_default(),
    };
    Some((tenant, at, certificates))
}

fn read_caps(section: &Section<'_>) -> Caps {
    let cap = |key| section.optional::<PicoUsd>(key, reader::money);
    Caps {
        daily: cap("daily_usd"),
        monthly: cap("monthly_usd"),
    }
}

/// Shares of the caps whose passing is reported, ascending.
fn read_shares(section: &Section<'_>) -> Vec<u8> {
    if !section.has("notify_percent") {
        return DEFAULT_SHARES.to_vec();
    }
    let read = section.list("notify_percent", reader::integer(1..=100));
    let mut shares: Vec<u8> = read
        .into_iter()
        .filter_map(|(share, _)| u8::try_from(share).ok())
        .collect();
    shares.sort_unstable();
    shares.dedup();
    shares
}

fn read_limits(section: &Section<'_>) -> Limits {
    let concurrent = section
        .optional("concurrent_requests", reader::integer(1..=1_000_000))
        .and_then(|count| u32::try_from(count).ok())
        .and_then(NonZeroU32::new);
    Limits {
        requests: read_rate(section, "requests_per_minute", "burst"),
        tokens: read_rate(section, "tokens_per_minute", "token_burst"),
        concurrent,
    }
}

fn read_rate(section: &Section<'_>, rate: &str, burst: &str) -> Option<RateLimit> {
    let count = |key| {
        section
            .optional(key, reader::integer(1..=1_000_000_000))
            .and_then(NonZeroU64::new)
    };
    let per_minute = count(rate);
    let at_once = count(burst);
    if section.has(burst) && !section.has(rate) {
        section.mistake(
            section.at(burst),
            format!("`{burst}` says how many may come at once under `{rate}`, which is missing"),
        );
    }
    let per_minute = per_minute?;
    // A tenth of a minute's worth at once lets agents work in bursts, yet spreads the minute.
    let tenth = NonZeroU64::new(per_minute.get().div_ceil(10)).unwrap_or(per_minute);
    Some(RateLimit {
        per_minute,
        burst: at_once.unwrap_or(tenth),
    })
}

fn read_grant(section: &Section<'_>, providers: &Providers) -> Option<Grant> {
    let (name, known) = read_provider(section, providers);
    let models = patterns(section, "models");
    let agents = patterns(section, "agents");
    let paths = read_paths(section, &known);
    Some(Grant {
        provider: name?,
        models: models.into(),
        agents: agents.into(),
        paths,
    })
}

fn read_agents(root: &Section<'_>) -> (BTreeMap<AgentId, ScopeLimits>, BTreeSet<AgentId>) {
    let mut disabled = BTreeSet::new();
    let read = root.entries("agents", |name, at, section| {
        let enabled = section.optional("enabled", reader::boolean);
        let limits = read_scope(section);
        let agent: AgentId = checked(section, at, name)?;
        if enabled == Some(false) {
            disabled.insert(agent.clone());
        }
        Some((agent, limits))
    });
    (read.into_iter().flatten().collect(), disabled)
}

fn read_models(root: &Section<'_>) -> ModelLimits {
    let read = root.entries("models", |name, at, section| {
        let limits = read_scope(section);
        Some((checked::<NamePattern>(section, at, name)?, limits))
    });
    read.into_iter().flatten().collect()
}

fn read_scope(section: &Section<'_>) -> ScopeLimits {
    ScopeLimits {
        caps: read_caps(section),
        limits: read_limits(section),
    }
}

/// The provider a table names, and what is known of it.
pub(super) fn read_provider<'p>(
    section: &Section<'_>,
    providers: &'p Providers,
) -> (Option<ProviderName>, Option<Known<'p>>) {
    let Some(name) = section.required::<ProviderName>("provider", reader::parsed) else {
        return (None, None);
    };
    if let Some(provider) = providers.by_name.get(&name) {
        return (Some(name), Some(Known::Whole(provider)));
    }
    if providers.unnamed || providers.broken.contains(&name) {
        return (Some(name), Some(Known::Broken));
    }
    let known = providers.by_name.keys().chain(&providers.broken);
    let hint = reader::suggestion(name.as_str(), known.map(ProviderName::as_str));
    section.mistake(
        section.at("provider"),
        format!("there is no provider `{name}`{hint}"),
    );
    (None, None)
}

/// Path patterns, each of which must fit some endpoint of the provider.
pub(super) fn read_paths(section: &Section<'_>, known: &Option<Known<'_>>) -> Vec<PathPattern> {
    let paths: Vec<(PathPattern, usize)> = section.list("paths", reader::parsed);
    if let Some(Known::Whole(provider)) = known {
        for (path, at) in &paths {
            if !provider
                .endpoints
                .iter()
                .any(|endpoint| endpoint.path.overlaps(path))
            {
                section.mistake(
                    *at,
                    format!("{path} fits no endpoint of provider `{}`", provider.name),
                );
            }
        }
    }
    empty_list_is_a_mistake(section, "paths");
    paths.into_iter().map(|(path, _)| path).collect()
}

pub(super) fn patterns(section: &Section<'_>, key: &str) -> Vec<NamePattern> {
    let patterns = section.list(key, reader::parsed);
    empty_list_is_a_mistake(section, key);
    patterns.into_iter().map(|(pattern, _)| pattern).collect()
}

/// `models = []` could mean none or all; leaving the key out says all, leaving the table out none.
fn empty_list_is_a_mistake(section: &Section<'_>, key: &str) {
    if section.is_empty_list(key) {
        section.mistake(
            section.at(key),
            format!("`{key}` is empty; leave it out to mean all, or remove the table to mean none"),
        );
    }
}

/// A table's own name as a finished type.
pub(super) fn checked<T>(section: &Section<'_>, at: usize, name: &str) -> Option<T>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    name.parse()
        .map_err(|wrong: T::Err| {
            let shown = reader::shown(name);
            section.mistake(at, format!("`{shown}` cannot be used here: {wrong}"));
        })
        .ok()
}
