//! The one log line of a call, as an event of `tracing`.

use tollgate_core::ids::{ModelName, ProviderName};
use tollgate_core::record::{CallLog, Ending, Subject};

/// The target of calls' lines.
pub const TARGET: &str = "tollgate_proxy::record";

/// Tells of calls as of everything else.
#[derive(Debug, Clone, Copy)]
pub struct CallEvents;

impl CallLog for CallEvents {
    fn ended(&self, subject: &Subject, ending: &Ending) {
        tracing::info!(
            target: TARGET,
            request = &*subject.id.text(),
            tenant = subject.tenant.as_str(),
            agent = subject.agent.as_str(),
            task = subject.task.as_str(),
            provider = subject.provider.as_ref().map(ProviderName::as_str),
            operation = subject.operation.as_deref(),
            model = subject.request_model.as_ref().map(ModelName::as_str),
            status = ending.status,
            code = ending.code.as_deref(),
            outcome = ending.outcome.as_str(),
            usage = ending.usage_source.as_str(),
            input_tokens = ending.usage.map(|usage| usage.input_tokens),
            output_tokens = ending.usage.map(|usage| usage.output_tokens),
            cost_usd = &*ending.cost.text(),
            first_byte_us = ending.first_byte_us,
            took_us = took_us(subject, ending),
            trace = subject.trace.map(tracing::field::display),
            "call ended"
        );
    }
}

/// How long a call took, in microseconds.
#[must_use]
pub fn took_us(subject: &Subject, ending: &Ending) -> Option<u64> {
    let took = ending.ended_at.since(subject.started_at);
    u64::try_from(took.as_micros()).ok()
}
