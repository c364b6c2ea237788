//! Rules about the repository itself, so that they hold without anyone remembering them.
//!
//! Reads the files of the checkout and nothing else; judges names, sizes and edges, never style.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A file longer than this is two concepts.
const MOST_LINES: usize = 500;

/// What each crate may depend on, of our own.
const EDGES: &[(&str, &[&str])] = &[
    ("tollgate-core", &[]),
    ("tollgate-stores", &["tollgate-core"]),
    ("tollgate-archive", &["tollgate-core"]),
    ("tollgate-proxy", &["tollgate-core"]),
    ("tollgate-admin", &["tollgate-core"]),
    ("tollgate-testkit", &["tollgate-core"]),
    ("tollgate-fuzz", &["tollgate-core"]),
    ("tollgate-baseline", &[]),
    ("tollgate-cost", &["tollgate-core", "tollgate-baseline"]),
    ("tollgate-loadtest", &["tollgate-baseline"]),
    (
        "tollgate",
        &[
            "tollgate-core",
            "tollgate-stores",
            "tollgate-archive",
            "tollgate-proxy",
            "tollgate-admin",
            "tollgate-loadtest",
        ],
    ),
];

/// What the pure core must not be able to reach.
const IMPURE: &[&str] = &[
    "tokio",
    "hyper",
    "pingora-core",
    "rusqlite",
    "redis",
    "tracing",
    "axum",
    "rustls",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("gateway/app lies two levels down")
        .to_owned()
}

fn files_under(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') && name != "node_modules" {
            files_under(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

fn rust_files() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for directory in ["gateway", "loadtest"] {
        files_under(&root().join(directory), "rs", &mut found);
    }
    assert!(
        found.len() > 50,
        "the search itself is broken: {} files",
        found.len()
    );
    found
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path.strip_prefix(root()).unwrap().to_owned(), text)
        })
        .collect()
}

fn manifests() -> BTreeMap<String, toml::Table> {
    let mut found = Vec::new();
    for directory in ["gateway", "loadtest"] {
        files_under(&root().join(directory), "toml", &mut found);
    }
    found
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name == "Cargo.toml"))
        .map(|path| {
            let table: toml::Table = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            let name = table["package"]["name"].as_str().unwrap().to_owned();
            (name, table)
        })
        .collect()
}

fn names(manifest: &toml::Table, section: &str) -> Vec<String> {
    manifest
        .get(section)
        .and_then(toml::Value::as_table)
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default()
}

#[test]
fn every_file_is_short_and_says_what_it_is() {
    let mut faults = Vec::new();
    for (path, text) in rust_files() {
        let lines = text.lines().count();
        if lines > MOST_LINES {
            faults.push(format!("{}: {lines} lines", path.display()));
        }
        // `tests.rs` is the inside of a `mod tests` whose parent says what it is.
        let is_inside = path.file_name().is_some_and(|name| name == "tests.rs");
        if !is_inside && !text.starts_with("//! ") {
            faults.push(format!("{}: does not open with `//! `", path.display()));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn no_file_leaves_work_for_later_or_has_an_empty_name() {
    // Put together from halves, so that this file does not find itself.
    let words: Vec<String> = [
        ("TO", "DO"),
        ("FIX", "ME"),
        ("XX", "X:"),
        ("todo", "!("),
        ("unimplement", "ed!("),
        ("#[igno", "re"),
        ("should_", "panic"),
        ("dbg", "!("),
    ]
    .iter()
    .map(|(a, b)| format!("{a}{b}"))
    .collect();
    let mut faults = Vec::new();
    for (path, text) in rust_files() {
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(word.as_str())) {
                faults.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if [
            "utils", "util", "common", "helpers", "types", "manager", "misc",
        ]
        .contains(&stem.as_str())
        {
            faults.push(format!("{}: a name that says nothing", path.display()));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn crates_depend_on_one_another_in_one_direction_only() {
    let manifests = manifests();
    let known: Vec<&str> = EDGES.iter().map(|(name, _)| *name).collect();
    for (name, manifest) in &manifests {
        let allowed = EDGES
            .iter()
            .find(|(known, _)| known == name)
            .unwrap_or_else(|| panic!("{name} has no place in the graph yet"))
            .1;
        for dependency in names(manifest, "dependencies") {
            assert!(
                !known.contains(&dependency.as_str()) || allowed.contains(&dependency.as_str()),
                "{name} must not depend on {dependency}"
            );
        }
    }
    let core = names(&manifests["tollgate-core"], "dependencies");
    for impure in IMPURE {
        assert!(
            !core.contains(&(*impure).to_owned()),
            "the core is pure: no {impure}"
        );
    }
}

#[test]
fn every_crate_takes_versions_and_lints_from_the_workspace() {
    for (name, manifest) in manifests() {
        assert_eq!(
            manifest["lints"]["workspace"].as_bool(),
            Some(true),
            "{name} has lints of its own"
        );
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(table) = manifest.get(section).and_then(toml::Value::as_table) else {
                continue;
            };
            for (dependency, value) in table {
                assert_eq!(
                    value.get("workspace").and_then(toml::Value::as_bool),
                    Some(true),
                    "{name}: {dependency} has a version of its own"
                );
            }
        }
    }
}

#[test]
fn the_top_level_holds_what_it_should_and_nothing_else() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "Makefile",
        "LICENSE",
        "README.md",
        "docker-compose.yml",
        "gateway",
        "policies",
        "dashboards",
        "loadtest",
        "docs",
    ];
    // What builds and runs leave behind, and git does not keep.
    let ignored = ["target", "data"];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(
            name.starts_with('.')
                || allowed.contains(&name.as_str())
                || ignored.contains(&name.as_str()),
            "{name} does not belong at the top level"
        );
    }
}

#[test]
fn the_example_policies_are_valid() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["check", "--policies"])
        .arg(root().join("policies"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
