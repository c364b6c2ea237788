//! Tokens out of OAuth answers that agents must not see: what an agent gets in place of each is a
//! handle, and what it stands for is kept here.
//!
//! A sealed credential belongs to one task of one agent of one tenant, is bound to the providers
//! that the endpoint's definition names, and goes when its token expires, after a day at most. It
//! is in memory only: after a restart, or at another replica, an agent repeats its flow. A task
//! keeps its newest [`MAX_OF_TASK`]; beyond [`MAX_OF_TENANT`], the tenant's oldest goes.
//!
//! Worst case: a tenant whose tasks make tokens all the time loses those of its own slow tasks,
//! never another tenant's. What has expired serves nobody, and is wiped at its tenant's next call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tollgate_core::identity::Caller;
use tollgate_core::ids::{AgentId, HandleName, ProviderName, TaskId, TenantId};
use tollgate_core::policy::{Binding, Credential, CredentialKind, Place, Provider, SEALED_PREFIX};
use tollgate_core::secret::Secret;
use tollgate_core::vault::{SecretName, SecretVersion};

/// The most sealed tokens of one task; the oldest makes room.
const MAX_OF_TASK: usize = 32;
/// The most sealed tokens of one tenant; the oldest makes room.
const MAX_OF_TENANT: usize = 1024;
/// Random bytes in a handle's name.
const NAME_BYTES: usize = 16;

/// All sealed tokens, by tenant.
#[derive(Default)]
pub struct SealedTokens {
    tenants: Mutex<HashMap<TenantId, Vec<Sealed>>>,
}

struct Sealed {
    name: HandleName,
    agent: AgentId,
    task: TaskId,
    /// One for each provider it may go to.
    credentials: Vec<Arc<Credential>>,
    value: SecretVersion,
    until: Instant,
}

impl Sealed {
    fn is_of(&self, caller: &Caller) -> bool {
        self.agent == caller.agent && self.task == caller.task
    }
}

/// Where a sealed token may go: a provider, and the place in requests to it.
pub(crate) type Target<'a> = (&'a Provider, &'a Place);

impl SealedTokens {
    fn tenants(&self) -> MutexGuard<'_, HashMap<TenantId, Vec<Sealed>>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a token for as long as it lives, and gives it to the caller's task by this name.
    pub(crate) fn keep(
        &self,
        caller: &Caller,
        name: &HandleName,
        secret: Secret,
        life: Duration,
        targets: &[Target<'_>],
    ) {
        let now = Instant::now();
        let credential =
            |&(provider, place): &Target<'_>| Arc::new(credential(caller, name, provider, place));
        let sealed = Sealed {
            name: name.clone(),
            agent: caller.agent.clone(),
            task: caller.task.clone(),
            credentials: targets.iter().map(credential).collect(),
            value: SecretVersion::new(secret, 1),
            until: now + life,
        };
        let mut tenants = self.tenants();
        let of_tenant = tenants.entry(caller.tenant.clone()).or_default();
        of_tenant.retain(|sealed| now < sealed.until);
        if of_tenant.iter().filter(|it| it.is_of(caller)).count() >= MAX_OF_TASK
            && let Some(oldest) = of_tenant.iter().position(|it| it.is_of(caller))
        {
            of_tenant.remove(oldest);
        }
        if of_tenant.len() >= MAX_OF_TENANT {
            of_tenant.remove(0);
        }
        of_tenant.push(sealed);
    }

    /// The credentials for `provider` that were sealed for the caller's task.
    pub(crate) fn credentials(
        &self,
        caller: &Caller,
        provider: &ProviderName,
    ) -> Vec<Arc<Credential>> {
        let mut tenants = self.tenants();
        let Some(of_tenant) = tenants.get_mut(&caller.tenant) else {
            return Vec::new();
        };
        let now = Instant::now();
        of_tenant.retain(|sealed| now < sealed.until);
        let credentials = of_tenant
            .iter()
            .filter(|sealed| sealed.is_of(caller))
            .flat_map(|sealed| &sealed.credentials)
            .filter(|credential| credential.provider == *provider)
            .cloned()
            .collect();
        if of_tenant.is_empty() {
            tenants.remove(&caller.tenant);
        }
        credentials
    }

    /// The token of a handle of the caller's task.
    pub(crate) fn fetch(&self, caller: &Caller, name: &HandleName) -> Option<SecretVersion> {
        let now = Instant::now();
        let tenants = self.tenants();
        let sealed = tenants
            .get(&caller.tenant)?
            .iter()
            .find(|it| it.name == *name && it.is_of(caller) && now < it.until)?;
        Some(sealed.value.clone())
    }
}

fn credential(
    caller: &Caller,
    name: &HandleName,
    provider: &Provider,
    place: &Place,
) -> Credential {
    let upstream = &provider.upstream;
    Credential {
        name: name.clone(),
        secret: SecretName::of_tenant(caller.tenant.clone(), name.clone()),
        provider: provider.name.clone(),
        is_default: false,
        agents: Vec::new(),
        binding: Binding {
            tls: upstream.tls,
            host: upstream.host.clone(),
            port: upstream.port,
            methods: Vec::new(),
            paths: Vec::new(),
            place: place.clone(),
        },
        kind: CredentialKind::Sealed,
    }
}

/// A name that nobody guesses, unless there is no randomness to be had.
pub(crate) fn new_name() -> Option<HandleName> {
    let mut random = [0; NAME_BYTES];
    let provider = rustls::crypto::ring::default_provider();
    provider.secure_random.fill(&mut random).ok()?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{SEALED_PREFIX}{digits}").parse().ok()
}

#[cfg(test)]
mod tests;
