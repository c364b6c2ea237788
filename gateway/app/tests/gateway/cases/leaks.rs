//! Case 72: a secret is in no log at any level, no metric, no record, no answer and no file.

use std::path::Path;

use tollgate_testkit::canary::sightings;

use crate::harness::{Ask, Gateway, Plan, Site, World, chat, key, message, start_mock};

/// Everything under a directory but the vault, which holds the secrets encrypted, as text.
fn files(directory: &Path, found: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.is_file() {
            // A socket holds nothing to read.
            found.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
            found.push('\n');
        }
    }
}

/// Calls of every kind: good, refused, failed, cut off, and answered with what was sent.
fn calls(acme: &str, globex: &str) -> Vec<Ask> {
    let chat_at = |words: &str| {
        Ask::new("POST", &format!("/openai/v1/chat/completions?mock={words}")).json(&chat())
    };
    let mut streamed = chat();
    streamed["stream"] = true.into();
    vec![
        chat_at("echo-headers").bearer(acme),
        chat_at("echo-base64").bearer(acme),
        chat_at("status-500,echo-headers").bearer(acme),
        chat_at("status-401").bearer(acme),
        chat_at("hangup").bearer(acme),
        chat_at("gzip,echo-headers").bearer(acme),
        chat_at("hangup-after-10").bearer(acme),
        chat_at("redirect-302").bearer(acme),
        chat_at("extra-headers").bearer(acme),
        chat_at("echo-trailer").bearer(acme),
        chat_at("delay-1").bearer(globex),
        Ask::new("POST", "/openai/v1/chat/completions?mock=echo-headers")
            .bearer(acme)
            .json(&streamed),
        Ask::new("POST", "/anthropic/v1/messages?mock=echo-hex")
            .bearer(acme)
            .json(&message()),
        Ask::new("GET", "/github/user?mock=echo-headers").bearer(acme),
        Ask::new("POST", "/openai/v1/chat/completions")
            .bearer("bad")
            .json(&chat()),
        Ask::new("POST", "/openai/v1/chat/completions")
            .bearer(acme)
            .body("{"),
        Ask::new("GET", "/openai/v1/models")
            .token(acme)
            .header("authorization", "Bearer $CRED{x}"),
        Ask::new("GET", "/nowhere").bearer(acme),
    ]
}

/// What operators can ask for, all of it.
async fn asked_by_operators(gateway: &Gateway) -> String {
    let mut said = String::new();
    for arguments in [
        &["secret", "list", "--tenant", "acme", "--json"][..],
        &["secret", "list", "--tenant", "globex"],
        &[
            "report",
            "--by",
            "tenant,agent,task,model,provider,outcome",
            "--json",
        ],
        &["report", "--format", "csv"],
        &["tenant", "show", "acme"],
        &["tenant", "list", "--json"],
        &["check", "--json"],
    ] {
        said.push_str(&gateway.site.cli_ok(arguments, ""));
    }
    for path in [
        "/metrics",
        "/readyz",
        "/livez",
        "/debug/pprof",
        "/config",
        "/v1/budgets/acme",
    ] {
        said.push_str(&gateway.admin_get(path).await.1);
    }
    for budget in gateway.budgets("acme").await {
        said.push_str(&budget.to_string());
    }
    said
}

#[tokio::test]
async fn case_72_whatever_happens_no_secret_is_in_any_output() {
    let mock = start_mock().await;
    let site = Site::new();
    let mut plan = Plan::at(mock.addr());
    plan.tenant("globex").caps = "daily_usd = \"0\"\n".to_owned();
    plan.write(&site);
    let gateway = site.serve_logging("trace").await;
    let world = World { gateway, mock };
    let acme = world.token("acme").await;
    let globex = world.token("globex").await;

    let mut answers = String::new();
    for ask in calls(&acme, &globex) {
        let answer = world.send(&ask).await;
        answers.push_str(&format!("{answer:?} {}", answer.text()));
    }
    assert!(answers.contains("answer_withheld") && answers.contains("credential_denied"));
    world.gateway.site.records_when("acme", 16).await;
    answers.push_str(&asked_by_operators(&world.gateway).await);

    let log = world.gateway.log();
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "the log is at its most talkative"
    );
    let mut kept = String::new();
    files(&world.gateway.site.data(), &mut kept);
    assert!(
        kept.contains("tollgate.record.id"),
        "records are among the files"
    );
    for (what, text) in [("answers", &answers), ("log", &log), ("files", &kept)] {
        for tenant in ["acme", "globex"] {
            for provider in ["openai", "anthropic", "github"] {
                let seen = sightings(text, &key(tenant, provider));
                assert!(
                    seen.is_empty(),
                    "{tenant}'s {provider} key is in the {what}: {seen:?}"
                );
            }
        }
        assert!(!text.contains(&acme), "the token is in the {what}");
        assert!(
            !text.contains("Say something."),
            "a prompt is in the {what}"
        );
    }
}

#[tokio::test]
async fn what_is_secret_is_readable_to_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new().await;
    let data = world.gateway.site.data();
    let mode = |path: &str| {
        std::fs::metadata(data.join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    for (path, expected) in [
        ("", 0o700),
        ("keys/issuer.pem", 0o600),
        ("keys/admin.token", 0o600),
        ("keys/vault/acme.key", 0o600),
        ("vault", 0o700),
    ] {
        assert_eq!(mode(path), expected, "{path}");
    }
}
