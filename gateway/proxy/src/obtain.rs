//! From the stored value of a credential to what is sent: the value itself, a key that signs, or
//! an access token that a token endpoint gives out for it.
//!
//! Access tokens are kept in memory until shortly before they expire, one for each stored value
//! and kind, and only together with the version of the value they were obtained with: the vault
//! is asked on every call, and a token whose version is no longer current is dropped. Many calls
//! that need one at once make one request for it; a client that hangs up does not end that
//! request, since its answer may hold the only refresh token that still works. From three quarters
//! of its life on, a token in use is renewed beside the calls.
//!
//! What a token endpoint says reaches neither agent nor log, but for its status and the errors
//! that RFC 6749 names. Worst case: a process that is killed between a token endpoint's answer
//! and the vault's write loses a refresh token that is good once.

mod endpoint;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tollgate_core::credential::{
    InvalidValue, TokenFault, access_key, token_request, with_refresh_token,
};
use tollgate_core::identity::Caller;
use tollgate_core::policy::{Credential, CredentialKind, TokenEndpoint};
use tollgate_core::secret::Secret;
use tollgate_core::sigv4::AccessKey;
use tollgate_core::vault::{ReplaceError, SecretName, SecretVersion, VaultError};

use crate::gateway::Gateway;
use crate::metrics::{Asked, waited};
use crate::pool::UpstreamError;
use crate::respond::Failure;
use endpoint::ask;

/// The longest a token endpoint may take, from connecting to the last byte.
const DEADLINE: Duration = Duration::from_secs(10);
/// A failure is the answer to every call for so long, so that calls do not storm the endpoint.
const BACK_OFF: Duration = Duration::from_secs(1);
/// A token is not used for so long before it expires, or for a tenth of its life if that is less:
/// clocks differ, and calls take their time.
const MARGIN: Duration = Duration::from_secs(30);
/// The most values for which something is kept.
const MAX_SLOTS: usize = 4096;

/// Why there is no access token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unobtained {
    /// The stored value can never get one.
    #[error("the stored value of the credential is not of its kind")]
    Invalid(#[source] InvalidValue),
    /// The endpoint gives none.
    #[error("no access token was given out")]
    Refused(#[source] TokenFault),
    /// There is no answer.
    #[error("the token endpoint could not be asked")]
    Unreachable(#[source] UpstreamError),
    /// The answer does not end.
    #[error("the token endpoint did not answer in time")]
    Timeout,
    /// The answer broke off, or is longer than 64 KiB.
    #[error("the token endpoint's answer is broken off or too long")]
    Unreadable,
    /// The stored value was changed while a token was obtained for it.
    #[error("the credential was changed while a token was obtained for it")]
    Changed,
}

/// What a call's credential has come to.
pub(crate) enum Key {
    /// It is put in its place.
    Sent(SecretVersion),
    /// It signs the request.
    Signs(Arc<Signer>),
}

impl Key {
    /// The version of the stored value.
    pub(crate) fn version(&self) -> u32 {
        match self {
            Self::Sent(sent) => sent.version,
            Self::Signs(signer) => signer.version,
        }
    }
}

/// An access key, and what of it is sent.
pub(crate) struct Signer {
    pub(crate) key: AccessKey,
    /// The session token, if the key is a temporary one.
    pub(crate) sent: Option<SecretVersion>,
    pub(crate) version: u32,
}

/// What was made of stored values, in memory only.
#[derive(Default)]
pub struct Obtainer {
    slots: Mutex<HashMap<Origin, Arc<Slot>>>,
}

/// What a token or key was made of. The same value under another policy is another origin.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Origin {
    secret: SecretName,
    kind: CredentialKind,
}

#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    /// Whoever obtains a token holds it.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// The stored value as it was last fetched.
    stored: Option<(u32, Secret)>,
    signer: Option<Arc<Signer>>,
    token: Option<Token>,
    /// The newest stored value, where its use has changed it.
    successor: Option<Successor>,
    failed: Option<Failed>,
    renewing: bool,
}

struct Failed {
    at: Instant,
    version: u32,
    why: Unobtained,
}

struct Token {
    value: SecretVersion,
    renew_at: Instant,
    until: Instant,
}

/// A value with the newest refresh token, whose ancestor is the version `from` of the vault.
struct Successor {
    from: u32,
    /// The version that the vault has of it. All since `from` are its ancestors, since nothing is
    /// put in place of a version that somebody else has replaced.
    stored_as: Option<u32>,
    value: Secret,
}

impl State {
    /// Drops everything that was made of another value under the same version: whoever fills a
    /// mount or a server may number versions anew, or forget to.
    fn sees(&mut self, fetched: &SecretVersion) {
        if self.has_other(fetched) {
            (self.signer, self.token) = (None, None);
            (self.successor, self.failed) = (None, None);
            self.stored = None;
        }
        let is_known = |(version, _): &(u32, Secret)| *version == fetched.version;
        if !self.stored.as_ref().is_some_and(is_known) {
            self.stored = Some((fetched.version, fetched.secret.clone()));
        }
    }

    /// Whether the value was last fetched under the same version, and was another.
    fn has_other(&self, fetched: &SecretVersion) -> bool {
        let stored = self.stored.as_ref();
        stored.is_some_and(|(version, secret)| {
            *version == fetched.version && *secret != fetched.secret
        })
    }

    /// Whether `version` of the stored value is the one that what is kept was made of.
    fn is_of(&self, version: u32) -> bool {
        let made_of = self.token.as_ref().map(|token| token.value.version);
        made_of == Some(version) || self.succeeds(version)
    }

    fn succeeds(&self, version: u32) -> bool {
        let successor = self.successor.as_ref();
        // A vault's cache may give out an ancestor for a while.
        successor.is_some_and(|it| (it.from..=it.stored_as.unwrap_or(it.from)).contains(&version))
    }

    /// Drops what was made of any other version than this.
    fn keep_only(&mut self, version: u32) {
        if !self.is_of(version) {
            self.token = None;
        }
        if self.failed.as_ref().is_some_and(|it| it.version != version) {
            self.failed = None;
        }
        if !self.succeeds(version) {
            self.successor = None;
        }
    }
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token for a version, if it can still be used, and whether it is time to renew it.
    fn token(&self, version: u32, now: Instant) -> Option<(SecretVersion, bool)> {
        let mut state = self.state();
        state.keep_only(version);
        let token = state.token.as_ref().filter(|token| now < token.until)?;
        let mut value = token.value.clone();
        value.version = version;
        let failed = state.failed.as_ref();
        let rests = failed.is_some_and(|failed| now.duration_since(failed.at) < BACK_OFF);
        let renew = now >= token.renew_at && !state.renewing && !rests;
        state.renewing |= renew;
        Some((value, renew))
    }
}

impl Obtainer {
    fn slot(&self, credential: &Credential) -> Arc<Slot> {
        let origin = Origin {
            secret: credential.secret.clone(),
            kind: credential.kind.clone(),
        };
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(&origin) {
            return Arc::clone(slot);
        }
        if slots.len() >= MAX_SLOTS {
            // Only what nobody can miss goes: a successor may be the last that works.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.state().successor.is_some());
        }
        Arc::clone(slots.entry(origin).or_default())
    }

    /// Drops everything that was made of a value that can no longer be fetched.
    fn forget(&self, secret: &SecretName) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|origin, _| origin.secret != *secret);
    }
}

/// What `credential` sends or signs with, now.
pub(crate) async fn obtain(
    gw: &Arc<Gateway>,
    caller: &Caller,
    credential: &Credential,
) -> Result<Key, Failure> {
    if credential.kind == CredentialKind::Sealed {
        let sealed = gw.sealed.fetch(caller, &credential.name);
        let missing = || Failure::Credential(VaultError::Missing(credential.secret.clone()));
        return sealed.map(Key::Sent).ok_or_else(missing);
    }
    let fetched = fetch(gw, credential).await?;
    match &credential.kind {
        CredentialKind::Static | CredentialKind::Sealed => Ok(Key::Sent(fetched)),
        CredentialKind::AwsSigv4 => signer(gw, credential, &fetched).map(Key::Signs),
        kind => {
            let endpoint = kind.token_endpoint().ok_or(Failure::CredentialInvalid)?;
            let token = token(gw, credential, endpoint, fetched).await?;
            Ok(Key::Sent(token))
        }
    }
}

async fn fetch(gw: &Gateway, credential: &Credential) -> Result<SecretVersion, Failure> {
    let (fetched, wait) = waited(gw.stores.vault.fetch(&credential.secret)).await;
    // That there is none is an answer, too.
    let failed = matches!(&fetched, Err(error) if !matches!(error, VaultError::Missing(_)));
    let times = &gw.metrics.stores;
    times.took(Asked::Fetch, wait, failed);
    fetched.map_err(|error| {
        if matches!(error, VaultError::Missing(_)) {
            gw.obtainer.forget(&credential.secret);
        }
        Failure::Credential(error)
    })
}

fn signer(
    gw: &Gateway,
    credential: &Credential,
    fetched: &SecretVersion,
) -> Result<Arc<Signer>, Failure> {
    let slot = gw.obtainer.slot(credential);
    let mut state = slot.state();
    state.sees(fetched);
    if let Some(signer) = &state.signer
        && signer.version == fetched.version
    {
        return Ok(Arc::clone(signer));
    }
    let key = access_key(&fetched.secret).map_err(invalid)?;
    let token = key.session_token.clone();
    let signer = Arc::new(Signer {
        sent: token.map(|token| SecretVersion::new(token, fetched.version)),
        key,
        version: fetched.version,
    });
    state.signer = Some(Arc::clone(&signer));
    Ok(signer)
}

fn invalid(fault: InvalidValue) -> Failure {
    Failure::Unobtained(Unobtained::Invalid(fault))
}

/// The access token for a fetched value: the one that is kept, or a new one.
async fn token(
    gw: &Arc<Gateway>,
    credential: &Credential,
    endpoint: &TokenEndpoint,
    fetched: SecretVersion,
) -> Result<SecretVersion, Failure> {
    let slot = gw.obtainer.slot(credential);
    let version = fetched.version;
    let now = Instant::now();
    slot.state().sees(&fetched);
    let kept = slot.token(version, now);
    if let Some((token, false)) = kept {
        return Ok(token);
    }
    let stored = fetched.secret.clone();
    let renewal = Renewal {
        gw: Arc::clone(gw),
        slot,
        secret: credential.secret.clone(),
        kind: credential.kind.clone(),
        endpoint: endpoint.clone(),
        fetched,
        wanted_since: now,
    };
    if let Some((token, _)) = kept {
        gw.tracker.spawn(async move {
            // Its failure is kept, told, and met again by whoever needs a new token.
            let _kept = renewal.run(true).await;
        });
        return Ok(token);
    }
    let (done, outcome) = oneshot::channel();
    gw.tracker.spawn(async move {
        // Whoever waited may have left; the token is kept all the same.
        let _gone = done.send(renewal.run(false).await);
    });
    let obtained = outcome.await.unwrap_or(Err(Unobtained::Unreadable));
    let mut token = obtained.map_err(Failure::Unobtained)?;
    // It took a while, in which the value may have been revoked.
    let current = fetch(gw, credential).await?;
    let slot = gw.obtainer.slot(credential);
    let is_same = current.version == version && current.secret == stored;
    if !is_same && !slot.state().succeeds(current.version) {
        return Err(Failure::Unobtained(Unobtained::Changed));
    }
    token.version = current.version;
    Ok(token)
}

/// One attempt to have a new token in a slot.
struct Renewal {
    gw: Arc<Gateway>,
    slot: Arc<Slot>,
    secret: SecretName,
    kind: CredentialKind,
    endpoint: TokenEndpoint,
    fetched: SecretVersion,
    wanted_since: Instant,
}

impl Renewal {
    /// A token in place of the one that is kept, or for want of one; others may have been faster.
    async fn run(self, in_advance: bool) -> Result<SecretVersion, Unobtained> {
        let slot = Arc::clone(&self.slot);
        let _turn = slot.turn.lock().await;
        let version = self.fetched.version;
        if !in_advance {
            if let Some((token, _)) = slot.token(version, Instant::now()) {
                return Ok(token);
            }
            if let Some(failed) = &slot.state().failed
                && (failed.at >= self.wanted_since || failed.at.elapsed() < BACK_OFF)
            {
                return Err(failed.why.clone());
            }
        }
        let renewed = self.renew().await;
        let mut state = slot.state();
        state.renewing = false;
        match renewed {
            Ok(token) => {
                state.failed = None;
                Ok(token)
            }
            Err(failure) => {
                tell(&self.secret, &failure);
                state.failed = Some(Failed {
                    at: Instant::now(),
                    version,
                    why: failure.clone(),
                });
                Err(failure)
            }
        }
    }

    async fn renew(&self) -> Result<SecretVersion, Unobtained> {
        let version = self.fetched.version;
        let value = {
            let mut state = self.slot.state();
            state.keep_only(version);
            let successor = state.successor.as_ref();
            successor.map_or_else(|| self.fetched.secret.clone(), |it| it.value.clone())
        };
        let now = (self.gw.clock)();
        let request = token_request(&self.kind, &value, now).map_err(Unobtained::Invalid)?;
        // Counted from before the endpoint was asked, so that it is never thought to live longer.
        let asked = Instant::now();
        let obtained = timeout(DEADLINE, ask(&self.gw, &self.endpoint, request))
            .await
            .map_err(|_elapsed| Unobtained::Timeout)??;
        if let Some(next) = &obtained.refresh_token {
            self.succeed(&value, next).await?;
        }
        let token = SecretVersion::new(obtained.access_token, version);
        let margin = MARGIN.min(obtained.life / 10);
        let mut state = self.slot.state();
        if state.has_other(&self.fetched) {
            return Err(Unobtained::Changed);
        }
        state.token = Some(Token {
            value: token.clone(),
            renew_at: asked + obtained.life / 4 * 3,
            until: asked + obtained.life.saturating_sub(margin),
        });
        Ok(token)
    }

    /// Keeps a new refresh token in place of the one that was used: in memory at once, and in the
    /// vault, so that it outlives this process.
    async fn succeed(&self, value: &Secret, next: &Secret) -> Result<(), Unobtained> {
        if !matches!(self.kind, CredentialKind::OAuth2RefreshToken(_)) {
            return Ok(());
        }
        let next = with_refresh_token(value, next).map_err(Unobtained::Invalid)?;
        if next == *value {
            return Ok(());
        }
        let replaced = {
            let mut state = self.slot.state();
            let earlier = state.successor.take();
            let from = earlier.as_ref().map_or(self.fetched.version, |it| it.from);
            let stored = earlier.and_then(|it| it.stored_as);
            state.successor = Some(Successor {
                from,
                stored_as: stored,
                value: next.clone(),
            });
            stored.unwrap_or(self.fetched.version)
        };
        let now = (self.gw.clock)();
        let vault = &self.gw.stores.vault;
        match vault.replace(&self.secret, replaced, &next, now).await {
            Ok(version) => {
                if let Some(successor) = &mut self.slot.state().successor {
                    successor.stored_as = Some(version);
                }
                tracing::info!(secret = %self.secret, version, "a refresh token was replaced");
                Ok(())
            }
            Err(ReplaceError::Superseded) => {
                self.slot.state().successor = None;
                Err(Unobtained::Changed)
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(
                    secret = %self.secret,
                    %error,
                    cause,
                    "a refresh token was replaced and its successor is in memory only: \
                     it is lost when this process ends"
                );
                Ok(())
            }
        }
    }
}

fn tell(secret: &SecretName, failure: &Unobtained) {
    let cause = std::error::Error::source(failure).map(ToString::to_string);
    tracing::warn!(%secret, %failure, cause, "no access token could be obtained");
}

#[cfg(test)]
mod tests;
