//! Usage in answers of OpenAI chat completions, responses and embeddings.
//!
//! - Chat streams state usage in one last chunk with empty `choices`, if they were asked to.
//!   Compatible servers put it elsewhere, or cumulatively on every chunk: the last one counts, and
//!   it is final once the stream says `[DONE]`.
//! - Responses state it in the terminal event, whether completed, incomplete or failed. Fees for
//!   searches are not in `usage`: they follow from the items of `output`.
//! - Cached, written, audio and reasoning tokens are parts of their wholes. Where adding reasoning
//!   is what makes the total, a server counts it apart, and it is added here.
//!
//! Source: OpenAI API reference, "Chat completion chunk object" and "Response streaming events".

use serde::Deserialize;
use serde_json::value::RawValue;

use super::text::{Count, TextBytes, text_or_none};
use super::{Metered, Reading, Usage, tally};
use crate::call::Terms;
use crate::policy::Operation;

/// What one answer has said so far.
#[derive(Debug)]
pub(super) struct Tally {
    operation: Operation,
    model: Option<String>,
    service_tier: Option<String>,
    usage: Option<Counts>,
    searches: Searches,
    /// Whether no later usage can come.
    over: bool,
    output_bytes: u64,
}

/// Counts under both names in use; a server may give both.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Counts {
    prompt_tokens: Count,
    input_tokens: Count,
    completion_tokens: Count,
    output_tokens: Count,
    total_tokens: Count,
    prompt_tokens_details: Option<Details>,
    input_tokens_details: Option<Details>,
    completion_tokens_details: Option<Details>,
    output_tokens_details: Option<Details>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Count,
    cache_write_tokens: Count,
    audio_tokens: Count,
    reasoning_tokens: Count,
    cached_tokens_details: Option<CachedDetails>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct CachedDetails {
    audio_tokens: Count,
}

#[derive(Debug, Clone, Copy, Default)]
struct Searches {
    web: u64,
    files: u64,
}

#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default, deserialize_with = "text_or_none")]
    model: Option<String>,
    #[serde(default, deserialize_with = "text_or_none")]
    service_tier: Option<String>,
    #[serde(default)]
    choices: Option<Vec<TextBytes>>,
    #[serde(default)]
    usage: Option<Counts>,
}

/// A plain answer of any of the three, or the `response` of a terminal event.
#[derive(Debug, Deserialize)]
struct Body {
    #[serde(default, deserialize_with = "text_or_none")]
    model: Option<String>,
    #[serde(default, deserialize_with = "text_or_none")]
    service_tier: Option<String>,
    #[serde(default)]
    usage: Option<Counts>,
    #[serde(default)]
    output: Option<Vec<Item>>,
    #[serde(default)]
    tool_usage: Option<ToolUsage>,
}

#[derive(Debug, Deserialize)]
struct Item {
    #[serde(default, rename = "type", deserialize_with = "text_or_none")]
    kind: Option<String>,
    #[serde(default)]
    action: Option<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
struct Action {
    #[serde(default, rename = "type", deserialize_with = "text_or_none")]
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ToolUsage {
    #[serde(default)]
    web_search: Option<WebSearch>,
}

#[derive(Debug, Deserialize)]
struct WebSearch {
    #[serde(default)]
    num_requests: Count,
}

#[derive(Debug, Deserialize)]
struct ResponseEvent<'a> {
    #[serde(default, rename = "type", deserialize_with = "text_or_none")]
    kind: Option<String>,
    #[serde(default)]
    delta: TextBytes,
    #[serde(default, borrow)]
    response: Option<&'a RawValue>,
}

impl Tally {
    pub(super) fn new(operation: Operation) -> Self {
        Self {
            operation,
            model: None,
            service_tier: None,
            usage: None,
            searches: Searches::default(),
            over: false,
            output_bytes: 0,
        }
    }
}

impl tally::Tally for Tally {
    fn event(&mut self, data: &[u8]) -> bool {
        if data == b"[DONE]" {
            self.over = true;
            return false;
        }
        if self.operation == Operation::Responses {
            self.response_event(data);
            return false;
        }
        let Ok(chunk) = serde_json::from_slice::<Chunk>(data) else {
            return false;
        };
        self.name(chunk.model, chunk.service_tier);
        for TextBytes(bytes) in chunk.choices.iter().flatten() {
            self.output_bytes = self.output_bytes.saturating_add(*bytes);
        }
        let Some(usage) = chunk.usage else {
            return false;
        };
        self.usage = Some(usage.or(self.usage));
        let alone = chunk.choices.is_some_and(|choices| choices.is_empty());
        self.over |= alone;
        alone
    }

    fn body(&mut self, bytes: &[u8]) {
        if let Ok(body) = serde_json::from_slice::<Body>(bytes) {
            self.take(body);
            self.over = true;
        }
    }

    fn unread(&mut self, bytes: usize) {
        self.output_bytes = self
            .output_bytes
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    fn reads_lists(&self) -> bool {
        self.operation == Operation::Responses
    }

    fn finish(self: Box<Self>) -> Reading {
        let metered = match &self.usage {
            None => Metered::Unknown,
            Some(counts) => self.judge(counts),
        };
        Reading {
            metered,
            elsewhere: Vec::new(),
            response_model: self.model,
            terms: Terms {
                service_tier: self.service_tier,
                ..Terms::default()
            },
            reported_cost: None,
            output_bytes: self.output_bytes,
        }
    }
}

impl Tally {
    fn response_event(&mut self, data: &[u8]) {
        let Ok(event) = serde_json::from_slice::<ResponseEvent<'_>>(data) else {
            return;
        };
        self.output_bytes = self.output_bytes.saturating_add(event.delta.0);
        let Some(response) = event.response else {
            return;
        };
        let terminal = matches!(
            event.kind.as_deref(),
            Some(
                "response.completed"
                    | "response.incomplete"
                    | "response.failed"
                    | "response.cancelled"
            )
        );
        if let Ok(body) = serde_json::from_str::<Body>(response.get()) {
            self.take(body);
            self.over |= terminal;
        }
    }

    fn take(&mut self, body: Body) {
        self.searches = searches(&body);
        self.name(body.model, body.service_tier);
        if let Some(usage) = body.usage {
            self.usage = Some(usage.or(self.usage));
        }
    }

    fn name(&mut self, model: Option<String>, service_tier: Option<String>) {
        // Azure's first chunk has an empty model.
        if let Some(model) = model.filter(|model| !model.is_empty()) {
            self.model = Some(model);
        }
        self.service_tier = service_tier.or(self.service_tier.take());
    }

    fn judge(&self, counts: &Counts) -> Metered {
        let usage = Usage {
            web_searches: self.searches.web,
            file_searches: self.searches.files,
            ..counts.normal()
        };
        match (counts.input().0, counts.output().0) {
            (None, None) => Metered::Unknown,
            (Some(_), Some(_)) if self.over => Metered::Exact(usage),
            (Some(_), None) if self.over && self.operation == Operation::Embeddings => {
                Metered::Exact(usage)
            }
            _ => Metered::Partial(usage),
        }
    }
}

impl Counts {
    fn input(&self) -> Count {
        self.prompt_tokens.or(self.input_tokens)
    }

    fn output(&self) -> Count {
        self.completion_tokens.or(self.output_tokens)
    }

    fn or(self, earlier: Option<Self>) -> Self {
        let Some(earlier) = earlier else { return self };
        let details = |ours: [Option<Details>; 2], theirs: [Option<Details>; 2]| {
            ours.into_iter().chain(theirs).flatten().next()
        };
        Self {
            input_tokens: self.input().or(earlier.input()),
            output_tokens: self.output().or(earlier.output()),
            total_tokens: self.total_tokens.or(earlier.total_tokens),
            input_tokens_details: details(
                [self.prompt_tokens_details, self.input_tokens_details],
                [earlier.prompt_tokens_details, earlier.input_tokens_details],
            ),
            output_tokens_details: details(
                [self.completion_tokens_details, self.output_tokens_details],
                [
                    earlier.completion_tokens_details,
                    earlier.output_tokens_details,
                ],
            ),
            ..Self::default()
        }
    }

    fn normal(&self) -> Usage {
        let input = self.prompt_tokens_details.or(self.input_tokens_details);
        let input = input.unwrap_or_default();
        let output = self
            .completion_tokens_details
            .or(self.output_tokens_details)
            .unwrap_or_default();
        let reasoning = output.reasoning_tokens.known();
        let visible = self.output().known();
        let with_reasoning = visible.saturating_add(reasoning);
        let total_with = |output: u64| Some(self.input().known().saturating_add(output));
        let apart = self.total_tokens.0 != total_with(visible)
            && self.total_tokens.0 == total_with(with_reasoning);
        Usage {
            input_tokens: self.input().known(),
            cached_input_tokens: input.cached_tokens.known(),
            cache_write_tokens: input.cache_write_tokens.known(),
            output_tokens: if apart { with_reasoning } else { visible },
            reasoning_tokens: reasoning,
            input_audio_tokens: input.audio_tokens.known(),
            cached_audio_tokens: input
                .cached_tokens_details
                .unwrap_or_default()
                .audio_tokens
                .known(),
            output_audio_tokens: output.audio_tokens.known(),
            ..Usage::default()
        }
        .consistent()
    }
}

/// The searches OpenAI bills apart from tokens. Opening a page or finding in one is not a search.
fn searches(body: &Body) -> Searches {
    let mut counted = Searches::default();
    for item in body.output.iter().flatten() {
        match item.kind.as_deref() {
            Some("web_search_call") => {
                let action = item
                    .action
                    .as_ref()
                    .and_then(|action| serde_json::from_str::<Action>(action.get()).ok()?.kind);
                if matches!(action.as_deref(), None | Some("search")) {
                    counted.web = counted.web.saturating_add(1);
                }
            }
            Some("file_search_call") => counted.files = counted.files.saturating_add(1),
            _ => {}
        }
    }
    let stated = body
        .tool_usage
        .as_ref()
        .and_then(|tools| tools.web_search.as_ref()?.num_requests.0);
    Searches {
        web: stated.unwrap_or(counted.web),
        files: counted.files,
    }
}
