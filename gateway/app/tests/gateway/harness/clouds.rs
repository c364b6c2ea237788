//! The provider files that come with the gateway, all of them at one mock, and a call in each of
//! the languages they speak.
//!
//! No keys travel here: what a call costs does not depend on them. What a call should cost is the
//! tests' business; the mock keeps its own account.

use std::path::Path;
use std::{fmt, fs};

use serde_json::{Value, json};
use tollgate_loadtest::mock::Billed;
use tollgate_testkit::raw::Answer;
use tollgate_testkit::wait::until_true;

use super::client::Ask;
use super::plan::Plan;
use super::world::World;

/// Separates the fields of a form.
const BOUNDARY: &str = "a-line-that-is-in-no-field";

/// Models of the operator's own servers cost nothing.
const LOCAL_PRICES: &str = r#"{"format": 1, "overrides": [
    {"provider": "local", "match": {"starts_with": ""}, "price_per_call": "0"}]}"#;

/// How a call asks for a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Streams {
    /// There is none.
    Never,
    /// By `"stream": true` in the body.
    ByField,
    /// By another path.
    At(&'static str),
}

/// A kind of call, as one provider takes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    /// The path, from the provider's name on.
    pub(crate) path: &'static str,
    /// How it is asked to stream.
    pub(crate) streams: Streams,
    /// Words that make the mock speak as the provider does where the path does not tell.
    pub(crate) words: &'static str,
    /// The body, as JSON also where it is sent as a form.
    pub(crate) body: &'static str,
}

impl Way {
    /// The body's fields.
    pub(crate) fn body(&self) -> Value {
        serde_json::from_str(self.body).unwrap_or_else(|error| panic!("{}: {error}", self.path))
    }

    /// Whether there is a streamed form.
    pub(crate) const fn can_stream(&self) -> bool {
        !matches!(self.streams, Streams::Never)
    }

    /// Whether the body is sent as a form.
    pub(crate) fn is_form(&self) -> bool {
        ["/edits", "/transcriptions", "/translations"]
            .iter()
            .any(|end| self.path.ends_with(end))
    }

    /// The call with a body of the test's own, steered by more `words`.
    pub(crate) fn ask_with(&self, mut body: Value, words: &str, streamed: bool) -> Ask {
        let path = match (self.streams, streamed) {
            (Streams::At(path), true) => path,
            (_, true) => {
                body["stream"] = json!(true);
                self.path
            }
            (_, false) => {
                // Ollama streams unless told not to.
                if self.path.starts_with("/ollama/api/") && self.can_stream() {
                    body["stream"] = json!(false);
                }
                self.path
            }
        };
        let ask = Ask::new("POST", path).header("x-mock", &format!("{},{words}", self.words));
        if self.is_form() {
            let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
            return ask.header("content-type", &content_type).body(form(&body));
        }
        ask.json(&body)
    }

    /// The call, steered by more `words`.
    pub(crate) fn ask(&self, words: &str, streamed: bool) -> Ask {
        self.ask_with(self.body(), words, streamed)
    }
}

/// The fields as a form, with a file as edits and transcriptions have one.
fn form(fields: &Value) -> String {
    let mut text = String::new();
    for (name, value) in fields.as_object().expect("fields") {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        text += &format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        );
    }
    for name in ["file", "image"] {
        text += &format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"x.bin\"\r\n\
             content-type: application/octet-stream\r\n\r\n{}\r\n",
            "sound".repeat(20_000)
        );
    }
    text + &format!("--{BOUNDARY}--\r\n")
}

/// Replaces the plan's providers by all that come with the gateway.
pub(crate) fn use_shipped_providers(plan: &mut Plan) {
    let url = plan.provider("openai").url.clone();
    plan.providers.clear();
    plan.gateway.push_str("prices_file = \"prices.json\"\n");
    plan.files
        .insert("prices.json".to_owned(), LOCAL_PRICES.to_owned());
    for tenant in plan.tenants.values_mut() {
        tenant.grants.clear();
        tenant.credentials.clear();
        tenant.secrets.clear();
    }
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    for part in ["providers", "examples/providers"] {
        for entry in fs::read_dir(policies.join(part)).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let file = format!("providers/{name}.toml");
            plan.files.insert(file, at(&url, &text));
            for tenant in plan.tenants.values_mut() {
                tenant.allow(name, "");
            }
        }
    }
}

/// A provider's file with the upstream at `url`, without a key, and with a price.
fn at(url: &str, text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let setting = line.split(' ').next().unwrap_or_default();
        match setting {
            "upstream" => {
                lines.push(format!("upstream = \"{url}\"\nkeyless = true"));
                if !text.contains("\nprices = ") {
                    lines.push("prices = \"local\"".to_owned());
                }
            }
            "place" | "keyless" => {}
            _ => lines.push(line.to_owned()),
        }
    }
    lines.join("\n")
}

/// A call that is over.
pub(crate) struct Called {
    /// What came back.
    pub(crate) answer: Answer,
    /// What was kept.
    pub(crate) record: Value,
    /// What the provider bills for it, if it reached the provider.
    pub(crate) billed: Option<Billed>,
}

impl Called {
    /// A call whose answer nobody read.
    pub(crate) const fn unanswered(record: Value, billed: Option<Billed>) -> Self {
        let answer = Answer {
            status: 0,
            headers: Vec::new(),
            body: Vec::new(),
            whole: false,
        };
        Self {
            answer,
            record,
            billed,
        }
    }
}

impl fmt::Debug for Called {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            answer,
            record,
            billed,
        } = self;
        let said: String = answer.text().chars().take(300).collect();
        write!(f, "{} {said}\n{billed:?}\n{record:#}", answer.status)
    }
}

impl World {
    /// All providers that come with the gateway at one mock.
    pub(crate) async fn of_all_providers(change: impl FnOnce(&mut Plan)) -> Self {
        Self::planned(|plan| {
            use_shipped_providers(plan);
            change(plan);
        })
        .await
    }

    /// Makes calls one after the other, and waits until all are recorded.
    pub(crate) async fn make(&self, asks: impl IntoIterator<Item = Ask>) -> Vec<Called> {
        let mut calls = Vec::new();
        for ask in asks {
            self.mock.forget();
            let answer = self.send(&ask).await;
            let billed = self.calls().pop().and_then(|seen| seen.billed);
            let record = Value::Null;
            calls.push(Called {
                answer,
                record,
                billed,
            });
        }
        until_true("all calls are recorded", || {
            let mut records = self.gateway.site.records("acme");
            calls.iter_mut().all(|call| {
                let id = call.answer.header("x-tollgate-request-id").expect("an id");
                let found = records.iter().position(|r| r["tollgate.record.id"] == id);
                found
                    .inspect(|at| call.record = records.swap_remove(*at))
                    .is_some()
            })
        })
        .await;
        calls
    }
}
