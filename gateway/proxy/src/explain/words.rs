//! Decisions -> steps of an explanation, for people and for programs.
//!
//! Only repeats what the stages' proofs hold. Never a header's value, a query or a secret.

use std::fmt::Display;

use http::Method;
use http::request::Parts;
use serde_json::{Map, Value, json};
use tollgate_core::ids::ProviderName;
use tollgate_core::money::PicoUsd;
use tollgate_core::policy::{Credential, CredentialKind, Grant, Place, Policy, Tenant};
use tollgate_core::rate::{Limit, Size};
use tollgate_core::refusal::Refusal;
use tollgate_core::route::Route;

use super::look::Look;
use super::{Identity, Step, Walk};
use crate::admit::Rejected;
use crate::ask::{Call, Payload};
use crate::authenticate::Identified;
use crate::authorize::Permit;
use crate::bind::BoundCall;
use crate::reserve::Quote;
use crate::respond::message;
use crate::settle::Tariff;

/// How many routes are named to somebody whose path leads nowhere.
const NEAREST: usize = 3;

impl Walk<'_> {
    pub(super) fn tell(
        &mut self,
        stage: &'static str,
        decision: String,
        decided_by: Option<String>,
        facts: Value,
    ) {
        let facts = match facts {
            Value::Object(facts) => facts,
            _ => Map::new(),
        };
        self.steps.push(Step {
            stage,
            passed: true,
            decision,
            decided_by,
            hint: None,
            facts,
        });
    }

    pub(super) fn tell_identity(&mut self, who: &Identity, identified: &Identified) {
        let caller = &identified.caller;
        let proof = match (who, self.view.stores) {
            (Identity::Claimed { .. }, _) => "as you say; nothing is verified",
            (_, Some(_)) => "its task token is verified and live",
            (_, None) => "its task token is verified; whether it is live was not asked",
        };
        let bound = caller.certificate.is_some();
        let bound = if bound {
            "; the token is good only with its client certificate"
        } else {
            ""
        };
        let decision = format!(
            "agent {} of tenant {}, task {}: {proof}{bound}",
            caller.agent, caller.tenant, caller.task
        );
        let facts = json!({
            "tenant": caller.tenant,
            "agent": caller.agent,
            "task": caller.task,
            "verified": !matches!(who, Identity::Claimed { .. }),
        });
        self.tell("identity", decision, None, facts);
    }

    pub(super) fn tell_route(&mut self, route: &Route<'_>) {
        let (provider, endpoint) = (&route.provider, &route.endpoint);
        let origin = provider.upstream.origin();
        let decision = format!("provider {} at {origin}", provider.name);
        let methods = methods(&endpoint.methods);
        let by = format!(
            "provider {}, [[endpoint]] {methods} {}",
            provider.name, endpoint.path
        );
        let facts = json!({
            "provider": provider.name,
            "upstream": origin,
            "methods": endpoint.methods.iter().map(Method::as_str).collect::<Vec<_>>(),
            "path": endpoint.path.to_string(),
            "model_in_path": route.model,
        });
        self.tell("route", decision, Some(by), facts);
    }

    pub(super) fn tell_grant(&mut self, permit: &Permit<'_>) {
        let (agent, provider) = (&permit.caller.agent, &permit.route.provider.name);
        let grant = permit.tenant.grant(agent, provider, permit.route.path);
        let decision = format!("agent {agent} may call {provider} here");
        let by = grant.map(|grant| rule(&permit.tenant, grant));
        let number = grant.map(|grant| number(&permit.tenant, grant));
        self.tell("grant", decision, by, json!({ "allow": number }));
    }

    pub(super) fn tell_credential(&mut self, bound: &BoundCall<'_>) {
        let Some(credential) = bound.bound.credential() else {
            let decision = "none: the provider takes no key".to_owned();
            self.tell("credential", decision, None, json!({ "name": null }));
            return;
        };
        let place = place(&credential.binding.place);
        let to = bound.permit.route.provider.upstream.origin();
        let sent = sent(&credential.kind);
        let decision = format!("{}{sent} would go into {place}, to {to}", credential.name);
        let facts = json!({
            "name": credential.name,
            "default": credential.is_default,
            "place": place,
            "origin": to,
        });
        let by = binding(&bound.permit.tenant, credential);
        self.tell("credential", decision, Some(by), facts);
    }

    pub(super) fn tell_request(&mut self, call: &Call<'_>) {
        let permit = &call.bound.permit;
        let (agent, provider) = (&permit.caller.agent, &permit.route.provider.name);
        let Some(ask) = &call.ask else {
            let decision = match call.payload {
                Payload::Streamed => "the body goes through unread",
                Payload::Whole(_) if call.work.is_none() => "the body goes through unjudged",
                Payload::Whole(_) => "work that is made later; every model in it is allowed",
            };
            self.tell("request", decision.to_owned(), None, Value::Null);
            return;
        };
        let grant = permit
            .tenant
            .grant_of_model(agent, provider, permit.route.path, &ask.model);
        let streamed = if ask.stream { ", streamed" } else { "" };
        let output = ask.max_output_tokens.map_or_else(
            || "no bound on its output".to_owned(),
            |most| format!("at most {most} output tokens"),
        );
        let decision = format!("model {} is allowed{streamed}, {output}", ask.model);
        let facts = json!({
            "model": ask.model,
            "stream": ask.stream,
            "max_output_tokens": ask.max_output_tokens,
            "choices": ask.choices,
            "body_bytes": ask.body_bytes,
            "allow": grant.map(|grant| number(&permit.tenant, grant)),
        });
        let by = grant.map(|grant| rule(&permit.tenant, grant));
        self.tell("model", decision, by, facts);
    }

    /// `held` is what would be reserved, if it fits.
    pub(super) fn tell_money(&mut self, quote: &Quote, look: &Look, held: Option<PicoUsd>) {
        let asked = quote.tariff.worst_case();
        let (kind, what) = tariff(&quote.tariff);
        let clamped = quote.clamping.written;
        let clamped = clamped.map_or_else(String::new, |tokens| {
            format!("; its output bound would be lowered to {tokens}")
        });
        let decision = match held {
            Some(amount) => format!("{what}: {amount} USD would be reserved{clamped}"),
            None => format!("{what}: {asked} USD do not fit{clamped}"),
        };
        let capped = quote
            .bounds
            .account
            .iter()
            .filter(|cap| cap.limit.is_some());
        let caps: Vec<Value> = capped
            .map(|cap| {
                let balance = look.seen(&cap.key);
                json!({
                    "cap": cap.key,
                    "limit_usd": cap.limit,
                    "settled_usd": balance.map(|balance| balance.settled),
                    "reserved_usd": balance.map(|balance| balance.reserved),
                    "left_usd": balance.zip(cap.limit).map(|(balance, limit)| balance.room(limit)),
                })
            })
            .collect();
        let by = if caps.is_empty() {
            "no cap concerns this call"
        } else {
            "every cap below has to have room"
        };
        let facts = json!({
            "charged": kind,
            "worst_case_usd": asked,
            "reserved_usd": held,
            "clamped_to": quote.clamping.written,
            "price_version": self.view.live.prices.version(),
            "caps": caps,
        });
        self.tell("money", decision, Some(by.to_owned()), facts);
    }

    pub(super) fn tell_pace(&mut self, call: &Call<'_>, quote: &Quote) {
        let default = call.bound.permit.tenant.default_max_output_tokens;
        let tokens = quote.tariff.expected_tokens(default);
        let decision = if quote.bounds.limits.is_empty() {
            "no limit on pace concerns this call".to_owned()
        } else {
            "these limits would be asked, which have not been now".to_owned()
        };
        let limits: Vec<Value> = quote.bounds.limits.iter().map(limit).collect();
        let facts = json!({ "limits": limits, "expected_tokens": tokens });
        self.tell("pace", decision, None, facts);
    }

    /// The step at which it ends.
    pub(super) fn refused(&mut self, rejected: &Rejected, head: &Parts) {
        // A cap that has no room has been told of already, with what it holds.
        if let (Some(last), "money") = (self.steps.last_mut(), self.at)
            && last.stage == "money"
        {
            last.passed = false;
            return;
        }
        let stage = match rejected {
            Rejected::Refused(Refusal::ModelDenied(_)) => "model",
            Rejected::Refused(Refusal::ElevatedNotGranted) => "elevation",
            _ => self.at,
        };
        let hint = match rejected {
            Rejected::Refused(Refusal::NotAllowed {
                what: "route" | "method",
            }) if self.view.hints => nearest(&self.view.live.policy, head.uri.path()),
            Rejected::Refused(
                Refusal::NotAllowed { what: "provider" } | Refusal::ModelDenied(_),
            ) => self.grants(),
            Rejected::Refused(Refusal::ElevatedNotGranted) => self.elevated_rules(),
            Rejected::Refused(Refusal::CredentialDenied { reason }) => {
                Some(credential_rule(reason).to_owned())
            }
            Rejected::Refused(Refusal::Unauthenticated(fault)) => Some(fault.to_string()),
            _ => None,
        };
        self.steps.push(Step {
            stage,
            passed: false,
            decision: message(rejected),
            decided_by: None,
            hint,
            facts: Map::new(),
        });
    }

    /// What the caller's tenant allows at all.
    fn grants(&self) -> Option<String> {
        let caller = self.caller.as_ref()?;
        let tenant = self.view.live.policy.tenants.get(&caller.tenant)?;
        let rules: Vec<String> = tenant.grants.iter().map(|of| rule(tenant, of)).collect();
        Some(if rules.is_empty() {
            format!("tenant {} has no [[allow]]", tenant.id)
        } else {
            format!("none of these covers it: {}", rules.join("; "))
        })
    }
}

fn number(tenant: &Tenant, grant: &Grant) -> usize {
    let at = tenant.grants.iter().position(|of| std::ptr::eq(of, grant));
    at.map_or(0, |at| at.saturating_add(1))
}

/// A grant by its place in the tenant's file.
fn rule(tenant: &Tenant, grant: &Grant) -> String {
    let mut text = format!(
        "tenant {}, [[allow]] {}: provider {}",
        tenant.id,
        number(tenant, grant),
        grant.provider
    );
    for (what, names) in [
        ("models", list(&grant.models)),
        ("agents", list(&grant.agents)),
        ("paths", list(&grant.paths)),
    ] {
        if !names.is_empty() {
            text.push_str(&format!(", {what} {names}"));
        }
    }
    text
}

fn binding(tenant: &Tenant, credential: &Credential) -> String {
    if credential.kind == CredentialKind::Sealed {
        return format!("{} was sealed for this task", credential.name);
    }
    let mut text = format!("tenant {}, [credentials] {}", tenant.id, credential.name);
    if credential.is_default {
        text.push_str(&format!(", the default for {}", credential.provider));
    }
    let binding = &credential.binding;
    for (what, names) in [
        ("agents", list(&credential.agents)),
        ("methods", list(&binding.methods)),
        ("paths", list(&binding.paths)),
    ] {
        if !names.is_empty() {
            text.push_str(&format!(", {what} {names}"));
        }
    }
    text
}

pub(super) fn list<T: Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(" ")
}

fn methods(methods: &[Method]) -> String {
    let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
    methods.join("|")
}

/// What of a credential is sent.
const fn sent(kind: &CredentialKind) -> &'static str {
    match kind {
        CredentialKind::Static | CredentialKind::Sealed | CredentialKind::AwsSigv4 => "",
        CredentialKind::GoogleServiceAccount(_)
        | CredentialKind::OAuth2ClientCredentials(_)
        | CredentialKind::OAuth2RefreshToken(_) => ", as an access token got for it,",
    }
}

fn place(place: &Place) -> String {
    match place {
        Place::Header { name, prefix } if prefix.is_empty() => format!("the header {name}"),
        Place::Header { name, prefix } => format!("the header {name} after {prefix:?}"),
        Place::Basic => "the password of Basic authentication".to_owned(),
        Place::Query { name } => format!("the query parameter {name}"),
        Place::JsonField { pointer } => format!("the body's JSON field {pointer}"),
        Place::FormField { name } => format!("the body's form field {name}"),
        Place::AwsSigv4 { service, region } => {
            format!("a signature for AWS service {service} in {region}")
        }
    }
}

/// How a call is charged, for programs and for people.
fn tariff(tariff: &Tariff) -> (&'static str, String) {
    match tariff {
        Tariff::Metered(call) => (
            "tokens",
            format!(
                "charged by its tokens as {} of {}",
                call.rates.priced_as(),
                call.catalogue
            ),
        ),
        Tariff::PerCall(price) => ("per_call", format!("{price} USD a call")),
        Tariff::Deferred(work) if work.starts_work() => (
            "deferred",
            "work that is made later, charged at its bound from the start".to_owned(),
        ),
        Tariff::Deferred(_) => ("deferred", "an upload that costs nothing yet".to_owned()),
        Tariff::Unmetered(_) | Tariff::Unpriced => {
            ("not_priced", "it has no price, and no cap".to_owned())
        }
        Tariff::Free => ("free", "it costs nothing".to_owned()),
    }
}

fn limit(limit: &Limit) -> Value {
    match limit.size {
        Size::Rate(rate) => json!({
            "limit": limit.key.to_string(),
            "per_minute": rate.per_minute,
            "burst": rate.burst,
        }),
        Size::AtOnce(most) => json!({ "limit": limit.key.to_string(), "at_once": most }),
    }
}

/// Which rule a denial rests on. The caller is told none of this.
fn credential_rule(reason: &str) -> &'static str {
    match reason {
        "credential_unknown" => "the tenant has no credential of this name",
        "credential_place" => "the handle stands where its binding does not put the credential",
        "credential_no_default" => "the tenant has no default credential for this provider",
        "credential_provider" => "the credential is for another provider",
        "credential_agent" => "the credential is not for this agent",
        "credential_origin" => "the credential is bound to another origin",
        "credential_method" => "the credential is not bound to this method",
        "credential_path" => "the credential is not bound to this path",
        "credential_plain_http" => "the upstream speaks plain HTTP and is not declared insecure",
        _ => "the binding of the credential does not cover this request",
    }
}

/// The routes whose paths begin most like this one.
fn nearest(policy: &Policy, path: &str) -> Option<String> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let (name, _) = inner.split_once('/').unwrap_or((inner, ""));
    let Some(provider) = policy.providers.get(name) else {
        let names: Vec<&str> = policy.providers.keys().map(ProviderName::as_str).collect();
        return Some(format!("the providers are {}", names.join(", ")));
    };
    let mut routes: Vec<(usize, String)> = provider
        .endpoints
        .iter()
        .map(|endpoint| {
            let whole = format!("/{name}{}", endpoint.path);
            let alike = whole.bytes().zip(path.bytes()).take_while(|(a, b)| a == b);
            (
                alike.count(),
                format!("{} {whole}", methods(&endpoint.methods)),
            )
        })
        .collect();
    routes.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let near: Vec<String> = routes.into_iter().take(NEAREST).map(|(_, of)| of).collect();
    Some(format!("the nearest are {}", near.join(", ")))
}
