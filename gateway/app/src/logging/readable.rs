//! A log line for somebody at a terminal: the time of day, the level, what happened, its fields.
//!
//! In colour where the terminal takes it. What others wrote cannot move the cursor or end the line:
//! whatever is not printable is shown as its escape. Worst case: two fields of the same name.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock;

/// Formats events.
pub(super) struct Readable {
    /// Whether the terminal is told colours.
    pub(super) coloured: bool,
}

/// Escapes of ECMA-48.
const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";

/// How the level is written, five characters wide.
fn level(level: &Level) -> (&'static str, &'static str) {
    match *level {
        Level::ERROR => ("ERROR", RED),
        Level::WARN => (" WARN", YELLOW),
        Level::INFO => (" INFO", GREEN),
        Level::DEBUG => ("DEBUG", CYAN),
        Level::TRACE => ("TRACE", DIM),
    }
}

impl<S, N> FormatEvent<S, N> for Readable
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let paint = |colour| if self.coloured { colour } else { "" };
        let now = clock::now().text();
        // `2026-11-23T07:08:09.000123Z`: the day is known to whoever watches.
        let time = now.get(11..23).unwrap_or(&now);
        let (word, colour) = level(event.metadata().level());
        let (dim, plain) = (paint(DIM), paint(PLAIN));
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields { message, others } = fields;
        write!(line, "{dim}{time}{plain} {}{word}{plain} ", paint(colour))?;
        write!(line, "{}{message}{plain}", paint(BOLD))?;
        for (name, value) in others {
            write!(line, " {dim}{name}={plain}{value}")?;
        }
        let target = event.metadata().target();
        if !target.starts_with("tollgate") {
            write!(line, " {dim}({}){plain}", printable(target))?;
        }
        line.write_str("\n")
    }
}

/// An event's fields, fit to be shown.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            // Where `log` says an event came from, which nobody at a terminal asks.
            name if name.starts_with("log.") => {}
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        let value = printable(value);
        let bare =
            field.name() == "message" || !value.is_empty() && !value.contains([' ', '"', '=']);
        self.add(field, if bare { value } else { format!("\"{value}\"") });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut shown = String::new();
        // Writing to a String fails only where a value says so of itself.
        let _shown = write!(shown, "{value:?}");
        self.add(field, printable(&shown));
    }
}

fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Whether lines are in colour: on a terminal that can show it, unless somebody does not want any
/// (no-color.org).
pub(super) fn in_colour(is_terminal: bool, no_color: Option<&str>, term: Option<&str>) -> bool {
    is_terminal && no_color.is_none_or(str::is_empty) && term != Some("dumb")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::kept::Kept;

    fn lines(coloured: bool) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .event_format(Readable { coloured })
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "tollgate_proxy::record", tenant = "acme", status = 200_u16, code = None::<&str>, why = "a b", empty = "", "call ended");
            tracing::warn!(target: "hyper", said = %"x\x1b[31m\r\ny\u{202e}", "odd\x07 one");
        });
        kept.text()
    }

    #[test]
    fn a_line_says_time_level_message_and_fields_and_nothing_in_it_reaches_the_terminal_as_a_control()
     {
        let plain = lines(false);
        let untimed: Vec<&str> = plain.lines().map(|line| &line[13..]).collect();
        assert_eq!(
            untimed,
            [
                " INFO call ended tenant=acme status=200 why=\"a b\" empty=\"\"",
                " WARN odd\\u{7} one said=x\\u{1b}[31m\\r\\ny\\u{202e} (hyper)",
            ]
        );
        assert_eq!(plain.as_bytes()[2], b':');
        assert!(!plain.contains('\x1b'));
        let coloured = lines(true);
        assert!(
            coloured.contains("\x1b[32m INFO\x1b[0m \x1b[1mcall ended\x1b[0m"),
            "{coloured:?}"
        );
        assert!(!coloured.contains("x\x1b[31m"));
    }

    #[test]
    fn there_is_colour_on_a_terminal_alone_and_not_where_nobody_wants_it() {
        for (terminal, no_color, term, expected) in [
            (true, None, Some("xterm"), true),
            (true, None, None, true),
            (true, Some(""), None, true),
            (true, Some("1"), None, false),
            (true, None, Some("dumb"), false),
            (false, None, Some("xterm"), false),
        ] {
            assert_eq!(in_colour(terminal, no_color, term), expected);
        }
    }
}
