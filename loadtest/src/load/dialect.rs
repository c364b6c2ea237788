//! The languages that calls are made in: path, headers, body, and what ends a stream.
//!
//! Sources: OpenAI, "Chat completions" and "Responses" in the API reference; Anthropic, "Messages"
//! and "Streaming messages". It knows no connection.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

/// A language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Messages,
}

/// What an event means for its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// More comes.
    More,
    /// The stream has said all.
    End,
    /// The stream says that it failed.
    Error,
}

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

impl Dialect {
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Chat, Self::Responses, Self::Messages]
            .into_iter()
            .find(|dialect| dialect.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Messages => "messages",
        }
    }

    /// The path below the base of its API.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Responses => "/responses",
            Self::Messages => "/messages",
        }
    }

    /// The headers that say who asks, and which version is spoken.
    ///
    /// # Errors
    /// If the key has letters that no header can carry.
    pub(super) fn headers(self, key: Option<&str>) -> Result<HeaderMap, http::Error> {
        let mut headers = HeaderMap::new();
        let secret = |text: &str| -> Result<HeaderValue, http::Error> {
            let mut value = HeaderValue::from_str(text)?;
            value.set_sensitive(true);
            Ok(value)
        };
        match (self, key) {
            (Self::Messages, Some(key)) => headers.insert(API_KEY, secret(key)?),
            (_, Some(key)) => headers.insert(AUTHORIZATION, secret(&format!("Bearer {key}"))?),
            (_, None) => None,
        };
        if self == Self::Messages {
            headers.insert(ANTHROPIC_VERSION, HeaderValue::from_static("2023-06-01"));
        }
        Ok(headers)
    }

    /// What stands before and behind the prompt in a body.
    pub(super) fn around(
        self,
        model: &str,
        streamed: bool,
        max_tokens: u64,
    ) -> (String, &'static str) {
        let model = serde_json::Value::from(model);
        // At the front, where a mock that measures looks for it.
        let stream = match (streamed, self) {
            (false, _) => "",
            (true, Self::Chat) => r#""stream":true,"stream_options":{"include_usage":true},"#,
            (true, _) => r#""stream":true,"#,
        };
        match self {
            Self::Chat | Self::Messages => (
                format!(
                    r#"{{{stream}"model":{model},"max_tokens":{max_tokens},"messages":[{{"role":"user","content":""#
                ),
                r#""}]}"#,
            ),
            Self::Responses => (
                format!(r#"{{{stream}"model":{model},"max_output_tokens":{max_tokens},"input":""#),
                r#""}"#,
            ),
        }
    }

    /// What the event with this name and these data means.
    pub(super) fn meaning(self, name: &[u8], data: &[u8]) -> Meaning {
        if self == Self::Chat {
            return match data {
                b"[DONE]" => Meaning::End,
                _ if data.starts_with(br#"{"error""#) => Meaning::Error,
                _ => Meaning::More,
            };
        }
        let named = std::str::from_utf8(name).unwrap_or_default();
        // Some servers leave names out; the data say the same.
        let typed = if named.is_empty() { kind(data) } else { None };
        match typed.as_deref().unwrap_or(named) {
            "message_stop" | "response.completed" | "response.incomplete" => Meaning::End,
            "error" | "response.failed" => Meaning::Error,
            _ => Meaning::More,
        }
    }
}

fn kind(data: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Typed {
        r#type: String,
    }
    let typed: Typed = serde_json::from_slice(data).ok()?;
    Some(typed.r#type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_json_that_says_what_was_asked() {
        for dialect in [Dialect::Chat, Dialect::Responses, Dialect::Messages] {
            let (before, behind) = dialect.around("a \"model\"", true, 7);
            let body: serde_json::Value =
                serde_json::from_str(&format!("{before}hello{behind}")).unwrap();
            assert_eq!(
                (&body["model"], &body["stream"]),
                (&"a \"model\"".into(), &true.into())
            );
            let bound = if dialect == Dialect::Responses {
                "max_output_tokens"
            } else {
                "max_tokens"
            };
            assert_eq!(body[bound], 7, "{dialect:?}");
            let text = body.pointer("/messages/0/content").or(body.get("input"));
            assert_eq!(text, Some(&"hello".into()));
        }
    }

    #[test]
    fn keys_stand_where_each_provider_looks_for_them_and_are_not_printed() {
        let chat = Dialect::Chat.headers(Some("sk-canary-1")).unwrap();
        assert_eq!(chat["authorization"], "Bearer sk-canary-1");
        let messages = Dialect::Messages.headers(Some("sk-canary-1")).unwrap();
        assert_eq!(messages["x-api-key"], "sk-canary-1");
        assert!(messages.contains_key("anthropic-version"));
        assert!(!format!("{chat:?}{messages:?}").contains("canary"));
        assert!(Dialect::Chat.headers(Some("a\nb")).is_err());
    }

    #[test]
    fn the_end_of_a_stream_is_told_from_an_error_and_from_more() {
        use Dialect::{Chat, Messages, Responses};
        for (dialect, name, data, expected) in [
            (Chat, "", "[DONE]", Meaning::End),
            (Chat, "", r#"{"error":{"message":"x"}}"#, Meaning::Error),
            (Chat, "", r#"{"choices":[]}"#, Meaning::More),
            (Messages, "message_stop", "{}", Meaning::End),
            (Messages, "error", "{}", Meaning::Error),
            (Messages, "", r#"{"type":"message_stop"}"#, Meaning::End),
            (Messages, "message_delta", "{}", Meaning::More),
            (Responses, "response.completed", "{}", Meaning::End),
            (Responses, "response.failed", "{}", Meaning::Error),
            (
                Responses,
                "",
                r#"{"type":"response.created"}"#,
                Meaning::More,
            ),
        ] {
            let meaning = dialect.meaning(name.as_bytes(), data.as_bytes());
            assert_eq!(meaning, expected, "{dialect:?} {name} {data}");
        }
    }
}
