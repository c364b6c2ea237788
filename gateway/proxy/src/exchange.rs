//! One call from head to settlement, as one function: admit, forward, relay and meter.
//!
//! The function finishes even if the client leaves: the service detaches it, the relay drains the
//! upstream within bounds, and the settlement closes on every path.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use tollgate_core::call::ask_for_usage;
use tollgate_core::identity::Caller;
use tollgate_core::ids::RecordId;
use tollgate_core::policy::Dialect;
use tollgate_core::usage::Meter;

use crate::admit::admit;
use crate::ask::Payload;
use crate::body::{AnswerBody, RequestBody};
use crate::collect::linger;
use crate::forward::{incoming_head, is_event_stream, is_plain};
use crate::gateway::Gateway;
use crate::live::Snapshot;
use crate::meter::MeterTap;
use crate::pool::UpstreamAnswer;
use crate::record::{Draft, keep_rejected};
use crate::relay::Relay;
use crate::respond::{Failure, Verdict, id_value, respond};
use crate::service::{ConnInfo, Handler};
use crate::settle::Settlement;
use crate::unseal::Admitted;

impl Handler for Gateway {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: ConnInfo,
    ) -> Response<AnswerBody> {
        let now = (self.clock)();
        let live = self.live.snapshot();
        let (head, body) = request.into_parts();
        let mut body = Some(body);
        let id = RecordId::new(uuid::Uuid::now_v7());
        let mut draft = Draft::open(id, now, &head, peer.client);
        let rejected = match admit(&self, &live, &head, &mut body, &mut draft, now).await {
            Ok(admitted) => match forward(&self, admitted, body.take(), &draft).await {
                Ok(response) => return response,
                Err(failure) => {
                    self.metrics.rejected(failure.code());
                    return respond(dialect(&live, head.uri.path()), &failure.into(), id, now);
                }
            },
            Err(rejected) => rejected,
        };
        keep_rejected(&self, &draft, &rejected, &Verdict::of(&rejected));
        if let Some(unread) = body {
            linger(&self.tracker, &head.headers, unread);
        }
        respond(dialect(&live, head.uri.path()), &rejected, id, now)
    }
}

/// The dialect of the gateway's own answers, which is known even for paths that lead nowhere.
fn dialect(live: &Snapshot, path: &str) -> Dialect {
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
    admitted: Admitted,
    unread: Option<Incoming>,
    draft: &Draft,
) -> Result<Response<AnswerBody>, Failure> {
    let Admitted {
        provider,
        outgoing,
        payload,
        mut settlement,
        carries_secret,
    } = admitted;
    let (body, usage_was_asked_for, memory) = match payload {
        Payload::Judged(collected) => {
            let (bytes, share) = collected.into_parts();
            let spliced = settlement
                .tariff()
                .ask()
                .and_then(|ask| ask_for_usage(&bytes, ask));
            let asked_for = spliced.is_some();
            let bytes = spliced.map_or(bytes, Bytes::from);
            (RequestBody::buffered(bytes), asked_for, Some(share))
        }
        Payload::Streamed => (upload(gw, unread), false, None),
    };
    let request = match outgoing.request(&provider.upstream, body) {
        Ok(request) => request,
        Err(failure) => return Err(fail(settlement, failure, false)),
    };
    let answer = match gw.upstreams.send(&provider.upstream, request).await {
        Ok(answer) => answer,
        Err(error) => {
            let sent = error.may_have_been_sent();
            return Err(fail(settlement, Failure::Upstream(error), sent));
        }
    };
    drop(memory);
    settlement.answered(answer.response.status().as_u16());
    if carries_secret && !is_plain(answer.response.headers()) {
        let failure = Failure::AnswerWithheld;
        settlement.withhold(failure.code(), failure.status().as_u16());
        return Err(failure);
    }
    let caller = draft.caller().map(Arc::clone).ok_or(Failure::ClientGone)?;
    Ok(relay(
        gw,
        caller,
        answer,
        settlement,
        usage_was_asked_for,
        id_value(draft.id),
    ))
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
    settlement: Settlement,
    usage_was_asked_for: bool,
    id: HeaderValue,
) -> Response<AnswerBody> {
    let (mut head, incoming) = answer.response.into_parts();
    let streams = is_event_stream(&head.headers);
    let withhold = usage_was_asked_for && streams;
    let success = head.status.is_success();
    let meter = settlement
        .tariff()
        .ask()
        .filter(|_| success)
        .map(|ask| Meter::new(ask.operation, streams, withhold));
    incoming_head(&mut head.headers, id, withhold);
    let tap = MeterTap::new(Arc::clone(gw), caller, meter, settlement);
    let relay = Relay::new(
        incoming,
        answer.lease,
        Box::new(tap),
        gw.tracker.clone(),
        &gw.engine,
    );
    Response::from_parts(head, AnswerBody::Relay(Box::new(relay)))
}

fn fail(settlement: Settlement, failure: Failure, sent: bool) -> Failure {
    settlement.fail(failure.code(), failure.status().as_u16(), sent);
    failure
}
