//! The client token of each scope, which serves that scope and no other.
//!
//! A scope logs in when its first secret is read, again when two thirds of the token's lease are
//! over, and again if the token is denied. Tokens are not renewed but replaced, so their longest
//! life needs no attention; old ones lapse with their lease. A token younger than [`SETTLED`] that
//! is denied is not replaced: the role, not the token, is what is wrong then.
//!
//! Worst case: a login that fails leaves the token in use until its lease is over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tollgate_core::vault::VaultScope;
use zeroize::Zeroizing;

use super::client::{Client, MAX_FILE_BYTES};
use super::{Fault, Kv2Auth};

/// A token this young has not been revoked since.
const SETTLED: Duration = Duration::from_secs(1);

/// How long a token from a file is used before the file is read again.
const FILE_LEASE: Duration = Duration::from_secs(10);

/// The lease of a token that never ends.
const ENDLESS: Duration = Duration::from_secs(3600);

/// The logins of all scopes.
pub(super) struct Logins {
    auth: Kv2Auth,
    scopes: Mutex<HashMap<VaultScope, Arc<Login>>>,
}

/// The login of one scope.
pub(super) struct Login {
    auth: Kv2Auth,
    scope: VaultScope,
    token: tokio::sync::Mutex<Option<ClientToken>>,
}

/// A token that the server knows a scope by.
#[derive(Clone)]
pub(super) struct ClientToken {
    value: Arc<Zeroizing<String>>,
    made: Instant,
    lease: Duration,
}

impl ClientToken {
    pub(super) fn value(&self) -> &str {
        &self.value
    }
}

#[derive(Serialize)]
struct KubernetesLogin<'l> {
    role: &'l str,
    jwt: &'l str,
}

#[derive(Serialize)]
struct AppRoleLogin<'l> {
    role_id: &'l str,
    secret_id: &'l str,
}

#[derive(Deserialize)]
struct LoggedIn {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    client_token: String,
    /// In seconds; 0 means for ever.
    lease_duration: u64,
}

impl Logins {
    pub(super) fn new(auth: Kv2Auth) -> Self {
        Self {
            auth,
            scopes: Mutex::default(),
        }
    }

    pub(super) fn of(&self, scope: &VaultScope) -> Arc<Login> {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        let login = scopes.entry(scope.clone()).or_insert_with(|| {
            Arc::new(Login {
                auth: self.auth.clone(),
                scope: scope.clone(),
                token: tokio::sync::Mutex::default(),
            })
        });
        Arc::clone(login)
    }
}

impl Login {
    /// A token of this scope. Of many that need one at once, one logs in.
    pub(super) async fn token(&self, client: &Client) -> Result<ClientToken, Fault> {
        let mut kept = self.token.lock().await;
        let old = kept.clone();
        if let Some(token) = &old
            && token.made.elapsed() < token.lease / 3 * 2
        {
            return Ok(token.clone());
        }
        match self.log_in(client).await {
            Ok(token) => {
                *kept = Some(token.clone());
                Ok(token)
            }
            Err(fault) => match old.filter(|token| token.made.elapsed() < token.lease) {
                Some(token) => Ok(token),
                None => {
                    *kept = None;
                    Err(fault)
                }
            },
        }
    }

    /// Drops a token that was denied. Whether another one is worth a try.
    pub(super) async fn forget(&self, denied: &ClientToken) -> bool {
        let mut kept = self.token.lock().await;
        match &*kept {
            Some(token) if Arc::ptr_eq(&token.value, &denied.value) => {
                let is_old = token.made.elapsed() >= SETTLED;
                if is_old {
                    *kept = None;
                }
                is_old
            }
            // Somebody else has replaced it.
            _ => true,
        }
    }

    async fn log_in(&self, client: &Client) -> Result<ClientToken, Fault> {
        let own = |template: &str| template.replace("{scope}", self.scope.as_str());
        let made = Instant::now();
        let (mount, body) = match &self.auth {
            Kv2Auth::Token { file } => {
                return Ok(ClientToken {
                    value: Arc::new(read_line(&own(file)).await?),
                    made,
                    lease: FILE_LEASE,
                });
            }
            Kv2Auth::Kubernetes {
                mount,
                role,
                token_file,
            } => {
                let jwt = read_line(&token_file.to_string_lossy()).await?;
                let (role, jwt) = (own(role), jwt.as_str());
                (mount, json(&KubernetesLogin { role: &role, jwt })?)
            }
            Kv2Auth::AppRole {
                mount,
                role_id_file,
                secret_id_file,
            } => {
                let role_id = read_line(&own(role_id_file)).await?;
                let secret_id = read_line(&own(secret_id_file)).await?;
                let body = AppRoleLogin {
                    role_id: &role_id,
                    secret_id: &secret_id,
                };
                (mount, json(&body)?)
            }
        };
        let connection = client.connection().await?;
        let answer = connection
            .post(&format!("/v1/auth/{mount}/login"), &body)
            .await?;
        match answer.status {
            200 => {}
            status @ (429 | 472 | 473 | 503) => return Err(Fault::Sealed(status)),
            status => return Err(Fault::LoginDenied(status)),
        }
        let read: Result<LoggedIn, _> = serde_json::from_slice(&answer.body);
        let auth = read
            .map_err(|_may_quote_a_token| Fault::NotUnderstood)?
            .auth;
        Ok(ClientToken {
            value: Arc::new(Zeroizing::new(auth.client_token)),
            made,
            lease: match auth.lease_duration {
                0 => ENDLESS,
                seconds => Duration::from_secs(seconds),
            },
        })
    }
}

fn json(body: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let bytes = serde_json::to_vec(body);
    bytes
        .map(Zeroizing::new)
        .map_err(|_may_quote_a_token| Fault::LoginFile)
}

/// What a small file holds, without the white space around it.
async fn read_line(path: &str) -> Result<Zeroizing<String>, Fault> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let size = std::fs::metadata(&path).ok()?.len();
        if size > MAX_FILE_BYTES {
            return None;
        }
        let text = Zeroizing::new(std::fs::read_to_string(&path).ok()?);
        let line = text.trim();
        (!line.is_empty()).then(|| Zeroizing::new(line.to_owned()))
    });
    read.await
        .map_err(|_stopped| Fault::Stopped)?
        .ok_or(Fault::LoginFile)
}
