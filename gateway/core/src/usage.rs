//! What a provider says was used, in one normal form for every dialect.

use serde::{Deserialize, Serialize};

/// Token counts of one call.
///
/// `input_tokens` includes cache reads and writes, `output_tokens` includes reasoning: the normal
/// form of the OpenTelemetry GenAI conventions. A count that a provider left out is zero here;
/// whether usage was reported at all is [`Metered`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens in, cached ones included.
    pub input_tokens: u64,
    /// Of these, read from a cache.
    pub cached_input_tokens: u64,
    /// Of the input, written to a cache that lives five minutes (or a provider's only kind).
    pub cache_write_tokens: u64,
    /// Of the input, written to a cache that lives an hour.
    pub cache_write_1h_tokens: u64,
    /// Tokens out, reasoning included.
    pub output_tokens: u64,
    /// Of the output, reasoning.
    pub reasoning_tokens: u64,
    /// Of the input, audio.
    pub input_audio_tokens: u64,
    /// Of the cached input, audio.
    pub cached_audio_tokens: u64,
    /// Of the output, audio.
    pub output_audio_tokens: u64,
    /// Web searches made by the provider.
    pub web_searches: u64,
    /// File searches made by the provider.
    pub file_searches: u64,
}

/// How much is known about the usage of a finished call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metered {
    /// The provider's final word.
    Exact(Usage),
    /// The provider's word up to where the answer broke off.
    Partial(Usage),
    /// The provider said nothing.
    Unknown,
}
