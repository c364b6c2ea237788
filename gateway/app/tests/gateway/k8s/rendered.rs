//! The chart as Helm renders it, and what `tollgate k8s tenant` prints, judged by Kubernetes' schemas.
//!
//! Made once for all tests here, by one process of `tests/sdk/k8s_manifests.py`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::sdk::python;

/// Tenants of the tests, and the words that their manifests are made with.
pub(super) const TENANTS: &[(&str, &[&str])] = &[
    ("acme", &[]),
    (
        "globex",
        &["--service-account", "a", "--service-account", "b"],
    ),
    (
        "node-local",
        &[
            "--node-local-dns",
            "169.254.20.10",
            "--node-local-dns",
            "fd00::a",
            "--dns-port",
            "5353",
        ],
    ),
];

/// What must not pass, and shows that the schemas are looked at.
pub(super) const WRONG: &str =
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: wrong}\nspec: {finalisers: []}\n";

static RENDERED: LazyLock<Value> = LazyLock::new(render);

/// Everything that the script answers.
pub(super) fn rendered() -> &'static Value {
    &RENDERED
}

/// The objects of one variant, tenant or document.
pub(super) fn objects(name: &str) -> &'static [Value] {
    let objects = rendered()["objects"][name].as_array();
    objects.unwrap_or_else(|| panic!("nothing is called {name}"))
}

/// The only object of that kind, by its name if there are several.
pub(super) fn object(variant: &str, kind: &str, name: &str) -> &'static Value {
    let mut all = objects(variant).iter();
    let found = all.find(|one| one["kind"] == kind && one["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("{variant} has no {kind} {name}"))
}

/// The gateway's StatefulSet or Deployment.
pub(super) fn workload(variant: &str) -> &'static Value {
    let mut all = objects(variant).iter();
    let found = all
        .find(|one| one["metadata"]["name"] == "tollgate" && one["spec"]["template"].is_object());
    found.unwrap_or_else(|| panic!("{variant} has no gateway"))
}

/// The names of all variants of the chart.
pub(super) fn variants() -> Vec<&'static str> {
    let notes = rendered()["notes"].as_object().unwrap();
    notes.keys().map(String::as_str).collect()
}

pub(super) fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap()
}

/// Runs `tollgate k8s tenant` to its end.
pub(super) fn asked(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command
        .args(["k8s", "tenant"])
        .args(arguments)
        .output()
        .unwrap()
}

/// What `tollgate k8s tenant` prints.
pub(super) fn printed(arguments: &[&str]) -> String {
    let output = asked(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Manifests in a page of the documentation.
fn manifests_in(page: &str) -> String {
    let text = fs::read_to_string(root().join("docs").join(page)).unwrap();
    let blocks = text.split("```yaml\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("```").next());
    let manifests: Vec<&str> = blocks
        .filter(|block| block.starts_with("apiVersion"))
        .collect();
    assert!(!manifests.is_empty(), "{page} has no manifest");
    manifests.join("---\n")
}

fn render() -> Value {
    let (mut yaml, mut lists) = (BTreeMap::new(), BTreeMap::new());
    for (tenant, words) in TENANTS {
        let arguments = [&[*tenant], *words].concat();
        yaml.insert((*tenant).to_owned(), printed(&arguments));
        let list = printed(&[&arguments[..], &["--json"]].concat());
        let list: Value = serde_json::from_str(&list).unwrap();
        lists.insert(format!("{tenant} as JSON"), list);
    }
    yaml.insert("wrong".to_owned(), WRONG.to_owned());
    yaml.insert("docs/sidecar.md".to_owned(), manifests_in("sidecar.md"));
    let asked = json!({
        "chart": root().join("gateway/deploy/helm/tollgate"),
        "refused": super::contradictions(),
        "yaml": yaml,
        "json": lists,
    });
    let mut child = python("k8s_manifests.py", "")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(asked.to_string().as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}
