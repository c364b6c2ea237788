//! What was found: how bad it is, what to do, and where to read on; in a table or as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::output;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// It works, and may not be what was meant or not for long.
    Warning,
    /// Something does not work, or will be lost.
    Problem,
}

impl Level {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(super) area: &'static str,
    pub(super) level: Level,
    /// What is so.
    pub(super) what: String,
    /// What to do about it; empty if nothing.
    pub(super) advice: String,
}

/// An area, and the page about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area(pub(super) &'static str);

impl Area {
    pub(super) fn ok(self, what: impl Into<String>) -> Finding {
        self.finding(Level::Ok, what.into(), String::new())
    }

    pub(super) fn warning(self, what: impl Into<String>, advice: impl Into<String>) -> Finding {
        self.finding(Level::Warning, what.into(), advice.into())
    }

    pub(super) fn problem(self, what: impl Into<String>, advice: impl Into<String>) -> Finding {
        self.finding(Level::Problem, what.into(), advice.into())
    }

    const fn finding(self, level: Level, what: String, advice: String) -> Finding {
        Finding {
            area: self.0,
            level,
            what,
            advice,
        }
    }
}

/// The page about an area.
fn page(area: &str) -> &'static str {
    match area {
        "clock" => "docs/identity.md",
        "policy" => "docs/operations.md",
        "prices" => "docs/prices.md",
        "secrets" => "docs/vault.md",
        "admins" => "docs/admin.md",
        "certificates" => "docs/certificates.md",
        "fleet" => "docs/fleet.md",
        "destinations" => "docs/otlp.md",
        "store" => "docs/records.md",
        _ => "docs/operations.md",
    }
}

/// How many there are of each level: fine, warnings, problems.
pub(super) fn counts(findings: &[Finding]) -> [usize; 3] {
    [Level::Ok, Level::Warning, Level::Problem]
        .map(|level| findings.iter().filter(|found| found.level == level).count())
}

/// All of it for people, by area, and a last line that sums it up.
pub(super) fn table(findings: &[Finding]) -> String {
    let mut rows = Vec::new();
    for found in findings {
        let level = match found.level {
            Level::Problem => "PROBLEM",
            level => level.as_str(),
        };
        rows.push(vec![
            found.area.to_owned(),
            level.to_owned(),
            one_line(&found.what),
        ]);
        if !found.advice.is_empty() {
            let advice = format!("-> {} ({})", one_line(&found.advice), page(found.area));
            rows.push(vec![String::new(), String::new(), advice]);
        }
    }
    let mut text = output::table(&rows);
    let [fine, warnings, problems] = counts(findings);
    // Writing to a String cannot fail.
    let _written = writeln!(
        text,
        "\n{fine} ok, {}, {}",
        counted(warnings, "warning"),
        counted(problems, "problem")
    );
    text
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// What others wrote neither ends a line nor moves the cursor.
fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect()
}

/// All of it for programs.
pub(super) fn json(findings: &[Finding]) -> Value {
    let each = |found: &Finding| {
        json!({
            "area": found.area,
            "level": found.level.as_str(),
            "what": found.what,
            "advice": (!found.advice.is_empty()).then_some(&found.advice),
            "docs": page(found.area),
        })
    };
    let [fine, warnings, problems] = counts(findings);
    json!({
        "ok": problems == 0,
        "counts": { "ok": fine, "warning": warnings, "problem": problems },
        "findings": findings.iter().map(each).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_a_line_with_what_to_do_below_it() {
        let area = Area("clock");
        let findings = [
            area.ok("fine"),
            area.problem("two\nlines\u{1b}[31m", "set it"),
        ];
        let expected = "clock  ok       fine\nclock  PROBLEM  two lines [31m\n                -> set it (docs/identity.md)\n\n1 ok, 0 warnings, 1 problem\n";
        assert_eq!(table(&findings), expected);
        let json = json(&findings);
        assert_eq!(json["ok"], false);
        assert_eq!(json["findings"][0]["advice"], Value::Null);
        assert_eq!(json["findings"][1]["docs"], "docs/identity.md");
    }
}
