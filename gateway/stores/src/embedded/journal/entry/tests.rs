use super::*;
use tollgate_testkit::contract::{record_id, refused, subject};

#[test]
fn a_line_reads_back_and_any_flipped_bit_is_noticed() {
    let mut line = Vec::new();
    let end = End {
        segment: 7,
        length: 1234,
    };
    write_line(&mut line, &Written::Synced(end)).expect("numbers are JSON");
    assert_eq!(line.pop(), Some(b'\n'));
    let body = checked(&line).expect("its own checksum");
    assert!(matches!(Entry::parse(body), Ok(Entry::Synced(read)) if read == end));
    for place in 0..line.len() {
        for bit in 0..8 {
            let mut bad = line.clone();
            bad[place] ^= 1 << bit;
            assert!(checked(&bad).is_none(), "byte {place}, bit {bit}");
        }
    }
    for len in 0..line.len() {
        assert!(checked(&line[..len]).is_none(), "cut at {len}");
    }
}

#[test]
fn parts_read_back_byte_for_byte_whatever_text_is_in_them() {
    let mut subject = subject(record_id(1), "acme", "bot");
    subject.untrusted = vec!["a\tb\nc\u{1f}\"\\ \u{e9}".into()];
    let ending = refused();
    let mut line = Vec::new();
    let entry = Written::Refused {
        subject: &subject,
        ending: &ending,
    };
    write_line(&mut line, &entry).expect("it is JSON");
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    let body = line.strip_suffix(b"\n").and_then(checked).expect("good");
    let Ok(Entry::Refused {
        place,
        subject: first,
        ending: second,
    }) = Entry::parse(body)
    else {
        panic!("it was a refusal");
    };
    assert_eq!(place.partition, Some("acme"));
    assert_eq!(place.day().to_string(), "2026-11-18");
    assert_eq!(first, serde_json::to_vec(&subject).expect("JSON"));
    assert_eq!(second, serde_json::to_vec(&ending).expect("JSON"));
}
