//! A log line as one JSON object, in fewer steps than `tracing-subscriber`'s own formatter.
//!
//! Every call has a line, so its form is put together by hand: time, level, the event's fields,
//! target; the same bytes as that formatter makes. What calls do not have (spans, events of the
//! `log` crate) is left to it. Worst case: a field named like another one stands there twice.

use std::cell::Cell;
use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use tollgate_core::json::escaped;
use tollgate_core::time::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The target of all events that come from the `log` crate; their own is among their fields.
const LOG_CRATE: &str = "log";

/// A line's memory is kept up to here.
const LINE_BYTES: usize = 4 << 10;

thread_local! {
    /// The line that was written last, for its memory.
    static LINE: Cell<String> = const { Cell::new(String::new()) };
}

/// Formats events; knows what else can format them.
pub(super) struct Flat(pub(super) Format<Json>);

impl<S, N> FormatEvent<S, N> for Flat
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let in_a_span = event.parent().is_some() || context.lookup_current().is_some();
        if in_a_span || metadata.target() == LOG_CRATE {
            return self.0.format_event(context, line, event);
        }
        let mut fields = Fields(LINE.take());
        let text = &mut fields.0;
        text.clear();
        text.push_str(r#"{"timestamp":""#);
        text.push_str(&now().text());
        text.push_str(r#"","level":""#);
        text.push_str(metadata.level().as_str());
        text.push('"');
        event.record(&mut fields);
        let text = &mut fields.0;
        text.push_str(r#","target":""#);
        text.push_str(&escaped(metadata.target()));
        text.push_str("\"}\n");
        let written = line.write_str(text);
        text.shrink_to(LINE_BYTES);
        LINE.set(fields.0);
        written
    }
}

/// The time, for a line.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::from_micros(0).plus(since.unwrap_or_default())
}

/// Writes an event's fields as members of an object that has been opened.
struct Fields(String);

impl Fields {
    fn name(&mut self, field: &Field) -> &mut String {
        let text = &mut self.0;
        text.push_str(",\"");
        text.push_str(&escaped(field.name()));
        text.push_str("\":");
        text
    }

    fn shown(&mut self, field: &Field, value: impl fmt::Display) {
        // Writing to a String cannot fail.
        let _written = write!(self.name(field), "{value}");
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        let text = self.name(field);
        text.push('"');
        text.push_str(&escaped(value));
        text.push('"');
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.shown(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.shown(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.shown(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.shown(field, serde_json::json!(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = self.name(field);
        text.push('"');
        let _written = write!(Escaped(text), "{value:?}");
        text.push('"');
    }
}

/// Takes text into a JSON string that is open, piece by piece.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.0.push_str(&escaped(piece));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::kept::Kept;

    /// What `log` writes, without the times; by hand or by the library.
    fn lines(by_hand: bool, log: fn()) -> Vec<String> {
        let kept = Kept::default();
        let writer = kept.clone();
        let json = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .json()
            .flatten_event(true);
        if by_hand {
            tracing::subscriber::with_default(json.map_event_format(Flat).finish(), log);
        } else {
            tracing::subscriber::with_default(json.finish(), log);
        }
        let text = kept.text();
        let untimed = |line: &str| {
            let rest = line.strip_prefix(r#"{"timestamp":""#).expect("a time");
            let (time, rest) = rest.split_once('"').expect("a time ends");
            assert_eq!(time.len(), "2026-11-23T07:08:09.000123Z".len());
            assert!(time.parse::<Timestamp>().is_ok(), "{time}");
            rest.to_owned()
        };
        text.lines().map(untimed).collect()
    }

    fn everything() {
        let odd = "a\"b\\c\td\n\u{1}\u{7f}/\u{e9}";
        tracing::info!("call ended");
        tracing::warn!(
            status = 200_u16,
            code = None::<&str>,
            took_us = Some(7_u64),
            "{odd}"
        );
        tracing::error!(
            odd,
            debugged = ?odd,
            shown = %odd,
            below = -5_i64,
            yes = true,
            no = false,
            ratio = 0.1_f64,
            nothing = f64::NAN,
            large = i128::MIN,
            larger = u128::MAX,
            "odd {odd} and {odd:?}"
        );
        let cause = std::io::Error::other("lost \"it\"");
        tracing::debug!(
            error = &cause as &(dyn std::error::Error + 'static),
            dotted.name = 1
        );
        tracing::trace!(target: "a \"target\"", { r#type = "x" }, "to {}", 1);
        tracing::info!(target: "log", "as if from the other crate");
        let span = tracing::info_span!("work", number = 1);
        tracing::info!(parent: &span, "within");
        span.in_scope(|| tracing::info!(field = "x", "inside"));
    }

    #[test]
    fn lines_are_byte_for_byte_what_the_library_makes_of_the_same_events() {
        let (by_hand, by_library) = (lines(true, everything), lines(false, everything));
        assert_eq!(by_hand.len(), 8);
        assert_eq!(by_hand, by_library);
    }
}
