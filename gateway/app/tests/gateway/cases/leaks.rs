//! Case 72: a secret is in no log at any level, no metric, no record, no answer and no file.

use std::path::Path;

use tollgate_testkit::canary::sightings;
use tollgate_testkit::raw::Raw;

use crate::harness::{Ask, Plan, Site, World, chat, key, message, start_mock};

/// Everything under a directory but the vault, which holds the secrets encrypted, as text.
fn files(directory: &Path, found: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
            found.push('\n');
        }
    }
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

    let chat_at = |words: &str| {
        Ask::new("POST", &format!("/openai/v1/chat/completions?mock={words}")).json(&chat())
    };
    let mut streamed = chat();
    streamed["stream"] = true.into();
    let mut answers = String::new();
    for ask in [
        chat_at("echo-headers").bearer(&acme),
        chat_at("status-500,echo-headers").bearer(&acme),
        chat_at("status-401").bearer(&acme),
        chat_at("hangup").bearer(&acme),
        chat_at("gzip,echo-headers").bearer(&acme),
        chat_at("hangup-after-10").bearer(&acme),
        chat_at("redirect-302,echo-headers").bearer(&acme),
        chat_at("extra-headers").bearer(&acme),
        chat_at("echo-trailer").bearer(&acme),
        chat_at("delay-1").bearer(&globex),
        Ask::new("POST", "/openai/v1/chat/completions?mock=echo-headers")
            .bearer(&acme)
            .json(&streamed),
        Ask::new("POST", "/anthropic/v1/messages?mock=echo-headers")
            .bearer(&acme)
            .json(&message()),
        Ask::new("GET", "/github/user?mock=echo-headers").bearer(&acme),
        Ask::new("POST", "/openai/v1/chat/completions")
            .bearer("bad")
            .json(&chat()),
        Ask::new("POST", "/openai/v1/chat/completions")
            .bearer(&acme)
            .body("{"),
        Ask::new("GET", "/openai/v1/models")
            .token(&acme)
            .header("authorization", "Bearer $CRED{x}"),
        Ask::new("GET", "/nowhere").bearer(&acme),
    ] {
        let mut raw = Raw::connect(world.gateway.address).await;
        raw.send(ask.bytes()).await;
        raw.finish().await;
        answers.push_str(&String::from_utf8_lossy(&raw.rest().await));
    }
    world.gateway.site.records_when("acme", 12).await;

    for tenant in ["acme", "globex"] {
        let list = ["secret", "list", "--tenant", tenant, "--json"];
        answers.push_str(&world.gateway.site.cli_ok(&list, ""));
        answers.push_str(
            &world
                .gateway
                .site
                .cli_ok(&["report", "--tenant", tenant, "--json"], ""),
        );
    }
    answers.push_str(&world.gateway.site.cli_ok(&["tenant", "show", "acme"], ""));
    for path in ["/metrics", "/readyz", "/livez", "/debug/pprof", "/config"] {
        answers.push_str(&world.gateway.admin_get(path).await.1);
    }
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
    let policies = {
        let mut text = String::new();
        files(&world.gateway.site.policies(), &mut text);
        text
    };
    for tenant in ["acme", "globex"] {
        for provider in ["openai", "anthropic", "github"] {
            let secret = key(tenant, provider);
            for (what, text) in [
                ("answers", &answers),
                ("log", &log),
                ("files", &kept),
                ("policies", &policies),
            ] {
                let seen = sightings(text, &secret);
                assert!(
                    seen.is_empty(),
                    "{tenant}'s {provider} key is in the {what}: {seen:?}"
                );
            }
        }
    }
    for (what, text) in [("log", &log), ("files", &kept)] {
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
