//! The commands that work on files alone: `check`, `secret`, `tenant`.

use serde_json::Value;

use crate::harness::{Plan, Site};

const KEY: &str = "sk-canary-cli-5b1d0e";

fn planned() -> std::sync::Arc<Site> {
    let site = Site::new();
    Plan::at("127.0.0.1:1".parse().unwrap()).write(&site);
    site
}

fn json(site: &Site, arguments: &[&str]) -> Value {
    serde_json::from_str(&site.cli_ok(arguments, "")).expect("JSON")
}

#[test]
fn check_names_every_mistake_with_its_line() {
    let site = planned();
    let good = site.cli_ok(&["check"], "");
    assert!(
        good.ends_with("3 providers and 2 tenants are in order\n"),
        "{good}"
    );

    site.write_policy(
        "tenants/acme.toml",
        "[tenant]\nid = \"acme\"\nenabeld = true\n",
    );
    site.write_policy("gateway.toml", "listen = 8080\n");
    let bad = site.cli(&["check"], "");
    assert_eq!(bad.status.code(), Some(1));
    let said = String::from_utf8_lossy(&bad.stdout).into_owned();
    for place in [
        "gateway.toml:1:10: ",
        "tenants/acme.toml:3:1: ",
        "2 mistakes in 2 files",
    ] {
        assert!(said.contains(place), "{place}: {said}");
    }
    let bad = site.cli(&["check", "--json"], "");
    assert_eq!(bad.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&bad.stdout).expect("JSON");
    assert_eq!(
        (&told["ok"], told["mistakes"].as_array().map(Vec::len)),
        (&false.into(), Some(2))
    );
}

#[test]
fn settings_print_as_the_file_that_gives_them() {
    let site = planned();
    let once = site.cli_ok(&["check", "--settings"], "");
    assert!(once.contains("drain_seconds = 30\n"), "{once}");
    site.write_policy("gateway.toml", &once);
    assert_eq!(site.cli_ok(&["check", "--settings"], ""), once);
    assert_eq!(
        json(&site, &["check", "--settings", "--json"])["drain_seconds"],
        30
    );
}

#[test]
fn secrets_go_in_and_never_come_out() {
    let site = planned();
    let on_acme = |verb: &str, input: &str| {
        site.cli(
            &["secret", verb, "--tenant", "acme", "--name", "openai_key"],
            input,
        )
    };
    let set = on_acme("set", &format!("{KEY}\n"));
    assert!(set.status.success() && set.stdout.is_empty());
    let rotated = on_acme("rotate", "sk-canary-cli-2");
    assert!(rotated.status.success());
    let listed = json(&site, &["secret", "list", "--tenant", "acme", "--json"]);
    let listed = listed.as_array().unwrap();
    let key = listed
        .iter()
        .find(|secret| secret["name"] == "openai_key")
        .unwrap();
    let states: Vec<&str> = key["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["state"].as_str().unwrap())
        .collect();
    // The plan has set one as well.
    assert_eq!(states, ["superseded", "superseded", "current"]);
    let revoked = on_acme("revoke", "");
    assert!(revoked.status.success());
    let again = on_acme("revoke", "");
    assert_eq!(
        again.status.code(),
        Some(1),
        "there is nothing left to revoke"
    );
    let shown = site.cli_ok(&["secret", "list", "--tenant", "acme"], "");
    assert!(shown.starts_with("NAME"), "{shown}");
    for output in [set, rotated, revoked, again] {
        let said = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8_lossy(&said).contains("canary"));
    }
    assert!(!shown.contains("canary"));
}

#[test]
fn a_secret_that_can_never_be_sent_is_refused() {
    let site = planned();
    for bad in ["", "\n", "sk-canary\n\n", "sk-\r\ncanary", "sk-\0canary"] {
        let output = site.cli(
            &["secret", "set", "--tenant", "acme", "--name", "other"],
            bad,
        );
        assert_eq!(output.status.code(), Some(1), "{bad:?}");
    }
    for names in [
        ["--tenant", "../acme", "--name", "x"],
        ["--tenant", "acme", "--name", "a/b"],
    ] {
        let output = site.cli(&[&["secret", "set"], &names[..]].concat(), KEY);
        assert_eq!(output.status.code(), Some(2), "{names:?}");
    }
    let on_the_command_line = site.cli(
        &["secret", "set", "--tenant", "acme", "--name", "x", KEY],
        "",
    );
    assert_eq!(
        on_the_command_line.status.code(),
        Some(2),
        "values are never arguments"
    );
    let told = String::from_utf8_lossy(&on_the_command_line.stderr).into_owned();
    assert!(!told.contains(KEY), "nor repeated: {told}");
    assert!(told.contains("unexpected argument"), "{told}");
}

#[test]
fn a_secret_nobody_will_use_is_warned_of() {
    let site = planned();
    for (tenant, name, warning) in [
        (
            "acmee",
            "openai_key",
            "no policy file defines a tenant acmee",
        ),
        ("acme", "openai", "has no credential openai"),
    ] {
        let stored = site.cli(&["secret", "set", "--tenant", tenant, "--name", name], KEY);
        let said = String::from_utf8_lossy(&stored.stderr).into_owned();
        assert!(stored.status.success(), "{said}");
        assert!(said.contains(warning), "{said}");
    }
}

#[test]
fn tenants_are_listed_and_shown() {
    let site = planned();
    let list = site.cli_ok(&["tenant", "list"], "");
    assert_eq!(
        list,
        "TENANT  STATE    DAILY USD  MONTHLY USD  TASK USD  CALLS/MIN\n\
         acme    enabled  100        -            -         -\n\
         globex  enabled  100        -            -         -\n"
    );
    let acme = json(&site, &["tenant", "show", "acme", "--json"]);
    assert_eq!(acme["daily_usd"], "100");
    assert_eq!(acme["credentials"][0]["version"], 1);
    let shown = site.cli_ok(&["tenant", "show", "acme"], "");
    assert!(!shown.contains("canary"), "{shown}");
    assert_eq!(
        site.cli(&["tenant", "show", "nobody"], "").status.code(),
        Some(1)
    );
}

#[test]
fn every_cap_and_limit_of_a_tenant_is_shown() {
    let site = Site::new();
    let mut plan = Plan::at(([127, 0, 0, 1], 9).into());
    let acme = plan.tenant("acme");
    acme.caps = "daily_usd = \"25\"\ntask_usd = \"2\"\nnotify_percent = [90]\n".to_owned();
    acme.limits = "requests_per_minute = 600\ntokens_per_minute = 90000\n\
                   token_burst = 30000\nconcurrent_requests = 8\n"
        .to_owned();
    acme.more = "[clamp]\nmax_output_tokens = 4096\n\
                 [agents.bot]\nmonthly_usd = \"5\"\n\
                 [models.\"gpt-5*\"]\ndaily_usd = \"3\"\nconcurrent_requests = 2\n"
        .to_owned();
    plan.write(&site);
    let shown = site.cli_ok(&["tenant", "show", "acme"], "");
    let caps = "\
CAPS AND LIMITS  DAILY USD  MONTHLY USD  TASK USD  CALLS/MIN  BURST  TOKENS/MIN  BURST  AT ONCE
tenant           25         -            2         600        60     90000       30000  8
agent bot        -          5            -         -          -      -           -      -
model gpt-5*     3          -            -         -          -      -           -      2
";
    assert!(shown.contains(caps), "{shown}");
    for line in [
        "notice at percent of a cap  90\n",
        "output bounds are lowered   to 4096 tokens, or to what still fits under the caps\n",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let json = json(&site, &["tenant", "show", "acme", "--json"]);
    assert_eq!(json["limits"]["tokens_per_minute"], 90_000);
    assert_eq!(json["limits"]["concurrent_requests"], 8);
    assert_eq!(json["clamp"]["max_output_tokens"], 4096);
    assert_eq!(json["agents"][0]["monthly_usd"], "5");
    assert_eq!(json["models"][0]["model"], "gpt-5*");
    assert_eq!(json["models"][0]["limits"]["concurrent_requests"], 2);
}

#[test]
fn every_command_helps_and_none_runs_without_being_asked() {
    let site = Site::new();
    for command in [
        "serve",
        "quickstart",
        "check",
        "token mint",
        "token revoke",
        "token inspect",
        "task complete",
        "secret set",
        "secret list",
        "secret rotate",
        "secret revoke",
        "tenant list",
        "tenant show",
        "report",
    ] {
        let asked: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = site.cli_ok(&asked, "");
        assert!(
            help.contains(&format!("Usage: tollgate {command}")),
            "{command}: {help}"
        );
    }
    let help = site.cli_ok(&["--help"], "");
    assert!(
        help.contains("Exit codes: 0 done, 1 refused or failed, 2 called wrongly."),
        "{help}"
    );
    for wrong in [
        &[] as &[&str],
        &["serv"],
        &["check", "--fast"],
        &["quickstart", "--data", "x"],
    ] {
        let output = site.cli(wrong, "");
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(output.stdout.is_empty(), "{wrong:?}");
    }
    assert!(!site.data().exists(), "asking for help makes nothing");
}

#[test]
fn health_without_a_gateway_says_that_none_runs() {
    let site = planned();
    // What a running gateway has not read yet is no illness of its own.
    site.write_policy("gateway.toml", "listen = 8080\n");
    let asked = site.cli(&["health"], "");
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert_eq!(asked.status.code(), Some(1), "{said}");
    assert!(said.contains("no gateway runs on"), "{said}");
    assert!(asked.stdout.is_empty());
}
