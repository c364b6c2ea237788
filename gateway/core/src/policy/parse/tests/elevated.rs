//! `[[elevated]]` tables, sound and mistaken.

use super::*;

fn with(table: &str) -> String {
    format!("[tenant]\nid = \"t\"\n[[elevated]]\n{table}")
}

#[test]
fn a_table_says_what_is_elevated_and_who_may() {
    let table = "provider = \"openai\"\nmethods = [\"DELETE\"]\npaths = [\"/v1/files/*\"]\nagents = [\"release-*\", \"root\"]\n";
    let files = [openai(), file("policies/tenants/t.toml", &with(table))];
    let policy = parse(&files).expect("a policy");
    let [rule] = policy.tenants["t"].elevated.as_slice() else {
        panic!("one rule")
    };
    assert_eq!(rule.provider.as_str(), "openai");
    assert_eq!(rule.methods, [http::Method::DELETE]);
    assert_eq!(rule.paths[0].to_string(), "/v1/files/*");
    assert!(rule.agents[0].matches("release-7") && rule.agents[1].matches("root"));
}

#[test]
fn every_mistake_in_a_table_is_named_with_its_line() {
    for (table, expected) in [
        (
            "provider = \"openai\"\n",
            "policies/tenants/t.toml:3:1: `agents` must say who may use what is elevated here, such as [\"release-*\"]; to let nobody, take it out of [[allow]]",
        ),
        (
            "provider = \"openai\"\nagents = []\n",
            "policies/tenants/t.toml:5:10: `agents` must say who may use what is elevated here, such as [\"release-*\"]; to let nobody, take it out of [[allow]]",
        ),
        (
            "provider = \"opena\"\nagents = [\"a*b\"]\n",
            "policies/tenants/t.toml:4:12: there is no provider `opena`; did you mean `openai`?\npolicies/tenants/t.toml:5:11: `agents` is \"a*b\", but a name pattern is a name, or the beginning of one followed by `*`, such as gpt-4o*",
        ),
        (
            "provider = \"openai\"\nagents = [\"a\"]\nmethods = [\"PUT\", \"delete\"]\n",
            "policies/tenants/t.toml:6:12: no endpoint of provider `openai` takes PUT\npolicies/tenants/t.toml:6:19: `methods` must be one of GET, HEAD, POST, PUT, PATCH, DELETE, not \"delete\"; did you mean `DELETE`?",
        ),
        (
            "provider = \"openai\"\nagents = [\"a\"]\nmethods = []\npaths = [\"/v2/files\"]\n",
            "policies/tenants/t.toml:6:11: `methods` is empty; leave it out to mean all, or remove the table to mean none\npolicies/tenants/t.toml:7:10: /v2/files fits no endpoint of provider `openai`",
        ),
        (
            "provider = \"openai\"\nagents = [\"a\"]\nmethods = [\"POST\"]\npaths = [\"/v1/files/*\"]\n",
            "policies/tenants/t.toml:6:11: no endpoint that /v1/files/* fits takes one of these methods",
        ),
        (
            "provider = \"openai\"\nagents = [\"a\"]\ntools = [\"delete_repo\"]\n",
            "policies/tenants/t.toml:6:9: `tools` cannot be told apart: a tool's name stands in the body, which goes through unread; mark its endpoint by `methods` and `paths`",
        ),
        (
            "provider = \"openai\"\nagents = [\"a\"]\npath = \"/v1/files\"\n",
            "policies/tenants/t.toml:6:1: [[elevated]] has no key `path`; did you mean `paths`?",
        ),
    ] {
        assert_eq!(tenant_mistakes(&with(table)), expected, "{table}");
    }
}
