//! `tollgate k8s tenant` as a command: what it refuses, and that it says the same each time.

use std::fs;

use serde_json::Value;

use super::cluster::reached_by_address;
use super::rendered::{asked, objects, printed, rendered, root};

#[test]
fn names_that_kubernetes_would_refuse_are_refused_before_anything_is_printed() {
    let namespace = "must be 1 to 63 of a-z, 0-9 and '-'";
    for (arguments, code, said) in [
        (&["a_b"][..], 1, "give one with --namespace"),
        (&["-"], 2, "must be"),
        (&["Acme"], 2, "must be"),
        (
            &["a_", "--namespace", "a"],
            1,
            "cannot be the value of a Kubernetes label",
        ),
        (&["acme", "--namespace", "Acme"], 2, namespace),
        (&["acme", "--namespace", "tollgate"], 1, "is the gateway's"),
        (
            &["acme", "--namespace", "kube-system"],
            1,
            "is that of the cluster's DNS",
        ),
        (&["acme", "--service-account", "a/b"], 2, namespace),
        (&["acme", "--gateway-port", "0"], 2, "0 is not in 1..=65535"),
        (&["acme", "--dns-label", "kube-dns"], 2, "must be KEY=VALUE"),
        (
            &["acme", "--node-local-dns", "dns"],
            2,
            "invalid IP address",
        ),
        (&["acme", "--memory", "16GB"], 2, "must be an amount"),
        (&["acme", "--policy", "--json"], 2, "cannot be used with"),
    ] {
        let output = asked(arguments);
        let heard = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {heard}");
        assert!(heard.contains(said), "{arguments:?}: {heard}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn the_same_words_give_the_same_bytes_and_everything_lies_in_the_tenants_namespace() {
    let words = ["a_b", "--namespace", "agents-of-a", "--pods", "3", "--json"];
    let once = printed(&words);
    assert_eq!(once, printed(&words));
    let list: Value = serde_json::from_str(&once).unwrap();
    for one in list["items"].as_array().unwrap() {
        assert_eq!(one["metadata"]["labels"]["tollgate/tenant"], "a_b", "{one}");
        let place = if one["kind"] == "Namespace" {
            "name"
        } else {
            "namespace"
        };
        assert_eq!(one["metadata"][place], "agents-of-a", "{one}");
    }
    let labels = &objects("acme")[0]["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
    let named = |kind: &str| {
        objects("globex")
            .iter()
            .filter(|one| one["kind"] == kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(named("ServiceAccount").len(), 2);
    assert_eq!(
        named("RoleBinding")[0]["subjects"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        named("Role")[0]["rules"],
        Value::Array(Vec::new()),
        "an agent may do nothing in the cluster"
    );
}

#[test]
fn a_dns_cache_on_the_node_is_reached_at_its_port_and_nothing_else_there() {
    let reached = |tenant: &str| reached_by_address(tenant, &[53, 5353, 80]);
    assert!(reached("acme").is_empty());
    assert_eq!(reached("node-local"), [("node's DNS cache", 53)].into());
}

/// Each value in the table of `docs/kubernetes.md` is one of the chart, and each group of the chart is there.
#[test]
fn the_table_of_values_is_about_the_charts_values() {
    let page = fs::read_to_string(root().join("docs/kubernetes.md")).unwrap();
    let section = page
        .split("\n## Values\n")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    let defaults = &rendered()["defaults"];
    let mut groups: Vec<&String> = defaults.as_object().unwrap().keys().collect();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let names = row.split('|').nth(1).unwrap();
        for name in names.split('`').skip(1).step_by(2) {
            let pointer = format!("/{}", name.replace('.', "/"));
            assert!(
                defaults.pointer(&pointer).is_some(),
                "the chart has no {name}"
            );
            groups.retain(|group| *group != name.split('.').next().unwrap());
        }
    }
    assert!(groups.is_empty(), "not in the table: {groups:?}");
}
