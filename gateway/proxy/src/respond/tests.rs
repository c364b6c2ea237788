//! Every refusal and failure in every dialect, against the table of the product's contract.

use std::time::Duration;

use tollgate_core::budget::Scope;
use tollgate_core::identity::TokenFault;
use tollgate_core::rate::RateKey;

use super::*;
use crate::fakes::noon;

/// What a client sees: status, code, OpenAI type, Anthropic type, and the hints.
type Row = (
    Rejected,
    u16,
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

const INVALID: &str = "invalid_request_error";
const PERMISSION: &str = "permission_error";

fn balance() -> Balance {
    Balance {
        settled: "20".parse().unwrap(),
        reserved: "4.5".parse().unwrap(),
    }
}

fn cap_reached(key: &str) -> Refusal {
    let key: BudgetKey = key.parse().unwrap();
    Refusal::CapReached {
        limit: "25".parse().unwrap(),
        balance: balance(),
        resets_at: key.window.resets_at(),
        key,
    }
}

fn exceeds_headroom(fitting_output_tokens: Option<u64>) -> Refusal {
    let key: BudgetKey = "acme/tenant/month:2026-11".parse().unwrap();
    Refusal::ExceedsHeadroom {
        limit: "25".parse().unwrap(),
        balance: balance(),
        resets_at: key.window.resets_at(),
        key,
        asked: "1.25".parse().unwrap(),
        fitting_output_tokens,
    }
}

fn store_error() -> StoreError {
    StoreError {
        operation: "reserve",
        store: "budget",
        cause: "sk-canary-cause".into(),
    }
}

fn vault_error(is_malformed: bool) -> VaultError {
    let (tenant, name) = ("acme".parse().unwrap(), "openai_key".parse().unwrap());
    if is_malformed {
        VaultError::Malformed { tenant, name }
    } else {
        VaultError::Missing { tenant, name }
    }
}

fn paced(retry_after: Duration) -> Refusal {
    let key = RateKey {
        tenant: "acme".parse().unwrap(),
        scope: Scope::Tenant,
        counted: Counted::Requests,
    };
    Refusal::RateLimited { key, retry_after }
}

#[rustfmt::skip]
fn refusals() -> Vec<Row> {
    let rate = paced(Duration::from_millis(1_500));
    let day = &["x-should-retry: false", "retry-after: 43200"][..];
    let month = &["x-should-retry: false", "retry-after: 648000"][..];
    vec![
        (Refusal::Unauthenticated(TokenFault::Expired).into(), 401, "invalid_api_key", INVALID, "authentication_error", &["www-authenticate: Bearer"]),
        (Refusal::NotAllowed { what: "route" }.into(), 403, "not_allowed", INVALID, PERMISSION, &[]),
        (Refusal::ModelDenied("gpt-5".parse().unwrap()).into(), 403, "not_allowed", INVALID, PERMISSION, &[]),
        (Refusal::CredentialDenied { reason: "credential_unknown" }.into(), 403, "credential_denied", INVALID, PERMISSION, &[]),
        (Refusal::HandleRepeated.into(), 403, "handle_repeated", INVALID, PERMISSION, &[]),
        (Refusal::NotPriced { what: "gpt-x".to_owned() }.into(), 403, "model_not_priced", INVALID, PERMISSION, &[]),
        (rate.into(), 429, "rate_limit_exceeded", "requests", "rate_limit_error", &["retry-after: 2", "retry-after-ms: 1500"]),
        (cap_reached("acme/tenant/day:2026-11-23").into(), 429, "spend_limit_exceeded", "insufficient_quota", "rate_limit_error", day),
        (cap_reached("acme/task=t-1/total").into(), 429, "spend_limit_exceeded", "insufficient_quota", "rate_limit_error", &["x-should-retry: false"]),
        (exceeds_headroom(Some(1_000)).into(), 429, "request_exceeds_headroom", "insufficient_quota", "rate_limit_error", month),
        (Refusal::BadHandle { hint: "write it" }.into(), 400, "bad_handle", INVALID, INVALID, &[]),
        (Refusal::Malformed { code: "invalid_json", detail: "not JSON" }.into(), 400, "invalid_json", INVALID, INVALID, &[]),
        (Refusal::BodyTooLarge { limit_bytes: 9 }.into(), 413, "body_too_large", INVALID, "request_too_large", &[]),
    ]
}

#[rustfmt::skip]
fn failures() -> Vec<Row> {
    let upstream = |error| Rejected::from(Failure::Upstream(error));
    let timeout = |stage| upstream(UpstreamError::Timeout { stage });
    let upload = |fault| upstream(UpstreamError::Upload(fault));
    let broken = UpstreamError::Protocol { sent: true, detail: "reset".to_owned() };
    let gone = ("server_error", "api_error");
    let no_retry = &["x-should-retry: false"][..];
    vec![
        (Failure::Ledger(store_error()).into(), 503, "ledger_unavailable", gone.0, gone.1, &["retry-after: 2"]),
        (Failure::Registry(store_error()).into(), 503, "registry_unavailable", gone.0, gone.1, &["retry-after: 2"]),
        (Failure::Overloaded.into(), 503, "overloaded", gone.0, gone.1, &["retry-after: 1"]),
        (Failure::Credential(vault_error(false)).into(), 503, "credential_unavailable", gone.0, gone.1, no_retry),
        (Failure::Credential(vault_error(true)).into(), 500, "credential_invalid", gone.0, gone.1, no_retry),
        (Failure::CredentialInvalid.into(), 500, "credential_invalid", gone.0, gone.1, no_retry),
        (Failure::BodyTimeout.into(), 408, "request_timeout", INVALID, INVALID, &[]),
        (Failure::ClientGone.into(), 400, "client_gone", INVALID, INVALID, &[]),
        (upstream(UpstreamError::Connect("refused".to_owned())), 502, "upstream_unreachable", gone.0, gone.1, &[]),
        (upstream(UpstreamError::Tls("expired".to_owned())), 502, "upstream_tls", gone.0, gone.1, &[]),
        (upstream(broken), 502, "upstream_failed", gone.0, gone.1, &[]),
        (timeout(Stage::Connect), 502, "upstream_timeout", gone.0, gone.1, &[]),
        (timeout(Stage::FirstByte), 504, "upstream_timeout", gone.0, gone.1, &[]),
        (upload(UploadFault::TooLarge), 413, "body_too_large", INVALID, "request_too_large", &[]),
        (upload(UploadFault::Stalled), 408, "request_timeout", INVALID, INVALID, &[]),
        (upload(UploadFault::ClientGone), 400, "client_gone", INVALID, INVALID, &[]),
        (Failure::AnswerWithheld.into(), 502, "answer_withheld", gone.0, gone.1, no_retry),
    ]
}

fn id() -> RecordId {
    RecordId::new(uuid::Uuid::from_u128(1))
}

fn body(response: Response<AnswerBody>) -> Value {
    let AnswerBody::Full(bytes) = response.into_body() else {
        panic!("an answer has a body");
    };
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn every_answer_of_the_gateway_is_as_the_contract_has_it() {
    for (rejected, status, code, openai, anthropic, hints) in
        refusals().into_iter().chain(failures())
    {
        for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::Http] {
            let response = respond(dialect, &rejected, id(), noon());
            assert_eq!(response.status().as_u16(), status, "{code}");
            let mut seen: Vec<String> = response
                .headers()
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect();
            let media_type = match dialect {
                Dialect::Http => "application/problem+json",
                _ => "application/json",
            };
            let mut expected = vec![
                format!("content-type: {media_type}"),
                format!("x-tollgate-error: {code}"),
                format!("x-tollgate-request-id: {}", id()),
            ];
            expected.extend(hints.iter().map(|hint| (*hint).to_owned()));
            seen.sort();
            expected.sort();
            assert_eq!(seen, expected, "{code}");
            let body = body(response);
            let error = match dialect {
                Dialect::OpenAi
                | Dialect::Gemini
                | Dialect::Bedrock
                | Dialect::Cohere
                | Dialect::Ollama => {
                    assert_eq!(body["error"]["type"], openai, "{code}");
                    assert_eq!(body["error"]["param"], Value::Null);
                    &body["error"]
                }
                Dialect::Anthropic => {
                    assert_eq!(body["type"], "error");
                    assert_eq!(body["error"]["type"], anthropic, "{code}");
                    assert_eq!(body["request_id"], json!(id()));
                    &body["error"]
                }
                Dialect::Http => {
                    assert_eq!(body["status"], status);
                    assert_eq!(body["request_id"], json!(id()));
                    &body
                }
            };
            assert_eq!(error["code"], code);
            let message = &error[if dialect == Dialect::Http {
                "detail"
            } else {
                "message"
            }];
            assert!(message.as_str().is_some_and(|text| !text.is_empty()));
            assert!(!body.to_string().contains("sk-canary"), "{body}");
        }
    }
}

#[test]
fn a_cap_is_named_with_what_it_holds_and_when_it_resets() {
    let refusal = cap_reached("acme/tenant/day:2026-11-23").into();
    let body = body(respond(Dialect::OpenAi, &refusal, id(), noon()));
    assert_eq!(
        body["error"]["tollgate"],
        json!({
            "cap": "acme/tenant/day:2026-11-23",
            "limit_usd": "25",
            "spent_usd": "20",
            "reserved_usd": "4.5",
            "resets_at": "2026-11-24T00:00:00.000000Z",
        })
    );
}

#[test]
fn a_call_that_cannot_fit_is_told_what_would() {
    for fitting in [Some(1_000), None] {
        for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::Http] {
            let refusal = exceeds_headroom(fitting).into();
            let body = body(respond(dialect, &refusal, id(), noon()));
            let facts = match dialect {
                Dialect::Http => &body["tollgate"],
                _ => &body["error"]["tollgate"],
            };
            assert_eq!(facts["largest_output_tokens_that_fit"], json!(fitting));
            assert_eq!(facts["asked_usd"], "1.25");
            assert_eq!(facts["cap"], "acme/tenant/month:2026-11");
        }
    }
}

#[test]
fn nothing_tells_one_bad_token_or_one_denied_credential_from_another() {
    let text = |refusal: Refusal| body(respond(Dialect::OpenAi, &refusal.into(), id(), noon()));
    let missing = text(TokenFault::Missing.into());
    for fault in [
        TokenFault::Ambiguous,
        TokenFault::Malformed,
        TokenFault::Signature,
        TokenFault::Claims,
        TokenFault::Lifetime,
        TokenFault::Expired,
        TokenFault::NotYetValid,
        TokenFault::Unregistered,
        TokenFault::Revoked,
        TokenFault::UnknownTenant,
    ] {
        assert_eq!(text(fault.into()), missing, "{fault:?}");
    }
    let denied = |reason| text(Refusal::CredentialDenied { reason });
    assert_eq!(denied("credential_unknown"), denied("credential_agent"));
}

#[test]
fn a_pause_shorter_than_a_millisecond_is_still_one() {
    let refusal = paced(Duration::ZERO);
    let response = respond(Dialect::OpenAi, &refusal.into(), id(), noon());
    assert_eq!(response.headers()[RETRY_AFTER], "1");
    assert_eq!(response.headers()[RETRY_AFTER_MS], "1");
}
