//! Every refusal and failure in every dialect, against the table of the product's contract.

use std::time::Duration;

use tollgate_core::budget::Scope;
use tollgate_core::identity::TokenFault;
use tollgate_core::rate::RateKey;

use tollgate_core::vault::{SecretName, VaultScope};

use super::*;
use crate::fakes::noon;

/// What a client sees: status, code, the error's name in the OpenAI, Anthropic, Gemini and Bedrock
/// envelopes, and the hints.
type Row = (
    Rejected,
    u16,
    &'static str,
    [&'static str; 4],
    &'static [&'static str],
);

const EVERY: [Dialect; 7] = [
    Dialect::OpenAi,
    Dialect::Anthropic,
    Dialect::Gemini,
    Dialect::Bedrock,
    Dialect::Cohere,
    Dialect::Ollama,
    Dialect::Http,
];

const INVALID: &str = "invalid_request_error";

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
    let secret = SecretName {
        scope: VaultScope::Tenant("acme".parse().unwrap()),
        name: "openai_key".parse().unwrap(),
    };
    if is_malformed {
        VaultError::Malformed(secret)
    } else {
        VaultError::Missing(secret)
    }
}

fn paced(counted: Counted, retry_after: Duration) -> Refusal {
    let key = RateKey {
        tenant: "acme".parse().unwrap(),
        scope: Scope::Tenant,
        counted,
    };
    Refusal::RateLimited { key, retry_after }
}

const DENIED: [&str; 4] = [
    INVALID,
    "permission_error",
    "PERMISSION_DENIED",
    "AccessDeniedException",
];
const BAD: [&str; 4] = [INVALID, INVALID, "INVALID_ARGUMENT", "ValidationException"];
const TOO_LARGE: [&str; 4] = [
    INVALID,
    "request_too_large",
    "INVALID_ARGUMENT",
    "ValidationException",
];
const QUOTA: [&str; 4] = [
    "insufficient_quota",
    "rate_limit_error",
    "RESOURCE_EXHAUSTED",
    "ServiceQuotaExceededException",
];
const GONE: [&str; 4] = [
    "server_error",
    "api_error",
    "UNAVAILABLE",
    "ServiceUnavailableException",
];
const BROKEN: [&str; 4] = [
    "server_error",
    "api_error",
    "INTERNAL",
    "InternalServerException",
];
const SLOW_CLIENT: [&str; 4] = [
    INVALID,
    INVALID,
    "DEADLINE_EXCEEDED",
    "RequestTimeoutException",
];

#[rustfmt::skip]
fn refusals() -> Vec<Row> {
    let pause = Duration::from_millis(1_500);
    let throttled = |kind| [kind, "rate_limit_error", "RESOURCE_EXHAUSTED", "ThrottlingException"];
    let soon = &["retry-after: 2", "retry-after-ms: 1500"][..];
    let day = &["x-should-retry: false", "retry-after: 43200"][..];
    let month = &["x-should-retry: false", "retry-after: 648000"][..];
    vec![
        (Refusal::Unauthenticated(TokenFault::Expired).into(), 401, "invalid_api_key", [INVALID, "authentication_error", "UNAUTHENTICATED", "UnrecognizedClientException"], &["www-authenticate: Bearer"]),
        (Refusal::NotAllowed { what: "route" }.into(), 403, "not_allowed", DENIED, &[]),
        (Refusal::ModelDenied("gpt-5".parse().unwrap()).into(), 403, "not_allowed", DENIED, &[]),
        (Refusal::CredentialDenied { reason: "credential_unknown" }.into(), 403, "credential_denied", DENIED, &[]),
        (Refusal::HandleRepeated.into(), 403, "handle_repeated", DENIED, &[]),
        (Refusal::NotPriced { what: "gpt-x".to_owned() }.into(), 403, "model_not_priced", DENIED, &[]),
        (paced(Counted::Requests, pause).into(), 429, "rate_limit_exceeded", throttled("requests"), soon),
        (paced(Counted::Tokens, pause).into(), 429, "rate_limit_exceeded", throttled("tokens"), soon),
        (paced(Counted::Concurrent, pause).into(), 429, "rate_limit_exceeded", throttled("requests"), soon),
        (cap_reached("acme/tenant/day:2026-11-23").into(), 429, "spend_limit_exceeded", QUOTA, day),
        (cap_reached("acme/task=t-1/total").into(), 429, "spend_limit_exceeded", QUOTA, &["x-should-retry: false"]),
        (exceeds_headroom(Some(1_000)).into(), 429, "request_exceeds_headroom", QUOTA, month),
        (Refusal::BadHandle { hint: "write it".into() }.into(), 400, "bad_handle", BAD, &[]),
        (Refusal::Malformed { code: "invalid_json", detail: "not JSON" }.into(), 400, "invalid_json", BAD, &[]),
        (Refusal::BodyTooLarge { limit_bytes: 9 }.into(), 413, "body_too_large", TOO_LARGE, &[]),
    ]
}

#[rustfmt::skip]
fn failures() -> Vec<Row> {
    let upstream = |error| Rejected::from(Failure::Upstream(error));
    let timeout = |stage| upstream(UpstreamError::Timeout { stage });
    let upload = |fault| upstream(UpstreamError::Upload(fault));
    let broken = UpstreamError::Protocol { sent: true, detail: "reset".to_owned() };
    let slow = ["server_error", "api_error", "DEADLINE_EXCEEDED", "ModelTimeoutException"];
    let withheld = ["server_error", "api_error", "UNAVAILABLE", "ModelErrorException"];
    let no_retry = &["x-should-retry: false"][..];
    vec![
        (Failure::Ledger(store_error()).into(), 503, "ledger_unavailable", GONE, &["retry-after: 2"]),
        (Failure::Registry(store_error()).into(), 503, "registry_unavailable", GONE, &["retry-after: 2"]),
        (Pressed::Calls.into(), 503, "overloaded", GONE, &["retry-after: 1"]),
        (Failure::Credential(vault_error(false)).into(), 503, "credential_unavailable", GONE, no_retry),
        (Failure::Credential(vault_error(true)).into(), 500, "credential_invalid", BROKEN, no_retry),
        (Failure::CredentialInvalid.into(), 500, "credential_invalid", BROKEN, no_retry),
        (Failure::BodyTimeout.into(), 408, "request_timeout", SLOW_CLIENT, &[]),
        (Failure::ClientGone.into(), 400, "client_gone", BAD, &[]),
        (upstream(UpstreamError::Connect("refused".to_owned())), 502, "upstream_unreachable", GONE, &[]),
        (upstream(UpstreamError::Tls("expired".to_owned())), 502, "upstream_tls", GONE, &[]),
        (upstream(broken), 502, "upstream_failed", GONE, &[]),
        (timeout(Stage::Connect), 502, "upstream_timeout", GONE, &[]),
        (timeout(Stage::FirstByte), 504, "upstream_timeout", slow, &[]),
        (upload(UploadFault::TooLarge), 413, "body_too_large", TOO_LARGE, &[]),
        (upload(UploadFault::Stalled), 408, "request_timeout", SLOW_CLIENT, &[]),
        (upload(UploadFault::ClientGone), 400, "client_gone", BAD, &[]),
        (Failure::AnswerWithheld.into(), 502, "answer_withheld", withheld, no_retry),
    ]
}

/// The status in the dialect whose clients retry by status alone.
fn aws_status(code: &str, status: u16) -> u16 {
    match (code, status) {
        ("invalid_api_key", _) => 403,
        ("spend_limit_exceeded" | "request_exceeds_headroom", _) => 400,
        ("answer_withheld", _) => 424,
        ("upstream_timeout", 504) => 408,
        (_, status) => status,
    }
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
    for (rejected, status, code, names, hints) in refusals().into_iter().chain(failures()) {
        for dialect in EVERY {
            let status = match dialect {
                Dialect::Bedrock => aws_status(code, status),
                _ => status,
            };
            assert_eq!(
                Verdict::of(&rejected, dialect).status.as_u16(),
                status,
                "{code}"
            );
            let response = respond(dialect, &rejected, id(), noon());
            assert_eq!(response.status().as_u16(), status, "{code} {dialect:?}");
            let mut seen: Vec<String> = response
                .headers()
                .iter()
                .filter(|(name, _)| **name != FACTS)
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
            let own = id_header(dialect).map(|name| format!("{name}: {}", id()));
            expected.extend(own);
            if dialect == Dialect::Bedrock {
                expected.push(format!("x-amzn-errortype: {}", names[3]));
            }
            expected.extend(hints.iter().map(|hint| (*hint).to_owned()));
            seen.sort();
            expected.sort();
            assert_eq!(seen, expected, "{code} {dialect:?}");
            let body = body(response);
            assert_shape(dialect, &body, code, status, names);
            assert!(!body.to_string().contains("sk-canary"), "{body}");
        }
    }
}

/// The envelope that the dialect's SDKs read, down to the message.
fn assert_shape(dialect: Dialect, body: &Value, code: &str, status: u16, names: [&str; 4]) {
    let error = &body["error"];
    let (seen, message) = match dialect {
        Dialect::OpenAi => {
            assert_eq!(error["type"], names[0], "{code}");
            assert_eq!(error["param"], Value::Null);
            (&error["code"], &error["message"])
        }
        Dialect::Anthropic => {
            assert_eq!(body["type"], "error");
            assert_eq!(error["type"], names[1], "{code}");
            assert_eq!(body["request_id"], json!(id()));
            (&error["code"], &error["message"])
        }
        Dialect::Gemini => {
            assert_eq!(error["code"], status);
            assert_eq!(error["status"], names[2], "{code}");
            let info = &error["details"][0];
            assert_eq!(info["@type"], "type.googleapis.com/google.rpc.ErrorInfo");
            assert_eq!(info["domain"], "tollgate");
            assert_eq!(info["reason"], code.to_ascii_uppercase());
            assert_eq!(info["metadata"]["request_id"], json!(id()));
            (&info["metadata"]["code"], &error["message"])
        }
        Dialect::Bedrock => (&body["code"], &body["message"]),
        Dialect::Cohere => {
            assert_eq!(body["id"], json!(id()));
            (&body["code"], &body["message"])
        }
        Dialect::Ollama => (&body["code"], &body["error"]),
        Dialect::Http => {
            assert_eq!(body["status"], status);
            assert_eq!(body["request_id"], json!(id()));
            (&body["code"], &body["detail"])
        }
    };
    assert_eq!(seen, code);
    assert!(message.as_str().is_some_and(|text| !text.is_empty()));
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
        for dialect in EVERY {
            let refusal = exceeds_headroom(fitting).into();
            let response = respond(dialect, &refusal, id(), noon());
            let in_header = response.headers().get(FACTS).cloned();
            let body = body(response);
            let facts = match dialect {
                Dialect::OpenAi | Dialect::Anthropic => &body["error"]["tollgate"],
                Dialect::Gemini => &body["error"]["details"][0]["metadata"],
                _ => &body["tollgate"],
            };
            let expected = match dialect {
                Dialect::Gemini => json!(fitting.map(|tokens| tokens.to_string())),
                _ => json!(fitting),
            };
            assert_eq!(facts["largest_output_tokens_that_fit"], expected);
            assert_eq!(facts["asked_usd"], "1.25");
            assert_eq!(facts["cap"], "acme/tenant/month:2026-11");
            let told =
                fitting.is_some_and(|_| body.to_string().contains("at most 1000 output tokens"));
            assert_eq!(told, fitting.is_some(), "{body}");
            // boto3 shows headers and the message, and nothing else of the body.
            let header: Option<Value> =
                in_header.map(|value| serde_json::from_slice(value.as_bytes()).unwrap());
            let expected = (dialect == Dialect::Bedrock).then(|| facts.clone());
            assert_eq!(header, expected, "{dialect:?}");
        }
    }
}

#[test]
fn clients_of_google_are_told_when_to_come_back_in_their_own_words() {
    for (refusal, delay) in [
        (
            paced(Counted::Tokens, Duration::from_millis(1_500)),
            json!("1.500s"),
        ),
        (
            cap_reached("acme/tenant/day:2026-11-23"),
            json!("43200.000s"),
        ),
        (cap_reached("acme/task=t-1/total"), Value::Null),
    ] {
        let body = body(respond(Dialect::Gemini, &refusal.into(), id(), noon()));
        let retry = &body["error"]["details"][1];
        assert_eq!(retry["retryDelay"], delay);
        if !delay.is_null() {
            assert_eq!(retry["@type"], "type.googleapis.com/google.rpc.RetryInfo");
        }
    }
}

#[test]
fn a_limit_is_named_with_its_pause() {
    let refusal = paced(Counted::Concurrent, Duration::from_millis(1_500)).into();
    let body = body(respond(Dialect::OpenAi, &refusal, id(), noon()));
    assert_eq!(
        body["error"]["tollgate"],
        json!({ "limit": "acme/tenant/concurrent_requests", "retry_after_ms": 1500 })
    );
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
    let refusal = paced(Counted::Requests, Duration::ZERO);
    let response = respond(Dialect::OpenAi, &refusal.into(), id(), noon());
    assert_eq!(response.headers()[RETRY_AFTER], "1");
    assert_eq!(response.headers()[RETRY_AFTER_MS], "1");
}
