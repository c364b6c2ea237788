//! A head that passes the guard names one host and one body length to any reader; a path that is
//! routed leads nowhere else; an upstream's URL names the host that is dialled.

use http::Method;
use tollgate_core::policy::parse::upstream;
use tollgate_core::route::find;

use crate::handles::percent_decoded;
use crate::pieces::{Parts, pieces};
use crate::proxy::guard::{Guard, judge};
use crate::scene::policy;

const MAX_HEAD_BYTES: usize = 4 * 1024;
const MAX_TARGET_BYTES: usize = 1024;

/// Input: the lengths of pieces up to a zero byte, and what a client sends; also taken for a
/// path and for a URL.
pub fn authority(data: &[u8]) {
    let cuts = Parts::of(data).bytes();
    let sent = data.get(cuts.len() + 1..).unwrap_or_default();
    if judge(sent, MAX_TARGET_BYTES).is_ok() {
        reads_one_way(sent);
    }
    let whole = release(&[sent]);
    for cuts in [cuts, &[]] {
        let split = release(&pieces(sent, cuts));
        match (whole, split) {
            (Ok(whole), Ok(split)) => assert_eq!(whole, split, "a split changes what is released"),
            (whole, split) => {
                assert_eq!(whole.is_ok(), split.is_ok(), "a split changes the verdict")
            }
        }
    }
    if let Ok(text) = std::str::from_utf8(sent) {
        leads_nowhere_else(text);
        names_one_host(text);
    }
}

/// What a reader without any knowledge of the guard sees in a head.
fn reads_one_way(head: &[u8]) {
    let lines: Vec<&[u8]> = head
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .collect();
    assert!(
        lines
            .iter()
            .all(|line| !line.contains(&b'\r') && !line.contains(&0))
    );
    let called = |name: &str| {
        let is_called = |line: &&&[u8]| {
            let end = line.iter().position(|byte| *byte == b':').unwrap_or(0);
            line[..end]
                .trim_ascii()
                .eq_ignore_ascii_case(name.as_bytes())
        };
        lines.iter().skip(1).filter(is_called).count()
    };
    assert!(called("host") <= 1, "two hosts");
    assert!(called("content-length") <= 1, "two lengths");
    assert!(called("transfer-encoding") <= 1, "two codings");
    assert!(
        called("content-length") + called("transfer-encoding") <= 1,
        "two framings"
    );
}

/// How many bytes are let through, if nothing stands against them.
fn release(pieces: &[&[u8]]) -> Result<usize, ()> {
    let mut guard = Guard::new(MAX_HEAD_BYTES, MAX_TARGET_BYTES);
    let mut waiting: Vec<u8> = Vec::new();
    let mut total = 0;
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            let released = guard.release(&waiting, usize::MAX).map_err(|_fault| ())?;
            if released == 0 {
                break;
            }
            waiting.drain(..released);
            total += released;
        }
    }
    Ok(total)
}

fn leads_nowhere_else(path: &str) {
    if find(policy(), &Method::POST, path).is_ok() {
        let plain = percent_decoded(path.as_bytes());
        assert!(!plain.contains(&b'\\') && !plain.contains(&0) && plain.starts_with(b"/"));
        let mut segments = plain.split(|byte| *byte == b'/');
        assert!(
            segments.all(|segment| segment != b".." && segment != b"."),
            "the path climbs"
        );
    }
}

fn names_one_host(url: &str) {
    if let Ok(first) = upstream(url) {
        let scheme = if first.tls { "https" } else { "http" };
        let again = upstream(&format!(
            "{scheme}://{}{}",
            first.authority(),
            first.base_path
        ));
        assert_eq!(Ok(first), again, "the origin reads otherwise once written");
    }
}
