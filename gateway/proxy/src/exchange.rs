//! One call from head to settlement, as one function: admit, forward, relay and meter.
//!
//! The function finishes even if the client leaves: the service detaches it, the relay drains the
//! upstream within bounds, and the settlement closes on every path.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;
use tollgate_core::identity::{Caller, TokenFault};
use tollgate_core::ids::RecordId;
use tollgate_core::policy::Dialect;
use tollgate_core::record::Outcome;
use tollgate_core::refusal::Refusal;
use tollgate_core::route::find;
use tollgate_core::usage::{Framing, Meter};

use crate::admit::{Rejected, admit};
use crate::ask::Payload;
use crate::authenticate::is_cut_off;
use crate::body::{AnswerBody, RequestBody};
use crate::collect::{linger, take_in};
use crate::deferred::Watch;
use crate::forward::{incoming_head, is_plain};
use crate::gateway::Gateway;
use crate::guard::HeadFault;
use crate::live::Snapshot;
use crate::meter::MeterTap;
use crate::metrics::Timing;
use crate::oauth;
use crate::pool::{UpstreamAnswer, UpstreamError};
use crate::record::{Draft, keep_rejected, keep_unread, log_failure};
use crate::relay::Relay;
use crate::respond::{Failure, Verdict, id_value, respond};
use crate::scrub::Scrub;
use crate::seal::{Sealing, seal};
use crate::service::{ConnInfo, Handler};
use crate::settle::Settlement;
use crate::statement;
use crate::tracker::Arrival;
use crate::unseal::Admitted;

/// Tells a client whose output bound was lowered, or set where there was none, what it is now.
const MAX_OUTPUT_TOKENS: HeaderName = HeaderName::from_static("x-tollgate-max-output-tokens");

impl Handler for Gateway {
    // Inlined, it is made in its box; otherwise its five kilobytes are moved there.
    #[inline]
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: ConnInfo,
        arrival: Arrival,
    ) -> Response<AnswerBody> {
        let now = (self.clock)();
        let live = self.live.snapshot();
        let (head, body) = request.into_parts();
        let id = RecordId::new(uuid::Uuid::now_v7());
        if oauth::is_here(&head) {
            return Box::pin(oauth::answer(&self, &head, body, &peer, id, now)).await;
        }
        if statement::is_here(&head) {
            return Box::pin(statement::answer(&self, &head, &peer, id, now)).await;
        }
        let mut body = Some(body);
        let mut draft = Draft::open(id, now, &head, peer.client);
        draft.is_traced(self.traces.as_ref());
        for claim in draft.claims() {
            self.metrics.security.claimed(claim);
        }
        let shown = peer.certificate.as_deref();
        let admitted = admit(&self, &live, &head, shown, &mut body, &mut draft, now).await;
        drop(arrival);
        let rejected = match admitted {
            Ok(admitted) => {
                match forward(&self, &live, admitted, draft.timing, body.take()).await {
                    Ok(response) => return response,
                    Err(rejected) => {
                        let dialect = dialect(&live, &head);
                        let code = Verdict::of(&rejected, dialect).code;
                        self.metrics.rejected(code, draft.tenant());
                        if let Rejected::Failed(failure) = &rejected {
                            log_failure(id, failure);
                        }
                        return respond(dialect, &rejected, id, now);
                    }
                }
            }
            Err(rejected) => rejected,
        };
        let dialect = dialect(&live, &head);
        keep_rejected(&self, &draft, &rejected, &Verdict::of(&rejected, dialect));
        // Strangers get their answer and no more: the places to linger in are few, and tenants'
        // hang-ups need them.
        if let Some(unread) = body.filter(|_| draft.has_caller()) {
            if matches!(rejected, Rejected::Failed(Failure::Overloaded(_))) {
                take_in(&head.headers, unread).await;
            } else {
                linger(&self.tracker, &head.headers, unread);
            }
        }
        respond(dialect, &rejected, id, now)
    }

    fn refused(&self, fault: HeadFault, request_id: &str, peer: &ConnInfo) {
        keep_unread(self, fault, request_id, peer.client);
    }
}

/// The dialect of the gateway's own answers, which is known even for paths that lead nowhere.
pub(crate) fn dialect(live: &Snapshot, head: &Parts) -> Dialect {
    let path = head.uri.path();
    if let Ok(route) = find(&live.policy, &head.method, path) {
        return route.dialect();
    }
    let first = path
        .trim_start_matches('/')
        .split('/')
        .next()
        .unwrap_or_default();
    live.policy
        .providers
        .get(first)
        .map_or(Dialect::Http, |provider| provider.dialect)
}

/// Sends an admitted call and hands its answer to the client. The intent is written, so from here
/// on the settlement makes the record.
async fn forward(
    gw: &Arc<Gateway>,
    live: &Snapshot,
    admitted: Box<Admitted>,
    timing: Timing,
    unread: Option<Incoming>,
) -> Result<Response<AnswerBody>, Rejected> {
    let Admitted {
        caller,
        provider,
        endpoint,
        dialect,
        outgoing,
        payload,
        usage_was_asked_for,
        mut settlement,
        later,
        scrub,
    } = *admitted;
    let fail =
        |settlement, outcome, rejected, sent| fail(settlement, outcome, rejected, dialect, sent);
    let (body, memory) = match payload {
        Payload::Whole(collected) => {
            let (bytes, share) = collected.into_parts();
            (RequestBody::buffered(bytes), Some(share))
        }
        Payload::Streamed => (upload(gw, unread), None),
    };
    let request = match outgoing.request(&provider.upstream, body) {
        Ok(request) => request,
        Err(failure) => {
            return Err(fail(settlement, Outcome::Failed, failure.into(), false));
        }
    };
    settlement.sends(timing);
    let goes_on = || !is_cut_off(gw, &caller);
    let upstreams = &gw.upstreams;
    let answer = upstreams.send_while(&provider.upstream, request, &goes_on);
    let answer = match answer.await {
        Ok(answer) => answer,
        Err(UpstreamError::GivenUp { sent }) => {
            gw.metrics.cut_off(&caller, (gw.clock)());
            let refusal = Refusal::Unauthenticated(TokenFault::Revoked);
            return Err(fail(settlement, Outcome::Revoked, refusal.into(), sent));
        }
        Err(error) => {
            let sent = error.may_have_been_sent();
            let failure = Failure::Upstream(error);
            let outcome = if failure.is_the_clients() {
                Outcome::ClientGone
            } else {
                Outcome::UpstreamFailed
            };
            return Err(fail(settlement, outcome, failure.into(), sent));
        }
    };
    drop(memory);
    settlement.answered(answer.response.status().as_u16());
    if scrub.is_some() && !is_plain(answer.response.headers()) {
        let withheld = Failure::AnswerWithheld.into();
        return Err(fail(settlement, Outcome::UpstreamFailed, withheld, true));
    }
    if let Some(sealing) = Sealing::of(&live.policy, &caller, &provider, &endpoint) {
        return Box::pin(sealed(gw, &sealing, dialect, answer, settlement, scrub)).await;
    }
    let watch = Watch::new(gw, (&caller.tenant, &provider.name), later, &answer);
    Ok(relay(
        gw,
        caller,
        answer,
        settlement,
        watch,
        scrub,
        usage_was_asked_for,
    ))
}

/// Ends a call whose answer holds tokens that the agent must not see.
async fn sealed(
    gw: &Gateway,
    sealing: &Sealing<'_>,
    dialect: Dialect,
    answer: UpstreamAnswer,
    settlement: Box<Settlement>,
    scrub: Option<Scrub>,
) -> Result<Response<AnswerBody>, Rejected> {
    let sealed = seal(gw, sealing, answer, settlement, scrub).await;
    sealed.map_err(|unsealed| {
        let (settlement, outcome, rejected) = *unsealed;
        fail(settlement, outcome, rejected, dialect, true)
    })
}

fn upload(gw: &Gateway, unread: Option<Incoming>) -> RequestBody {
    unread.map_or(RequestBody::Empty, |incoming| {
        let limits = &gw.limits;
        RequestBody::streamed(incoming, limits.streamed_body_bytes, limits.upload_idle)
    })
}

fn relay(
    gw: &Arc<Gateway>,
    caller: Arc<Caller>,
    answer: UpstreamAnswer,
    mut settlement: Box<Settlement>,
    watch: Option<Watch>,
    mut scrub: Option<Scrub>,
    usage_was_asked_for: bool,
) -> Response<AnswerBody> {
    let (mut head, incoming) = answer.response.into_parts();
    let ask = settlement.tariff().ask();
    let success = head.status.is_success();
    let content_type = head.headers.get(http::header::CONTENT_TYPE);
    let framing = ask.map(|ask| {
        let kind = content_type.map(HeaderValue::as_bytes);
        (ask.operation, Framing::of(ask.operation, kind, ask.stream))
    });
    if matches!(
        framing,
        Some((_, Framing::Events | Framing::Lines | Framing::AwsEvents))
    ) {
        settlement.streams();
    }
    let withhold = usage_was_asked_for && matches!(framing, Some((_, Framing::Events)));
    let meter = framing.filter(|_| success).map(|(operation, framing)| {
        let mut meter = Meter::new(operation, framing, withhold);
        meter.heed(&head.headers);
        meter
    });
    if let Some(scrub) = &mut scrub {
        scrub.head(&mut head);
    }
    incoming_head(&mut head.headers, id_value(settlement.id()), withhold);
    if let Some(tokens) = settlement.clamped_to() {
        head.headers.insert(MAX_OUTPUT_TOKENS, tokens.into());
    }
    let now = Instant::now();
    settlement.hands_on(now);
    let tap = MeterTap::new(Arc::clone(gw), caller, meter, watch, scrub, settlement);
    let relay = Relay::new(incoming, Box::new(tap), gw.tracker.clone(), &gw.engine, now);
    Response::from_parts(head, AnswerBody::Relay(Box::new(relay)))
}

/// Ends a call that has been written down but gets no answer from its upstream.
fn fail(
    settlement: Box<Settlement>,
    outcome: Outcome,
    rejected: Rejected,
    dialect: Dialect,
    sent: bool,
) -> Rejected {
    settlement.fail(outcome, &Verdict::of(&rejected, dialect), sent);
    rejected
}

#[cfg(test)]
mod tests;
