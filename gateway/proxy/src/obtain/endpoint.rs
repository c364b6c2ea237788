//! One request to a token endpoint.
//!
//! Knows nothing of who wants the token. Worst case: an answer that drips is read until the caller
//! gives up.

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request};
use tollgate_core::credential::{InvalidValue, Obtained, TokenRequest, token_reply};
use tollgate_core::policy::TokenEndpoint;
use zeroize::Zeroizing;

use super::Unobtained;
use crate::body::RequestBody;
use crate::forward::is_plain;
use crate::gateway::Gateway;

/// The most that is read of an answer.
const ANSWER_BYTES: usize = 64 << 10;

/// Asks a token endpoint and reads its answer.
pub(super) async fn ask(
    gw: &Gateway,
    endpoint: &TokenEndpoint,
    request: TokenRequest,
) -> Result<Obtained, Unobtained> {
    let request = to_http(endpoint, request)?;
    let answer = gw.upstreams.send(&endpoint.upstream, request).await;
    let answer = answer.map_err(Unobtained::Unreachable)?;
    let status = answer.response.status().as_u16();
    if !is_plain(answer.response.headers()) {
        return Err(Unobtained::Unreadable);
    }
    let body = answer.response.into_body().whole(ANSWER_BYTES).await;
    let body = body.map_err(|_broken_or_long| Unobtained::Unreadable)?;
    let body = Zeroizing::new(body.to_vec());
    token_reply(status, &body).map_err(Unobtained::Refused)
}

fn to_http(
    endpoint: &TokenEndpoint,
    request: TokenRequest,
) -> Result<Request<RequestBody>, Unobtained> {
    let unsendable = || Unobtained::Invalid(InvalidValue::Unsendable("client_secret"));
    let body = Zeroizing::new(request.body.expose().to_vec());
    let mut builder = Request::builder()
        .method(Method::POST)
        .uri(&endpoint.upstream.base_path)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json")
        .header(ACCEPT_ENCODING, "identity")
        .header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")));
    if let Some(authorization) = request.authorization {
        let mut value =
            HeaderValue::from_bytes(authorization.expose()).map_err(|_unsendable| unsendable())?;
        value.set_sensitive(true);
        builder = builder.header(AUTHORIZATION, value);
    }
    builder
        .body(RequestBody::buffered(Bytes::from_owner(body)))
        .map_err(|_unsendable| unsendable())
}
