//! Reads from a request how the mock shall behave.
//!
//! Each request steers its own answer, so tests run in parallel against one mock. Words stand in
//! - the query: `?mock=status-429,retry-after-2`;
//! - the header `x-mock`;
//! - the body's `user` (OpenAI), `metadata.mock` (OpenAI), `metadata.user_id` (Anthropic),
//!   `labels.mock` (Gemini) or `requestMetadata.mock` (Bedrock), where every word carries the
//!   prefix `mock-` and other text is ignored: `"user": "mock-chunks-54 mock-usage-100-20"`.
//!
//! Words are separated by blanks or commas; the prefix `mock-` is optional in query and header, and
//! `=` may stand for `-`: `usage=negative`.
//! A misspelt word is answered with 400 and its text, so that no test passes by accident.
//!
//! | word | effect |
//! |---|---|
//! | `delay-MS` | the head of the answer waits |
//! | `status-CODE` | an error in the dialect's shape |
//! | `retry-after-S` | adds `retry-after` |
//! | `usage-IN-OUT` | tokens reported; else 10 in, 20 out, but never more out than asked for |
//! | `cached-N`, `cache-write-N`, `reasoning-N` | details of the usage; on top of IN and OUT where the dialect counts so |
//! | `no-usage` | no usage anywhere |
//! | `usage-negative`, `usage-huge`, `usage-nan`, `usage-text`, `usage-fraction`, `usage-null` | each count below zero, 2⁶³, `NaN`, text, with a half, or nothing but `null` |
//! | `usage-misplaced` | usage only in a stream's second event |
//! | `as-NAME` | the dialect of one of OpenAI's relatives, where the path does not tell: `mistral`, `xai`, `together`, `azure`, ... |
//! | `text-BYTES` | length of the answer's text |
//! | `chunks-N` | content events of a stream; else 4 |
//! | `chunk-delay-MS` | a pause before every event |
//! | `frame-bytes-N` | the answer's body leaves in pieces of N bytes |
//! | `hold` | the head waits for [`Mock::release`](super::Mock::release) |
//! | `hold-after-N` | a stream waits for it after N events |
//! | `stall`, `stall-after-N` | as `hold`, but for ever |
//! | `hangup` | the connection closes without an answer |
//! | `hangup-after-N` | it closes after N events of a stream, or N bytes of a plain answer |
//! | `error-after-N` | an error event instead of event N + 1 |
//! | `early` | the answer leaves before the body is read (query or header only), e.g. `early status-413` |
//! | `redirect-CODE` | a redirect to `https://redirected.invalid/` |
//! | `echo-headers` | the request's headers as text of the answer, and as `x-echo-*` headers |
//! | `echo-base64`, `echo-hex`, `echo-percent` | the values of credential headers so encoded as text of the answer |
//! | `echo-body` | the answer is the request's body, byte for byte |
//! | `echo-trailer` | the values of credential headers in a trailer |
//! | `gzip` | the answer is compressed, asked for or not |
//! | `extra-headers` | `set-cookie`, `alt-svc`, `nel`, `report-to`, `refresh`, `link` |
//!
//! It does not know what the answers look like.

use std::str::FromStr;
use std::time::Duration;

use http::request::Parts;
use serde_json::Value;

use super::lies::Lie;
use super::openai::flavour::{self, Flavour};

/// What text the answer carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Echo {
    /// A fixed text.
    #[default]
    Nothing,
    /// Every request header.
    Headers,
    /// Credential headers, in base64.
    Base64,
    /// Credential headers, in hexadecimal.
    Hex,
    /// Credential headers, percent-encoded throughout.
    Percent,
    /// The request's body takes the place of the whole answer.
    Body,
}

/// How one request wants to be answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Steering {
    pub(crate) delay: Duration,
    pub(crate) status: Option<u16>,
    pub(crate) retry_after: Option<u64>,
    pub(crate) redirect: Option<u16>,
    pub(crate) usage: Option<(u64, u64)>,
    pub(crate) cached: u64,
    pub(crate) cache_write: u64,
    pub(crate) reasoning: u64,
    pub(crate) lie: Option<Lie>,
    pub(crate) flavour: Option<&'static Flavour>,
    pub(crate) text_bytes: Option<usize>,
    pub(crate) chunks: Option<usize>,
    pub(crate) chunk_delay: Duration,
    pub(crate) frame_bytes: Option<usize>,
    pub(crate) hold: bool,
    pub(crate) hold_after: Option<usize>,
    pub(crate) stall: bool,
    pub(crate) stall_after: Option<usize>,
    pub(crate) hangup: bool,
    pub(crate) hangup_after: Option<usize>,
    pub(crate) error_after: Option<usize>,
    pub(crate) early: bool,
    pub(crate) echo: Echo,
    pub(crate) echo_headers: bool,
    pub(crate) echo_trailer: bool,
    pub(crate) gzip: bool,
    pub(crate) extra_headers: bool,
}

/// A word the mock does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnknownWord(pub(crate) String);

impl Steering {
    /// The words of query and header.
    pub(crate) fn from_head(head: &Parts) -> Result<Self, UnknownWord> {
        let mut steering = Self::default();
        for pair in head.uri.query().unwrap_or_default().split('&') {
            if let Some(words) = pair.strip_prefix("mock=") {
                steering.read(
                    &words
                        .replace("%20", " ")
                        .replace("%2C", ",")
                        .replace('+', " "),
                    false,
                )?;
            }
        }
        for value in head.headers.get_all("x-mock") {
            steering.read(value.to_str().unwrap_or_default(), false)?;
        }
        Ok(steering)
    }

    /// Adds the words of a JSON body.
    pub(crate) fn add_body(&mut self, body: &Value) -> Result<(), UnknownWord> {
        let metadata = body.get("metadata");
        let places = [
            body.get("user"),
            metadata.and_then(|m| m.get("mock")),
            metadata.and_then(|m| m.get("user_id")),
            body.pointer("/labels/mock"),
            body.pointer("/requestMetadata/mock"),
        ];
        for text in places.into_iter().flatten().filter_map(Value::as_str) {
            self.read(text, true)?;
        }
        Ok(())
    }

    fn read(&mut self, text: &str, prefix_needed: bool) -> Result<(), UnknownWord> {
        for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
            let plain = word.strip_prefix("mock-");
            if plain.is_none() && prefix_needed {
                continue;
            }
            self.word(&plain.unwrap_or(word).replace('=', "-"))
                .ok_or_else(|| UnknownWord(word.to_owned()))?;
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        if self.flag(word) {
            return Some(());
        }
        if let Some(lie) = Lie::named(word) {
            self.lie = Some(lie);
            return Some(());
        }
        if let Some(name) = word.strip_prefix("as-") {
            self.flavour = Some(flavour::named(name)?);
            return Some(());
        }
        if let Some((input, output)) = word
            .strip_prefix("usage-")
            .and_then(|rest| rest.split_once('-'))
        {
            self.usage = Some((input.parse().ok()?, output.parse().ok()?));
            return Some(());
        }
        let (name, number) = word.rsplit_once('-')?;
        match name {
            "delay" => self.delay = Duration::from_millis(parse(number)?),
            "status" => self.status = Some(parse(number)?),
            "retry-after" => self.retry_after = Some(parse(number)?),
            "redirect" => self.redirect = Some(parse(number)?),
            "cached" => self.cached = parse(number)?,
            "cache-write" => self.cache_write = parse(number)?,
            "reasoning" => self.reasoning = parse(number)?,
            "text" => self.text_bytes = Some(parse(number)?),
            "chunks" => self.chunks = Some(parse(number)?),
            "chunk-delay" => self.chunk_delay = Duration::from_millis(parse(number)?),
            "frame-bytes" => self.frame_bytes = Some(parse::<usize>(number)?.max(1)),
            "hold-after" => self.hold_after = Some(parse(number)?),
            "stall-after" => self.stall_after = Some(parse(number)?),
            "hangup-after" => self.hangup_after = Some(parse(number)?),
            "error-after" => self.error_after = Some(parse(number)?),
            _ => return None,
        }
        Some(())
    }

    fn flag(&mut self, word: &str) -> bool {
        match word {
            "hold" => self.hold = true,
            "stall" => self.stall = true,
            "hangup" => self.hangup = true,
            "early" => self.early = true,
            "echo-headers" => {
                self.echo = Echo::Headers;
                self.echo_headers = true;
            }
            "echo-base64" => self.echo = Echo::Base64,
            "echo-hex" => self.echo = Echo::Hex,
            "echo-percent" => self.echo = Echo::Percent,
            "echo-body" => self.echo = Echo::Body,
            "echo-trailer" => self.echo_trailer = true,
            "gzip" => self.gzip = true,
            "extra-headers" => self.extra_headers = true,
            _ => return false,
        }
        true
    }
}

fn parse<T: FromStr>(number: &str) -> Option<T> {
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str) -> Parts {
        http::Request::get(uri).body(()).unwrap().into_parts().0
    }

    #[test]
    fn words_are_read_from_query_and_body() {
        let mut steering =
            Steering::from_head(&head("/v1/x?a=b&mock=status-429,retry-after-2")).unwrap();
        let body = serde_json::json!({"user": "somebody mock-usage-100-20", "metadata": {"mock": "mock-chunks-54"}});
        steering.add_body(&body).unwrap();
        assert_eq!(
            (steering.status, steering.retry_after),
            (Some(429), Some(2))
        );
        assert_eq!(
            (steering.usage, steering.chunks),
            (Some((100, 20)), Some(54))
        );
    }

    #[test]
    fn misspelt_word_is_an_error_but_a_users_own_name_is_not() {
        assert_eq!(
            Steering::from_head(&head("/?mock=statsu-1")),
            Err(UnknownWord("statsu-1".to_owned()))
        );
        let mut steering = Steering::default();
        assert_eq!(
            steering.add_body(&serde_json::json!({"user": "user-17, x"})),
            Ok(())
        );
        assert!(
            steering
                .add_body(&serde_json::json!({"user": "mock-x"}))
                .is_err()
        );
    }
}
