//! The names of the OpenTelemetry conventions that records and logs use, and nothing else's.
//!
//! They are those of semantic conventions 1.41.1, the last release whose published schema has the
//! `gen_ai.*` names; since then these are kept in a repository of their own, without a schema one
//! could point to, and the names used here are the same there. Records are written by
//! `tollgate_core::record` under the same names, which a test compares.

/// The schema that the names belong to.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.41.1";

/// Whose the records are; a resource attribute.
pub(super) const TENANT_ID: &str = "tenant.id";
/// The partition they lie in: the tenant, `_gateway` or `_operator`; a resource attribute.
pub(super) const PARTITION: &str = "tollgate.partition";
pub(super) const SERVICE_NAME: &str = "service.name";
pub(super) const SERVICE_VERSION: &str = "service.version";
pub(super) const SERVICE_INSTANCE_ID: &str = "service.instance.id";

/// Tokens in, cached ones included.
pub(super) const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
/// Tokens out, reasoning included.
pub(super) const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
/// Of the input, read from a cache.
pub(super) const CACHE_READ: &str = "gen_ai.usage.cache_read.input_tokens";
/// Of the input, written to a cache, however long it lives.
pub(super) const CACHE_CREATION: &str = "gen_ai.usage.cache_creation.input_tokens";
/// Of the output, reasoning.
pub(super) const REASONING: &str = "gen_ai.usage.reasoning.output_tokens";

/// The names of the conventions that records have and that are handed on as they are.
pub const NAMES: [&str; 10] = [
    "client.address",
    "error.type",
    "gen_ai.agent.id",
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "http.request.method",
    "http.response.status_code",
    "server.address",
];

/// The conventions' name of a count in a record's `tollgate.usage`, if they have one. Several
/// counts under one name are added up.
pub(super) fn usage(count: &str) -> Option<&'static str> {
    match count {
        "input_tokens" => Some(INPUT_TOKENS),
        "output_tokens" => Some(OUTPUT_TOKENS),
        "cached_input_tokens" => Some(CACHE_READ),
        "cache_write_tokens" | "cache_write_1h_tokens" => Some(CACHE_CREATION),
        "reasoning_tokens" => Some(REASONING),
        _ => None,
    }
}
