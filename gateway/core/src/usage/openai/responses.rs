//! Usage in OpenAI responses.
//!
//! - Streams state usage in their terminal event, whether completed, incomplete or failed.
//! - Fees for searches are not in `usage`: they follow from the items of `output`, unless the
//!   server counts its tools itself (`tool_usage`, xAI's `server_side_tool_usage_details`).
//!   Opening a page or finding in one is not a search.
//! - A response made in the background is first answered as queued, with nothing to bill yet.
//! - The `response.done` event of a realtime session, read by itself, says the same.
//!
//! Source: OpenAI API reference, "Responses", "Response streaming events" and "Realtime server
//! events".

use serde::Deserialize;
use serde_json::value::RawValue;

use super::chat::judge_tokens;
use super::{Account, Stated};
use crate::usage::text::{Count, Text, TextBytes, part};
use crate::usage::{Reading, tally};

/// What one answer has said so far.
#[derive(Debug, Default)]
pub(in crate::usage) struct Responses {
    account: Account,
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
struct Action<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ToolUsage<'a> {
    #[serde(borrow)]
    web_search: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WebSearch {
    num_requests: Count,
}

impl Responses {
    /// Takes a response that is over.
    fn take_final(&mut self, response: &Response<'_>) {
        if let Some(usage) = response.usage {
            let stated = Stated::read(usage).with_searches(searches(response));
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
        self.account.reading(judge_tokens)
    }
}

/// The searches of the web and of files that are billed apart from tokens.
fn searches(response: &Response<'_>) -> (u64, u64) {
    let (mut web, mut files) = (0_u64, 0_u64);
    let items: Vec<&RawValue> = part(response.output).unwrap_or_default();
    for item in items {
        let item: Item<'_> = part(Some(item)).unwrap_or_default();
        match item.kind.as_deref() {
            Some("web_search_call") => {
                let action: Action<'_> = part(item.action).unwrap_or_default();
                if matches!(action.kind.as_deref(), None | Some("search")) {
                    web = web.saturating_add(1);
                }
            }
            Some("file_search_call") => files = files.saturating_add(1),
            _ => {}
        }
    }
    let tools: ToolUsage<'_> = part(response.tool_usage).unwrap_or_default();
    let stated: WebSearch = part(tools.web_search).unwrap_or_default();
    (stated.num_requests.0.unwrap_or(web), files)
}
