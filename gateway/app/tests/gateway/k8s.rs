//! Kubernetes: the Helm chart, `tollgate k8s tenant`, and what both make of a cluster.
//!
//! The chart is rendered by Helm's own engine, every object is held against the schemas of the three
//! newest versions of Kubernetes, and what the policies in them mean is worked out for a model of a
//! cluster. No cluster is needed; what only a cluster can show is listed in `docs/kubernetes.md`.

mod cluster;
mod command;
mod kubelet;
mod network;
mod pod;
mod pod_security;
mod rendered;

use std::fs;

use serde_json::{Value, json};

use cluster::{Cluster, mutations};
use pod_security::violations;
use rendered::{TENANTS, object, objects, rendered, root, variants, workload};

/// Values that make no sense together, and a word of what is said about them.
const CONTRADICTIONS: &[(&str, &str, &str)] = &[
    (
        "replicas without a fleet",
        r#"{"replicas": 2}"#,
        "needs fleet.enabled",
    ),
    (
        "autoscaling without a fleet",
        r#"{"autoscaling": {"enabled": true}}"#,
        "needs fleet.enabled",
    ),
    (
        "a Deployment alone",
        r#"{"kind": "Deployment"}"#,
        "needs fleet.enabled",
    ),
    (
        "a Deployment that loses its records",
        r#"{"kind": "Deployment", "fleet": {"enabled": true, "nodes": ["r:1"]}}"#,
        "needs gateway.recordStoreUrl",
    ),
    (
        "a fleet without Redis",
        r#"{"fleet": {"enabled": true}}"#,
        "needs fleet.nodes",
    ),
    (
        "Redis in clear by the way",
        r#"{"fleet": {"enabled": true, "nodes": ["r:1"], "tls": false}}"#,
        "plain_redis",
    ),
    (
        "an age vault that cannot be written",
        r#"{"vault": {"backend": "age"}, "fleet": {"enabled": true, "nodes": ["r:1"], "shared": {"existingSecret": "s"}}}"#,
        "use a claim",
    ),
    (
        "a vault server nowhere",
        r#"{"vault": {"backend": "kv2"}}"#,
        "needs vault.settings",
    ),
    (
        "discovery without a token",
        r#"{"serviceAccount": {"issuerDiscovery": true}}"#,
        "needs serviceAccount.mountToken",
    ),
    (
        "an agent without an image",
        r#"{"exampleAgent": {"enabled": true}}"#,
        "exampleAgent.image",
    ),
    (
        "a misspelt value",
        r#"{"fleet": {"enable": true}}"#,
        "'enable' not allowed",
    ),
    ("a kind that is none", r#"{"kind": "DaemonSet"}"#, "/kind"),
    ("the root user", r#"{"userId": 0}"#, "/userId"),
];

fn contradictions() -> Value {
    let all = CONTRADICTIONS.iter().map(|(what, values, _)| {
        let values: Value = serde_json::from_str(values).unwrap();
        ((*what).to_owned(), values)
    });
    Value::Object(all.collect())
}

#[test]
fn every_object_is_valid_in_the_three_newest_versions_and_a_wrong_one_is_not() {
    assert_eq!(variants().len(), 11, "{:?}", variants());
    let said = rendered()["faults"].as_array().unwrap();
    let (of_wrong, others): (Vec<&Value>, Vec<&Value>) = said
        .iter()
        .partition(|fault| fault.as_str().unwrap().starts_with("wrong: "));
    assert!(others.is_empty(), "{others:#?}");
    assert_eq!(of_wrong.len(), 3, "one for each version: {of_wrong:?}");
    assert_eq!(rendered()["versions"].as_array().unwrap().len(), 3);
    for (what, _, word) in CONTRADICTIONS {
        let said = rendered()["refused"][*what].as_str();
        assert!(
            said.is_some_and(|said| said.contains(word)),
            "{what}: {said:?}"
        );
    }
}

#[test]
fn yaml_and_json_say_the_same_and_nothing_is_said_twice() {
    for (tenant, _) in TENANTS {
        let list = objects(&format!("{tenant} as JSON"));
        assert_eq!(objects(tenant), list, "{tenant}");
    }
    for name in variants() {
        let mut names: Vec<String> = objects(name)
            .iter()
            .map(|one| {
                format!(
                    "{} {}/{}",
                    one["kind"], one["metadata"]["namespace"], one["metadata"]["name"]
                )
            })
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{name}: {names:#?}");
    }
}

#[test]
fn from_the_policies_a_tenants_pod_reaches_nothing_but_the_gateway_and_dns() {
    for variant in ["default", "fleet"] {
        let faults = Cluster::of(variant).faults();
        assert!(faults.is_empty(), "{variant}: {faults:#?}");
    }
}

/// That a tenant's traffic is judged in both directions is said twice: by `deny-all`, and by allowances, which
/// are about the way out and say no way in. One of them is enough.
fn is_said_twice(mutation: &str) -> bool {
    let of_an_allowance = mutation.contains("\"allow-") && mutation.contains("/policyTypes");
    let of_the_denial = mutation.contains("deny-all");
    let outwards = mutation.ends_with("/policyTypes") || mutation.ends_with("/policyTypes/1");
    of_an_allowance || (of_the_denial && outwards)
}

#[test]
fn whatever_word_is_taken_out_of_a_policy_the_proof_notices() {
    let cluster = Cluster::of("fleet");
    let mutants = mutations(&cluster);
    assert!(mutants.len() > 50, "{}", mutants.len());
    let unnoticed: Vec<&String> = mutants
        .iter()
        .filter(|(what, mutant)| !is_said_twice(what) && mutant.faults().is_empty())
        .map(|(what, _)| what)
        .collect();
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}

#[test]
fn pods_keep_the_restricted_standard_and_mount_no_token_unasked() {
    let mut seen = 0;
    for name in variants().into_iter().chain(["docs/sidecar.md"]) {
        for one in objects(name) {
            let spec = match one["kind"].as_str() {
                Some("Pod") => &one["spec"],
                _ => &one["spec"]["template"]["spec"],
            };
            if spec["containers"].is_null() {
                continue;
            }
            seen += 1;
            let what = format!("{name}: {}", one["metadata"]["name"]);
            assert_eq!(violations(spec), Vec::<String>::new(), "{what}");
            assert_eq!(spec["automountServiceAccountToken"], false, "{what}");
        }
    }
    assert_eq!(seen, 11 + 3 + 1, "gateways, agents, and the documented pod");
}

#[test]
fn an_orderly_end_has_the_time_it_needs() {
    for name in variants() {
        let settings = object(name, "ConfigMap", "tollgate")["data"]["gateway.toml"]
            .as_str()
            .unwrap();
        let settings: toml::Table = toml::from_str(settings).unwrap();
        let seconds = |key: &str| settings[key].as_integer().unwrap();
        let spec = &workload(name)["spec"]["template"]["spec"];
        let grace = spec["terminationGracePeriodSeconds"].as_i64().unwrap();
        assert_eq!(
            grace,
            seconds("unready_seconds") + seconds("drain_seconds") + 10,
            "{name}"
        );
        let probe = &spec["containers"][0]["readinessProbe"];
        let noticed =
            probe["periodSeconds"].as_i64().unwrap() * probe["failureThreshold"].as_i64().unwrap();
        assert!(
            seconds("unready_seconds") > noticed,
            "{name}: unready for longer than probes take"
        );
    }
}

#[test]
fn shipped_files_are_those_of_the_repository_and_yours_win() {
    let shipped = &object("default", "ConfigMap", "tollgate-providers")["data"];
    let mut files = 0;
    for entry in fs::read_dir(root().join("policies/providers")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(shipped[name], fs::read_to_string(&path).unwrap(), "{name}");
        files += 1;
    }
    assert_eq!(shipped.as_object().unwrap().len(), files);
    let own = &object("everything", "ConfigMap", "tollgate-providers")["data"];
    assert_eq!(
        own.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["tools.toml"]
    );
}

/// The names of the files with that ending in a folder, if there is one.
fn files_in(folder: &str, ending: &str) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(root().join(folder)) else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let named = names.filter_map(|name| {
        let stem = name.strip_suffix(ending)?.to_owned();
        Some((
            stem,
            fs::read_to_string(root().join(folder).join(name)).unwrap(),
        ))
    });
    named.collect()
}

#[test]
fn dashboards_and_rules_are_those_of_the_repository() {
    let dashboards = files_in("dashboards", ".json");
    assert!(!dashboards.is_empty());
    for (stem, file) in dashboards {
        let map = object(
            "monitored",
            "ConfigMap",
            &format!("tollgate-dashboard-{stem}"),
        );
        let shown = map["data"][format!("{stem}.json")].as_str().unwrap();
        let [shown, file] = [shown, &file].map(|text| serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(shown, file, "{stem}");
    }
    for (stem, file) in files_in("dashboards/rules", ".yml") {
        let rule = object("monitored", "PrometheusRule", &format!("tollgate-{stem}"));
        let groups = rule["spec"]["groups"].as_array().unwrap();
        assert!(!groups.is_empty(), "{stem}");
        for group in groups {
            let name = format!("name: {}", group["name"].as_str().unwrap());
            assert!(file.contains(&name), "{stem}: {name}");
        }
    }
}

#[test]
fn prometheus_finds_the_admin_port_by_its_labels() {
    let monitor = &object("monitored", "ServiceMonitor", "tollgate")["spec"];
    let wanted = monitor["selector"]["matchLabels"].as_object().unwrap();
    let services = objects("monitored")
        .iter()
        .filter(|one| one["kind"] == "Service");
    let found: Vec<&Value> = services
        .filter(|one| {
            wanted
                .iter()
                .all(|(key, value)| one["metadata"]["labels"][key] == *value)
        })
        .collect();
    let [service] = &found[..] else {
        panic!("one Service: {found:#?}");
    };
    assert_eq!(
        service["spec"]["ports"][0]["name"],
        monitor["endpoints"][0]["port"]
    );
    let endpoint = &monitor["endpoints"][0];
    assert_eq!(endpoint["path"], "/metrics");
    // The alerts look for this job, and figures of single tenants need a credential.
    assert_eq!(endpoint["relabelings"][0]["targetLabel"], "job");
    assert_eq!(endpoint["relabelings"][0]["replacement"], "tollgate");
    let credential = json!({"name": "tollgate-metrics", "key": "credential"});
    assert_eq!(endpoint["authorization"]["credentials"], credential);
    let labels = &workload("monitored")["spec"]["template"]["metadata"]["labels"];
    for (key, value) in service["spec"]["selector"].as_object().unwrap() {
        assert_eq!(labels[key], *value, "{key}");
    }
    let monitor = object("monitored", "ServiceMonitor", "tollgate");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
}
