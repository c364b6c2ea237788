//! Spans of calls, where the settings want any: where they stand, what the upstream is told, and
//! whom they go to at their end.
//!
//! Without a sink nothing is done here, and what a client says of its trace goes to the upstream
//! byte for byte. With one, the gateway's span takes the place of the client's in `traceparent`;
//! what is none is left out together with `tracestate`, and a trace begins (Trace Context, section
//! 4.3). A refusal of somebody unknown has no spans, so that nobody unknown can fill the queue.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use tollgate_core::record::{Ending, Subject};
use tollgate_core::trace::{
    CallSpans, CallTrace, Sampling, SpanId, SpanSink, TraceId, TraceParent,
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Of which calls spans are kept, and by whom.
pub struct Traces {
    /// Of which.
    pub sampling: Sampling,
    /// By whom.
    pub sink: Arc<dyn SpanSink>,
}

impl Traces {
    /// Where a call's spans stand.
    pub(crate) fn place(&self, parent: Option<TraceParent>) -> Option<CallTrace> {
        let trace = TraceId::new(*uuid::Uuid::new_v4().as_bytes())?;
        let (server, attempt) = uuid::Uuid::new_v4().as_u64_pair();
        let server = SpanId::new(server.to_be_bytes())?;
        let attempt = SpanId::new(attempt.to_be_bytes())?;
        Some(self.sampling.place(parent, trace, server, attempt))
    }

    /// Hands over the spans of a call that has ended.
    pub(crate) fn ended(&self, at: &CallTrace, subject: Subject, ending: Ending) {
        if at.is_sampled() {
            self.sink.take(CallSpans {
                at: *at,
                subject,
                ending,
            });
        }
    }
}

/// The trace that the client says it calls in. Two of them are none.
pub(crate) fn told(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    TraceParent::read(value.as_bytes())
}

/// Tells the upstream the gateway's own span.
pub(crate) fn tell(at: &CallTrace, headers: &mut HeaderMap) {
    let Ok(value) = HeaderValue::try_from(at.onward().to_string()) else {
        return;
    };
    headers.insert(TRACEPARENT, value);
    if at.parent.is_none() {
        headers.remove(TRACESTATE);
    }
}
