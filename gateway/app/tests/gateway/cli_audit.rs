//! `tollgate audit`: what it finds in files that somebody touched, and what an export is.
//!
//! Partitions are written as a gateway leaves them behind, so that each command meets many files;
//! `records` and `crash` show that a gateway leaves them so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tollgate_testkit::contract::{completed, now, record_id, subject};
use tollgate_testkit::partition::Partitions;

use crate::harness::Site;

/// A data directory with records of two tenants over three days, some of them elevated.
struct Kept {
    site: Arc<Site>,
    key: String,
}

impl Kept {
    fn new() -> Self {
        let site = Site::new();
        let data = site.data();
        let mut written = Partitions::new(&data, "r1");
        for n in 0..45_u32 {
            for tenant in ["acme", "globex"] {
                let mut subject = subject(record_id(n), tenant, "bot");
                let day = u64::from(n / 15);
                subject.started_at = now().plus(Duration::from_secs(day * 86_400));
                subject.elevated = n % 10 == 3;
                written.call(&subject, &completed(i128::from(n)));
                if n % 15 == 14 {
                    written.seal(&tenant.parse().unwrap());
                }
            }
        }
        fs::create_dir_all(data.join("keys")).unwrap();
        let key = data.join("keys/audit.pub");
        fs::write(&key, written.key.public().pem()).unwrap();
        let private = tollgate_core::identity::new_private_key(&[7; 32]);
        fs::write(data.join("keys/audit.key"), private.as_bytes()).unwrap();
        let key = key.display().to_string();
        Self { site, key }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.site.data().join("audit").join(path)
    }

    /// What `audit verify` says of that directory, and its exit code.
    fn verify(&self, directory: &Path) -> (String, Value, Option<i32>) {
        let directory = directory.display().to_string();
        let asked = [
            "audit",
            "verify",
            "--records",
            &directory,
            "--key",
            &self.key,
        ];
        let text = self.site.cli(&asked, "");
        let json = self.site.cli(&[&asked[..], &["--json"]].concat(), "");
        assert_eq!(text.status.code(), json.status.code());
        let value = serde_json::from_slice(&json.stdout).unwrap_or_default();
        (
            String::from_utf8(text.stdout).unwrap(),
            value,
            text.status.code(),
        )
    }

    fn rewrite(&self, file: &str, change: impl FnOnce(&mut Vec<String>)) {
        let path = self.path(file);
        let text = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        change(&mut lines);
        fs::write(path, lines.join("\n") + "\n").unwrap();
    }
}

const SEGMENT: &str = "acme/date=2026-11-19/r1-000000000016.jsonl";

#[test]
fn records_that_nobody_touched_are_all_as_written() {
    let kept = Kept::new();
    let (text, json, code) = kept.verify(&kept.site.data());
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.ends_with("90 records in 2 partitions: all as written\n"),
        "{text}"
    );
    assert!(text.contains("replica r1: 45 records, 1 ("), "{text}");
    assert_eq!(json["holds"], true);
    assert_eq!(json["partitions"][0]["chains"][0]["covered_to"], 45);
}

#[test]
fn every_way_to_tamper_is_named_with_file_and_line() {
    type Tamper = fn(&Kept);
    let ways: [(&str, u64, &str, Tamper); 8] = [
        ("changed", 18, SEGMENT, |kept| {
            kept.rewrite(SEGMENT, |lines| {
                lines[2] = lines[2].replace("\"gpt-5-mini\"", "\"gpt-5-nano\"");
            });
        }),
        ("removed", 18, "", |kept| {
            kept.rewrite(SEGMENT, |lines| drop(lines.remove(2)));
        }),
        ("inserted", 18, SEGMENT, |kept| {
            kept.rewrite(SEGMENT, |lines| {
                lines.insert(3, lines[2].replace("gpt-5-mini", "gpt-5"));
            });
        }),
        ("duplicated", 18, SEGMENT, |kept| {
            kept.rewrite(SEGMENT, |lines| lines.insert(3, lines[2].clone()));
        }),
        ("reordered", 18, SEGMENT, |kept| {
            kept.rewrite(SEGMENT, |lines| lines.swap(2, 5));
        }),
        ("truncated", 39, "", |kept| {
            kept.rewrite("acme/date=2026-11-20/r1-000000000031.jsonl", |lines| {
                // Elevated records have objects of their own: 34 and 44.
                lines.truncate(7);
            });
            fs::remove_dir_all(kept.path("acme/2026/11/20")).unwrap();
        }),
        ("other_tenant", 18, SEGMENT, |kept| {
            let theirs = kept.path(&SEGMENT.replace("acme", "globex"));
            let theirs = fs::read_to_string(theirs).unwrap();
            let theirs = theirs.lines().nth(2).unwrap().to_owned();
            kept.rewrite(SEGMENT, |lines| lines[2] = theirs);
        }),
        (
            "checkpoint_forged",
            30,
            "acme/checkpoints/r1-000000000030.json",
            |kept| {
                kept.rewrite("acme/checkpoints/r1-000000000030.json", |lines| {
                    lines[0] = lines[0].replace("2026-", "2025-");
                });
            },
        ),
    ];
    for (kind, seq, file, tamper) in ways {
        let kept = Kept::new();
        tamper(&kept);
        let (text, json, code) = kept.verify(&kept.site.data());
        assert_eq!(code, Some(1), "{kind}: {text}");
        let findings = json["partitions"][0]["findings"].as_array().unwrap();
        let finding = findings.iter().find(|finding| finding["kind"] == kind);
        let finding = finding.unwrap_or_else(|| panic!("{kind}: {text}"));
        if kind != "truncated" {
            assert_eq!(findings[0]["seq"], seq, "{kind}: {text}");
        }
        if !file.is_empty() {
            assert_eq!(finding["file"], format!("audit/{file}"), "{kind}: {text}");
        }
        assert!(
            text.contains(&format!("! {kind}, replica r1, record")),
            "{text}"
        );
        assert_eq!(
            json["partitions"][1]["findings"],
            Value::Array(vec![]),
            "{kind}"
        );
    }
}

#[test]
fn without_a_key_or_records_nothing_is_passed() {
    let kept = Kept::new();
    let missing = kept.site.root().join("nothing");
    fs::create_dir(&missing).unwrap();
    assert_eq!(kept.verify(&missing).2, Some(1));
    let data = kept.site.data().display().to_string();
    let nobody = [
        "audit",
        "verify",
        "--records",
        &data,
        "--key",
        &kept.key,
        "--tenant",
        "nobody",
    ];
    assert_eq!(kept.site.cli(&nobody, "").status.code(), Some(1));
    fs::remove_file(&kept.key).unwrap();
    let (text, _, code) = kept.verify(&kept.site.data());
    assert_eq!((text.as_str(), code), ("", Some(1)));
    let wrong = kept
        .site
        .cli(&["audit", "verify", "--tenant", "../acme"], "");
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn an_export_is_checked_by_this_program_and_by_another() {
    let kept = Kept::new();
    let out = kept.site.root().join("for-the-auditor");
    let shown = out.display().to_string();
    let said = kept.site.cli_ok(
        &["audit", "export", "--tenant", "acme", "--out", &shown],
        "",
    );
    assert!(said.starts_with("45 records in 11 files"), "{said}");
    let (text, json, code) = kept.verify(&out);
    assert_eq!((code, &json["holds"]), (Some(0), &true.into()), "{text}");
    assert!(!out.join("audit/globex").exists());
    let check = || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/check_export.py");
        let mut python = Command::new("python3");
        python
            .arg("-B")
            .arg(script)
            .arg(&out)
            .arg(&kept.key)
            .output()
            .unwrap()
    };
    let checked = check();
    let errors = String::from_utf8_lossy(&checked.stderr).into_owned();
    let checked: Value = serde_json::from_slice(&checked.stdout).expect(&errors);
    assert_eq!(
        checked,
        serde_json::json!({"records": 45, "checkpoints": 3})
    );

    let file = out.join("audit").join(SEGMENT);
    let text = fs::read_to_string(&file)
        .unwrap()
        .replacen("gpt-5-mini", "gpt-5-nano", 1);
    fs::write(&file, text).unwrap();
    assert!(!check().status.success());
    let (text, json, code) = kept.verify(&out);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(
        json["partitions"][0]["findings"][0]["kind"], "changed",
        "{text}"
    );
    assert_eq!(
        json["manifest_findings"][0]["file"],
        format!("audit/{SEGMENT}")
    );
}

#[test]
fn one_day_of_a_tenant_is_an_export_that_holds() {
    let kept = Kept::new();
    let out = kept.site.root().join("one-day");
    let shown = out.display().to_string();
    let day = "2026-11-19";
    let asked = [
        "audit", "export", "--tenant", "acme", "--from", day, "--to", day, "--out", &shown,
    ];
    kept.site.cli_ok(&asked, "");
    let (text, _, code) = kept.verify(&out);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("1 to 15: of days that were not exported"),
        "{text}"
    );
    let again = kept.site.cli(&asked, "");
    assert_eq!(
        again.status.code(),
        Some(1),
        "the directory is not empty any more"
    );
}
