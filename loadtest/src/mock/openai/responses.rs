//! Answers of OpenAI's responses endpoint, plain and as its named events.

use serde_json::{Value, json};

use crate::mock::CREATED;
use crate::mock::answer::Answer;
use crate::mock::ask::Ask;
use crate::mock::frames::{Event, Framing};
use crate::mock::toolcall::ToolCall;

/// `POST /v1/responses`.
pub(crate) fn responses(ask: &Ask<'_>) -> Answer {
    if !ask.streams() {
        return Answer::of(response_body(ask, "completed"), ask.counts().inclusive());
    }
    let mut events = Events::default();
    let begun = json!({"response": response_body(ask, "in_progress")});
    events.push("response.created", begun.clone());
    events.push("response.in_progress", begun);
    match ask.tool_call() {
        Some(call) => call_events(ask, &call, &mut events),
        None => text_events(ask, &mut events),
    }
    let done = json!({"response": response_body(ask, "completed")});
    events.push("response.completed", done);
    let error = json!({"code": "server_error", "message": "mock error", "param": null});
    events.push("error", error);
    let error = events.0.pop().unwrap_or(Event::Verbatim(""));
    Answer::stream(
        Framing::NamedData,
        events.0,
        error,
        ask.counts().inclusive(),
    )
}

fn text_events(ask: &Ask<'_>, events: &mut Events) {
    let item_id = format!("msg_mock{:012}", ask.serial);
    let place = |mut event: Value| {
        event["item_id"] = json!(item_id);
        event["output_index"] = json!(0);
        event["content_index"] = json!(0);
        event
    };
    let item = |status: &str, content: Value| json!({"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content});
    events.push(
        "response.output_item.added",
        json!({"output_index": 0, "item": item("in_progress", json!([]))}),
    );
    events.push(
        "response.content_part.added",
        place(json!({"part": text_part("")})),
    );
    for piece in ask.pieces() {
        events.push(
            "response.output_text.delta",
            place(json!({"delta": piece, "logprobs": []})),
        );
    }
    events.push(
        "response.output_text.done",
        place(json!({"text": ask.text, "logprobs": []})),
    );
    events.push(
        "response.content_part.done",
        place(json!({"part": text_part(&ask.text)})),
    );
    let done = item("completed", json!([text_part(&ask.text)]));
    events.push(
        "response.output_item.done",
        json!({"output_index": 0, "item": done}),
    );
}

fn call_events(ask: &Ask<'_>, call: &ToolCall, events: &mut Events) {
    let item = call_item(ask, call, "completed");
    let mut begun = call_item(ask, call, "in_progress");
    begun["arguments"] = json!("");
    let place = |mut event: Value| {
        event["item_id"] = item["id"].clone();
        event["output_index"] = json!(0);
        event
    };
    events.push(
        "response.output_item.added",
        json!({"output_index": 0, "item": begun}),
    );
    events.push(
        "response.function_call_arguments.delta",
        place(json!({"delta": call.text()})),
    );
    events.push(
        "response.function_call_arguments.done",
        place(json!({"name": call.name, "arguments": call.text()})),
    );
    events.push(
        "response.output_item.done",
        json!({"output_index": 0, "item": item}),
    );
}

fn call_item(ask: &Ask<'_>, call: &ToolCall, status: &str) -> Value {
    json!({
        "id": format!("fc_mock{:012}", ask.serial), "type": "function_call", "status": status,
        "call_id": format!("call_mock{:012}", ask.serial), "name": call.name, "arguments": call.text(),
    })
}

/// Named events that count themselves.
#[derive(Default)]
struct Events(Vec<Event>);

impl Events {
    fn push(&mut self, name: &'static str, mut event: Value) {
        event["type"] = json!(name);
        event["sequence_number"] = json!(self.0.len());
        self.0.push(Event::Named(name, event));
    }
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn response_body(ask: &Ask<'_>, status: &str) -> Value {
    let done = status == "completed";
    let said = match ask.tool_call() {
        Some(call) => call_item(ask, &call, status),
        None => json!({
            "id": format!("msg_mock{:012}", ask.serial), "type": "message", "status": status,
            "role": "assistant", "content": [text_part(&ask.text)],
        }),
    };
    let (input, output) = ask.tokens();
    let usage = json!({
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": ask.steering.cached},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": ask.steering.reasoning},
        "total_tokens": input + output,
    });
    json!({
        "id": format!("resp_mock{:012}", ask.serial),
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": false,
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "max_output_tokens": ask.body.get("max_output_tokens"),
        "metadata": ask.body.get("metadata").cloned().unwrap_or_else(|| json!({})),
        "model": ask.model(),
        "output": if done { json!([said]) } else { json!([]) },
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null},
        "service_tier": "default",
        "store": true,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": if done { usage } else { Value::Null },
    })
}
