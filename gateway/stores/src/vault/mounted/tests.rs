use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

const OLD: &str = "sk-canary-mounted-1";
const NEW: &str = "sk-canary-mounted-2";

/// A mount as the kubelet makes it: names lead through `..data` to a directory of their state.
struct Mount {
    directory: TempDir,
    states: u32,
}

impl Mount {
    fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let mut mount = Self {
            directory,
            states: 0,
        };
        mount.swap("a", &[("key", OLD), ("key.version", "1")]);
        for name in ["key", "key.version"] {
            let link = mount.scope("a").join(name);
            symlink(format!("..data/{name}"), link).expect("a link");
        }
        mount
    }

    fn scope(&self, scope: &str) -> PathBuf {
        self.directory.path().join(scope)
    }

    fn swap(&mut self, scope: &str, files: &[(&str, &str)]) {
        self.states += 1;
        let state = format!("..state_{}", self.states);
        let scope = self.scope(scope);
        fs::create_dir_all(scope.join(&state)).expect("a directory");
        for (name, text) in files {
            fs::write(scope.join(&state).join(name), text).expect("a file");
        }
        symlink(&state, scope.join("..data_tmp")).expect("a link");
        fs::rename(scope.join("..data_tmp"), scope.join("..data")).expect("a swap");
    }

    fn vault(&self) -> MountedVault {
        let directory = self.directory.path().to_owned();
        let recheck = std::time::Duration::ZERO;
        MountedVault(Arc::new(Checked::new(Mounts { directory }, recheck)))
    }
}

fn name(tenant: &str) -> SecretName {
    SecretName::of_tenant(
        tenant.parse().expect("an id"),
        "key".parse().expect("a name"),
    )
}

async fn fetched(vault: &MountedVault, tenant: &str) -> Result<(String, u32), VaultError> {
    let value = vault.fetch(&name(tenant)).await?;
    let text = String::from_utf8(value.secret.expose().to_vec()).expect("a text");
    Ok((text, value.version))
}

#[tokio::test]
async fn a_swapped_mount_gives_the_new_value_with_its_version() {
    let mut mount = Mount::new();
    let vault = mount.vault();
    for _from_disk_and_memory in 0..2 {
        assert_eq!(
            fetched(&vault, "a").await.expect("a value"),
            (OLD.to_owned(), 1)
        );
    }
    mount.swap("a", &[("key", &format!("{NEW}\n")), ("key.version", "2\n")]);
    assert_eq!(
        fetched(&vault, "a").await.expect("a value"),
        (NEW.to_owned(), 2)
    );
    mount.swap("a", &[]);
    let gone = fetched(&vault, "a").await;
    assert!(matches!(gone, Err(VaultError::Missing(_))), "{gone:?}");
}

#[tokio::test]
async fn without_a_stated_version_it_is_the_time_of_the_file() {
    let mut mount = Mount::new();
    mount.swap("a", &[("key", OLD)]);
    let file = mount.scope("a").join("key");
    let seconds = fs::metadata(&file).expect("a file").mtime();
    let (_, version) = fetched(&mount.vault(), "a").await.expect("a value");
    assert_eq!(i64::from(version), seconds);
}

#[tokio::test]
async fn one_line_break_at_the_end_is_no_part_of_the_secret_and_any_other_spoils_it() {
    let mut mount = Mount::new();
    let vault = mount.vault();
    for end in ["", "\n", "\r\n"] {
        mount.swap("a", &[("key", &format!("{OLD}{end}"))]);
        assert_eq!(fetched(&vault, "a").await.expect("a value").0, OLD);
    }
    for wrong in [
        "",
        "\n",
        "sk\ncanary",
        "sk-canary\n\n",
        "sk-canary\r",
        "sk\0canary",
    ] {
        mount.swap("a", &[("key", wrong)]);
        let refused = fetched(&vault, "a").await;
        assert!(
            matches!(refused, Err(VaultError::Malformed(_))),
            "{wrong:?}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn no_path_leads_out_of_its_scopes_directory() {
    let mount = Mount::new();
    let outside = mount.directory.path().join("outside");
    fs::write(&outside, NEW).expect("a file");
    fs::create_dir(mount.scope("b")).expect("a directory");
    symlink("../a/key", mount.scope("b").join("key")).expect("a link");
    fs::create_dir(mount.scope("c")).expect("a directory");
    symlink(&outside, mount.scope("c").join("key")).expect("a link");
    symlink("a", mount.scope("d")).expect("a link");
    let vault = mount.vault();
    for tenant in ["b", "c", "d"] {
        let refused = fetched(&vault, tenant).await;
        assert!(
            matches!(refused, Err(VaultError::Unreadable { .. })),
            "{tenant}: {refused:?}"
        );
    }
    assert_eq!(fetched(&vault, "a").await.expect("a value").0, OLD);
}

#[tokio::test]
async fn while_a_mount_is_swapped_all_the_time_each_value_comes_with_its_own_version() {
    let mut mount = Mount::new();
    let vault = Arc::new(mount.vault());
    let fetching = tokio::spawn({
        let vault = Arc::clone(&vault);
        async move {
            for _ in 0..300 {
                let (value, version) = fetched(&vault, "a").await.expect("a value");
                assert!(value.ends_with(&version.to_string()), "{value} {version}");
            }
        }
    });
    while !fetching.is_finished() {
        for (value, version) in [(NEW, "2"), (OLD, "1")] {
            mount.swap("a", &[("key", value), ("key.version", version)]);
            tokio::task::yield_now().await;
        }
    }
    fetching.await.expect("no mix");
}
