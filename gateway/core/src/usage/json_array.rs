//! Cuts a stream that is one JSON array into its elements, however the bytes are split.
//!
//! Gemini streams so unless it is asked for server-sent events. An answer that is a single JSON
//! object is cut alike, so that one reader serves both. What stands between the objects is not
//! handed on, and whether an object is valid JSON is its reader's business.
//!
//! At most one unfinished object is kept, of a length that its user states.
//!
//! Worst case: an object longer than the bound is handed on in parts, unread. Text that is no JSON
//! is one such object from its first brace on.

use std::borrow::Cow;

use super::framing::Piece;
use super::unfinished::Unfinished;

/// The unfinished object at the end of what has been fed so far.
#[derive(Debug)]
pub(super) struct Elements {
    pending: Unfinished,
    /// How many objects deep: brackets need no count, since braces within them are balanced.
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Elements {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            pending: Unfinished::new(max_bytes),
            depth: 0,
            in_string: false,
            escaped: false,
        }
    }

    /// Whether bytes are kept that belong to no finished object.
    pub(super) fn holds(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Hands on every object that `bytes` completes, in order.
    pub(super) fn feed(&mut self, bytes: &[u8], mut piece: impl FnMut(Piece<'_>)) {
        let mut rest = bytes;
        loop {
            if self.depth == 0 {
                let Some(start) = memchr::memchr(b'{', rest) else {
                    return;
                };
                rest = rest.get(start..).unwrap_or_default();
            }
            match self.find_end(rest) {
                Some(length) => {
                    let (part, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                    self.pending.complete(part, whole, &mut piece);
                    rest = after;
                }
                None => {
                    self.pending.keep(rest, &mut piece);
                    return;
                }
            }
        }
    }

    /// How many bytes there are up to the end of the object that has begun or begins here; `None`
    /// if it does not end in `bytes`.
    fn find_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0_usize;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let stop = if self.escaped {
                (!rest.is_empty()).then_some(0)
            } else if self.in_string {
                memchr::memchr2(b'"', b'\\', rest)
            } else {
                memchr::memchr3(b'"', b'{', b'}', rest)
            }?;
            let byte = rest.get(stop).copied().unwrap_or_default();
            at = at.saturating_add(stop).saturating_add(1);
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' => self.depth = self.depth.saturating_add(1),
                _ => self.depth = self.depth.saturating_sub(1),
            }
            if self.depth == 0 {
                return Some(at);
            }
        }
    }

    /// Hands on the unfinished object, if there is one, unread.
    pub(super) fn end(&mut self, piece: impl FnMut(Piece<'_>)) {
        self.pending.end(|rest| Piece::Oversized(rest), piece);
    }
}

fn whole(bytes: &[u8]) -> Piece<'_> {
    Piece::Whole {
        bytes,
        data: Cow::Borrowed(bytes),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The objects of `text` fed in pieces of `step` bytes, and how many bytes were unread.
    fn objects(text: &str, step: usize, max_bytes: usize) -> (Vec<String>, usize) {
        let mut elements = Elements::new(max_bytes);
        let (mut objects, mut unread) = (Vec::new(), 0);
        let mut note = |piece: Piece<'_>| match piece {
            Piece::Whole { data, .. } => {
                objects.push(String::from_utf8(data.to_vec()).expect("UTF-8"));
            }
            Piece::Oversized(bytes) => unread += bytes.len(),
        };
        for bytes in text.as_bytes().chunks(step) {
            elements.feed(bytes, &mut note);
            assert!(elements.pending.kept.len() <= max_bytes);
        }
        elements.end(&mut note);
        assert!(!elements.holds());
        (objects, unread)
    }

    #[test]
    fn any_split_gives_the_same_elements() {
        let inner = r#"{"a":[{"b":"}{\"]["},[]],"c":"\\"}"#;
        for (text, expected) in [
            (
                format!("[{inner}\n,\n{{}} ,{inner}]\n"),
                vec![inner, "{}", inner],
            ),
            (format!(" {inner} "), vec![inner]),
            ("[]".to_owned(), vec![]),
            (String::new(), vec![]),
        ] {
            for step in 1..=text.len().max(1) {
                let (seen, unread) = objects(&text, step, 100);
                assert_eq!((seen, unread), (to_owned(&expected), 0), "{text} by {step}");
            }
        }
    }

    fn to_owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn an_object_too_long_to_read_is_handed_on_and_the_next_one_is_read() {
        let long = format!("{{\"a\":\"{}\"}}", "}\\\"".repeat(20));
        let text = format!("[{long},{{}}]");
        for step in 1..30 {
            let (seen, unread) = objects(&text, step, 40);
            assert_eq!(seen, ["{}"], "by {step}");
            assert_eq!(unread, long.len());
        }
    }

    #[test]
    fn what_is_cut_off_is_unread() {
        let text = r#"[{"a":1},{"b":"#;
        assert_eq!(objects(text, 3, 40), (to_owned(&[r#"{"a":1}"#]), 5));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_keep_more_than_the_bound(
            text in "[\\[\\]{}\",\\\\a]{0,60}",
            step in 1_usize..9,
        ) {
            let (objects, unread) = objects(&text, step, 8);
            prop_assert!(objects.concat().len() + unread <= text.len());
        }
    }
}
