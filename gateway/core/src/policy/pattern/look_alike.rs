//! Paths that a server may take for one that a pattern is meant for.
//!
//! Where a pattern gives leave, a path in another spelling is refused and nothing is lost. Where
//! it marks what is to be watched, the same spelling would slip past; so marks are wider: escapes
//! are decoded, letters compare without their case, and slashes at the end do not count. Worst
//! case: a server with a spelling of its own (`/files/7.json` for `/files/7`) is not seen through.

use super::{PathPattern, Segment};
use crate::route::decode;

impl PathPattern {
    /// Whether `path` fits, or might be taken for one that does.
    #[must_use]
    pub fn resembles(&self, path: &str) -> bool {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        for expected in &self.0 {
            let alike = match expected {
                Segment::Literal(text) if text.is_empty() => true,
                Segment::Rest => return segments.next().is_some(),
                Segment::Any => segments.next().is_some(),
                Segment::Literal(text) => segments
                    .next()
                    .is_some_and(|segment| plain(segment) == plain(text)),
                Segment::Model { action } => segments
                    .next()
                    .is_some_and(|segment| plain(segment).ends_with(&plain(action))),
            };
            if !alike {
                return false;
            }
        }
        segments.next().is_none()
    }
}

/// The bytes that are meant, in lower case.
fn plain(segment: &str) -> Vec<u8> {
    let mut bytes = decode(segment);
    bytes.make_ascii_lowercase();
    bytes
}
