use std::fs;
use std::time::Duration;

use tollgate_testkit::contract::{completed, now, record_id, subject};
use tollgate_testkit::partition::Partitions;

use super::*;
use crate::shelf::LocalShelf;
use crate::verify::{Kind, Verified};

/// Two tenants over three days that interleave, with elevated records.
fn written(dir: &Path) -> Partitions {
    let mut written = Partitions::new(dir, "r1");
    for n in 0..60_u32 {
        for tenant in ["acme", "globex"] {
            let mut subject = subject(record_id(n), tenant, "bot");
            let day = u64::from(n) / 20 + u64::from(n % 5 == 0);
            subject.started_at = now().plus(Duration::from_secs(day * 86_400));
            subject.elevated = n % 7 == 0;
            written.call(&subject, &completed(i128::from(n)));
            if n % 10 == 9 && n < 50 {
                written.seal(&tenant.parse().expect("a partition"));
            }
        }
    }
    written
}

fn exported(source: &Path, out: &Path, days: Days, signed: bool) -> Result<Manifest, ExportError> {
    let key = Partitions::new(source, "r1").key;
    let public = [key.public().clone()];
    let asked = Asked {
        tenant: &"acme".parse().expect("a tenant"),
        days,
        out,
        key: signed.then_some(&key),
        public: &public,
        gateway: "0.0.0",
        now: now(),
    };
    let trust = Trust {
        keys: &public,
        ..Trust::default()
    };
    export(&LocalShelf::new(source), &asked, &trust)
}

/// What a check of an export comes to, manifest included.
fn checked(out: &Path) -> (Vec<Finding>, Verified) {
    let pem = fs::read_to_string(out.join("audit.pub")).expect("a key");
    let keys = [AuditPublicKey::from_pem(&pem).expect("a key")];
    let opened = open(out, &keys).expect("readable").expect("a manifest");
    let heads = opened.signed.then(|| opened.manifest.heads());
    let trust = Trust {
        keys: &keys,
        heads: heads.as_deref(),
        left_out: if opened.signed {
            &opened.manifest.left_out
        } else {
            &[]
        },
        ..Trust::default()
    };
    let partition = "acme".parse().expect("a partition");
    let verified = verify::verify(&LocalShelf::new(out), &partition, &trust).expect("readable");
    (opened.findings, verified)
}

use crate::verify::Finding;

fn everything_below(dir: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            everything_below(&path, into);
        } else {
            into.push(fs::read_to_string(&path).expect("text"));
            into.push(path.display().to_string());
        }
    }
}

#[test]
fn an_export_holds_everything_of_one_tenant_and_nothing_of_another() {
    let dir = tempfile::tempdir().expect("a directory");
    written(dir.path());
    let out = dir.path().join("export");
    let manifest = exported(dir.path(), &out, Days::default(), true).expect("exported");
    assert_eq!((manifest.chains[0].first, manifest.chains[0].last), (1, 60));
    assert_eq!(manifest.left_out, []);
    let (beside, verified) = checked(&out);
    assert_eq!((beside, &*verified.findings), (vec![], &[][..]));
    // The manifest covers the records that no checkpoint did.
    assert_eq!(
        (verified.chains[0].records, verified.chains[0].covered_to),
        (60, 60)
    );
    let mut texts = Vec::new();
    everything_below(&out, &mut texts);
    for text in texts {
        // Labels that a client claimed are the tenant's own record of what was claimed.
        let text = text.replace("x-tenant-id: \\\"globex\\\"", "");
        assert!(!text.contains("globex"), "{text}");
    }
    let names: Vec<String> = fs::read_dir(dir.path())
        .expect("readable")
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.starts_with('.'))
        .collect();
    assert_eq!(names, [""; 0], "nothing is left aside");
}

#[test]
fn days_in_the_midst_of_a_chain_are_whole_and_say_what_lies_between() {
    let dir = tempfile::tempdir().expect("a directory");
    written(dir.path());
    let out = dir.path().join("export");
    let day = now().plus(Duration::from_secs(86_400)).date();
    let days = Days {
        from: Some(day),
        to: Some(day),
    };
    let manifest = exported(dir.path(), &out, days, true).expect("exported");
    assert!(!manifest.left_out.is_empty());
    let (beside, verified) = checked(&out);
    assert_eq!((beside, &*verified.findings), (vec![], &[][..]));
    assert_eq!(verified.chains[0].records, 20);
    assert!(!verified.chains[0].absent.is_empty());
    // A record that is gone is not excused by what is.
    let file = manifest
        .files
        .iter()
        .find(|file| file.name.ends_with(".jsonl"));
    let path = out.join(&file.expect("a segment").name);
    let text = fs::read_to_string(&path).expect("readable");
    let (_, rest) = text.split_once('\n').expect("a line");
    fs::write(&path, rest).expect("writable");
    let (beside, verified) = checked(&out);
    assert_eq!(beside[0].kind, Kind::Manifest);
    assert_eq!(verified.findings[0].kind, Kind::Removed);
}

#[test]
fn a_manifest_that_was_changed_or_not_signed_excuses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    written(dir.path());
    let days = Days {
        from: Some(now().date()),
        to: Some(now().date()),
    };
    let out = dir.path().join("unsigned");
    exported(dir.path(), &out, days, false).expect("exported");
    assert_eq!(checked(&out).0[0].kind, Kind::Manifest);
    assert_eq!(checked(&out).1.findings[0].kind, Kind::Removed);
    let out = dir.path().join("changed");
    exported(dir.path(), &out, days, true).expect("exported");
    let text = fs::read_to_string(out.join("manifest.json")).expect("readable");
    fs::write(out.join("manifest.json"), text.replace("0.0.0", "0.0.1")).expect("writable");
    assert_eq!(checked(&out).0[0].detail, "its signature does not hold");
}

#[test]
fn a_line_of_somebody_else_ends_the_export_and_nothing_is_left() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut partitions = written(dir.path());
    let theirs = partitions.call(&subject(record_id(99), "globex", "bot"), &completed(1));
    let shelf = LocalShelf::new(dir.path());
    let acme = "acme".parse().expect("a partition");
    let ours = shelf.list(&acme, Days::default()).expect("readable");
    let ours = ours
        .iter()
        .find(|(name, _)| name.to_string().ends_with(".jsonl"));
    let text = fs::read(shelf.path(&theirs)).expect("readable");
    let path = shelf.path(&ours.expect("a segment").0);
    let both = [fs::read(&path).expect("readable"), text].concat();
    fs::write(&path, both).expect("writable");
    let out = dir.path().join("export");
    let refused = exported(dir.path(), &out, Days::default(), true);
    assert!(
        matches!(refused, Err(ExportError::NotTheirs { .. })),
        "{refused:?}"
    );
    assert!(!out.exists());
    let left = fs::read_dir(dir.path()).expect("readable").count();
    assert_eq!(left, 1, "only audit/ is there");
}

#[test]
fn a_directory_that_is_not_empty_is_left_alone_and_an_empty_one_is_filled() {
    let dir = tempfile::tempdir().expect("a directory");
    written(dir.path());
    let out = dir.path().join("export");
    fs::create_dir(&out).expect("made");
    fs::write(out.join("x"), "x").expect("writable");
    let refused = exported(dir.path(), &out, Days::default(), true);
    assert!(
        matches!(refused, Err(ExportError::NotEmpty(_))),
        "{refused:?}"
    );
    fs::remove_file(out.join("x")).expect("removed");
    exported(dir.path(), &out, Days::default(), true).expect("exported");
    let none = Days {
        from: "2030-01-01".parse().ok(),
        to: None,
    };
    let refused = exported(dir.path(), &dir.path().join("none"), none, true);
    assert!(
        matches!(refused, Err(ExportError::Nothing(_))),
        "{refused:?}"
    );
}
