//! Directories that change under a watch.

use std::fs;

use tempfile::TempDir;

use super::*;

const PROVIDER: &str = "[provider]\nname = \"p\"\nupstream = \"https://p.test\"\ndialect = \"http\"\n[[endpoint]]\nmethod = \"GET\"\npath = \"/x\"\noperation = \"free\"\n";

fn tenant(id: &str) -> String {
    format!("[tenant]\nid = \"{id}\"\n")
}

fn policies() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for part in ["providers", "tenants"] {
        fs::create_dir(dir.path().join(part)).unwrap();
    }
    write(&dir, "providers/p.toml", PROVIDER);
    write(&dir, "tenants/a.toml", &tenant("a"));
    dir
}

fn write(dir: &TempDir, name: &str, text: &str) {
    fs::write(dir.path().join(name), text).unwrap();
}

/// Two looks: the first sees the change, the second that it has settled.
fn settle(watched: &mut Watched) -> Option<Reloaded> {
    assert!(watched.look().is_none(), "one look is not enough");
    watched.look()
}

fn adopted(reloaded: Option<Reloaded>) -> Arc<Policy> {
    match reloaded {
        Some(Reloaded::Adopted(policy)) => policy,
        other => panic!("not adopted: {other:?}"),
    }
}

fn kept(reloaded: Option<Reloaded>) -> Vec<Mistake> {
    match reloaded {
        Some(Reloaded::Kept(mistakes)) => mistakes,
        other => panic!("not kept: {other:?}"),
    }
}

#[test]
fn a_changed_file_is_adopted_once_it_has_settled() {
    let dir = policies();
    let (policy, mut watched) = Watched::open(dir.path()).unwrap();
    assert_eq!(policy.tenants.len(), 1);
    assert!(settle(&mut watched).is_none());
    write(&dir, "tenants/b.toml", &tenant("b"));
    assert_eq!(adopted(settle(&mut watched)).tenants.len(), 2);
    assert!(settle(&mut watched).is_none());
    fs::remove_file(dir.path().join("tenants/a.toml")).unwrap();
    assert_eq!(adopted(settle(&mut watched)).tenants.len(), 1);
}

#[test]
fn a_file_still_being_written_is_waited_for() {
    let dir = policies();
    let (_, mut watched) = Watched::open(dir.path()).unwrap();
    write(&dir, "tenants/a.toml", "[tenant]\nid = \"a\"\n[caps]\n");
    assert!(watched.look().is_none());
    write(
        &dir,
        "tenants/a.toml",
        "[tenant]\nid = \"a\"\n[caps]\ndaily_usd = \"1\"\n",
    );
    let policy = adopted(settle(&mut watched));
    assert!(policy.tenants["a"].caps.daily.is_some());
}

#[test]
fn mistakes_keep_the_last_good_policy_until_they_are_mended() {
    let dir = policies();
    let (first, mut watched) = Watched::open(dir.path()).unwrap();
    write(&dir, "tenants/b.toml", "[tenant]\nid = \"B\"\nx = 1\n");
    let mistakes = kept(settle(&mut watched));
    assert_eq!(mistakes.len(), 2);
    assert!(mistakes[0].file.ends_with("tenants/b.toml"));
    assert!(settle(&mut watched).is_none(), "told once");
    fs::remove_file(dir.path().join("tenants/b.toml")).unwrap();
    let mended = adopted(settle(&mut watched));
    assert_eq!(mended.version, first.version, "said again, as it was amiss");
}

#[test]
fn a_vanished_directory_keeps_the_last_good_policy() {
    let dir = policies();
    let (_, mut watched) = Watched::open(dir.path()).unwrap();
    let (here, away) = (dir.path().join("tenants"), dir.path().join("away"));
    fs::rename(&here, &away).unwrap();
    let mistakes = kept(settle(&mut watched));
    assert!(mistakes[0].message.contains("no such directory"));
    fs::rename(&away, &here).unwrap();
    adopted(settle(&mut watched));
}

#[test]
fn a_touched_file_that_says_the_same_is_no_change() {
    let dir = policies();
    let (_, mut watched) = Watched::open(dir.path()).unwrap();
    write(&dir, "tenants/new", &tenant("a"));
    fs::rename(
        dir.path().join("tenants/new"),
        dir.path().join("tenants/a.toml"),
    )
    .unwrap();
    assert!(settle(&mut watched).is_none());
}

#[test]
fn swapped_links_as_kubernetes_makes_them_are_one_change() {
    let dir = policies();
    let tenants = dir.path().join("tenants");
    fs::remove_file(tenants.join("a.toml")).unwrap();
    for (version, id) in [("..1", "a"), ("..2", "b")] {
        fs::create_dir(tenants.join(version)).unwrap();
        write(&dir, &format!("tenants/{version}/t.toml"), &tenant(id));
    }
    let link = |to: &str, from: &str| std::os::unix::fs::symlink(to, tenants.join(from)).unwrap();
    link("..1", "..data");
    link("..data/t.toml", "t.toml");
    let (policy, mut watched) = Watched::open(dir.path()).unwrap();
    assert!(policy.tenants.contains_key("a"));
    link("..2", "..data_tmp");
    fs::rename(tenants.join("..data_tmp"), tenants.join("..data")).unwrap();
    let policy = adopted(settle(&mut watched));
    assert!(policy.tenants.contains_key("b") && policy.tenants.len() == 1);
}

#[test]
fn hidden_and_foreign_files_are_passed_over() {
    let dir = policies();
    for name in [
        "tenants/.a.toml.swp",
        "tenants/a.toml~",
        "tenants/README.md",
        "tenants/.b.toml",
    ] {
        write(&dir, name, "no toml at all [");
    }
    fs::create_dir(dir.path().join("tenants/old.toml")).unwrap();
    let files = files::read(dir.path()).unwrap();
    assert_eq!(files.policy.len(), 2);
    assert_eq!(files.passed_over.len(), 2, "{:?}", files.passed_over);
}

#[test]
fn a_watcher_hands_over_changes_until_they_are_taken_and_ends_when_dropped() {
    let dir = policies();
    let (_, watched) = Watched::open(dir.path()).unwrap();
    let (told, heard) = mpsc::channel();
    let mut refusals = 2;
    let watcher = spawn(watched, Duration::from_millis(2), move |reloaded| {
        if refusals > 0 {
            refusals -= 1;
            return Err(reloaded);
        }
        let _ = told.send(reloaded);
        Ok(())
    })
    .unwrap();
    write(&dir, "tenants/b.toml", &tenant("b"));
    let reloaded = heard.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(adopted(Some(reloaded)).tenants.len(), 2);
    drop(watcher);
    assert!(heard.recv().is_err(), "the thread is gone");
}
