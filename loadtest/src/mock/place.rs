//! Tells from method and path whose language a request speaks, and what it asks for in it.
//!
//! It reads no body. A path that belongs to no provider is a generic tool's.

use http::Method;
use http::request::Parts;

use super::openai::flavour::{self, Flavour};

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) api: Api,
    /// The path after what the provider's paths have in common, or the verb after a model.
    pub(crate) rest: String,
    /// The model that the path names.
    pub(crate) model: Option<String>,
}

/// Whose language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    OpenAi(&'static Flavour),
    Anthropic,
    Google,
    Bedrock,
    Cohere,
    Ollama,
    Tool,
}

impl Place {
    pub(crate) fn of(head: &Parts) -> Self {
        let path = head.uri.path();
        let place = |api, rest: &str| Self {
            api,
            rest: rest.to_owned(),
            model: None,
        };
        let with_model = |api, verb: &str, model: &str| Self {
            api,
            rest: verb.to_owned(),
            model: Some(decoded(model)),
        };
        if let Some((model, verb)) = path
            .strip_prefix("/model/")
            .and_then(|rest| rest.rsplit_once('/'))
        {
            return with_model(Api::Bedrock, verb, model);
        }
        if let Some((before, last)) = path.rsplit_once("/models/")
            && let Some((model, verb)) = last.rsplit_once(':')
        {
            return if before.ends_with("/publishers/anthropic") {
                with_model(Api::Anthropic, verb, model)
            } else {
                with_model(Api::Google, verb, model)
            };
        }
        if path.starts_with("/v1/messages") || head.headers.contains_key("anthropic-version") {
            return place(Api::Anthropic, path.strip_prefix("/v1").unwrap_or(path));
        }
        if let Some(rest) = path.strip_prefix("/v1beta") {
            return place(Api::Google, rest);
        }
        if let Some(rest) = path.strip_prefix("/v2/") {
            return place(Api::Cohere, rest);
        }
        if let Some((flavour, rest)) = flavour::of_path(path) {
            return place(Api::OpenAi(flavour), rest);
        }
        match path.strip_prefix("/api/") {
            Some(rest) => place(Api::Ollama, rest),
            None => place(Api::Tool, path),
        }
    }

    /// Whether the body says something that the answer depends on; others are only hashed.
    pub(crate) fn is_inspected(&self, method: &Method) -> bool {
        *method == Method::POST && self.api != Api::Tool && self.rest != "/files"
    }
}

/// A model as the client wrote it: SDKs escape colons and slashes in it.
fn decoded(model: &str) -> String {
    ["%3A", "%3a"]
        .iter()
        .fold(model.to_owned(), |text, colon| text.replace(colon, ":"))
        .replace("%2F", "/")
        .replace("%2f", "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_tell_the_language_and_the_model() {
        for (path, api, rest, model) in [
            ("/v1/chat/completions", "openai", "/chat/completions", None),
            ("/chat/completions", "deepseek", "/chat/completions", None),
            (
                "/openai/v1/chat/completions",
                "groq",
                "/chat/completions",
                None,
            ),
            (
                "/api/v1/chat/completions",
                "openrouter",
                "/chat/completions",
                None,
            ),
            (
                "/openai/deployments/gpt/chat/completions",
                "azure",
                "/chat/completions",
                None,
            ),
            ("/v1/messages", "Anthropic", "/messages", None),
            (
                "/v1beta/models/gemini-2.5-flash:generateContent",
                "Google",
                "generateContent",
                Some("gemini-2.5-flash"),
            ),
            (
                "/v1/projects/p/locations/global/publishers/anthropic/models/claude-sonnet-4-5:streamRawPredict",
                "Anthropic",
                "streamRawPredict",
                Some("claude-sonnet-4-5"),
            ),
            (
                "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse-stream",
                "Bedrock",
                "converse-stream",
                Some("anthropic.claude-3-haiku-20240307-v1:0"),
            ),
            ("/v2/rerank", "Cohere", "rerank", None),
            ("/api/chat", "Ollama", "chat", None),
            ("/repos/a/b", "Tool", "/repos/a/b", None),
        ] {
            let head = http::Request::post(path).body(()).unwrap().into_parts().0;
            let place = Place::of(&head);
            let spoken = format!("{:?}", place.api);
            assert!(spoken.contains(api), "{path}: {spoken}");
            assert_eq!((place.rest.as_str(), place.model.as_deref()), (rest, model));
        }
    }
}
