//! Keeps one live task token at hand, and never asks for two at once.
//!
//! A single task renews the token at two thirds of its life, so that a gateway that is away for a
//! minute is not noticed, and by different amounts, so that pods started together do not come
//! back together. A renewal that is refused falls back to the credential the first token came
//! from. Lifetimes are measured on the monotonic clock from before the request, so that neither a
//! wrong clock nor a slow answer makes a token look longer-lived than it is. Worst case: nothing
//! helps, and it goes on asking every [`MAX_PAUSE`], since an operator may let the agent in again.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{error, info, warn};

use super::link::Link;

/// How long a call waits for a token before it is refused: a restart of the gateway, no more.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The pause after a first failure; it doubles with each one that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(15);

/// How soon after the last token another is asked for because the gateway refused a call with it.
const DOUBT_PAUSE: Duration = Duration::from_secs(5);

/// No task token lives longer; whoever says so is not believed.
const MAX_LIFE: Duration = Duration::from_secs(300);

/// A token that was given out.
pub(super) struct Granted {
    /// Ready to be sent.
    pub(super) token: HeaderValue,
    /// How long it lives from the moment it was asked for.
    pub(super) life: Duration,
}

/// What a new token is asked for with.
pub(super) enum Subject<'a> {
    /// The credential that the sidecar was started with.
    Credential,
    /// The token in use.
    Token(&'a HeaderValue),
}

/// Why there is no new token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// It was judged, and the answer is no.
    #[error("the gateway gives no task token ({status} {reason})")]
    Refused {
        /// The answer's status.
        status: u16,
        /// The gateway's own words.
        reason: String,
    },
    /// The gateway could not judge it.
    #[error("the gateway cannot give a task token now ({0})")]
    Unavailable(String),
    /// The gateway did not answer.
    #[error("the gateway cannot be reached: {0}")]
    Unreachable(String),
    /// A file is missing or not what it should be.
    #[error("{0}")]
    File(String),
}

/// Where tokens come from.
pub(super) trait Desk: Send + Sync + 'static {
    /// The way to the gateway: `current`, unless the files have changed that it was made from.
    fn link(&self, current: Option<&Arc<Link>>) -> Result<Arc<Link>, Trouble>;

    /// Asks for a token.
    fn exchange(
        &self,
        link: &Link,
        subject: Subject<'_>,
    ) -> impl Future<Output = Result<Granted, Trouble>> + Send;
}

/// A token, and the connections on which it is good: it may be bound to their certificate.
pub(super) struct Live {
    pub(super) token: HeaderValue,
    pub(super) link: Arc<Link>,
    asked_at: Instant,
    life: Duration,
}

impl Live {
    fn ends_at(&self) -> Instant {
        self.asked_at + self.life
    }

    fn is_live(&self) -> bool {
        Instant::now() < self.ends_at()
    }

    /// Between 57 % and 67 % of its life.
    fn renew_at(&self) -> Instant {
        self.asked_at + self.life * 2 / 3 - spread(self.life / 10)
    }
}

/// What the keeper has and knows.
#[derive(Default, Clone)]
struct State {
    live: Option<Arc<Live>>,
    trouble: Option<Trouble>,
    /// Whether the gateway has refused a call with the token in use: it may have been revoked.
    doubted: bool,
}

/// The token in use, for those who need it.
#[derive(Default)]
pub(super) struct Tokens {
    state: watch::Sender<State>,
}

impl Tokens {
    /// The token in use, as soon as there is one; why there is none after [`PATIENCE`].
    ///
    /// # Errors
    /// What the keeper's last attempt met, or `None` if it still waits for its first answer.
    pub(super) async fn live(&self) -> Result<Arc<Live>, Option<Trouble>> {
        let held = timeout(PATIENCE, self.first()).await;
        held.map_err(|_elapsed| self.state.borrow().trouble.clone())
    }

    /// The token in use, whenever there is one.
    pub(super) async fn first(&self) -> Arc<Live> {
        let mut state = self.state.subscribe();
        loop {
            let held = state.borrow_and_update().live.clone();
            if let Some(live) = held.filter(|live| live.is_live()) {
                return live;
            }
            if state.changed().await.is_err() {
                // Cannot be: the sender is `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether there is a token in use now.
    pub(super) fn ready(&self) -> bool {
        let state = self.state.borrow();
        state.live.as_ref().is_some_and(|live| live.is_live())
    }

    /// The gateway has refused a call with this token. Nothing, if another is in use by now.
    pub(super) fn doubt(&self, used: &Arc<Live>) {
        self.state.send_if_modified(|state| {
            let live = state.live.as_ref();
            let news = !state.doubted && live.is_some_and(|live| Arc::ptr_eq(live, used));
            state.doubted |= news;
            news
        });
    }

    async fn doubted(&self) {
        let mut state = self.state.subscribe();
        if state.wait_for(|state| state.doubted).await.is_err() {
            // Cannot be: the sender is `self`.
            std::future::pending::<()>().await;
        }
    }
}

/// Keeps `tokens` filled, for ever.
pub(super) async fn keep(desk: impl Desk, tokens: Arc<Tokens>) {
    let mut pause = FIRST_PAUSE;
    let mut link = None;
    loop {
        let held = tokens.state.borrow().live.clone();
        match obtain(&desk, held.as_deref(), &mut link).await {
            Ok(live) => {
                if tokens.state.borrow().trouble.is_some() || held.is_none() {
                    info!(seconds = live.life.as_secs(), "there is a task token");
                }
                pause = FIRST_PAUSE;
                let (renew_at, trusted_until) = (live.renew_at(), live.asked_at + DOUBT_PAUSE);
                tokens.state.send_replace(State {
                    live: Some(Arc::new(live)),
                    ..State::default()
                });
                tokio::select! {
                    () = sleep_until(renew_at) => {}
                    () = tokens.doubted() => sleep_until(trusted_until.min(renew_at)).await,
                }
            }
            Err(trouble) => {
                let wait = pause - spread(pause / 2);
                tell(&trouble, wait);
                tokens
                    .state
                    .send_modify(|state| state.trouble = Some(trouble));
                sleep(wait).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
}

fn tell(trouble: &Trouble, wait: Duration) {
    let retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    if matches!(trouble, Trouble::Refused { .. }) {
        error!(%trouble, retry_in_ms, "the gateway refuses this agent; it may have been revoked");
    } else {
        warn!(%trouble, retry_in_ms, "no new task token");
    }
}

/// A new token, by the one in use if it still is, else by the credential.
async fn obtain(
    desk: &impl Desk,
    held: Option<&Live>,
    link: &mut Option<Arc<Link>>,
) -> Result<Live, Trouble> {
    let way = desk.link(link.as_ref())?;
    *link = Some(Arc::clone(&way));
    let held = held.filter(|held| held.is_live());
    // A token that is bound to a certificate cannot be renewed on connections with another.
    let (held, elsewhere) = match held {
        Some(held) if !Arc::ptr_eq(&held.link, &way) => (None, Some(held)),
        held => (held, None),
    };
    if let Some(held) = held {
        let asked_at = Instant::now();
        match desk.exchange(&way, Subject::Token(&held.token)).await {
            Err(refused @ Trouble::Refused { .. }) => {
                warn!(trouble = %refused, "not renewed; exchanging the credential anew");
            }
            renewed => return Ok(Live::new(renewed?, way, asked_at)),
        }
    }
    let asked_at = Instant::now();
    let granted = match (desk.exchange(&way, Subject::Credential).await, elsewhere) {
        // One that is not bound can, and the credential may have been a token that has long ended.
        (Err(trouble @ (Trouble::Refused { .. } | Trouble::File(_))), Some(held)) => {
            let renewed = desk.exchange(&way, Subject::Token(&held.token)).await;
            renewed.map_err(|_less_telling| trouble)
        }
        (granted, _) => granted,
    };
    Ok(Live::new(granted?, way, asked_at))
}

impl Live {
    fn new(granted: Granted, link: Arc<Link>, asked_at: Instant) -> Self {
        Self {
            token: granted.token,
            link,
            asked_at,
            life: granted.life.min(MAX_LIFE),
        }
    }
}

/// Anything from nothing to `whole`. Chance only spreads load here; it protects nothing.
fn spread(whole: Duration) -> Duration {
    let chance = RandomState::new().hash_one(0_u8) % 1024;
    whole * u32::try_from(chance).unwrap_or(0) / 1024
}

#[cfg(test)]
mod tests;
