//! The log line of a call as one JSON object, without the way through `tracing`.
//!
//! Every call has a line, and its fields are known; so it is put together of constant pieces. It is
//! byte for byte the line that the event would make, and is written when the event would be.

use std::cell::Cell;
use std::fmt::Write as _;

use tollgate_core::ids::ModelName;
use tollgate_core::json::escaped;
use tollgate_core::record::{CallLog, Ending, Subject};
use tollgate_proxy::call_log::{TARGET, took_us};
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

thread_local! {
    /// The line that was written last, for its memory.
    static LINE: Cell<String> = const { Cell::new(String::new()) };
}

/// Writes calls' lines.
pub(super) struct CallLines<W>(pub(super) W);

impl<W> CallLog for CallLines<W>
where
    W: for<'w> MakeWriter<'w> + Send + Sync,
{
    fn ended(&self, subject: &Subject, ending: &Ending) {
        if !tracing::enabled!(target: TARGET, Level::INFO) {
            return;
        }
        let mut line = Line(LINE.take());
        line.0.clear();
        line.call(subject, ending);
        // Nobody is left to tell that the log cannot be written.
        drop(std::io::Write::write_all(
            &mut self.0.make_writer(),
            line.0.as_bytes(),
        ));
        LINE.set(line.0);
    }
}

struct Line(String);

impl Line {
    fn call(&mut self, subject: &Subject, ending: &Ending) {
        self.0.push_str(r#"{"timestamp":""#);
        self.0.push_str(&ending.ended_at.text());
        self.0
            .push_str(r#"","level":"INFO","message":"call ended","request":""#);
        self.0.push_str(&subject.id.text());
        self.name(r#"","tenant":""#, subject.tenant.as_str());
        self.name(r#"","agent":""#, subject.agent.as_str());
        self.name(r#"","task":""#, subject.task.as_str());
        if let Some(provider) = &subject.provider {
            self.name(r#"","provider":""#, provider.as_str());
        }
        self.text_if(r#"","operation":""#, subject.operation.as_deref());
        let model = subject.request_model.as_ref().map(ModelName::as_str);
        self.text_if(r#"","model":""#, model);
        self.0.push('"');
        self.number_if(r#","status":"#, ending.status.map(u64::from));
        if let Some(code) = ending.code.as_deref() {
            self.text(r#","code":""#, code);
            self.0.push('"');
        }
        self.0.push_str(r#","outcome":""#);
        self.0.push_str(ending.outcome.as_str());
        self.0.push_str(r#"","usage":""#);
        self.0.push_str(ending.usage_source.as_str());
        self.0.push('"');
        if let Some(usage) = &ending.usage {
            self.number_if(r#","input_tokens":"#, Some(usage.input_tokens));
            self.number_if(r#","output_tokens":"#, Some(usage.output_tokens));
        }
        self.0.push_str(r#","cost_usd":""#);
        self.0.push_str(&ending.cost.text());
        self.0.push('"');
        self.number_if(r#","first_byte_us":"#, ending.first_byte_us);
        self.number_if(r#","took_us":"#, took_us(subject, ending));
        if let Some(trace) = subject.trace {
            // Writing to a String cannot fail.
            let _written = write!(self.0, r#","trace":"{trace}""#);
        }
        self.text(r#","target":""#, TARGET);
        self.0.push_str("\"}\n");
    }

    /// A checked name, which holds nothing to escape.
    fn name(&mut self, name: &str, value: &str) {
        self.0.push_str(name);
        self.0.push_str(value);
    }

    fn text(&mut self, name: &str, value: &str) {
        self.0.push_str(name);
        self.0.push_str(&escaped(value));
    }

    fn text_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    fn number_if(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.0.push_str(name);
            self.0.push_str(itoa::Buffer::new().format(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use tollgate_proxy::call_log::CallEvents;
    use tollgate_testkit::contract::{completed, record_id, refused, subject};

    use super::*;
    use crate::logging::json::Flat;
    use crate::logging::kept::Kept;

    /// The line of a call from its status on, and all before it but the time.
    fn untimed(text: &str) -> String {
        let rest = text.strip_prefix(r#"{"timestamp":""#).expect("a time");
        rest.split_once('"').expect("a time ends").1.to_owned()
    }

    fn lines(log: impl FnOnce(Kept) -> Box<dyn CallLog>, call: &(Subject, Ending)) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let json = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .json()
            .flatten_event(true)
            .map_event_format(Flat)
            .finish();
        let log = log(kept.clone());
        tracing::subscriber::with_default(json, || log.ended(&call.0, &call.1));
        untimed(&kept.text())
    }

    #[test]
    fn a_line_is_byte_for_byte_what_the_event_makes() {
        let mut odd = subject(record_id(3), "globex", "bot");
        odd.request_model = Some("a\"b\\c\u{e9}".parse().expect("a model"));
        odd.provider = None;
        odd.operation = None;
        odd.trace = Some("4bf92f3577b34da6a3ce929d0e0e4736".parse().expect("a trace"));
        let plain = subject(record_id(1), "acme", "bot");
        for call in [
            (plain.clone(), completed(13_500)),
            (plain, refused()),
            (odd, completed(-1)),
        ] {
            let of_event = lines(|_| Box::new(CallEvents), &call);
            let by_hand = lines(|kept| Box::new(CallLines(move || kept.clone())), &call);
            assert_eq!(by_hand, of_event);
        }
    }

    #[test]
    fn nothing_is_written_where_calls_are_not_to_be_told_of() {
        let kept = Kept::default();
        let writer = kept.clone();
        let quiet = tracing_subscriber::fmt()
            .with_max_level(Level::WARN)
            .finish();
        let call = subject(record_id(1), "acme", "bot");
        tracing::subscriber::with_default(quiet, || {
            CallLines(move || writer.clone()).ended(&call, &completed(1));
        });
        assert_eq!(kept.text(), "");
    }
}
