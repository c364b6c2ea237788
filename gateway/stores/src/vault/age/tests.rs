use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::super::MAX_STORED_BYTES;
use super::*;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// A vault that looks at the index on every fetch, so that tests need not wait.
fn vault() -> (TempDir, AgeVault) {
    let dir = TempDir::new().expect("a temporary directory");
    let vault = AgeVault::open_with(dir.path(), Duration::ZERO).expect("a vault");
    (dir, vault)
}

fn scope(id: &str) -> VaultScope {
    VaultScope::Tenant(id.parse().expect("a tenant id"))
}

fn name(of: &str, name: &str) -> SecretName {
    SecretName {
        scope: scope(of),
        name: name.parse().expect("a handle name"),
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

async fn fetched(vault: &AgeVault, of: &str, called: &str) -> Option<(String, u32)> {
    match vault.fetch(&name(of, called)).await {
        Ok(value) => Some((
            String::from_utf8(value.secret.expose().to_vec()).expect("a text"),
            value.version,
        )),
        Err(VaultError::Missing(_)) => None,
        Err(other) => panic!("{other:?}"),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[tokio::test]
async fn a_secret_comes_back_as_it_was_set_and_only_to_its_tenant() {
    let (_dir, vault) = vault();
    for of in ["a", "b"] {
        let value = secret(&format!("sk-canary-{of}"));
        let stored = vault.set(&name(of, "openai"), &value, NOW);
        assert_eq!(stored.expect("stored").version, 1);
    }
    for of in ["a", "b"] {
        let expected = Some((format!("sk-canary-{of}"), 1));
        assert_eq!(fetched(&vault, of, "openai").await, expected);
        assert_eq!(fetched(&vault, of, "openai").await, expected, "from memory");
    }
    assert_eq!(fetched(&vault, "c", "openai").await, None);
    assert_eq!(fetched(&vault, "a", "github").await, None);
}

#[tokio::test]
async fn no_tenants_key_opens_anothers_file() {
    let (dir, vault) = vault();
    for of in ["a", "b"] {
        vault
            .set(&name(of, "openai"), &secret("sk-canary-1"), NOW)
            .expect("stored");
    }
    let file = |of: &str| dir.path().join("vault").join(of).join("openai/1.age");
    let key = |of: &str| {
        let path = dir.path().join(format!("keys/vault/{of}.key"));
        let text = fs::read_to_string(path).expect("a key");
        text.trim()
            .parse::<age::x25519::Identity>()
            .expect("an age identity")
    };
    let open = |key: &age::x25519::Identity, of: &str| {
        age::decrypt(key, &fs::read(file(of)).expect("a file")).ok()
    };
    assert_eq!(open(&key("a"), "a").as_deref(), Some(&b"sk-canary-1"[..]));
    assert_eq!(open(&key("a"), "b"), None);
    assert_eq!(open(&key("b"), "a"), None);

    fs::copy(file("b"), file("a")).expect("b's file in a's place");
    let result = vault.fetch(&name("a", "openai")).await;
    assert!(matches!(result, Err(VaultError::Unreadable { .. })));
}

#[tokio::test]
async fn every_file_is_private() {
    let (dir, vault) = vault();
    vault
        .set(&name("a", "openai"), &secret("sk-canary-1"), NOW)
        .expect("stored");
    let data = dir.path();
    for path in ["vault", "vault/a", "vault/a/openai", "keys", "keys/vault"] {
        assert_eq!(mode(&data.join(path)), 0o700, "{path}");
    }
    for path in [
        "keys/vault/a.key",
        "keys/vault/a.pub",
        "vault/a/openai/index.json",
        "vault/a/openai/1.age",
    ] {
        assert_eq!(mode(&data.join(path)), 0o600, "{path}");
    }
}

#[tokio::test]
async fn no_file_but_the_ciphertext_depends_on_the_value() {
    let (dir, vault) = vault();
    vault
        .set(&name("a", "openai"), &secret("sk-canary-plain"), NOW)
        .expect("stored");
    let mut dirs = vec![dir.path().to_owned()];
    let mut files = 0;
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            files += 1;
            let bytes = fs::read(&path).expect("a file");
            let leaks = bytes.windows(9).any(|window| window == b"sk-canary");
            assert!(!leaks, "{} holds the secret in clear", path.display());
        }
    }
    assert!(files >= 4, "the test looked at the wrong place");
}

#[tokio::test]
async fn after_a_rotation_the_new_value_comes() {
    let (_dir, vault) = vault();
    let openai = name("a", "openai");
    let missing = vault.rotate(&openai, &secret("sk-canary-0"), NOW);
    assert!(matches!(missing, Err(VaultWriteError::Missing(_))));

    vault
        .set(&openai, &secret("sk-canary-old"), NOW)
        .expect("stored");
    assert_eq!(
        fetched(&vault, "a", "openai").await,
        Some(("sk-canary-old".into(), 1))
    );
    vault
        .rotate(&openai, &secret("sk-canary-new"), NOW)
        .expect("rotated");
    assert_eq!(
        fetched(&vault, "a", "openai").await,
        Some(("sk-canary-new".into(), 2))
    );
}

#[tokio::test]
async fn a_revoked_value_is_gone_and_its_number_is_not_used_again() {
    let (dir, vault) = vault();
    let openai = name("a", "openai");
    vault
        .set(&openai, &secret("sk-canary-1"), NOW)
        .expect("stored");
    vault
        .rotate(&openai, &secret("sk-canary-2"), NOW)
        .expect("rotated");

    assert_eq!(vault.revoke(&openai, Some(1), NOW).expect("revoked"), [1]);
    assert_eq!(
        fetched(&vault, "a", "openai").await,
        Some(("sk-canary-2".into(), 2))
    );
    assert_eq!(vault.revoke(&openai, None, NOW).expect("revoked"), [2]);
    assert_eq!(fetched(&vault, "a", "openai").await, None);
    for file in ["1.age", "2.age"] {
        let path = dir.path().join("vault/a/openai").join(file);
        assert!(
            !path.exists(),
            "the ciphertext {file} outlived its revocation"
        );
    }
    let again = vault.revoke(&openai, None, NOW);
    assert!(matches!(again, Err(VaultWriteError::Missing(_))));

    let stored = vault
        .set(&openai, &secret("sk-canary-3"), NOW)
        .expect("stored");
    assert_eq!(stored.version, 3);
    assert_eq!(
        fetched(&vault, "a", "openai").await,
        Some(("sk-canary-3".into(), 3))
    );
}

/// What another process writes is seen through the files alone.
#[tokio::test]
async fn a_value_is_replaced_only_in_the_version_it_was_made_from() {
    let (_dir, vault) = vault();
    let refresh = name("a", "refresh");
    let replace =
        async |version, value: &str| vault.replace(&refresh, version, &secret(value), NOW).await;
    let superseded = |outcome| matches!(outcome, Err(ReplaceError::Superseded));
    assert!(superseded(replace(1, "none there").await));
    vault.set(&refresh, &secret("r1"), NOW).expect("stored");
    assert_eq!(replace(1, "r2").await.expect("replaced"), 2);
    assert!(superseded(replace(1, "too late").await));
    assert_eq!(
        fetched(&vault, "a", "refresh").await,
        Some(("r2".to_owned(), 2))
    );
    vault.revoke(&refresh, None, NOW).expect("revoked");
    assert!(superseded(replace(2, "after the end").await));
    assert_eq!(fetched(&vault, "a", "refresh").await, None);
}

#[tokio::test]
async fn a_second_process_sees_rotation_and_revocation() {
    let (dir, gateway) = vault();
    let cli = AgeVault::open(dir.path()).expect("the same vault again");
    let openai = name("a", "openai");
    for round in 1..=20_u32 {
        let value = format!("sk-canary-{round:04}");
        cli.set(&openai, &secret(&value), NOW).expect("stored");
        assert_eq!(fetched(&gateway, "a", "openai").await, Some((value, round)));
    }
    cli.revoke(&openai, None, NOW).expect("revoked");
    assert_eq!(fetched(&gateway, "a", "openai").await, None);
}

#[tokio::test]
async fn within_the_recheck_interval_the_cached_value_serves() {
    let dir = TempDir::new().expect("a temporary directory");
    let vault = AgeVault::open_with(dir.path(), Duration::from_secs(3600)).expect("a vault");
    let openai = name("a", "openai");
    vault
        .set(&openai, &secret("sk-canary-1"), NOW)
        .expect("stored");
    assert_eq!(
        fetched(&vault, "a", "openai").await,
        Some(("sk-canary-1".into(), 1))
    );
    vault.revoke(&openai, None, NOW).expect("revoked");
    assert_eq!(
        fetched(&vault, "a", "openai").await,
        Some(("sk-canary-1".into(), 1))
    );
    assert!(
        RECHECK < Duration::from_secs(1),
        "a revocation takes effect within a second"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_racing_a_rotation_see_whole_values_in_order() {
    let (dir, vault) = vault();
    let openai = name("a", "openai");
    let value = |version: u32| format!("{version:04}-").repeat(200);
    vault.set(&openai, &secret(&value(1)), NOW).expect("stored");

    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let (vault, done) = (vault.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let (text, version) = fetched(&vault, "a", "openai").await.expect("a value");
                    assert_eq!(text, format!("{version:04}-").repeat(200), "a mix");
                    assert!(version >= last, "an older value after a newer one");
                    last = version;
                }
            })
        })
        .collect();
    let cli = AgeVault::open(dir.path()).expect("the same vault again");
    let writer = tokio::task::spawn_blocking(move || {
        for version in 2..=40 {
            let stored = cli.rotate(&openai, &secret(&value(version)), NOW);
            assert_eq!(stored.expect("rotated").version, version);
            cli.revoke(&openai, Some(version - 1), NOW)
                .expect("revoked");
        }
    });
    let written = writer.await;
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.expect("no reader saw a mix");
    }
    written.expect("every rotation worked");
}

#[tokio::test]
async fn writers_take_turns_and_no_version_is_lost() {
    let (dir, vault) = vault();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let vault = AgeVault::open(dir.path()).expect("the same vault again");
            tokio::task::spawn_blocking(move || {
                for round in 0..5 {
                    let value = secret(&format!("sk-canary-{writer}-{round}"));
                    vault
                        .set(&name("a", "openai"), &value, NOW)
                        .expect("stored");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer");
    }
    let listed = vault.list(&scope("a")).expect("a list");
    let versions: Vec<u32> = listed[0].versions.iter().map(|info| info.version).collect();
    assert_eq!(versions, (1..=20).collect::<Vec<_>>());
    let current = listed[0]
        .versions
        .iter()
        .filter(|info| info.state == VersionState::Current);
    assert_eq!(current.count(), 1);
}

#[tokio::test]
async fn a_damaged_vault_is_unreadable_and_never_a_value() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 6] = [
        ("a flipped bit", |data| {
            let path = data.join("vault/a/openai/1.age");
            let mut bytes = fs::read(&path).expect("a file");
            *bytes.last_mut().expect("not empty") ^= 1;
            fs::write(&path, bytes).expect("written");
        }),
        ("a truncated file", |data| {
            let path = data.join("vault/a/openai/1.age");
            let bytes = fs::read(&path).expect("a file");
            fs::write(&path, &bytes[..bytes.len() - 5]).expect("written");
        }),
        ("a lost file", |data| {
            fs::remove_file(data.join("vault/a/openai/1.age")).expect("removed");
        }),
        ("a lost key", |data| {
            fs::remove_file(data.join("keys/vault/a.key")).expect("removed");
        }),
        ("a key that is none", |data| {
            fs::write(data.join("keys/vault/a.key"), "AGE-SECRET-KEY-1CANARY").expect("written");
        }),
        ("an index that is none", |data| {
            fs::write(data.join("vault/a/openai/index.json"), "{}").expect("written");
        }),
    ];
    for (what, damage) in damages {
        let (dir, writer) = vault();
        writer
            .set(&name("a", "openai"), &secret("sk-canary-1"), NOW)
            .expect("stored");
        damage(dir.path());
        let gateway = AgeVault::open(dir.path()).expect("a vault");
        let error = gateway.fetch(&name("a", "openai")).await.expect_err(what);
        assert!(
            matches!(error, VaultError::Unreadable { .. }),
            "{what}: {error:?}"
        );
        assert!(
            !format!("{error:?}").to_lowercase().contains("canary"),
            "{what}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_value_that_could_split_a_header_is_neither_stored_nor_fetched() {
    let (dir, vault) = vault();
    let openai = name("a", "openai");
    vault
        .set(&openai, &secret("sk-canary-1"), NOW)
        .expect("stored");
    let long = "x".repeat(MAX_STORED_BYTES + 1);
    for bad in ["", "sk\r", "sk\n", "a\nb", "a\0b", &long] {
        let result = vault.set(&openai, &secret(bad), NOW);
        assert!(
            matches!(result, Err(VaultWriteError::Unstorable(_))),
            "{:?}",
            bad.get(..4)
        );
    }
    let sealed = keys::encrypt(
        &dir.path().join("keys/vault"),
        &openai.scope,
        &secret("a\r\nb"),
    );
    let path = dir.path().join("vault/a/openai/1.age");
    fs::write(path, sealed.expect("encrypted")).expect("written");
    let gateway = AgeVault::open(dir.path()).expect("a vault");
    let result = gateway.fetch(&openai).await;
    assert!(matches!(result, Err(VaultError::Malformed(_))));
}

#[test]
fn odd_values_are_stored_with_a_warning() {
    let (_dir, vault) = vault();
    let long = "x".repeat(9000);
    let cases = [
        ("sk-canary-1", vec![]),
        ("1234567", vec![Warning::Short]),
        ("sk-canary-1 ", vec![Warning::Unsendable]),
        ("sk-canary-\u{e9}", vec![Warning::Unsendable]),
        (&long, vec![Warning::Unsendable]),
    ];
    for (value, expected) in cases {
        let stored = vault.set(&name("a", "k"), &secret(value), NOW);
        assert_eq!(
            stored.expect("stored").warnings,
            expected,
            "{:?}",
            value.get(..7)
        );
    }
}

#[test]
fn writing_needs_the_public_half_only() {
    let (dir, vault) = vault();
    let openai = name("a", "openai");
    vault
        .set(&openai, &secret("sk-canary-1"), NOW)
        .expect("stored");
    let key = dir.path().join("keys/vault/a.key");
    let kept = fs::read(&key).expect("a key");
    fs::remove_file(&key).expect("removed");
    vault
        .rotate(&openai, &secret("sk-canary-2"), NOW)
        .expect("rotated without the key");
    assert!(
        !key.exists(),
        "a second key would orphan the first one's files"
    );
    fs::write(&key, kept).expect("written");
    fs::remove_file(dir.path().join("keys/vault/a.pub")).expect("removed");
    vault
        .rotate(&openai, &secret("sk-canary-3"), NOW)
        .expect("made from the key again");
}

#[test]
fn a_list_shows_states_and_nothing_of_other_tenants() {
    let (_dir, vault) = vault();
    let later = NOW.plus(Duration::from_secs(60));
    for of in ["a", "b"] {
        vault
            .set(&name(of, "z"), &secret("sk-canary-1"), NOW)
            .expect("stored");
    }
    vault
        .set(&name("a", "openai"), &secret("sk-canary-1"), NOW)
        .expect("stored");
    vault
        .rotate(&name("a", "openai"), &secret("sk-canary-2"), later)
        .expect("rotated");
    vault
        .revoke(&name("a", "openai"), Some(1), later)
        .expect("revoked");

    let listed = vault.list(&scope("a")).expect("a list");
    let names: Vec<&str> = listed.iter().map(|secret| secret.name.as_str()).collect();
    assert_eq!(names, ["openai", "z"]);
    let info = |version, state, created_at, revoked_at| VersionInfo {
        version,
        state,
        created_at,
        revoked_at,
    };
    assert_eq!(
        listed[0].versions,
        [
            info(1, VersionState::Revoked, NOW, Some(later)),
            info(2, VersionState::Current, later, None),
        ]
    );
    assert_eq!(vault.list(&scope("nobody")).expect("a list"), []);
}
