//! Answers of OAuth token endpoints: their tokens are kept here, and the agent gets handles.
//!
//! Such an answer is read whole before any of it is passed on. What is compressed, over 64 KiB,
//! late, broken off or not understood is withheld; of the head, only what says how to read the
//! body is passed on, so that no cookie or address brings a token along.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, PRAGMA, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, Response, response};
use tokio::time::timeout;
use tollgate_core::credential::MAX_LIFE;
use tollgate_core::handle::check_sendable;
use tollgate_core::identity::{Caller, TokenFault};
use tollgate_core::ids::HandleName;
use tollgate_core::policy::{Endpoint, Operation, Place, Policy, Provider};
use tollgate_core::record::Outcome;
use tollgate_core::refusal::Refusal;
use tollgate_core::sealed::{Reply, Token, TokenKind, read};
use tollgate_core::usage::Reading;

use crate::admit::Rejected;
use crate::authenticate::is_cut_off;
use crate::body::AnswerBody;
use crate::forward::{incoming_head, is_plain};
use crate::gateway::Gateway;
use crate::pool::UpstreamAnswer;
use crate::respond::{Failure, id_value};
use crate::scrub::Scrub;
use crate::sealed::{Target, new_name};
use crate::settle::Settlement;

/// The longest answer that is read.
const ANSWER_BYTES: usize = 64 << 10;
/// The longest it may take.
const DEADLINE: Duration = Duration::from_secs(15);

/// What of an answer's head is passed on.
const PASSED: [HeaderName; 6] = [
    CONTENT_TYPE,
    CACHE_CONTROL,
    PRAGMA,
    DATE,
    RETRY_AFTER,
    WWW_AUTHENTICATE,
];

/// Whose answer it is, and where its tokens may go.
pub(crate) struct Sealing<'a> {
    caller: &'a Arc<Caller>,
    provider: &'a Provider,
    endpoint: &'a Endpoint,
    policy: &'a Policy,
}

impl<'a> Sealing<'a> {
    /// Nothing where the endpoint gives out no tokens.
    pub(crate) fn of(
        policy: &'a Policy,
        caller: &'a Arc<Caller>,
        provider: &'a Provider,
        endpoint: &'a Endpoint,
    ) -> Option<Self> {
        (endpoint.operation == Operation::OauthToken).then_some(Self {
            caller,
            provider,
            endpoint,
            policy,
        })
    }
}

/// Why there is nothing to hand on.
fn withheld() -> (Outcome, Rejected) {
    (Outcome::UpstreamFailed, Failure::AnswerWithheld.into())
}

/// Reads an answer and gives back one without tokens, and closes the call; or gives back the
/// settlement and why there is none.
pub(crate) async fn seal(
    gw: &Gateway,
    sealing: &Sealing<'_>,
    answer: UpstreamAnswer,
    mut settlement: Box<Settlement>,
    scrub: Option<Scrub>,
) -> Result<Response<AnswerBody>, Box<(Box<Settlement>, Outcome, Rejected)>> {
    let sealed = read_sealed(gw, sealing, answer).await;
    let (mut head, body) = match sealed {
        Ok(sealed) => sealed,
        Err((outcome, rejected)) => return Err(Box::new((settlement, outcome, rejected))),
    };
    let body = match scrub {
        None => body,
        Some(mut scrub) => {
            scrub.head(&mut head);
            let first = scrub.frame(body);
            let rest = scrub.flush(None).unwrap_or_default();
            if scrub.count(&gw.metrics) {
                settlement.scrubbed();
            }
            Bytes::from([&first[..], &rest].concat())
        }
    };
    incoming_head(&mut head.headers, id_value(settlement.id()), true);
    settlement.close(Outcome::Completed, &Reading::nothing());
    Ok(Response::from_parts(head, AnswerBody::full(body)))
}

async fn read_sealed(
    gw: &Gateway,
    sealing: &Sealing<'_>,
    answer: UpstreamAnswer,
) -> Result<(response::Parts, Bytes), (Outcome, Rejected)> {
    let (mut head, answer) = answer.response.into_parts();
    if !is_plain(&head.headers) {
        return Err(withheld());
    }
    let body = timeout(DEADLINE, answer.whole(ANSWER_BYTES)).await;
    let body = body.ok().and_then(Result::ok).ok_or_else(withheld)?;
    if is_cut_off(gw, sealing.caller) {
        let refusal = Refusal::Unauthenticated(TokenFault::Revoked);
        return Err((Outcome::Revoked, refusal.into()));
    }
    let content_type = head.headers.get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let reply = read(head.status.is_success(), content_type, &body).map_err(|_odd| withheld())?;
    let names = reply.tokens().iter().map(|_token| new_name());
    let names: Vec<HandleName> = names.collect::<Option<_>>().ok_or_else(withheld)?;
    let sealed = Bytes::from(reply.with_handles(&names));
    for (token, name) in reply.tokens().iter().zip(&names) {
        keep(gw, sealing, &reply, token, name);
    }
    pass_head(&mut head.headers);
    Ok((head, sealed))
}

fn pass_head(headers: &mut HeaderMap) {
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| !PASSED.contains(name))
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
    headers.remove(CONTENT_LENGTH);
}

/// Keeps a token for the places it may go. One that may go nowhere, or that nothing could send,
/// is not kept: its handle is nobody's.
fn keep(gw: &Gateway, sealing: &Sealing<'_>, reply: &Reply<'_>, token: &Token, name: &HandleName) {
    let providers = &sealing.policy.providers;
    let refresh = Place::FormField {
        name: "refresh_token".to_owned(),
    };
    let (targets, life): (Vec<Target<'_>>, _) = match token.kind {
        TokenKind::Access => {
            let named = sealing.endpoint.seals_for.iter();
            let named = named.filter_map(|name| providers.get(name));
            let targets = named.filter_map(|to| Some((&**to, to.place.as_ref()?)));
            (targets.collect(), reply.life.min(MAX_LIFE))
        }
        TokenKind::Refresh => (vec![(sealing.provider, &refresh)], MAX_LIFE),
        TokenKind::Id => (Vec::new(), Duration::ZERO),
    };
    if !targets.is_empty() && check_sendable(&token.secret).is_ok() {
        let secret = token.secret.clone();
        gw.sealed.keep(sealing.caller, name, secret, life, &targets);
    }
}
