//! A call that has ended -> its spans.
//!
//! Two of them: what was asked of the gateway, and what was asked of the upstream, if it was. Names
//! and attributes are made of what a token, policy, price or provider says. Of the client's own
//! words there are the ids of its trace, and the name of a model once policy has let it pass. Worst
//! case: a client names its trace after another's, and its spans are found there.

use tollgate_core::ids::{HandleName, ModelName, ProviderName};
use tollgate_core::money::PicoUsd;
use tollgate_core::record::{Ending, Outcome, Subject};
use tollgate_core::time::Timestamp;
use tollgate_core::trace::{CallSpans, CallTrace, SpanId};
use tollgate_core::usage::Usage;

use super::proto::{KeyValue, Span, SpanStatus, Value};
use super::semconv::{self, TENANT_ID};

/// `SpanKind` of OTLP.
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
/// `StatusCode` of OTLP.
const ERROR: i32 = 2;
/// Of `SpanFlags`: whether the parent lives elsewhere is known, and it does.
const KNOWS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Methods that have names of their own in the conventions for HTTP.
const METHODS: [&str; 9] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
];

/// The spans of a call.
pub(super) fn spans(call: &CallSpans) -> Vec<Span> {
    let CallSpans {
        at,
        subject,
        ending,
    } = call;
    let served = served(at, subject, ending);
    let attempt = at
        .contacted_at
        .map(|since| attempt(at, since, subject, ending));
    std::iter::once(served).chain(attempt).collect()
}

fn served(at: &CallTrace, subject: &Subject, ending: &Ending) -> Span {
    let operation = subject.operation.as_deref();
    let method = METHODS.into_iter().find(|known| *known == subject.method);
    let method = method.unwrap_or("_OTHER");
    let mut said = Said::of(subject, ending);
    said.text("http.request.method", method);
    let failed = ending.status.is_some_and(|status| status >= 500);
    if let Some(code) = &ending.code {
        said.text("error.type", code);
    } else if let Some(status) = ending.status.filter(|_| failed) {
        said.text("error.type", status.to_string());
    }
    said.text("tollgate.outcome", ending.outcome.as_str());
    let remote = if at.parent.is_some() { IS_REMOTE } else { 0 };
    Span {
        name: operation.unwrap_or(method).to_owned(),
        kind: SERVER,
        parent_span_id: at.parent.map(id).unwrap_or_default(),
        flags: u32::from(at.flags) | KNOWS_REMOTE | remote,
        status: status(failed, ending),
        ..span(at, at.server, (subject.started_at, ending.ended_at), said)
    }
}

fn attempt(at: &CallTrace, since: Timestamp, subject: &Subject, ending: &Ending) -> Span {
    let operation = subject.operation.as_deref().unwrap_or_default();
    let model = subject.request_model.as_ref().map(ModelName::as_str);
    let mut said = Said::of(subject, ending);
    if let Some(model) = model {
        said.text("gen_ai.request.model", model);
    }
    if let Some(model) = &ending.response_model {
        said.text("gen_ai.response.model", model);
    }
    if let Some((host, port)) = subject
        .upstream
        .as_deref()
        .and_then(|at| at.rsplit_once(':'))
    {
        said.text("server.address", host);
        if let Ok(port) = port.parse::<u16>() {
            said.int("server.port", port.into());
        }
    }
    if let Some(name) = subject.credential.as_ref().map(HandleName::as_str) {
        said.text("tollgate.credential.name", name);
    }
    if let Some(usage) = &ending.usage {
        said.usage(usage);
    }
    said.text("tollgate.usage.source", ending.usage_source.as_str());
    said.money("tollgate.cost", ending.cost);
    if let Some(micros) = ending.first_byte_us {
        said.int("tollgate.first_byte_us", micros);
    }
    let failed = match ending.outcome {
        Outcome::UpstreamFailed | Outcome::Interrupted => true,
        _ => ending.status.is_some_and(|status| status >= 400),
    };
    if failed {
        let kind = match (&ending.code, ending.status) {
            (Some(code), _) => code.clone(),
            (None, Some(status)) if status >= 400 => status.to_string(),
            (None, _) => ending.outcome.as_str().to_owned(),
        };
        said.text("error.type", kind);
    }
    Span {
        name: match model {
            Some(model) => format!("{operation} {model}"),
            None => operation.to_owned(),
        },
        kind: CLIENT,
        parent_span_id: id(at.server),
        flags: u32::from(at.flags) | KNOWS_REMOTE,
        status: status(failed, ending),
        ..span(at, at.attempt, (since, ending.ended_at), said)
    }
}

fn span(at: &CallTrace, own: SpanId, (from, to): (Timestamp, Timestamp), said: Said) -> Span {
    Span {
        trace_id: at.trace.as_bytes().to_vec(),
        span_id: id(own),
        start_time_unix_nano: super::convert::nanos(from),
        // A clock that was put back in between makes no span that ends before it begins.
        end_time_unix_nano: super::convert::nanos(to.max(from)),
        attributes: said.0,
        ..Span::default()
    }
}

fn status(failed: bool, ending: &Ending) -> Option<SpanStatus> {
    failed.then(|| SpanStatus {
        message: ending.code.clone().unwrap_or_default(),
        code: ERROR,
    })
}

fn id(span: SpanId) -> Vec<u8> {
    span.as_bytes().to_vec()
}

/// Attributes in the making.
struct Said(Vec<KeyValue>);

impl Said {
    /// What both spans say.
    fn of(subject: &Subject, ending: &Ending) -> Self {
        let mut said = Self(Vec::with_capacity(20));
        said.text(TENANT_ID, subject.tenant.as_str());
        said.text("gen_ai.agent.id", subject.agent.as_str());
        said.text("tollgate.task.id", subject.task.as_str());
        said.text("tollgate.record.id", &*subject.id.text());
        if let Some(operation) = &subject.operation {
            said.text("gen_ai.operation.name", &**operation);
        }
        if let Some(provider) = subject.provider.as_ref().map(ProviderName::as_str) {
            said.text("gen_ai.provider.name", provider);
        }
        if let Some(status) = ending.status {
            said.int("http.response.status_code", status.into());
        }
        said
    }

    fn text(&mut self, key: &str, text: impl Into<String>) {
        self.0.push(KeyValue::text(key, text));
    }

    fn int(&mut self, key: &str, number: u64) {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.0.push(KeyValue::new(key, Value::Int(number)));
    }

    fn money(&mut self, stem: &str, amount: PicoUsd) {
        self.text(&format!("{stem}_usd"), amount.to_string());
        if let Ok(pico) = i64::try_from(amount.as_pico()) {
            let key = format!("{stem}_pico_usd");
            self.0.push(KeyValue::new(key, Value::Int(pico)));
        }
    }

    fn usage(&mut self, usage: &Usage) {
        for (name, count) in [
            (semconv::INPUT_TOKENS, usage.input_tokens),
            (semconv::OUTPUT_TOKENS, usage.output_tokens),
            (semconv::CACHE_READ, usage.cached_input_tokens),
            (
                semconv::CACHE_CREATION,
                usage
                    .cache_write_tokens
                    .saturating_add(usage.cache_write_1h_tokens),
            ),
            (semconv::REASONING, usage.reasoning_tokens),
        ] {
            if count > 0 {
                self.int(name, count);
            }
        }
    }
}
