//! The files in `dashboards/`, as far as tests read them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The names of the dashboards.
pub(super) const DASHBOARDS: [&str; 4] = ["fleet", "tenants", "tenant", "security"];

/// Where they are.
pub(super) fn dashboards() -> PathBuf {
    repository().join("dashboards")
}

/// Where the repository is.
pub(super) fn repository() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).to_owned()
}

/// A file's text.
pub(super) fn text(path: &str) -> String {
    let path = repository().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A dashboard.
pub(super) fn dashboard(name: &str) -> Value {
    serde_json::from_str(&text(&format!("dashboards/{name}.json"))).expect("JSON")
}

/// What a panel of a dashboard asks for.
#[derive(Debug, Clone)]
pub(super) struct Query {
    /// Dashboard and panel.
    pub(super) at: String,
    /// As it stands there, with Grafana's variables.
    pub(super) expression: String,
}

/// Every query of every panel.
pub(super) fn queries() -> Vec<Query> {
    let mut queries = Vec::new();
    for name in DASHBOARDS {
        let dashboard = dashboard(name);
        for panel in dashboard["panels"].as_array().expect("panels") {
            let title = panel["title"].as_str().expect("a title");
            for target in panel["targets"].as_array().into_iter().flatten() {
                queries.push(Query {
                    at: format!("{name}: {title}"),
                    expression: target["expr"].as_str().expect("an expression").to_owned(),
                });
            }
        }
    }
    queries
}

/// Rules of a file by name, with their expressions; each stands on a line of its own.
pub(super) fn rules(file: &str, kind: &str) -> BTreeMap<String, String> {
    let text = text(&format!("dashboards/rules/{file}"));
    let mut rules = BTreeMap::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix(&format!("- {kind}: ")) {
            let expression = lines.next().and_then(|line| line.strip_prefix("expr: "));
            rules.insert(
                name.to_owned(),
                expression.expect("an expression").to_owned(),
            );
        }
    }
    rules
}

/// The names of our metrics in an expression.
pub(super) fn names(expression: &str) -> BTreeSet<String> {
    let ours = ["tollgate_", "gen_ai_client_", "process_"];
    // What stands in braces is labels and their values.
    let mut outside = String::new();
    let mut depth = 0_u32;
    for c in expression.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            c if depth == 0 => outside.push(c),
            _ => {}
        }
    }
    outside
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .filter(|word| ours.iter().any(|prefix| word.starts_with(prefix)))
        .map(str::to_owned)
        .collect()
}
