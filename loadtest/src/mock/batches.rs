//! What is made later: files, batches of both providers, responses in the background.
//!
//! Each mock keeps what it was given. A batch is done as soon as its state is asked for, and a
//! background response at the second time of asking, so that a client sees both states. Every call
//! of a batch uses what its own body steers (`"user": "mock-usage-100-20"`), else 10 in and 20 out.
//! A batch whose metadata has `"end": "failed"` (or `expired`, `cancelled`) ends so, with nothing
//! done.
//!
//! It knows no tenants: whoever has an id gets what is behind it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::CREATED;
use super::answer::Answer;
use super::provider::Asked;
use super::steer::Steering;

/// Everything that was begun at one mock.
#[derive(Debug, Default)]
pub(crate) struct Deferred {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<String, Bytes>,
    /// The state as it is told, by id.
    batches: HashMap<String, Value>,
    /// The calls of a batch of messages, or their results, by the batch's id.
    messages: HashMap<String, Vec<Value>>,
    /// The model of a response, and whether it has been asked for.
    responses: HashMap<String, (Value, bool)>,
}

impl Deferred {
    /// The answer to a request that is about such work.
    pub(crate) fn answer(&self, asked: &Asked<'_>) -> Option<Answer> {
        let path = asked.head.uri.path().strip_prefix("/v1/")?;
        let segments: Vec<&str> = path.split('/').collect();
        let mut state = self.lock();
        let (post, get) = (
            asked.head.method == Method::POST,
            asked.head.method == Method::GET,
        );
        Some(match segments[..] {
            ["files"] if post => state.upload(asked)?,
            ["files", id, "content"] if get => match state.files.get(id) {
                Some(content) => Answer::bytes("application/jsonl", content.clone()),
                None => missing(),
            },
            ["batches"] if post => state.start(asked),
            ["batches"] if get => state.list(),
            ["batches", id] if get => state.batch(id, asked.serial),
            ["batches", id, "cancel"] if post => state.cancel(id),
            ["messages", "batches"] if post => state.start_messages(asked),
            ["messages", "batches", id] if get => state.message_batch(id),
            ["messages", "batches", id, "results"] if get => state.results(id),
            ["responses"] if post && asked.body["background"] == true => {
                state.start_response(asked)?
            }
            ["responses", id] if get => state.response(id),
            _ => return None,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The input of a batch; other uploads are none of this module's business.
    fn upload(&mut self, asked: &Asked<'_>) -> Option<Answer> {
        let content = file_of_form(asked.whole)?;
        let id = format!("file-mock{:012}", asked.serial);
        let answer = json!({
            "id": id, "object": "file", "bytes": content.len(), "created_at": CREATED,
            "filename": "batch.jsonl", "purpose": "batch", "status": "processed",
            "sha256": asked.facts.sha256,
        });
        self.files.insert(id, content);
        Some(Answer::free(answer))
    }

    fn start(&mut self, asked: &Asked<'_>) -> Answer {
        let id = format!("batch_mock{:012}", asked.serial);
        let batch = json!({
            "id": id, "object": "batch", "endpoint": asked.body["endpoint"], "errors": null,
            "input_file_id": asked.body["input_file_id"], "completion_window": "24h",
            "status": "validating", "output_file_id": null, "error_file_id": null,
            "created_at": CREATED, "metadata": asked.body["metadata"],
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
        });
        self.batches.insert(id, batch.clone());
        Answer::free(batch)
    }

    fn list(&self) -> Answer {
        let batches: Vec<&Value> = self.batches.values().collect();
        Answer::free(json!({"object": "list", "data": batches, "has_more": false}))
    }

    fn batch(&mut self, id: &str, serial: u64) -> Answer {
        let Some(batch) = self.batches.get_mut(id) else {
            return missing();
        };
        if batch["status"] == "validating" {
            match batch["metadata"]["end"].as_str() {
                Some(end) => batch["status"] = json!(end),
                None => {
                    let input = batch["input_file_id"].as_str().unwrap_or_default();
                    let input = self.files.get(input).cloned().unwrap_or_default();
                    let lines = String::from_utf8_lossy(&input);
                    let results: Vec<String> = lines
                        .lines()
                        .filter_map(|line| serde_json::from_str(line).ok())
                        .map(|call: Value| format!("{}\n", output_line(&call)))
                        .collect();
                    let output = format!("file-mockoutput{serial:012}");
                    batch["status"] = json!("completed");
                    batch["output_file_id"] = json!(output);
                    batch["request_counts"] =
                        json!({"total": results.len(), "completed": results.len(), "failed": 0});
                    self.files.insert(output, results.concat().into());
                }
            }
        }
        Answer::free(batch.clone())
    }

    fn cancel(&mut self, id: &str) -> Answer {
        let Some(batch) = self.batches.get_mut(id) else {
            return missing();
        };
        batch["status"] = json!("cancelled");
        Answer::free(batch.clone())
    }

    fn start_messages(&mut self, asked: &Asked<'_>) -> Answer {
        let id = format!("msgbatch_mock{:012}", asked.serial);
        let calls = asked.body["requests"].as_array().cloned();
        self.messages.insert(id.clone(), calls.unwrap_or_default());
        Answer::free(message_state(&id, "in_progress", 0))
    }

    fn message_batch(&self, id: &str) -> Answer {
        match self.messages.get(id) {
            Some(calls) => Answer::free(message_state(id, "ended", calls.len())),
            None => missing(),
        }
    }

    fn results(&self, id: &str) -> Answer {
        let Some(calls) = self.messages.get(id) else {
            return missing();
        };
        let lines: Vec<String> = calls
            .iter()
            .map(|call| format!("{}\n", result_line(call)))
            .collect();
        Answer::bytes("application/x-jsonl", lines.concat())
    }

    /// A stream shows all of it at once; only what is told later is kept here.
    fn start_response(&mut self, asked: &Asked<'_>) -> Option<Answer> {
        let id = format!("resp_mock{:012}", asked.serial);
        let model = asked.body["model"].clone();
        self.responses.insert(id.clone(), (model.clone(), false));
        (asked.body["stream"] != true).then(|| Answer::free(response(&id, &model, "queued")))
    }

    fn response(&mut self, id: &str) -> Answer {
        let Some((model, seen)) = self.responses.get_mut(id) else {
            return missing();
        };
        let status = if std::mem::replace(seen, true) {
            "completed"
        } else {
            "in_progress"
        };
        Answer::free(response(id, model, status))
    }
}

fn missing() -> Answer {
    super::openai::error(StatusCode::NOT_FOUND)
}

/// The tokens of one call: in and out.
fn tokens(body: &Value) -> (u64, u64) {
    let mut steering = Steering::default();
    // A misspelt word steers nothing; its test will miss the tokens it wanted.
    let _unknown = steering.add_body(body);
    steering.usage.unwrap_or((10, 20))
}

fn output_line(call: &Value) -> Value {
    let body = &call["body"];
    let (input, output) = tokens(body);
    json!({
        "id": "batch_req_mock",
        "custom_id": call["custom_id"],
        "response": {"status_code": 200, "request_id": "req_mock", "body": {
            "id": "chatcmpl-mock", "object": "chat.completion", "created": CREATED,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "logprobs": null,
                "message": {"role": "assistant", "content": "Done.", "refusal": null}}],
            "usage": {"prompt_tokens": input, "completion_tokens": output,
                "total_tokens": input + output},
        }},
        "error": null,
    })
}

fn result_line(call: &Value) -> Value {
    let params = &call["params"];
    let (input, output) = tokens(params);
    json!({
        "custom_id": call["custom_id"],
        "result": {"type": "succeeded", "message": {
            "id": "msg_mock", "type": "message", "role": "assistant", "model": params["model"],
            "content": [{"type": "text", "text": "Done."}],
            "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": input, "output_tokens": output, "service_tier": "batch"},
        }},
    })
}

fn message_state(id: &str, status: &str, succeeded: usize) -> Value {
    json!({
        "id": id, "type": "message_batch", "processing_status": status,
        "request_counts": {"processing": 0, "succeeded": succeeded, "errored": 0,
            "canceled": 0, "expired": 0},
        "ended_at": null, "created_at": "2026-01-01T00:00:00Z",
        "expires_at": "2026-01-02T00:00:00Z", "archived_at": null,
        "cancel_initiated_at": null, "results_url": null,
    })
}

fn response(id: &str, model: &Value, status: &str) -> Value {
    let usage = json!({"input_tokens": 100, "output_tokens": 20, "total_tokens": 120});
    let done = status == "completed";
    json!({
        "id": id, "object": "response", "created_at": CREATED, "status": status,
        "background": true, "error": null, "incomplete_details": null, "model": model,
        "output": [], "parallel_tool_calls": true, "tool_choice": "auto", "tools": [],
        "usage": if done { usage } else { Value::Null },
    })
}

/// The content of a form's file, if it is for a batch.
fn file_of_form(form: &Bytes) -> Option<Bytes> {
    memchr::memmem::find(form, b"name=\"purpose\"\r\n\r\nbatch\r\n")?;
    let head = memchr::memmem::find(form, b"filename=")?;
    let start = head + memchr::memmem::find(form.get(head..)?, b"\r\n\r\n")? + 4;
    let end = start + memchr::memmem::find(form.get(start..)?, b"\r\n--")?;
    Some(form.slice(start..end))
}
