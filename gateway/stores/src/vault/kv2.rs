//! Secrets in the KV v2 engine of `HashiCorp` Vault or `OpenBao`, with a login of its own for each
//! scope, so that the server itself refuses one tenant's token another tenant's path.
//!
//! A value is trusted from the moment its request was sent, for a second at most
//! ([`Kv2Config::trusted`]). While it is in use it is read anew, beside the calls, once half of
//! that is over; so a call waits for the server only for a secret that nobody has used for a while.
//! Of many calls that need a secret at once, one reads it and all share what came of it.
//!
//! Worst case: a server that does not answer means no secret, once the trusted time is over: calls
//! are refused, not sent with what may have been revoked. Values in the memory of the JSON parser
//! and of the HTTP codec are not wiped; those kept are.

mod client;
mod login;
mod read;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::timeout;
use tollgate_core::policy::Upstream;
use tollgate_core::vault::{SecretName, SecretVersion, Vault, VaultError};

use super::cache::{Aged, Cache};
use super::unreadable;
use client::Client;
use login::Logins;
use read::Read;

pub use client::UnusableTls;

/// For logging in and reading together.
const WHOLE: Duration = Duration::from_secs(5);

/// Where secrets are, and how the gateway proves itself there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kv2Config {
    /// The server.
    pub server: Upstream,
    /// The namespace, where the server has them.
    pub namespace: Option<String>,
    /// The path of the KV v2 engine.
    pub mount: String,
    /// Where a secret lies in it; holds `{scope}` and `{name}`.
    pub path: String,
    /// The field that is the secret.
    pub field: String,
    /// How each scope logs in.
    pub auth: Kv2Auth,
    /// How long a value is used after it was asked for.
    pub trusted: Duration,
}

/// How a scope gets a client token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kv2Auth {
    /// By the pod's service-account token, to a role of the scope's own.
    Kubernetes {
        /// The path of the auth method.
        mount: String,
        /// The role; holds `{scope}`.
        role: String,
        /// The service-account token.
        token_file: PathBuf,
    },
    /// By a role id and a secret id of the scope's own.
    AppRole {
        /// The path of the auth method.
        mount: String,
        /// The file of the role id; holds `{scope}`.
        role_id_file: String,
        /// The file of the secret id; holds `{scope}`.
        secret_id_file: String,
    },
    /// By a client token that somebody else renews.
    Token {
        /// The file of the token; holds `{scope}`.
        file: String,
    },
}

/// Why a read came to nothing. Says nothing that the server's answer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("the vault server cannot be reached")]
    Unreachable,
    #[error("the vault server's certificate does not hold")]
    Tls,
    #[error("the vault server did not answer in time")]
    Timeout,
    #[error("the vault server broke off")]
    Broken,
    #[error("the vault server's answer is longer than 1 MiB")]
    TooLong,
    #[error("the vault server's answer cannot be understood")]
    NotUnderstood,
    #[error("the vault server denies this scope's role the secret")]
    Denied,
    #[error("the vault server denies this scope its login (status {0})")]
    LoginDenied(u16),
    #[error("the file that this scope logs in with cannot be read")]
    LoginFile,
    #[error("the vault server is sealed or not ready (status {0})")]
    Sealed(u16),
    #[error("the vault server answered with status {0}")]
    Status(u16),
    #[error("reading the secret was broken off")]
    Stopped,
}

/// A vault on a server. Reads beside the calls, so it is used within a runtime.
pub struct Kv2Vault(Arc<Shared>);

struct Shared {
    config: Kv2Config,
    client: Client,
    logins: Logins,
    cache: Cache<Known>,
    /// Reads under way.
    flights: Mutex<HashMap<SecretName, watch::Receiver<Option<Outcome>>>>,
}

type Outcome = Result<Read, Fault>;

struct Known {
    value: SecretVersion,
    /// When it was asked for: what the server has revoked later, it may still hold.
    asked: Instant,
}

impl Aged for Known {
    fn good_at(&self) -> Instant {
        self.asked
    }
}

impl Kv2Vault {
    /// A vault on `config.server`, which is not asked anything yet.
    ///
    /// # Errors
    /// If there is no authority to check the server's certificate by.
    pub fn new(config: Kv2Config) -> Result<Self, UnusableTls> {
        Ok(Self(Arc::new(Shared {
            client: Client::new(&config)?,
            logins: Logins::new(config.auth.clone()),
            config,
            cache: Cache::default(),
            flights: Mutex::default(),
        })))
    }
}

#[async_trait]
impl Vault for Kv2Vault {
    async fn fetch(&self, secret: &SecretName) -> Result<SecretVersion, VaultError> {
        if let Some((value, age)) = self.0.known(secret) {
            if age >= self.0.config.trusted / 2 {
                self.0.join(secret);
            }
            return Ok(value);
        }
        let mut flight = self.0.join(secret);
        let landed = flight.wait_for(Option::is_some).await;
        let outcome = match landed.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            _ => Err(Fault::Stopped),
        };
        match outcome {
            Ok(Read::Value(value)) => Ok(value),
            Ok(Read::Missing) => Err(VaultError::Missing(secret.clone())),
            Ok(Read::Malformed) => Err(VaultError::Malformed(secret.clone())),
            Err(fault) => Err(unreadable(secret, fault)),
        }
    }
}

impl Shared {
    /// A value that is still trusted, and its age.
    fn known(&self, secret: &SecretName) -> Option<(SecretVersion, Duration)> {
        let cache = self.cache.read();
        let known = cache.get(secret)?;
        let age = known.asked.elapsed();
        (age < self.config.trusted).then(|| (known.value.clone(), age))
    }

    /// The read of a secret that is under way, or a new one.
    fn join(self: &Arc<Self>, secret: &SecretName) -> watch::Receiver<Option<Outcome>> {
        let mut flights = self.flights();
        if let Some(flight) = flights.get(secret) {
            return flight.clone();
        }
        let (land, flight) = watch::channel(None);
        flights.insert(secret.clone(), flight.clone());
        let ending = Ending {
            shared: Arc::clone(self),
            secret: secret.clone(),
        };
        tokio::spawn(async move {
            let Ending { shared, secret } = &ending;
            let read = timeout(WHOLE, shared.read(secret)).await;
            let outcome = read.unwrap_or(Err(Fault::Timeout));
            drop(ending);
            land.send_replace(Some(outcome));
        });
        flight
    }

    /// Reads a secret, keeps it, or wipes what the server has no longer.
    async fn read(&self, secret: &SecretName) -> Outcome {
        let (asked, read) = self.ask(secret).await?;
        match &read {
            Read::Value(value) => self.cache.keep(
                secret,
                Known {
                    value: value.clone(),
                    asked,
                },
            ),
            Read::Missing | Read::Malformed => self.cache.forget(secret),
        }
        Ok(read)
    }

    /// Asks with the scope's own token; once more with a new one if that is denied.
    async fn ask(&self, secret: &SecretName) -> Result<(Instant, Read), Fault> {
        let path = self.config.path_of(secret);
        let login = self.logins.of(&secret.scope);
        let token = login.token(&self.client).await?;
        let (asked, answer) = self.get(&path, &token).await?;
        if answer.status != 403 || !login.forget(&token).await {
            return Ok((asked, read::read(&answer, &self.config.field)?));
        }
        let token = login.token(&self.client).await?;
        let (asked, answer) = self.get(&path, &token).await?;
        Ok((asked, read::read(&answer, &self.config.field)?))
    }

    /// An answer that takes longer than a value is trusted would be too old to be used.
    async fn get(
        &self,
        path: &str,
        token: &login::ClientToken,
    ) -> Result<(Instant, client::Answer), Fault> {
        let connection = self.client.connection().await?;
        let asked = Instant::now();
        let answer = timeout(self.config.trusted, connection.get(path, token.value())).await;
        Ok((asked, answer.unwrap_or(Err(Fault::Timeout))?))
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<SecretName, watch::Receiver<Option<Outcome>>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a read off the list of those under way, however it ends.
struct Ending {
    shared: Arc<Shared>,
    secret: SecretName,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.shared.flights().remove(&self.secret);
    }
}

impl Kv2Config {
    /// The path of the read request of the KV v2 API.
    fn path_of(&self, secret: &SecretName) -> String {
        let path = self
            .path
            .replace("{scope}", secret.scope.as_str())
            .replace("{name}", secret.name.as_str());
        format!("/v1/{}/data/{path}", self.mount)
    }
}
