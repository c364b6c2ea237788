//! What the policy in force says of tenants: caps, limits, what they may call, and their
//! credentials by name and binding.
//!
//! Reads no vault; no secret ever comes here. Money is decimal US dollars as text, so that no
//! digit is rounded. Worst case: an answer that is older than a policy loaded while it was made.

use std::fmt::Display;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};
use tollgate_core::admin_log::About;
use tollgate_core::ids::TenantId;
use tollgate_core::policy::{
    Binding, Credential, CredentialKind, NamePattern, Place, ScopeLimits, Tenant, Unreported,
};
use tollgate_core::rate::Limits;
use tollgate_core::vault::VaultScope;

use crate::Admin;
use crate::access::{Action, Asker};
use crate::problem::Problem;

pub(crate) async fn list(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
) -> Result<Response, Problem> {
    let action = Action::ListTenants;
    let deed = asker.begin_unseeing(&admin, action, About::default());
    let deed = deed.await?;
    let policy = (admin.policy)();
    let mut seen: Vec<&TenantId> = policy.tenants.keys().filter(|id| asker.is_of(id)).collect();
    seen.sort_unstable();
    Ok(deed.close(Ok(Json(json!({ "tenants": seen })))))
}

pub(crate) async fn show(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path(tenant): Path<String>,
) -> Result<Response, Problem> {
    let id: Option<TenantId> = tenant.parse().ok();
    let about = id.clone().map_or_else(About::default, About::tenant);
    let deed = asker.begin(&admin, Action::ReadTenant, about).await?;
    let policy = (admin.policy)();
    let tenant = id.and_then(|id| policy.tenants.get(&id));
    let tenant = tenant.ok_or_else(Problem::unknown_tenant);
    Ok(deed.close(tenant.map(|tenant| Json(describe(tenant)))))
}

/// What a list of tenants tells of each: state, caps and limits; what is not limited is null.
#[must_use]
pub fn summary(tenant: &Tenant) -> Value {
    json!({
        "tenant": tenant.id,
        "enabled": tenant.enabled,
        "daily_usd": tenant.caps.daily,
        "monthly_usd": tenant.caps.monthly,
        "task_usd": tenant.task_cap,
        "limits": limits(&tenant.limits),
    })
}

/// Everything that the policy says of a tenant.
#[must_use]
pub fn describe(tenant: &Tenant) -> Value {
    let grants = tenant.grants.iter().map(|grant| {
        json!({
            "provider": grant.provider,
            "models": texts(&grant.models),
            "agents": texts(&grant.agents),
            "paths": texts(&grant.paths),
        })
    });
    let elevated = tenant.elevated.iter().map(|rule| {
        json!({
            "provider": rule.provider,
            "methods": texts(&rule.methods),
            "paths": texts(&rule.paths),
            "agents": texts(&rule.agents),
        })
    });
    let credentials = tenant.credentials.values();
    let part = |what: &str, name: String, of: &ScopeLimits| {
        json!({
            what: name,
            "daily_usd": of.caps.daily,
            "monthly_usd": of.caps.monthly,
            "limits": limits(&of.limits),
        })
    };
    let agents = tenant.agents.iter();
    let agents = agents.map(|(agent, of)| part("agent", agent.to_string(), of));
    let models = tenant.models.iter();
    let models = models.map(|(model, of): &(NamePattern, _)| part("model", model.to_string(), of));
    let clamp = tenant
        .clamp
        .map(|clamp| json!({ "max_output_tokens": clamp.max_output_tokens }));
    let mut described = summary(tenant);
    described["default_max_output_tokens"] = tenant.default_max_output_tokens.into();
    described["clamp"] = clamp.into();
    described["unreported_usage"] = match tenant.unreported {
        Unreported::Estimate => "estimate",
        Unreported::Reservation => "reservation",
    }
    .into();
    described["notify_percent"] = tenant.notify_percent.clone().into();
    described["allow"] = grants.collect();
    described["elevated"] = elevated.collect();
    described["credentials"] = credentials.map(|of| credential(of)).collect();
    described["agents"] = agents.collect();
    described["models"] = models.collect();
    described["disabled_agents"] = json!(tenant.disabled_agents);
    described
}

/// Limits on pace.
fn limits(limits: &Limits) -> Value {
    json!({
        "requests_per_minute": limits.requests.map(|rate| rate.per_minute),
        "burst": limits.requests.map(|rate| rate.burst),
        "tokens_per_minute": limits.tokens.map(|rate| rate.per_minute),
        "token_burst": limits.tokens.map(|rate| rate.burst),
        "concurrent_requests": limits.concurrent,
    })
}

fn credential(credential: &Credential) -> Value {
    json!({
        "name": credential.name,
        "provider": credential.provider,
        "default": credential.is_default,
        "agents": texts(&credential.agents),
        "shared": credential.secret.scope == VaultScope::Platform,
        "kind": match credential.kind {
            CredentialKind::Static => "static",
            CredentialKind::AwsSigv4 => "aws_sigv4",
            CredentialKind::GoogleServiceAccount(_) => "google_service_account",
            CredentialKind::OAuth2ClientCredentials(_) => "oauth2_client_credentials",
            CredentialKind::OAuth2RefreshToken(_) => "oauth2_refresh_token",
            CredentialKind::Sealed => "sealed",
        },
        "binding": binding(&credential.binding),
    })
}

/// Where a credential may go. No methods or paths of its own means those of its provider.
fn binding(binding: &Binding) -> Value {
    let methods: Vec<&str> = binding.methods.iter().map(http::Method::as_str).collect();
    json!({
        "scheme": if binding.tls { "https" } else { "http" },
        "host": binding.host,
        "port": binding.port,
        "methods": methods,
        "paths": texts(&binding.paths),
        "place": match &binding.place {
            Place::Header { name, prefix } => {
                json!({ "in": "header", "name": name.as_str(), "prefix": prefix })
            }
            Place::Basic => json!({ "in": "basic_password" }),
            Place::Query { name } => json!({ "in": "query", "name": name }),
            Place::AwsSigv4 { service, region } => {
                json!({ "in": "aws_sigv4", "service": service, "region": region })
            }
            Place::JsonField { pointer } => {
                json!({ "in": "json_field", "pointer": pointer.to_string() })
            }
            Place::FormField { name } => json!({ "in": "form_field", "name": name }),
        },
    })
}

fn texts<T: Display>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}
