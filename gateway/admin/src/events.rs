//! What happens, told while it happens: figures every second, calls under way, who is turned away.
//!
//! One stream of server-sent events per asker, on record once, when it is opened. It ends when the
//! asker's credential does, when the gateway stops, or when its place is given away. Nothing is
//! kept for whoever is not there. Worst case: a reader that stalls holds one of the few places
//! until somebody else needs it; its stream says so when it reads on.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tollgate_core::admin_log::About;
use tollgate_core::happening::{Audience, Following, Happening};
use tollgate_core::ids::TenantId;

use crate::Admin;
use crate::access::{Action, Asker, Deed};
use crate::live;
use crate::problem::Problem;
use crate::server::Connection;

/// Time between two looks at what has happened.
const LOOK: Duration = Duration::from_millis(200);

/// Time between two looks at figures and at the asker's credential.
const FIGURES: Duration = Duration::from_secs(1);

/// Figures are not made in more than this part of the time: one in so many.
const REST: u32 = 10;

/// The most tenants in the figures of a stream: those that money goes fastest in.
const MOST_TENANTS: usize = 200;

/// The most calls under way in one answer or event: the oldest.
const MOST_CALLS: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    tenant: Option<String>,
}

/// Lists the calls under way.
pub(crate) async fn calls(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Problem> {
    let (deed, audience) = begin(&admin, &asker, Action::ReadCalls, asked).await?;
    let open = audience.map(|audience| {
        let open = admin.happenings.open_calls(&audience, MOST_CALLS);
        Json(json!({
            "at": (admin.clock)(),
            "replica": admin.signer.replica,
            "calls": open.calls,
            "left_out": open.left_out,
        }))
    });
    Ok(deed.close(open))
}

/// Tells what happens, until somebody has enough.
pub(crate) async fn follow(
    State(admin): State<Arc<Admin>>,
    connection: Connection,
    asker: Asker,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Problem> {
    let (deed, audience) = begin(&admin, &asker, Action::FollowEvents, asked).await?;
    let begun = audience.and_then(|audience| {
        let following = admin.happenings.follow(audience.clone());
        let following = following.ok_or_else(Problem::crowded)?;
        connection.is_followed();
        Ok(Stream::new(&admin, asker, audience, following, connection))
    });
    Ok(deed.close(begun.map(Stream::into_answer)))
}

/// Whose affairs are asked about: one tenant's, or all that the asker's role reaches.
async fn begin(
    admin: &Admin,
    asker: &Asker,
    action: Action,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<(Deed, Result<Audience, Problem>), Problem> {
    let Query(asked) = asked.map_err(|wrong| Problem::malformed(wrong.body_text()))?;
    let Some(asked) = asked.tenant else {
        let deed = asker.begin_unseeing(admin, action, asker.about_its_own());
        let audience = match asker.tenants() {
            None => Audience::Operators,
            Some(tenants) => Audience::Tenants(tenants.clone()),
        };
        return Ok((deed.await?, Ok(audience)));
    };
    let tenant: Option<TenantId> = asked.parse().ok();
    let about = tenant.clone().map_or_else(About::default, About::tenant);
    let deed = asker.begin(admin, action, about).await?;
    let known = tenant.filter(|tenant| (admin.policy)().tenants.contains_key(tenant));
    let audience = known.map(|tenant| Audience::Tenants(BTreeSet::from([tenant])));
    Ok((deed, audience.ok_or_else(Problem::unknown_tenant)))
}

/// A stream that somebody reads.
struct Stream {
    admin: Arc<Admin>,
    asker: Asker,
    audience: Audience,
    following: Box<dyn Following>,
    connection: Connection,
    looks: Interval,
    figures_due: Instant,
    is_over: bool,
}

impl Stream {
    fn new(
        admin: &Arc<Admin>,
        asker: Asker,
        audience: Audience,
        following: Box<dyn Following>,
        connection: Connection,
    ) -> Self {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            admin: Arc::clone(admin),
            asker,
            audience,
            following,
            connection,
            looks,
            figures_due: Instant::now(),
            is_over: false,
        }
    }

    fn into_answer(self) -> Response {
        let events = unfold(self, |mut stream| async {
            let events = stream.next().await?;
            Some((Ok::<_, Infallible>(events), stream))
        });
        let headers = [
            (CONTENT_TYPE, "text/event-stream"),
            (CACHE_CONTROL, "no-store"),
        ];
        (headers, Body::from_stream(events)).into_response()
    }

    /// The next events, as soon as there are some. `None` after the last.
    async fn next(&mut self) -> Option<String> {
        while !self.is_over {
            tokio::select! {
                biased;
                _at = self.looks.tick() => {}
                () = self.connection.stopped() => return Some(self.ends("stopping")),
            }
            let events = self.look().await;
            if !events.is_empty() {
                return Some(events);
            }
        }
        None
    }

    async fn look(&mut self) -> String {
        let mut events = String::new();
        let now = Instant::now();
        if now >= self.figures_due {
            if !self.asker.still_holds(&self.admin) {
                return self.ends("credential");
            }
            figures(&self.admin, &self.audience, &mut events).await;
            self.figures_due = now + FIGURES.max(now.elapsed() * REST);
        }
        let Some(news) = self.following.take() else {
            return self.ends("crowded");
        };
        if news.missed > 0 {
            push(&mut events, "missed", &json!({ "events": news.missed }));
        }
        for happening in &news.happenings {
            match happening {
                Happening::TurnedAway(of) => push(&mut events, "turned_away", of),
                Happening::Ended(of) => push(&mut events, "ended", of),
            }
        }
        events
    }

    fn ends(&mut self, reason: &str) -> String {
        self.is_over = true;
        let mut events = String::new();
        push(&mut events, "closed", &json!({ "reason": reason }));
        events
    }
}

async fn figures(admin: &Admin, audience: &Audience, events: &mut String) {
    match live::of_audience(admin, audience, MOST_TENANTS).await {
        Ok(figures) => push(events, "figures", &figures.0),
        // Said once a second, and in the log by whoever failed.
        Err(problem) => push(events, "no_figures", &json!({ "code": problem.code() })),
    }
    let open = admin.happenings.open_calls(audience, MOST_CALLS);
    push(events, "calls", &open);
}

/// One event; JSON has no line break to end it early.
fn push(events: &mut String, name: &str, data: &impl Serialize) {
    if let Ok(data) = serde_json::to_string(data) {
        // Writing to a String cannot fail.
        let _written = write!(events, "event: {name}\ndata: {data}\n\n");
    }
}
