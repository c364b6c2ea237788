use std::path::Path;

use tempfile::TempDir;
use tollgate_core::policy::parse::upstream;
use tollgate_core::vault::VaultScope;
use tollgate_testkit::authority::{Authority, Flaw};
use tollgate_testkit::kv2::{Kv2Server, Mood};
use tollgate_testkit::recorder::Recorder;
use tollgate_testkit::wait::{eventually, until_true};

use super::*;

const JWT: &str = "canary-service-account-token";
const VALUE: &str = "sk-canary-kv2-1";

fn name(tenant: &str, name: &str) -> SecretName {
    SecretName {
        scope: VaultScope::Tenant(tenant.parse().expect("an id")),
        name: name.parse().expect("a name"),
    }
}

fn jwt_file(dir: &Path) -> PathBuf {
    let file = dir.join("token");
    std::fs::write(&file, format!("{JWT}\n")).expect("a file");
    file
}

fn kubernetes(dir: &Path) -> Kv2Auth {
    Kv2Auth::Kubernetes {
        mount: "kubernetes".to_owned(),
        role: "tollgate-{scope}".to_owned(),
        token_file: jwt_file(dir),
    }
}

fn vault(server: &Kv2Server, auth: Kv2Auth, trusted: Duration) -> Kv2Vault {
    let config = Kv2Config {
        server: upstream(&server.url()).expect("a URL"),
        namespace: None,
        mount: "secret".to_owned(),
        path: "tollgate/{scope}/{name}".to_owned(),
        field: "value".to_owned(),
        auth,
        trusted,
    };
    Kv2Vault::new(config).expect("a vault")
}

async fn usual() -> (TempDir, Kv2Server, Kv2Vault) {
    let dir = TempDir::new().expect("a directory");
    let server = Kv2Server::start(JWT).await;
    server.put("tollgate/a/key", VALUE);
    let vault = vault(&server, kubernetes(dir.path()), Duration::from_secs(1));
    (dir, server, vault)
}

fn text(value: &SecretVersion) -> (&str, u32) {
    let text = std::str::from_utf8(value.secret.expose()).expect("a text");
    (text, value.version)
}

#[tokio::test]
async fn a_secret_comes_with_the_servers_version_of_it() {
    let (_dir, server, vault) = usual().await;
    let value = vault.fetch(&name("a", "key")).await.expect("a value");
    assert_eq!(text(&value), (VALUE, 1));
    server.put("tollgate/a/key", "sk-canary-kv2-2");
    eventually("the new version is in use", async || {
        let value = vault.fetch(&name("a", "key")).await.expect("a value");
        text(&value) == ("sk-canary-kv2-2", 2)
    })
    .await;
    assert_eq!(server.logins(), ["tollgate-a"], "one login serves them all");
}

#[tokio::test]
async fn each_scope_asks_with_a_token_of_its_own_role() {
    let (_dir, server, vault) = usual().await;
    server.put("tollgate/b/key", "sk-canary-kv2-b");
    server.put("tollgate/_platform/key", "sk-canary-kv2-p");
    let shared = SecretName {
        scope: VaultScope::Platform,
        name: "key".parse().expect("a name"),
    };
    for secret in [name("a", "key"), name("b", "key"), shared] {
        vault.fetch(&secret).await.expect("a value");
    }
    for scope in ["a", "b", "_platform"] {
        let roles = server.roles_at(&format!("tollgate/{scope}/"));
        assert_eq!(roles, [Some(format!("tollgate-{scope}"))].into());
    }
}

#[tokio::test]
async fn of_a_hundred_calls_at_once_one_logs_in_and_reads() {
    let (_dir, server, vault) = usual().await;
    let vault = Arc::new(vault);
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let vault = Arc::clone(&vault);
            tokio::spawn(async move { vault.fetch(&name("a", "key")).await.map(|_| ()) })
        })
        .collect();
    for call in calls {
        call.await.expect("no panic").expect("a value");
    }
    assert_eq!(server.logins().len(), 1);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn deleted_and_unknown_secrets_are_missing() {
    let (_dir, server, vault) = usual().await;
    server.delete("tollgate/a/key");
    for secret in [name("a", "key"), name("a", "other")] {
        let missing = vault.fetch(&secret).await;
        assert!(
            matches!(missing, Err(VaultError::Missing(_))),
            "{missing:?}"
        );
    }
}

#[tokio::test]
async fn a_value_that_can_never_be_sent_is_malformed() {
    let (_dir, server, vault) = usual().await;
    for wrong in ["", "sk\r\ncanary", "sk-canary\n", "sk\0canary"] {
        server.put("tollgate/a/odd", wrong);
        let malformed = vault.fetch(&name("a", "odd")).await;
        assert!(
            matches!(malformed, Err(VaultError::Malformed(_))),
            "{malformed:?}"
        );
    }
}

#[tokio::test]
async fn when_the_server_is_gone_a_value_is_used_no_longer_than_it_is_trusted() {
    let dir = TempDir::new().expect("a directory");
    for mood in [Mood::Sealed, Mood::Silent] {
        let server = Kv2Server::start(JWT).await;
        server.put("tollgate/a/key", VALUE);
        let trusted = Duration::from_millis(200);
        let vault = vault(&server, kubernetes(dir.path()), trusted);
        vault.fetch(&name("a", "key")).await.expect("a value");
        server.set_mood(mood);
        let since = Instant::now();
        eventually("nothing comes any more", async || {
            vault.fetch(&name("a", "key")).await.is_err()
        })
        .await;
        // The value's time, and that of the read that was waited for.
        assert!(since.elapsed() < WHOLE, "{mood:?}: {:?}", since.elapsed());
        let refused = vault.fetch(&name("a", "key")).await;
        assert!(
            matches!(refused, Err(VaultError::Unreadable { .. })),
            "{refused:?}"
        );
        server.set_mood(Mood::Well);
        eventually("it comes again", async || {
            vault.fetch(&name("a", "key")).await.is_ok()
        })
        .await;
    }
}

#[tokio::test]
async fn a_denied_token_is_replaced_once_it_is_old_enough_to_have_been_revoked() {
    let (_dir, server, vault) = usual().await;
    vault.fetch(&name("a", "key")).await.expect("a value");
    server.revoke_tokens();
    eventually("another login has been made", async || {
        let _denied_at_first = vault.fetch(&name("a", "key")).await;
        server.logins().len() == 2
    })
    .await;
    vault.fetch(&name("a", "key")).await.expect("a value");
}

#[tokio::test]
async fn a_token_is_replaced_before_its_lease_is_over() {
    let (_dir, server, vault) = usual().await;
    server.set_lease_seconds(1);
    until_true("a second login", || {
        let vault = &vault;
        let fetching = vault.0.join(&name("a", "key"));
        drop(fetching);
        server.logins().len() >= 2
    })
    .await;
    let denied = server.asked().iter().any(|asked| asked.status == 403);
    assert!(!denied, "no read was made with a token that was over");
}

#[tokio::test]
async fn a_role_that_may_not_read_a_path_gets_nothing() {
    let dir = TempDir::new().expect("a directory");
    let server = Kv2Server::start(JWT).await;
    server.put("tollgate/b/key", VALUE);
    let Kv2Auth::Kubernetes {
        mount, token_file, ..
    } = kubernetes(dir.path())
    else {
        panic!("as it was made");
    };
    let auth = Kv2Auth::Kubernetes {
        mount,
        token_file,
        role: "tollgate-a".to_owned(),
    };
    let vault = vault(&server, auth, Duration::from_secs(1));
    let denied = vault.fetch(&name("b", "key")).await;
    assert!(
        matches!(denied, Err(VaultError::Unreadable { .. })),
        "{denied:?}"
    );
    assert!(server.asked().iter().all(|asked| asked.status == 403));
}

#[tokio::test]
async fn approle_and_token_files_are_the_scopes_own() {
    let dir = TempDir::new().expect("a directory");
    let server = Kv2Server::start(JWT).await;
    server.put("tollgate/a/key", VALUE);
    server.put("tollgate/b/key", VALUE);
    let path = |file: &str| dir.path().join(file).to_string_lossy().into_owned();
    std::fs::write(path("a-role"), "tollgate-a\n").expect("a file");
    std::fs::write(path("a-secret"), "tollgate-a-secret\n").expect("a file");
    std::fs::write(path("a-token"), server.give_token("tollgate-a")).expect("a file");
    let approle = Kv2Auth::AppRole {
        mount: "approle".to_owned(),
        role_id_file: path("{scope}-role"),
        secret_id_file: path("{scope}-secret"),
    };
    let token = Kv2Auth::Token {
        file: path("{scope}-token"),
    };
    for auth in [approle, token] {
        let vault = vault(&server, auth, Duration::from_secs(1));
        vault.fetch(&name("a", "key")).await.expect("a value");
        let refused = vault.fetch(&name("b", "key")).await;
        assert!(
            matches!(refused, Err(VaultError::Unreadable { .. })),
            "{refused:?}"
        );
    }
    assert!(server.roles_at("tollgate/b/").is_empty(), "never asked for");
}

const ANSWER: &str = r#"{"data":{"data":{"value":"sk-canary-kv2-1"},"metadata":{"version":3}}}"#;

/// A server that speaks TLS as `localhost`, and a vault that trusts `trusted`.
async fn over_tls(server: &Authority, trusted: &Authority) -> (TempDir, Recorder, Kv2Vault) {
    let dir = TempDir::new().expect("a directory");
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    let tls = server.server("localhost", Flaw::None, &[]);
    let recorder = Recorder::start_tls(answer, tls).await;
    let port = recorder.address().port();
    let mut address = upstream(&format!("https://localhost:{port}")).expect("a URL");
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, trusted.pem()).expect("a file");
    address.ca_file = Some(ca_file);
    std::fs::write(dir.path().join("a"), "canary-token").expect("a file");
    let config = Kv2Config {
        server: address,
        namespace: Some("team".to_owned()),
        mount: "secret".to_owned(),
        path: "tollgate/{scope}/{name}".to_owned(),
        field: "value".to_owned(),
        auth: Kv2Auth::Token {
            file: dir.path().join("{scope}").to_string_lossy().into_owned(),
        },
        trusted: Duration::from_secs(1),
    };
    let vault = Kv2Vault::new(config).expect("a vault");
    (dir, recorder, vault)
}

#[tokio::test]
async fn over_tls_the_server_is_asked_in_its_namespace() {
    let authority = Authority::new();
    let (_dir, recorder, vault) = over_tls(&authority, &authority).await;
    let value = vault.fetch(&name("a", "key")).await.expect("a value");
    assert_eq!(text(&value), (VALUE, 3));
    let sent = String::from_utf8(recorder.bytes()).expect("a text");
    assert!(sent.starts_with("GET /v1/secret/data/tollgate/a/key HTTP/1.1\r\n"));
    for line in ["x-vault-namespace: team", "x-vault-token: canary-token"] {
        assert!(sent.contains(line), "{sent}");
    }
}

#[tokio::test]
async fn no_token_is_sent_to_a_server_that_is_not_trusted() {
    let (_dir, recorder, vault) = over_tls(&Authority::new(), &Authority::new()).await;
    let refused = vault.fetch(&name("a", "key")).await;
    assert!(
        matches!(refused, Err(VaultError::Unreadable { .. })),
        "{refused:?}"
    );
    assert_eq!(recorder.connections(), 1);
    assert!(recorder.bytes().is_empty());
}

#[tokio::test]
async fn a_server_that_answers_nonsense_or_too_much_gives_nothing() {
    let authority = Authority::new();
    let (dir, _recorder, vault) = over_tls(&authority, &authority).await;
    let too_much = "x".repeat(2 * 1024 * 1024);
    for (status, body) in [
        (200, "{}"),
        (200, "[]"),
        (200, "no JSON"),
        (200, r#"{"data":{"data":{"value":"x"}}}"#),
        (200, too_much.as_str()),
        (301, ""),
        (404, r#"{"errors":["no handler for route"]}"#),
        (404, "no JSON"),
        (500, "{}"),
    ] {
        let answer = format!(
            "HTTP/1.1 {status} X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let server = Recorder::start(answer).await;
        let mut config = vault.0.config.clone();
        config.server = upstream(&format!("http://{}", server.address())).expect("a URL");
        let refused = Kv2Vault::new(config).expect("a vault");
        let refused = refused.fetch(&name("a", "key")).await;
        assert!(
            matches!(refused, Err(VaultError::Unreadable { .. })),
            "{status} {refused:?}"
        );
    }
    drop(dir);
}
