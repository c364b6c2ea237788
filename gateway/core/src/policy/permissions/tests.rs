//! Since when permissions hold, and what is told of changes.

use super::*;
use crate::policy::{PolicyFile, parse};

const HOST: &str = "[provider]\nname = \"host\"\nupstream = \"https://host.example\"\ndialect = \"http\"\n[[endpoint]]\nmethods = [\"GET\", \"POST\"]\npath = \"/**\"\noperation = \"tool\"\n";

fn policy(tenants: &[(&str, &str)]) -> Policy {
    policy_at("https://host.example", tenants)
}

fn policy_at(upstream: &str, tenants: &[(&str, &str)]) -> Policy {
    let host = HOST.replace("https://host.example", upstream);
    let mut files = vec![PolicyFile {
        path: "providers/host.toml".to_owned(),
        text: host,
    }];
    files.extend(tenants.iter().map(|(id, more)| PolicyFile {
        path: format!("tenants/{id}.toml"),
        text: format!("[tenant]\nid = \"{id}\"\n{more}"),
    }));
    parse(&files).expect("a policy")
}

fn rule(agents: &str) -> String {
    format!("[[elevated]]\nprovider = \"host\"\nmethods = [\"POST\"]\nagents = [{agents}]\n")
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn told(changes: &[PermissionsChanged]) -> Vec<(&str, Option<usize>, usize)> {
    changes
        .iter()
        .map(|change| {
            let before = change.before.as_ref().map(Vec::len);
            (change.tenant.as_str(), before, change.after.len())
        })
        .collect()
}

#[test]
fn only_the_tenant_whose_permissions_change_is_told_of_and_gets_a_new_time() {
    let (one, two) = (rule("\"a\""), rule("\"a\", \"b-*\""));
    let first = policy(&[("acme", &one), ("globex", &one), ("plain", "")]);
    let (start, changes) = Adopted::after(None, &first, at(10));
    assert_eq!(told(&changes), [("acme", None, 1), ("globex", None, 1)]);

    let second = policy(&[("acme", &two), ("globex", &one), ("plain", "[caps]\n")]);
    let (then, changes) = Adopted::after(Some(&start), &second, at(20));
    assert_eq!(told(&changes), [("acme", Some(1), 2)]);
    assert_eq!((&then.policy, then.adopted_at), (&second.version, at(20)));
    let acme = &then.tenants["acme"];
    assert_eq!((acme.since, &acme.policy), (at(20), &second.version));
    let since: Vec<_> = acme.permissions.iter().map(|held| held.since).collect();
    assert_eq!(since, [at(10), at(20)], "the older permission holds on");
    assert_eq!(then.tenants["globex"], start.tenants["globex"]);
}

#[test]
fn what_changes_nothing_elevated_changes_no_time() {
    let (rules, turned) = (
        rule("\"a\", \"b\"") + &rule("\"c\""),
        rule("\"c\"") + &rule("\"b\", \"a\", \"a\""),
    );
    let first = policy(&[("acme", &rules)]);
    let (start, _) = Adopted::after(None, &first, at(10));
    let second = policy(&[("acme", &(turned + "[caps]\ndaily_usd = \"1\"\n"))]);
    let (then, changes) = Adopted::after(Some(&start), &second, at(20));
    assert_eq!(changes, []);
    assert_eq!(then.tenants, start.tenants);
    assert_ne!(then.policy, start.policy);
}

#[test]
fn a_tenant_that_goes_loses_what_it_had_and_another_system_is_another_permission() {
    let one = rule("\"a\"");
    let first = policy(&[("acme", &one), ("plain", "")]);
    let (start, _) = Adopted::after(None, &first, at(10));
    let (_, changes) = Adopted::after(Some(&start), &policy(&[]), at(20));
    assert_eq!(told(&changes), [("acme", Some(1), 0)]);
    let moved = policy_at("https://other.example:8443", &[("acme", &one)]);
    let (_, changes) = Adopted::after(Some(&start), &moved, at(20));
    assert_eq!(told(&changes), [("acme", Some(1), 1)]);
    assert_eq!(changes[0].after[0].server, "https://other.example:8443");
}

#[test]
fn the_event_says_what_held_before_and_what_holds_now_and_under_which_policy() {
    let first = policy(&[("acme", "")]);
    let (start, _) = Adopted::after(None, &first, at(10));
    let second = policy(&[("acme", &rule("\"a\""))]);
    let (_, changes) = Adopted::after(Some(&start), &second, at(20));
    let id = "0193a1b2c3d47e5f8a9b0c1d2e3f4a5b".parse().expect("an id");
    let event = changes[0].event(id, at(20));
    assert_eq!(event.partition.as_str(), "acme");
    let event = serde_json::to_value(&event).expect("JSON");
    let permission = json!({
        "agent": "a", "provider": "host", "server": "https://host.example",
        "methods": ["POST"], "paths": [],
    });
    assert_eq!(event["tollgate.event"], "permissions_changed");
    assert_eq!(event["tenant.id"], "acme");
    assert_eq!(event["tollgate.policy.version"], second.version.as_str());
    assert_eq!(event["tollgate.permissions.before"], json!([]));
    assert_eq!(event["tollgate.permissions.after"], json!([permission]));
    assert_eq!(event["tollgate.permissions.before_sha256"], digest(&[]));
    assert_ne!(event["tollgate.permissions.after_sha256"], digest(&[]));
}

#[test]
fn the_state_reads_back_as_it_was_written() {
    let (start, _) = Adopted::after(None, &policy(&[("acme", &rule("\"a\""))]), at(10));
    let text = serde_json::to_string(&start).expect("JSON");
    let read: Adopted = serde_json::from_str(&text).expect("reads back");
    assert_eq!(read, start);
}
