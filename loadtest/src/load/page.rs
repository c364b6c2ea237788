//! The results as a page: figures, plots, the settings and the command that repeats it.
//!
//! One file that needs nothing else: no script, no font, nothing fetched.

mod plots;

use super::Told;
use super::machine::Machine;
use super::results::{PERCENTILES, Step, grouped};
use super::table::{named, seconds};
use crate::plot::{Unit, text};

const STYLE: &str = include_str!("page/style.css");

/// Keys that are told, the slowest first.
const KEYS: usize = 50;

const HOW: &str = "Latencies count from when a call was due: in an open loop that is its place in the schedule, \
    whether or not a connection was free, so that a target which stalls is charged with every call that came \
    meanwhile. They are those of right answers, and of calls that timed out or were never sent, with what those \
    had waited. Other failures are counted apart. A call belongs to the second in which it was due, an answer or \
    failure of the throughput to the second in which it ended, one that was never sent to that in which it was due.";

impl Told<'_> {
    /// The whole document.
    pub(super) fn page(&self) -> String {
        let origin = text(self.origin);
        let load: String = self
            .settings()
            .into_iter()
            .take(1)
            .map(|(_, words)| words)
            .collect();
        let mut body = format!(
            "<header><p class=\"kind\">Load test</p><h1>{origin}</h1><p class=\"when\">{}, {}</p></header>",
            text(&self.began),
            text(&load),
        );
        if self.was_interrupted {
            note(
                &mut body,
                "note",
                "Interrupted: the figures are those until then.",
            );
        }
        match self.steps.as_slice() {
            [only] => self.only(&mut body, only),
            steps => self.several(&mut body, steps),
        }
        self.origin_of_figures(&mut body);
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta http-equiv=\"content-security-policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
             base-uri 'none'; form-action 'none'\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\">\
             <title>Load test of {origin}</title><style>{STYLE}</style></head>\n<body><main>{body}</main></body></html>\n"
        )
    }

    fn only(&self, body: &mut String, step: &Step) {
        body.push_str(&tiles(step));
        if let Some(why) = self
            .held
            .broken
            .as_ref()
            .filter(|_why| self.args.p99_ms.is_some())
        {
            note(body, "note warn", &format!("The load was not held: {why}."));
        }
        details(body, step, self.machine);
    }

    fn several(&self, body: &mut String, steps: &[Step]) {
        let held = self
            .held
            .steps
            .checked_sub(1)
            .and_then(|last| steps.get(last));
        if let Some(step) = held.or(steps.first()) {
            body.push_str(&tiles(step));
        }
        let rate = |step: &Step| step.rate.map_or(String::new(), |rate| rate.to_string());
        let held = held.map_or("none of the rates".to_owned(), |step| {
            format!("{} calls a second", rate(step))
        });
        match (&self.held.broken, steps.get(self.held.steps)) {
            (Some(why), Some(broke)) => note(
                body,
                "note warn",
                &format!(
                    "Held: {held} (above). Not held: {} calls a second, {why}.",
                    rate(broke)
                ),
            ),
            _ => note(
                body,
                "note",
                &format!("All rates were held, the last (above) with {held}."),
            ),
        }
        body.push_str(&format!(
            "<div class=\"plots\">{}</div>",
            plots::of_steps(steps).concat()
        ));
        body.push_str(&format!(
            "<div class=\"tables\"><div>{}</div></div>",
            self.steps_table(steps)
        ));
        for (number, step) in steps.iter().enumerate() {
            let open = if number + 1 == self.held.steps {
                " open"
            } else {
                ""
            };
            body.push_str(&format!(
                "<details{open}><summary>{} calls a second</summary>",
                rate(step)
            ));
            details(body, step, self.machine);
            body.push_str("</details>");
        }
    }

    fn steps_table(&self, steps: &[Step]) -> String {
        let rows = steps.iter().enumerate().map(|(number, step)| {
            let figures = [50.0, 99.0, 99.9, 100.0].map(|at| seconds(step.tally.whole.at(at)));
            let class = if number < self.held.steps {
                ""
            } else {
                " class=\"broken\""
            };
            format!(
                "<tr{class}><th>{}</th><td>{:.0}</td><td>{:.1} %</td>{}</tr>",
                step.rate.map_or(String::new(), |rate| rate.to_string()),
                step.throughput(),
                step.failed_percent(),
                figures.map(|figure| format!("<td>{figure}</td>")).concat(),
            )
        });
        table(
            "All steps",
            &[
                "offered a second",
                "right a second",
                "failed",
                "p50",
                "p99",
                "p99.9",
                "longest",
            ],
            rows,
        )
    }

    fn origin_of_figures(&self, body: &mut String) {
        let mut words = self.settings();
        words.push(("machine", self.machine.words()));
        words.push(("program", format!("loadtest {}", env!("CARGO_PKG_VERSION"))));
        let rows = words
            .iter()
            .map(|(name, words)| format!("<tr><th>{name}</th><td>{}</td></tr>", text(words)));
        let rows: String = rows.collect();
        body.push_str(&format!(
            "<h2>How it was measured</h2><div class=\"tables\"><table class=\"words\">{rows}</table>\
             <div><h3>The command that repeats it</h3><pre>{}</pre><p class=\"how\">{HOW}</p></div></div>",
            text(&self.command),
        ));
    }
}

fn note(body: &mut String, class: &str, words: &str) {
    body.push_str(&format!("<p class=\"{class}\">{}</p>", text(words)));
}

fn tiles(step: &Step) -> String {
    let tally = &step.tally;
    let at = |percentile| seconds(tally.whole.at(percentile));
    let offered = match step.rate {
        Some(rate) => format!("{rate} offered"),
        None => "as many as it can".to_owned(),
    };
    let tiles = [
        (
            "Right answers a second",
            format!("{:.0}", step.throughput()),
            offered,
        ),
        (
            "Failed",
            format!("{:.1} %", step.failed_percent()),
            format!(
                "{} of {} calls",
                grouped(tally.failed()),
                grouped(tally.calls)
            ),
        ),
        ("p50", at(50.0), String::new()),
        ("p99", at(99.0), String::new()),
        ("p99.9", at(99.9), format!("longest {}", at(100.0))),
        (
            "First byte, p99",
            seconds(tally.first_byte.at(99.0)),
            String::new(),
        ),
    ];
    let tiles = tiles.map(|(name, figure, note)| {
        format!("<div><dt>{name}</dt><dd>{figure}<small>{note}</small></dd></div>")
    });
    format!("<dl class=\"tiles\">{}</dl>", tiles.concat())
}

fn details(body: &mut String, step: &Step, machine: &Machine) {
    if let Some(why) = step.saturated() {
        note(
            body,
            "note warn",
            &format!("Take care: {why}. The figures are its own as much as the target's."),
        );
    }
    body.push_str(&format!(
        "<div class=\"plots\">{}</div>",
        plots::of_step(step).concat()
    ));
    // Two columns, each as long as it gets.
    body.push_str(&format!(
        "<div class=\"tables\"><div>{}{}</div><div>{}{}</div></div>",
        latencies(step),
        keys(step),
        ends(step),
        other(step, machine),
    ));
}

fn latencies(step: &Step) -> String {
    let rows = named(step).into_iter().map(|(name, times)| {
        let figures = PERCENTILES.map(|(at, _)| format!("<td>{}</td>", seconds(times.at(at))));
        format!(
            "<tr><th>{}</th><td>{}</td>{}</tr>",
            name.replace("  ", "&emsp;"),
            grouped(times.count()),
            figures.concat()
        )
    });
    table(
        "Latency",
        &["", "count", "p50", "p90", "p99", "p99.9", "longest"],
        rows,
    )
}

/// How calls ended: the kinds of failures, every status, the gateway's own words.
fn ends(step: &Step) -> String {
    let tally = &step.tally;
    let right = std::iter::once(("right".to_owned(), step.right()));
    let failures = tally
        .failures
        .iter()
        .map(|(failure, count)| (format!("failed: {}", failure.name()), *count));
    let statuses = tally
        .statuses
        .iter()
        .map(|(status, count)| (format!("status {status}"), *count));
    let codes = tally
        .codes
        .iter()
        .map(|(code, count)| (format!("x-tollgate-error: {code}"), *count));
    let rows = right.chain(failures).chain(statuses).chain(codes);
    let rows = rows.map(|(name, count)| {
        format!(
            "<tr><th>{}</th><td>{}</td></tr>",
            text(&name),
            grouped(count)
        )
    });
    table("How calls ended", &["", "calls"], rows)
}

fn keys(step: &Step) -> String {
    let mut keys: Vec<_> = step.tally.keys.iter().collect();
    if keys.len() < 2 {
        return String::new();
    }
    let slowness = |key: &(&usize, &super::tally::KeyTally)| key.1.whole.at(99.0).unwrap_or(0.0);
    keys.sort_by(|one, other| slowness(other).total_cmp(&slowness(one)));
    let title = if keys.len() > KEYS {
        format!("The slowest {KEYS} of {} keys", keys.len())
    } else {
        "Keys".to_owned()
    };
    let rows = keys.into_iter().take(KEYS).map(|(key, of)| {
        format!(
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            key + 1,
            grouped(of.calls),
            grouped(of.failed),
            seconds(of.whole.at(50.0)),
            seconds(of.whole.at(99.0)),
        )
    });
    table(&title, &["number", "calls", "failed", "p50", "p99"], rows)
}

fn other(step: &Step, machine: &Machine) -> String {
    let tally = &step.tally;
    let mut rows = vec![
        ("connections opened", grouped(tally.opened)),
        ("calls that waited for one", grouped(tally.waited)),
        (
            "body bytes of answers",
            text(&Unit::Bytes.words(bytes(tally.bytes))),
        ),
    ];
    if tally.streams > 0 {
        rows.push(("streams", grouped(tally.streams)));
        rows.push(("their events", grouped(tally.events)));
    }
    if tally.stated > 0 {
        rows.push(("answers that stated usage", grouped(tally.stated)));
        rows.push(("input tokens", grouped(tally.usage.input)));
        rows.push(("output tokens", grouped(tally.usage.output)));
    }
    rows.push((
        "processors the load generator took",
        format!("{:.2} of {}", step.cpu, step.cpu_most),
    ));
    rows.push((
        "processor time of a call",
        Unit::Seconds.words(step.cpu_micros() / 1e6),
    ));
    rows.push((
        "processors of its machine that were busy",
        format!("{:.2} of {}", step.machine_cpu, machine.processors),
    ));
    if let Some(delay) = tally.own_delay.at(99.0) {
        rows.push(("its own delay, p99", Unit::Seconds.words(delay)));
    }
    let rows = rows
        .into_iter()
        .map(|(name, figure)| format!("<tr><th>{name}</th><td>{figure}</td></tr>"));
    table("Besides", &["", ""], rows)
}

#[expect(clippy::cast_precision_loss, reason = "only shown, to three digits")]
fn bytes(count: u64) -> f64 {
    count as f64
}

fn table(title: &str, head: &[&str], rows: impl Iterator<Item = String>) -> String {
    let head: String = head.iter().map(|name| format!("<th>{name}</th>")).collect();
    format!(
        "<h3>{}</h3><div class=\"scroll\"><table><thead><tr>{head}</tr></thead><tbody>{}</tbody></table></div>",
        text(title),
        rows.collect::<String>(),
    )
}
