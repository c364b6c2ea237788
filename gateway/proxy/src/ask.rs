//! The body -> what is asked of a model, and whether the tenant may use that model.
//!
//! Bodies of metered endpoints are read whole before they are judged, and so are those in which a
//! credential may have its place; all others stream. A body is judged as the client sent it.

use http::request::Parts;
use hyper::body::Incoming;
use tollgate_core::call::{Ask, Request, bounds_by_max_tokens_alone};
use tollgate_core::policy::shared;
use tollgate_core::refusal::Refusal;

use crate::admit::Rejected;
use crate::bind::{BoundCall, HeadBoundCall};
use crate::collect::{Collected, collect};
use crate::deferred::Work;
use crate::gateway::{CallLimits, Gateway};
use crate::metrics::waited;
use crate::record::Draft;
use crate::respond::Failure;

/// What travels upstream as the body.
pub(crate) enum Payload {
    /// Read whole.
    Whole(Collected),
    /// Not inspected; still in the caller's hands as [`Incoming`].
    Streamed,
}

/// A call whose every word has been understood and allowed.
pub(crate) struct Call<'r> {
    pub(crate) bound: BoundCall<'r>,
    pub(crate) ask: Option<Ask>,
    /// Where the request readies or starts work that is made later.
    pub(crate) work: Option<Work>,
    pub(crate) payload: Payload,
}

pub(crate) async fn read_ask<'r>(
    gw: &Gateway,
    bound: HeadBoundCall<'r>,
    head: &Parts,
    body: &mut Option<Incoming>,
    draft: &mut Draft,
) -> Result<Call<'r>, Rejected> {
    if !needs_body(&bound, head, &gw.limits)? {
        return Ok(unread(bound.with_body(head, &[])?));
    }
    let limit = gw.limits.inspected_body_bytes;
    let incoming = body.as_mut().ok_or(Failure::ClientGone)?;
    let collected = collect(incoming, limit, &gw.memory, gw.limits.body_deadline);
    let (collected, wait) = waited(collected).await;
    draft.timing.waited(wait);
    let collected = collected.map_err(|error| Rejected::from_collect(error, limit))?;
    let bound = bound.with_body(head, &collected.bytes)?;
    Ok(judge(bound, head, collected, draft)?)
}

/// Whether the body is to be read whole, unless the head alone refuses it.
pub(crate) fn needs_body(
    bound: &HeadBoundCall<'_>,
    head: &Parts,
    limits: &CallLimits,
) -> Result<bool, Refusal> {
    let is_judged = bound.permit.route.endpoint.operation.is_judged();
    if !is_judged && !bound.bound.needs_body() {
        refuse_if_declared_too_long(head, limits.streamed_body_bytes)?;
        return Ok(false);
    }
    refuse_if_declared_too_long(head, limits.inspected_body_bytes)?;
    if is_judged && head.headers.contains_key(http::header::CONTENT_ENCODING) {
        return Err(Refusal::Malformed {
            code: "unsupported_content_encoding",
            detail: "the body of this endpoint must not be compressed",
        });
    }
    Ok(true)
}

/// A call whose body nobody looks into.
pub(crate) const fn unread(bound: BoundCall<'_>) -> Call<'_> {
    Call {
        bound,
        ask: None,
        work: None,
        payload: Payload::Streamed,
    }
}

/// Judges a whole body, where it says what the call may cost.
pub(crate) fn judge<'r>(
    bound: BoundCall<'r>,
    head: &Parts,
    collected: Collected,
    draft: &mut Draft,
) -> Result<Call<'r>, Refusal> {
    let route = &bound.permit.route;
    if !route.endpoint.operation.is_judged() {
        return Ok(Call {
            bound,
            ask: None,
            work: None,
            payload: Payload::Whole(collected),
        });
    }
    let request = Request {
        path: route.path,
        model_in_path: route.model.as_ref(),
        content_type: content_type(head)?,
        max_tokens_alone: bounds_by_max_tokens_alone(&route.provider),
        body: &collected.bytes,
    };
    if let Some(work) = Work::read(&bound.permit, head, &request)? {
        return Ok(Call {
            bound,
            ask: None,
            work: Some(work),
            payload: Payload::Whole(collected),
        });
    }
    let mut ask = Ask::parse(route.endpoint.operation, &request)?;
    ask.read_head(&head.headers, head.uri.query())?;
    draft.asks_for(&ask, bound.bound.quotes_handle(&collected.bytes));
    if let Some(credential) = bound.bound.credential() {
        shared::refuse_body(credential, &ask, &collected.bytes)?;
    }
    let permit = &bound.permit;
    let (agent, provider) = (&permit.caller.agent, &permit.route.provider.name);
    if !permit
        .tenant
        .allows_model(agent, provider, permit.route.path, &ask.model)
    {
        return Err(Refusal::ModelDenied(ask.model));
    }
    Ok(Call {
        bound,
        ask: Some(ask),
        work: None,
        payload: Payload::Whole(collected),
    })
}

/// The body's type, of which there is one at most: it says how the body is to be read, and two
/// types would be two ways to read it.
fn content_type(head: &Parts) -> Result<Option<&str>, Refusal> {
    let mut types = head.headers.get_all(http::header::CONTENT_TYPE).iter();
    let first = types.next().map(http::HeaderValue::to_str).transpose();
    match (first, types.next()) {
        (Ok(only), None) => Ok(only),
        _ => Err(Refusal::Malformed {
            code: "invalid_content_type",
            detail: "a request has one content-type, in ASCII",
        }),
    }
}

/// A declared length is believed when it is too large, so that nothing of it is read.
fn refuse_if_declared_too_long(head: &Parts, limit_bytes: u64) -> Result<(), Refusal> {
    let declared = head
        .headers
        .get(http::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<u64>().ok());
    match declared {
        Some(length) if length > limit_bytes => Err(Refusal::BodyTooLarge { limit_bytes }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(types: &[&[u8]]) -> Parts {
        let mut request = http::Request::builder();
        for kind in types {
            request = request.header(http::header::CONTENT_TYPE, *kind);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn a_body_has_one_type_or_none() {
        assert_eq!(content_type(&head(&[])), Ok(None));
        assert_eq!(content_type(&head(&[b"text/x"])), Ok(Some("text/x")));
        for types in [&[&b"a/b"[..], b"a/b"][..], &[b"\xc3\xa9"]] {
            let refused = content_type(&head(types)).expect_err("a refusal");
            assert_eq!(refused.code(), "invalid_content_type");
        }
    }
}
