//! The restricted Pod Security Standard, as far as a pod's own specification can break it.
//!
//! Source: <https://kubernetes.io/docs/concepts/security/pod-security-standards/>, restricted profile for
//! Linux, which holds what the baseline asks for.

use serde_json::{Value, json};

const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// What of a pod's specification the standard forbids.
pub(super) fn violations(spec: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let pod = &spec["securityContext"];
    for host in ["hostNetwork", "hostPID", "hostIPC", "hostUsers"] {
        if spec[host] == true {
            found.push(host.to_owned());
        }
    }
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        let kinds = volume
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| *key != "name");
        found.extend(
            kinds
                .filter(|kind| !VOLUMES.contains(&kind.as_str()))
                .map(|kind| format!("volume {kind}")),
        );
    }
    if !pod["sysctls"].is_null() || !pod["seLinuxOptions"].is_null() {
        found.push("sysctls or SELinux options".to_owned());
    }
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let containers = lists
        .iter()
        .filter_map(|list| spec[*list].as_array())
        .flatten();
    for container in containers {
        let name = container["name"].as_str().unwrap();
        let own = &container["securityContext"];
        let either = |field: &str| {
            if own[field].is_null() {
                &pod[field]
            } else {
                &own[field]
            }
        };
        let mut must = |holds: bool, what: &str| {
            if !holds {
                found.push(format!("{name}: {what}"));
            }
        };
        must(either("runAsNonRoot") == true, "runAsNonRoot");
        must(either("runAsUser") != 0, "runAsUser");
        must(
            own["allowPrivilegeEscalation"] == false,
            "allowPrivilegeEscalation",
        );
        must(own["privileged"] != true, "privileged");
        must(own["procMount"].is_null(), "procMount");
        must(
            own["capabilities"]["drop"] == json!(["ALL"]),
            "capabilities are dropped",
        );
        let added = &own["capabilities"]["add"];
        must(
            added.is_null() || *added == json!(["NET_BIND_SERVICE"]),
            "capabilities are added",
        );
        let seccomp = &either("seccompProfile")["type"];
        must(
            seccomp == "RuntimeDefault" || seccomp == "Localhost",
            "seccompProfile",
        );
        let ports = container["ports"].as_array().into_iter().flatten();
        must(
            ports.into_iter().all(|port| port["hostPort"].is_null()),
            "hostPort",
        );
        // Not the standard's: what is here can do with it.
        must(
            own["readOnlyRootFilesystem"] == true,
            "readOnlyRootFilesystem",
        );
    }
    found
}

#[test]
fn each_way_to_break_the_standard_is_found() {
    let good = json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "a",
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
        }],
        "volumes": [{"name": "v", "emptyDir": {}}],
    });
    assert_eq!(violations(&good), Vec::<String>::new());
    for (place, value) in [
        ("/hostNetwork", json!(true)),
        ("/volumes/0/hostPath", json!({"path": "/"})),
        ("/securityContext/runAsNonRoot", json!(false)),
        (
            "/securityContext/seccompProfile",
            json!({"type": "Unconfined"}),
        ),
        ("/containers/0/securityContext/runAsUser", json!(0)),
        ("/containers/0/securityContext/runAsNonRoot", json!(false)),
        ("/containers/0/securityContext/privileged", json!(true)),
        (
            "/containers/0/securityContext/allowPrivilegeEscalation",
            json!(null),
        ),
        (
            "/containers/0/securityContext/capabilities/drop",
            json!(["NET_RAW"]),
        ),
        (
            "/containers/0/securityContext/capabilities/add",
            json!(["SYS_ADMIN"]),
        ),
        ("/containers/0/ports", json!([{"hostPort": 1}])),
    ] {
        let mut bad = good.clone();
        let (parent, key) = place.rsplit_once('/').unwrap();
        bad.pointer_mut(parent).unwrap()[key] = value;
        assert_eq!(violations(&bad).len(), 1, "{place}: {:?}", violations(&bad));
    }
}
