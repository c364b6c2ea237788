//! No secret comes out, in any declared form and split anywhere; what holds none is unchanged.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use tollgate_core::scrub::{Filling, Needles, Passed, Scrubber};
use tollgate_core::secret::Secret;

use crate::handles::contains;
use crate::pieces::{Parts, pieces};

/// Input: the secret (the target's own, if it is too short), the lengths of pieces, and the text,
/// divided by zero bytes.
pub fn scrub(data: &[u8]) {
    let mut parts = Parts::of(data);
    let (key, cuts, text) = (parts.bytes(), parts.bytes(), parts.bytes());
    let key = if key.len() < 8 { b"canary-7f3a" } else { key };
    // A secret that is part of the mark would be put in by it.
    if key.len() > 200 || !key.iter().all(|byte| (b' '..=b'~').contains(byte)) || is_in_mark(key) {
        return;
    }
    let needles = Arc::new(Needles::new(&Secret::new(key.to_vec())).expect("long enough"));
    for filling in [Filling::Mark, Filling::SameLength] {
        let (out, hits) = scrubbed(&needles, filling, &[text]);
        let split = scrubbed(&needles, filling, &pieces(text, cuts));
        assert_eq!(
            (&out, hits),
            (&split.0, split.1),
            "a split changes the result"
        );
        assert_eq!(hits > 0, needles.scrub(text).is_some());
        if hits == 0 {
            assert_eq!(out, text, "bytes without a secret have changed");
        }
        if filling == Filling::SameLength {
            assert_eq!(out.len(), text.len());
        }
        for form in forms(key) {
            assert!(!contains(&out, &form), "the secret comes out");
        }
    }
}

fn is_in_mark(key: &[u8]) -> bool {
    key.iter().all(|byte| b"[redacted]*".contains(byte))
}

fn scrubbed(needles: &Arc<Needles>, filling: Filling, pieces: &[&[u8]]) -> (Vec<u8>, u64) {
    let mut scrubber = Scrubber::new(Arc::clone(needles), filling);
    let mut out = Vec::new();
    for piece in pieces {
        match scrubber.feed(piece) {
            Passed::All => out.extend_from_slice(piece),
            Passed::First(length) => out.extend_from_slice(&piece[..length]),
            Passed::Instead(others) => out.extend(others),
        }
    }
    out.extend(scrubber.end());
    (out, scrubber.hits())
}

/// The forms of a secret, made by other means than those that look for them.
fn forms(key: &[u8]) -> Vec<Vec<u8>> {
    let each = |form: &dyn Fn(u8) -> String| key.iter().map(|byte| form(*byte)).collect::<String>();
    let mut forms = vec![
        key.to_vec(),
        each(&|byte| format!("{byte:02x}")).into_bytes(),
        each(&|byte| format!("{byte:02X}")).into_bytes(),
        each(&|byte| format!("%{byte:02X}")).into_bytes(),
        each(&|byte| format!("%{byte:02x}")).into_bytes(),
        each(&|byte| format!("\\u{byte:04x}")).into_bytes(),
    ];
    for (lead, skipped) in [(&b""[..], 0), (b"a", 2), (b"ab", 3)] {
        let whole = [lead, key].concat();
        let own = whole.len() * 8 / 6;
        for text in [
            STANDARD_NO_PAD.encode(&whole),
            URL_SAFE_NO_PAD.encode(&whole),
        ] {
            forms.push(text.as_bytes()[skipped..own].to_vec());
        }
    }
    forms
}
