//! Usage in OpenAI responses.
//!
//! - Streams state usage in their terminal event, whether completed, incomplete or failed.
//! - Fees for searches are not in `usage`: they follow from the items of `output`, unless the
//!   server counts its tools itself (`tool_usage`, xAI's `server_side_tool_usage_details`).
//!   Opening a page or finding in one is not a search.
//! - Images that the model has drawn by its tool are not in `usage` either: `tool_usage` states
//!   their tokens, which are billed as the image model's.
//! - A response made in the background is first answered as queued, with nothing to bill yet.
//! - The `response.done` event of a realtime session, read by itself, says the same.
//!
//! Source: OpenAI API reference, "Responses", "Response streaming events" and "Realtime server
//! events".

use serde::Deserialize;
use serde_json::value::RawValue;

use super::chat::judge_tokens;
use super::media::judge_images;
use super::{Account, Stated};
use crate::usage::text::{Count, Text, TextBytes, part};
use crate::usage::{Reading, Usage, tally};

/// The model that draws where the answer does not name it: the dearest of them.
const IMAGE_MODEL: &str = "gpt-image-1";

/// What one answer has said so far.
#[derive(Debug, Default)]
pub(in crate::usage) struct Responses {
    account: Account,
    /// What was used to draw images, by the model that drew them.
    drawn: Option<(String, Usage)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    delta: TextBytes,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
}

/// A response, whole or as events repeat it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Response<'a> {
    #[serde(borrow)]
    status: Text<'a>,
    #[serde(borrow)]
    model: Text<'a>,
    #[serde(borrow)]
    service_tier: Text<'a>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_usage: Option<&'a RawValue>,
    /// In a plain answer: that of a realtime event.
    #[serde(borrow)]
    response: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Item<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    action: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tool<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    model: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Action<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ToolUsage<'a> {
    #[serde(borrow)]
    web_search: Option<&'a RawValue>,
    #[serde(borrow)]
    image_gen: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WebSearch {
    num_requests: Count,
}

/// What items of `output` are billed apart from tokens.
#[derive(Debug, Clone, Copy, Default)]
struct Fees {
    web_searches: u64,
    file_searches: u64,
    images: u64,
}

impl Responses {
    /// Takes a response that is over.
    fn take_final(&mut self, response: &Response<'_>) {
        if let Some(usage) = response.usage {
            let tools: ToolUsage<'_> = part(response.tool_usage).unwrap_or_default();
            let fees = Fees::of(response.output);
            let stated: WebSearch = part(tools.web_search).unwrap_or_default();
            let web_searches = stated.num_requests.0.unwrap_or(fees.web_searches);
            let mut stated = Stated::read(usage).with_searches(web_searches, fees.file_searches);
            match tools.image_gen.map(Stated::read) {
                Some(images) => {
                    self.drawn = judge_images(&images)
                        .map(|(usage, _)| (image_model(response.tools), usage))
                        .filter(|(_, usage)| *usage != Usage::default());
                    stated.odd |= images.odd || (fees.images > 0 && self.drawn.is_none());
                }
                None => stated.odd |= fees.images > 0,
            }
            self.account.state(stated);
        }
        self.account.end();
    }
}

impl tally::Tally for Responses {
    fn event(&mut self, data: &[u8]) -> bool {
        if data.is_empty() || data == b"[DONE]" {
            return false;
        }
        let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else {
            self.account.unread(data.len());
            return false;
        };
        self.account.generated(event.delta);
        let Some(response) = part::<Response<'_>>(event.response) else {
            return false;
        };
        self.account.name(&response.model, &response.service_tier);
        if matches!(
            event.kind.as_deref(),
            Some(
                "response.completed"
                    | "response.incomplete"
                    | "response.failed"
                    | "response.cancelled"
                    | "response.done"
            )
        ) {
            self.take_final(&response);
        }
        false
    }

    fn body(&mut self, bytes: &[u8]) {
        let Ok(outer) = serde_json::from_slice::<Response<'_>>(bytes) else {
            return;
        };
        let response = part(outer.response).unwrap_or(outer);
        self.account.name(&response.model, &response.service_tier);
        if !matches!(response.status.as_deref(), Some("queued" | "in_progress")) {
            self.take_final(&response);
        }
    }

    fn unread(&mut self, bytes: usize) {
        self.account.unread(bytes);
    }

    fn reads_lists(&self) -> bool {
        true
    }

    fn finish(self: Box<Self>) -> Reading {
        Reading {
            elsewhere: self.drawn.into_iter().collect(),
            ..self.account.reading(judge_tokens)
        }
    }
}

impl Fees {
    fn of(output: Option<&RawValue>) -> Self {
        let mut fees = Self::default();
        let items: Vec<&RawValue> = part(output).unwrap_or_default();
        for item in items {
            let item: Item<'_> = part(Some(item)).unwrap_or_default();
            let count = match item.kind.as_deref() {
                Some("web_search_call") if is_search(item.action) => &mut fees.web_searches,
                Some("file_search_call") => &mut fees.file_searches,
                Some("image_generation_call") => &mut fees.images,
                _ => continue,
            };
            *count = count.saturating_add(1);
        }
        fees
    }
}

/// Whether an action of the search tool is a search, as it is unless it says otherwise.
fn is_search(action: Option<&RawValue>) -> bool {
    let Action { kind } = part(action).unwrap_or_default();
    matches!(kind.as_deref(), None | Some("search"))
}

/// The model that draws, by the list of tools that the response repeats.
fn image_model(tools: Option<&RawValue>) -> String {
    let tools: Vec<&RawValue> = part(tools).unwrap_or_default();
    tools
        .into_iter()
        .filter_map(|tool| part::<Tool<'_>>(Some(tool)))
        .find(|tool| tool.kind.as_deref() == Some("image_generation"))
        .and_then(|tool| tool.model.as_deref().map(str::to_owned))
        .unwrap_or_else(|| IMAGE_MODEL.to_owned())
}
