//! Real processes that are really killed, or run into a real limit on the size of files.

use super::*;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

/// Names the directory in which this test binary, run again, plays the gateway.
const DIR: &str = "TOLLGATE_STORES_TEST_DIR";
/// Distinguishes the calls of one run from those of another.
const RUN: &str = "TOLLGATE_STORES_TEST_RUN";

/// This test binary, as a gateway that makes calls until something ends it.
fn gateway(shell: &str, dir: &Path, run: u32) -> Child {
    let binary = std::env::current_exe().expect("this binary");
    Command::new("sh")
        .arg("-c")
        .arg(format!("{shell} exec \"$0\" \"$@\""))
        .arg(binary)
        .args([
            "embedded::tests::killed::plays_the_gateway_when_asked",
            "--exact",
        ])
        .args(["--nocapture", "--test-threads", "1"])
        .env(DIR, dir)
        .env(RUN, run.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh is there")
}

/// Not a test of its own: the other side of [`gateway`]. Tells each intent that is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn plays_the_gateway_when_asked() {
    let (Ok(dir), Ok(run)) = (std::env::var(DIR), std::env::var(RUN)) else {
        return;
    };
    let run: u32 = run.parse().expect("a number");
    let stores = Arc::new(open(Path::new(&dir)));
    let tasks: Vec<_> = (0..4)
        .map(|task| tokio::spawn(make_calls(stores.clone(), run * 1_000_000 + task * 100_000)))
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    say(&format!("healthy {}", stores.healthy()));
    // As a crash would: without closing anything.
    std::process::exit(0);
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@{line}").expect("the other side listens");
}

/// Makes calls until the disk takes no more.
async fn make_calls(stores: Arc<Embedded>, first: u32) {
    let mut open = Vec::new();
    for n in first..first + 100_000 {
        let tenant = ["acme", "globex"][(n % 2) as usize];
        let budgets = [daily(tenant, None)];
        let id = record_id(n);
        let account = Account::from(&budgets);
        let reserved = stores
            .budgets
            .reserve(id, &account, PicoUsd::new(100), now());
        let Reserved::Held(hold) = reserved.await.expect("in memory") else {
            panic!("no limit was set");
        };
        let mut subject = subject(id, tenant, "bot");
        subject.elevated = n % 50 == 0;
        let intent = Intent {
            subject: &subject,
            hold: &hold,
        };
        if stores.records.intend(intent).await.is_err() {
            say(&format!("refused {id}"));
            stores.budgets.settle(&hold, PicoUsd::ZERO);
            if open.len() > 40 {
                return;
            }
        } else {
            say(&format!("kept {id} {tenant}"));
        }
        open.push(hold);
        if n % 3 > 0 {
            let hold = open.swap_remove(open.len() / 2);
            end(&stores, &hold, i128::from(n % 90));
        }
    }
}

/// What a gateway said until it ended, or until `enough` intents were kept.
fn listen(child: &mut Child, enough: usize) -> (BTreeMap<String, String>, Vec<String>) {
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let mut kept = BTreeMap::new();
    let mut rest = Vec::new();
    for line in out.lines() {
        // The line may be cut off by the kill, and the test runner says things of its own.
        let line = line.unwrap_or_default();
        let Some((_, said)) = line.split_once('@') else {
            continue;
        };
        match said.split(' ').collect::<Vec<_>>()[..] {
            ["kept", id, tenant] if ["acme", "globex"].contains(&tenant) => {
                kept.insert(id.to_owned(), tenant.to_owned());
            }
            _ => rest.push(said.to_owned()),
        }
        if kept.len() == enough {
            child.kill().expect("it is still running");
        }
    }
    child.wait().expect("it has ended");
    (kept, rest)
}

/// Each id in `kept` has exactly one record, no id has two, and the money adds up.
async fn check(dir: &Path, kept: &BTreeMap<String, String>) -> BTreeMap<String, Record> {
    let stores = open(dir);
    let mut found = BTreeMap::new();
    for tenant in ["acme", "globex"] {
        let records = read_back(dir, tenant);
        let sum: i128 = records.iter().map(|r| r.ending.cost.as_pico()).sum();
        assert_eq!(settled(&stores, tenant).await, sum, "{tenant}: its money");
        assert_eq!(check_chain(dir, tenant), records.len());
        for record in records {
            let twice = found.insert(record.subject.id.to_string(), record);
            assert_eq!(twice, None, "no call has two records");
        }
    }
    for (id, tenant) in kept {
        let record = found
            .get(id)
            .map(|record| record.subject.tenant.to_string());
        assert_eq!(record.as_ref(), Some(tenant), "the record of {id}");
    }
    found
}

#[tokio::test]
async fn kill_9_loses_no_call_and_counts_none_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut kept = BTreeMap::new();
    for (run, enough) in [(1, 1), (2, 200), (3, 3000), (4, 20), (5, 900)] {
        let mut child = gateway("", dir.path(), run);
        let (more, _) = listen(&mut child, enough);
        assert!(more.len() >= enough, "run {run}: {}", more.len());
        kept.extend(more);
        if run % 2 == 0 {
            check(dir.path(), &kept).await;
        }
    }
    let found = check(dir.path(), &kept).await;
    let interrupted = found
        .values()
        .filter(|r| r.ending.outcome == Outcome::Interrupted);
    let (interrupted, all) = (interrupted.count(), found.len());
    assert!(
        interrupted > 0 && interrupted < all,
        "{interrupted} of {all}"
    );
}

#[tokio::test]
async fn a_full_disk_refuses_calls_and_loses_none_that_was_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    // Files may grow to 400 KiB, and growing further is an error instead of a signal.
    let mut child = gateway("trap '' XFSZ; ulimit -f 800;", dir.path(), 1);
    let (kept, rest) = listen(&mut child, usize::MAX);
    assert!(kept.len() > 100, "{} calls before the limit", kept.len());
    assert!(rest.contains(&"healthy false".to_owned()), "{rest:?}");
    let found = check(dir.path(), &kept).await;
    let refused = rest.iter().filter_map(|said| said.strip_prefix("refused "));
    let refused: Vec<_> = refused.collect();
    assert!(!refused.is_empty());
    for id in refused {
        assert!(!found.contains_key(id), "{id} was refused");
    }
}
