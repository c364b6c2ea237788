use super::*;
use crate::identity::new_private_key;
use crate::ids::{RecordId, ReplicaId};
use crate::time::Timestamp;

fn name(path: &str) -> Option<Name> {
    path.parse().ok()
}

#[test]
fn names_read_back_what_they_print() {
    for path in [
        "audit/acme/date=2026-11-23/r4f1c-000000000001.jsonl",
        "audit/acme/date=2026-11-23/eu-1-000000000001~2.jsonl.zst",
        "audit/_operator/date=2026-11-23/r4f1c-1234567890123.parquet",
        "audit/acme/2026/11/03/support.bot/0193a1b2c3d47e5f8a9b0c1d2e3f4a5b.json",
        "audit/acme/2026/11/03/date/0193a1b2c3d47e5f8a9b0c1d2e3f4a5b~1.json",
        "audit/_gateway/checkpoints/r4f1c-000000000512.json",
    ] {
        let name = name(path).expect(path);
        assert_eq!(name.to_string(), path);
        assert_eq!(format!("{ROOT}/{}", name.below_root()), path);
    }
}

#[test]
fn what_is_not_a_name_of_ours_is_not_read_as_one() {
    for path in [
        "",
        "audit",
        "audit/acme",
        "acme/date=2026-11-23/r4f1c-000000000001.jsonl",
        "audit/../date=2026-11-23/r4f1c-000000000001.jsonl",
        "audit/acme/date=2026-11-23/../r4f1c-000000000001.jsonl",
        "audit/acme/date=2026-11-3/r4f1c-000000000001.jsonl",
        "audit/acme/date=2026-11-31/r4f1c-000000000001.jsonl",
        "audit/acme/date=2026-11-23/r4f1c-1.jsonl",
        "audit/acme/date=2026-11-23/r4f1c-000000000001~0.jsonl",
        "audit/acme/date=2026-11-23/r4f1c-000000000001.jsonl.unfinished",
        "audit/acme/2026/11/03/../0193a1b2c3d47e5f8a9b0c1d2e3f4a5b.json",
        "audit/acme/2026/11/03/bot/0193A1B2C3D47E5F8A9B0C1D2E3F4A5B.json",
        "audit/Acme/checkpoints/r4f1c-000000000512.json",
    ] {
        assert_eq!(name(path), None, "{path}");
    }
}

#[test]
fn no_tenant_can_own_a_partition_of_the_gateway() {
    for partition in [Partition::Gateway, Partition::Operators] {
        assert!(partition.as_str().parse::<TenantId>().is_err());
        assert_eq!(partition.to_string().parse(), Ok(partition));
    }
}

#[test]
fn a_segment_keeps_its_name_in_every_form() {
    let name = name("audit/acme/date=2026-11-23/r4f1c-000000000001.jsonl").expect("a name");
    let compressed = name.in_form(Form::Zstd);
    assert_eq!(
        compressed.to_string(),
        "audit/acme/date=2026-11-23/r4f1c-000000000001.jsonl.zst"
    );
    assert_eq!(compressed.in_form(Form::JsonLines), name);
}

fn replica() -> ReplicaId {
    "r4f1c".parse().expect("a replica")
}

#[test]
fn a_line_says_its_place_and_keeps_the_bytes_it_is_made_of() {
    let mut line = Vec::new();
    let parts: [&[u8]; 4] = [
        br#"{"tollgate.record.id":"0193a1b2c3d47e5f8a9b0c1d2e3f4a5b","tenant.id":"acme"}"#,
        br#"{"tollgate.started_at":"2026-11-23T08:15:00Z","gen_ai.agent.id":"bot"}"#,
        b"{}",
        br#"{"x":"a\nb"}"#,
    ];
    write_line(&mut line, &replica(), 7, FIRST_PREV_HASH, &parts);
    let link = Link::parse(&line).expect("a link");
    assert_eq!(link.seq, 7);
    assert_eq!(link.prev_hash, FIRST_PREV_HASH);
    assert_eq!(link.tenant.as_deref(), Some("acme"));
    assert_eq!(link.agent.as_deref(), Some("bot"));
    assert_eq!(link.started_at, "2026-11-23T08:15:00Z".parse().ok());
    assert_eq!(
        link.record,
        "0193a1b2c3d47e5f8a9b0c1d2e3f4a5b"
            .parse::<RecordId>()
            .expect("an id")
    );
    let text = str::from_utf8(&line).expect("text");
    assert!(
        text.contains(r#","tenant.id":"acme","tollgate.started_at":"#)
            && text.ends_with(r#","gen_ai.agent.id":"bot","x":"a\nb"}"#),
        "{text}"
    );
    assert_eq!(
        line_hash(b""),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "FIPS 180-4"
    );
}

fn key(seed: u8) -> AuditKey {
    AuditKey::from_pem(&new_private_key(&[seed; 32])).expect("a key")
}

fn signed(key: &AuditKey) -> Checkpoint {
    let partition = "acme".parse().expect("a partition");
    let now = Timestamp::from_seconds(1_700_000_000);
    key.checkpoint(partition, replica(), 512, line_hash(b"x"), now)
}

#[test]
fn a_checkpoint_holds_with_the_key_it_was_signed_with_and_no_other() {
    let (ours, other) = (key(1), key(2));
    let checkpoint = signed(&ours);
    let public = AuditPublicKey::from_pem(ours.public().pem()).expect("PEM reads back");
    assert_eq!(checkpoint.verify(&[other.public().clone(), public]), Ok(()));
    assert_eq!(
        checkpoint.verify(&[other.public().clone()]),
        Err(NotSigned::UnknownKey(ours.public().id().to_owned()))
    );
    let json = serde_json::to_string(&checkpoint).expect("JSON");
    assert_eq!(
        serde_json::from_str::<Checkpoint>(&json).expect("reads back"),
        checkpoint
    );
}

#[test]
fn whatever_is_changed_in_a_checkpoint_its_signature_no_longer_holds() {
    let key = key(1);
    let keys = [key.public().clone()];
    let changes: [fn(&mut Checkpoint); 5] = [
        |c| c.partition = Partition::Gateway,
        |c| c.replica = "r5".parse().expect("a replica"),
        |c| c.seq -= 1,
        |c| c.hash = line_hash(b"y"),
        |c| c.signed_at = Timestamp::from_seconds(1),
    ];
    for change in changes {
        let mut checkpoint = signed(&key);
        change(&mut checkpoint);
        assert_eq!(
            checkpoint.verify(&keys),
            Err(NotSigned::Forged),
            "{checkpoint:?}"
        );
    }
}

#[test]
fn a_checkpoint_is_checked_by_other_programs_over_six_lines_of_text() {
    let key = key(1);
    let checkpoint = signed(&key);
    let text = format!(
        "tollgate.checkpoint/1\nacme\nr4f1c\n512\n{}\n2023-11-14T22:13:20.000000Z\n",
        checkpoint.hash
    );
    assert!(
        key.public()
            .has_signed(text.as_bytes(), &checkpoint.signature)
    );
    assert!(
        !key.public()
            .has_signed(text.trim().as_bytes(), &checkpoint.signature)
    );
}
