//! The codes of the gateway's own answers, as labels.

/// Every code, in order. Another one would be counted, too, but only from its first time on.
pub(crate) const CODES: [&str; 44] = [
    "ambiguous_path",
    "answer_withheld",
    "bad_handle",
    "batch_not_bounded",
    "body_too_large",
    "client_gone",
    "credential_denied",
    "credential_invalid",
    "credential_unavailable",
    "duplicate_field",
    "handle_repeated",
    "invalid_api_key",
    "invalid_content_type",
    "invalid_field",
    "invalid_form",
    "invalid_json",
    "invalid_scope",
    "invalid_subject_token",
    "invalid_target",
    "issuer_keys_unavailable",
    "ledger_unavailable",
    "malformed_request",
    "method_not_allowed",
    "method_override",
    "missing_model",
    "model_not_priced",
    "not_allowed",
    "not_found",
    "overloaded",
    "rate_limit_exceeded",
    "registry_unavailable",
    "request_exceeds_headroom",
    "request_timeout",
    "spend_limit_exceeded",
    "task_not_allowed",
    "token_not_minted",
    "unsupported_content_encoding",
    "unsupported_grant_type",
    "upstream_failed",
    "upstream_timeout",
    "upstream_tls",
    "upstream_unreachable",
    "usage_busy",
    "usage_too_large",
];

/// Of a tenant, these are there from the start: they tell of its money, its pace and its keys.
/// The others come with their first count.
pub(crate) const FROM_THE_START: [&str; 9] = [
    "credential_denied",
    "invalid_api_key",
    "ledger_unavailable",
    "model_not_priced",
    "not_allowed",
    "overloaded",
    "rate_limit_exceeded",
    "request_exceeds_headroom",
    "spend_limit_exceeded",
];

/// Where a code stands among [`CODES`]; one that does not is counted as `malformed_request`.
pub(crate) fn place(code: &str) -> usize {
    let place = CODES.binary_search(&code);
    place.unwrap_or_else(|_unknown| CODES.binary_search(&"malformed_request").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_and_each_is_found() {
        assert!(CODES.is_sorted());
        for (n, code) in CODES.iter().enumerate() {
            assert_eq!(place(code), n, "{code}");
        }
        for code in FROM_THE_START {
            assert_eq!(CODES[place(code)], code);
        }
    }
}
