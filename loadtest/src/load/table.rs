//! The results as text for a terminal.

use std::fmt::Write as _;

use super::Told;
use super::results::{PERCENTILES, Step, grouped};
use super::tally::Times;
use crate::plot::Unit;

/// Keys that are told; JSON and page have more.
const KEYS: usize = 10;

impl Told<'_> {
    /// A table for each step, and one of all of them.
    pub(super) fn table(&self) -> String {
        let mut text = format!("load of {}\n", self.origin);
        for (name, value) in self.settings() {
            line(&mut text, format_args!("  {name:<12} {value}"));
        }
        for step in &self.steps {
            step_table(&mut text, step);
        }
        if self.steps.len() > 1 {
            self.all_steps(&mut text);
        }
        if self.args.p99_ms.is_some() || self.steps.len() > 1 {
            self.verdict(&mut text);
        }
        if self.was_interrupted {
            text.push_str("\ninterrupted: the figures are those until then\n");
        }
        text.truncate(text.trim_end().len());
        text
    }

    fn all_steps(&self, text: &mut String) {
        let head = ["offered/s", "right/s", "failed", "p50", "p99", "p99.9"];
        text.push_str("\nall steps\n");
        line(
            text,
            format_args!("{}", row("", head.map(str::to_owned).into_iter())),
        );
        for step in &self.steps {
            let times = [50.0, 99.0, 99.9].map(|at| seconds(step.tally.whole.at(at)));
            let figures = [
                step.rate.map_or("".to_owned(), |rate| rate.to_string()),
                format!("{:.0}", step.throughput()),
                format!("{:.1} %", step.failed_percent()),
            ];
            line(
                text,
                format_args!("{}", row("", figures.into_iter().chain(times))),
            );
        }
    }

    fn verdict(&self, text: &mut String) {
        let rate = |number: usize| {
            let step = self.steps.get(number);
            step.and_then(|step| step.rate)
                .map_or("the load".to_owned(), |rate| {
                    format!("{rate} calls a second")
                })
        };
        match (&self.held.broken, self.held.steps) {
            (None, steps) => line(
                text,
                format_args!("\nheld: {}", rate(steps.saturating_sub(1))),
            ),
            (Some(why), 0) => line(text, format_args!("\nnot held: {}: {why}", rate(0))),
            (Some(why), steps) => line(
                text,
                format_args!(
                    "\nheld: {}; not held: {}: {why}",
                    rate(steps - 1),
                    rate(steps)
                ),
            ),
        }
    }
}

fn step_table(text: &mut String, step: &Step) {
    let tally = &step.tally;
    let offered = match step.rate {
        Some(rate) => format!("{rate} calls a second"),
        None => "as many calls as are answered".to_owned(),
    };
    line(
        text,
        format_args!(
            "\n{offered}: {} calls, {} right, {} failed, {:.1} right answers a second for {:.1} s",
            grouped(tally.calls),
            grouped(step.right()),
            grouped(tally.failed()),
            step.throughput(),
            step.seconds,
        ),
    );
    let head = ["count", "p50", "p90", "p99", "p99.9", "max"].map(str::to_owned);
    line(text, format_args!("{}", row("", head.into_iter())));
    for (name, times) in named(step) {
        let figures = PERCENTILES.map(|(at, _)| seconds(times.at(at)));
        let count = std::iter::once(grouped(times.count()));
        line(text, format_args!("{}", row(name, count.chain(figures))));
    }
    ends(text, step);
    keys(text, step);
    itself(text, step);
}

/// How calls ended, and what their answers stated.
fn ends(text: &mut String, step: &Step) {
    let tally = &step.tally;
    let failures = tally
        .failures
        .iter()
        .map(|(failure, count)| format!("{} {count}", failure.name()));
    let statuses = tally
        .statuses
        .iter()
        .map(|(status, count)| format!("{status} {count}"));
    let codes = tally
        .codes
        .iter()
        .map(|(code, count)| format!("{code} {count}"));
    list(text, "failures", failures);
    list(text, "statuses", statuses);
    list(text, "tollgate", codes);
    if tally.stated > 0 {
        line(
            text,
            format_args!(
                "  tokens       {} in, {} out, stated by {} answers",
                grouped(tally.usage.input),
                grouped(tally.usage.output),
                grouped(tally.stated),
            ),
        );
    }
    if tally.streams > 0 {
        line(
            text,
            format_args!(
                "  streams      {} with {} events",
                grouped(tally.streams),
                grouped(tally.events)
            ),
        );
    }
}

/// What the load generator did.
fn itself(text: &mut String, step: &Step) {
    let tally = &step.tally;
    line(
        text,
        format_args!(
            "  connections  {} opened; {} calls waited for a free one",
            grouped(tally.opened),
            grouped(tally.waited),
        ),
    );
    let own = match tally.own_delay.at(99.0) {
        Some(delay) => format!("; 99 % of calls sent within {}", Unit::Seconds.words(delay)),
        None => String::new(),
    };
    line(
        text,
        format_args!(
            "  generator    took {:.2} of {} processors, {:.1} µs a call; the machine was busy on {:.2}{own}",
            step.cpu,
            step.cpu_most,
            step.cpu_micros(),
            step.machine_cpu,
        ),
    );
    if let Some(why) = step.saturated() {
        line(
            text,
            format_args!("  WARNING      {why}: the figures are its own as much as the target's"),
        );
    }
    if tally.cut > 0 {
        line(
            text,
            format_args!(
                "  cut          {} calls under way when it was interrupted",
                tally.cut
            ),
        );
    }
}

/// The kinds of times that there are.
pub(super) fn named(step: &Step) -> Vec<(&'static str, &Times)> {
    let tally = &step.tally;
    let mixed = tally.plain.count() > 0 && tally.stream.count() > 0;
    let kinds = [
        ("whole answer", &tally.whole, true),
        ("  of plain calls", &tally.plain, mixed),
        ("  of streams", &tally.stream, mixed),
        ("first byte", &tally.first_byte, true),
        ("between events", &tally.gaps, true),
        ("refusal", &tally.refusals, true),
    ];
    let told = kinds
        .into_iter()
        .filter(|(_, times, told)| *told && times.count() > 0);
    told.map(|(name, times, _)| (name, times)).collect()
}

fn keys(text: &mut String, step: &Step) {
    let keys = &step.tally.keys;
    if keys.len() < 2 {
        return;
    }
    let told = keys.iter().take(KEYS).map(|(key, of)| {
        format!(
            "{}: {} calls, {} failed, p99 {}",
            key + 1,
            of.calls,
            of.failed,
            seconds(of.whole.at(99.0))
        )
    });
    for (number, words) in told.enumerate() {
        let name = if number == 0 { "keys" } else { "" };
        line(text, format_args!("  {name:<12} {words}"));
    }
    if keys.len() > KEYS {
        line(
            text,
            format_args!("  {:<12} and {} more", "", keys.len() - KEYS),
        );
    }
}

fn list(text: &mut String, name: &str, words: impl Iterator<Item = String>) {
    let words: Vec<String> = words.collect();
    if !words.is_empty() {
        line(text, format_args!("  {name:<12} {}", words.join(", ")));
    }
}

fn row(name: &str, figures: impl Iterator<Item = String>) -> String {
    let figures = figures.map(|figure| format!("{figure:>10}"));
    format!("  {name:<16}{}", figures.collect::<String>())
}

/// Seconds as they read; a dash if there are none.
pub(super) fn seconds(seconds: Option<f64>) -> String {
    seconds.map_or("–".to_owned(), |seconds| Unit::Seconds.words(seconds))
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{words}");
}
