//! What is legal in a policy but rarely meant.

use tollgate_archive::otlp::Protocol;
use tollgate_core::policy::{Credential, Policy, Provider, Tenant};
use tollgate_core::price::PriceBook;
use tollgate_core::time::Timestamp;

use crate::config::{OtlpSettings, StoreSettings};

/// Everything suspicious, tenant by tenant in the order of their names.
pub(super) fn find(policy: &Policy) -> Vec<String> {
    let mut found = Vec::new();
    if policy.providers.is_empty() {
        found.push("there are no providers: nothing can be called".to_owned());
    }
    if policy.tenants.is_empty() {
        found.push("there are no tenants: nobody can call".to_owned());
    }
    for provider in policy.providers.values() {
        about_provider(policy, provider, &mut found);
    }
    let mut tenants: Vec<&Tenant> = policy.tenants.values().map(AsRef::as_ref).collect();
    tenants.sort_by(|a, b| a.id.cmp(&b.id));
    for tenant in tenants {
        about_money(tenant, &mut found);
        about_grants(policy, tenant, &mut found);
        for credential in tenant.credentials.values() {
            about_credential(policy, tenant, credential, &mut found);
        }
    }
    found
}

/// Aliases that lead to no price, so that the model is refused to tenants with a spend cap.
pub(super) fn about_aliases(policy: &Policy, prices: &PriceBook, at: Timestamp) -> Vec<String> {
    let mut found = Vec::new();
    for provider in policy.providers.values() {
        let name = &provider.name;
        for (alias, model) in &provider.aliases {
            let Some(catalogue) = &provider.prices else {
                found.push(format!(
                    "provider `{name}`: the alias `{alias}` is of no use without `prices`"
                ));
                continue;
            };
            if prices.rates(catalogue, model.as_str(), at).is_none() {
                found.push(format!(
                    "provider `{name}`: the alias `{alias}` leads to `{model}`, which has no price under `{catalogue}`"
                ));
            }
        }
    }
    found
}

/// Locks that nobody will hold.
pub(super) fn about_locks(policy: &Policy, store: Option<&StoreSettings>) -> Vec<String> {
    if store.is_some_and(StoreSettings::can_lock) {
        return Vec::new();
    }
    let why = match store {
        Some(store) => format!("{} cannot lock objects", store.config.place),
        None => "there is no [records.store] to hold them".to_owned(),
    };
    let mut whose: Vec<String> = policy
        .tenants
        .values()
        .filter(|tenant| tenant.records.lock.is_some())
        .map(|tenant| format!("tenant `{}`", tenant.id))
        .collect();
    whose.sort_unstable();
    if store.is_some_and(|store| store.retention.lock.is_some()) {
        whose.push("[records.store]".to_owned());
    }
    let warning = |whose| format!("{whose} asks for records to be locked, and {why}");
    whose.into_iter().map(warning).collect()
}

/// A port at which collectors usually speak the other protocol.
pub(super) fn about_the_collector(table: &str, to: &OtlpSettings) -> Option<String> {
    let usual = match to.protocol {
        Protocol::Grpc => 4317,
        Protocol::Http => 4318,
    };
    let is_others = matches!(to.server.port, 4317 | 4318) && to.server.port != usual;
    is_others.then(|| {
        format!(
            "[{table}] protocol is {} and goes to {}; collectors usually speak it at port {usual}",
            to.protocol_name(),
            to.endpoint()
        )
    })
}

fn is_metered(provider: &Provider) -> bool {
    provider
        .endpoints
        .iter()
        .any(|endpoint| endpoint.operation.is_metered())
}

fn about_provider(policy: &Policy, provider: &Provider, found: &mut Vec<String>) {
    let name = &provider.name;
    let upstream = &provider.upstream;
    if upstream.insecure_plain_http && !upstream.tls {
        found.push(format!(
            "provider `{name}`: keys travel to {} unencrypted (insecure = true)",
            upstream.authority()
        ));
    }
    if is_metered(provider) && provider.prices.is_none() {
        found.push(format!(
            "provider `{name}` has no `prices`: tenants with a spend cap cannot call its models"
        ));
    }
    if let Some(file) = upstream.ca_file.as_ref().filter(|file| !file.exists()) {
        found.push(format!(
            "provider `{name}` names {}, which is not there",
            file.display()
        ));
    }
    let same_origin = |other: &Provider| {
        let theirs = &other.upstream;
        (&theirs.host, theirs.port) == (&upstream.host, upstream.port)
    };
    for other in policy.providers.values() {
        if is_metered(provider) && !is_metered(other) && same_origin(other) {
            found.push(format!(
                "providers `{name}` and `{}` lead to the same host, and calls through the second are not metered",
                other.name
            ));
        }
    }
}

fn about_money(tenant: &Tenant, found: &mut Vec<String>) {
    let id = &tenant.id;
    let caps = tenant.caps;
    if caps.daily.is_none() && caps.monthly.is_none() {
        found.push(format!("tenant `{id}` has no spend cap"));
    }
    if let (Some(daily), Some(monthly)) = (caps.daily, caps.monthly)
        && daily > monthly
    {
        found.push(format!(
            "tenant `{id}`: the daily cap of {daily} USD is higher than the monthly one of {monthly} USD"
        ));
    }
    for (agent, limits) in &tenant.agents {
        let windows = [
            ("daily", limits.caps.daily, caps.daily),
            ("monthly", limits.caps.monthly, caps.monthly),
        ];
        for (window, own, whole) in windows {
            if let (Some(own), Some(whole)) = (own, whole)
                && own > whole
            {
                found.push(format!(
                    "tenant `{id}`: the {window} cap of agent `{agent}`, {own} USD, is higher than its tenant's, {whole} USD"
                ));
            }
        }
    }
}

fn about_grants(policy: &Policy, tenant: &Tenant, found: &mut Vec<String>) {
    let id = &tenant.id;
    if tenant.grants.is_empty() {
        found.push(format!(
            "tenant `{id}` may call nothing: it has no [[allow]]"
        ));
    }
    let mut elevated: Vec<_> = tenant.elevated.iter().map(|rule| &rule.provider).collect();
    elevated.sort_unstable();
    elevated.dedup();
    elevated.retain(|name| !tenant.grants.iter().any(|grant| grant.provider == **name));
    for name in elevated {
        found.push(format!(
            "tenant `{id}`: its [[elevated]] for `{name}` lets nobody do anything, since no [[allow]] names `{name}`"
        ));
    }
    for name in policy.providers.keys() {
        let granted = tenant.grants.iter().any(|grant| grant.provider == *name);
        let keyless = policy
            .providers
            .get(name)
            .is_some_and(|p| p.place.is_none());
        let keys = tenant.credentials.of(name);
        if granted && !keyless && keys.is_empty() {
            found.push(format!(
                "tenant `{id}` may call `{name}` but has no credential for it"
            ));
        } else if granted && !keyless && !keys.iter().any(|key| key.is_default) {
            found.push(format!(
                "tenant `{id}` has no default credential for `{name}`: every request must name one"
            ));
        }
    }
}

fn about_credential(
    policy: &Policy,
    tenant: &Tenant,
    credential: &Credential,
    found: &mut Vec<String>,
) {
    let (id, name, provider) = (&tenant.id, &credential.name, &credential.provider);
    if !tenant
        .grants
        .iter()
        .any(|grant| grant.provider == *provider)
    {
        found.push(format!(
            "tenant `{id}`: credential `{name}` cannot be used, since no [[allow]] names `{provider}`"
        ));
    }
    let Some(upstream) = policy
        .providers
        .get(provider)
        .map(|provider| &provider.upstream)
    else {
        return;
    };
    let bound = &credential.binding;
    if (bound.tls, &bound.host, bound.port) != (upstream.tls, &upstream.host, upstream.port) {
        found.push(format!(
            "tenant `{id}`: credential `{name}` is bound to {}:{} and cannot be used, since `{provider}` is at {}:{}",
            bound.host, bound.port, upstream.host, upstream.port
        ));
    }
}
