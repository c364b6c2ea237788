//! Keeps of a plain JSON answer what usage is read from.
//!
//! The bulk of an answer stands in lists directly under its top level: choices, content,
//! embeddings. Where usage does not depend on them, they are left out as they pass, so that an
//! answer of any length is read with little memory. Where it does, lists of numbers are left out,
//! since no usage hides in a vector. A short answer is kept as it is until it is read.
//!
//! Worst case: what is kept beyond the bound is dropped, and the answer counts as unread.

/// Answers up to this length are kept whole, which costs less than leaving anything out.
const SHORT_BYTES: usize = 64 * 1024;

/// What is kept of an answer so far.
#[derive(Debug)]
pub(super) struct Body {
    kept: Vec<u8>,
    max_bytes: usize,
    /// Whether everything is kept so far.
    whole: bool,
    overflowed: bool,
    seen_bytes: usize,
    place: Place,
}

/// Where in the JSON text the next byte stands.
#[derive(Debug, Default)]
struct Place {
    in_string: bool,
    escaped: bool,
    depth: usize,
    /// Whether the lists under the top level are left out, rather than lists of numbers.
    skims: bool,
    /// Whether a list has begun whose first item is still to come.
    list_begins: bool,
    /// How many lists deep, inside one that is left out.
    lists_left_out: usize,
}

impl Body {
    /// `skim` leaves out the lists under the top level, otherwise lists of numbers.
    pub(super) fn new(max_bytes: usize, skim: bool) -> Self {
        Self {
            kept: Vec::new(),
            max_bytes,
            whole: true,
            overflowed: false,
            seen_bytes: 0,
            place: Place {
                skims: skim,
                ..Place::default()
            },
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.seen_bytes = self.seen_bytes.saturating_add(bytes.len());
        if self.whole && self.seen_bytes <= SHORT_BYTES.min(self.max_bytes) {
            self.kept.extend_from_slice(bytes);
        } else {
            self.thin_out();
            self.skim(bytes);
        }
    }

    /// Leaves out what is to be left out of what was kept whole.
    fn thin_out(&mut self) {
        if std::mem::take(&mut self.whole) {
            let whole = std::mem::take(&mut self.kept);
            self.skim(&whole);
        }
    }

    /// Keeps of `bytes` what is to be kept.
    fn skim(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.overflowed {
            let stop = self.place.next_stop(rest);
            let (run, after) = rest.split_at_checked(stop).unwrap_or((rest, &[]));
            if self.place.lists_left_out == 0 {
                self.keep(run);
            }
            rest = after;
            let Some((&byte, after)) = rest.split_first() else {
                break;
            };
            let kept_before = self.place.lists_left_out == 0;
            self.place.pass(byte);
            // Both brackets of a list that is left out stay.
            if self.place.lists_left_out == 0 || (kept_before && byte == b'[') {
                self.keep(&[byte]);
            }
            rest = after;
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.kept.len().saturating_add(bytes.len()) > self.max_bytes {
            self.overflowed = true;
            self.kept = Vec::new();
        }
        if !self.overflowed {
            self.kept.extend_from_slice(bytes);
        }
    }

    /// The whole answer, if it was short.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        self.whole.then_some(self.kept.as_slice())
    }

    /// The kept JSON, unless it was too much.
    pub(super) fn into_kept(mut self) -> Option<Vec<u8>> {
        self.thin_out();
        (!self.overflowed).then_some(self.kept)
    }

    /// How many bytes there were.
    pub(super) fn seen_bytes(&self) -> usize {
        self.seen_bytes
    }
}

impl Place {
    /// How many bytes of `rest` change nothing about the place.
    fn next_stop(&self, rest: &[u8]) -> usize {
        let stop = if self.escaped || self.list_begins {
            Some(0)
        } else if self.in_string {
            memchr::memchr2(b'"', b'\\', rest)
        } else if self.lists_left_out > 0 {
            memchr::memchr3(b'"', b'[', b']', rest)
        } else {
            let structural = |byte: &u8| matches!(byte, b'"' | b'[' | b']' | b'{' | b'}');
            rest.iter().position(structural)
        };
        stop.unwrap_or(rest.len())
    }

    fn pass(&mut self, byte: u8) {
        if self.list_begins {
            if byte.is_ascii_whitespace() {
                return;
            }
            self.list_begins = false;
            if byte == b'-' || byte.is_ascii_digit() {
                self.lists_left_out = 1;
                return;
            }
        }
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'[' if self.lists_left_out > 0 || (self.skims && self.depth == 1) => {
                self.lists_left_out = self.lists_left_out.saturating_add(1);
            }
            b']' if self.lists_left_out > 0 => {
                self.lists_left_out = self.lists_left_out.saturating_sub(1);
            }
            b'[' if !self.skims => self.list_begins = true,
            b'[' | b'{' => self.depth = self.depth.saturating_add(1),
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str, skim: bool, step: usize) -> String {
        let mut body = Body::new(1_000, skim);
        for bytes in text.as_bytes().chunks(step) {
            body.feed(bytes);
        }
        assert_eq!(body.seen_bytes(), text.len());
        String::from_utf8(body.into_kept().expect("little is kept")).expect("UTF-8")
    }

    #[test]
    fn lists_under_the_top_level_are_left_out_however_the_bytes_are_split() {
        for (text, expected) in [
            (
                r#"{"data":[1,[2,{"a":"]"}],"\"]\\"],"b":1}"#,
                r#"{"data":[],"b":1}"#,
            ),
            (
                r#"{"u":{"i":[1,2]},"s":"[\"[","c":[[[]]],"t":2}"#,
                r#"{"u":{"i":[1,2]},"s":"[\"[","c":[],"t":2}"#,
            ),
            (r#"[1,2]"#, r#"[1,2]"#),
            (r#"{"a":[1,2"#, r#"{"a":["#),
            ("", ""),
        ] {
            for step in 1..=text.len().max(1) {
                assert_eq!(kept(text, true, step), expected, "{text} by {step}");
            }
        }
    }

    #[test]
    fn lists_of_numbers_are_left_out_however_the_bytes_are_split() {
        for (text, expected) in [
            (
                r#"{"p":[{"e":{"v":[ -0.5,1e3],"n":3}},{"v":[[1,2],[3]]}],"t":[]}"#,
                r#"{"p":[{"e":{"v":[ ],"n":3}},{"v":[[],[]]}],"t":[]}"#,
            ),
            (r#"{"a":[1,"]",[2]],"b":"[1"}"#, r#"{"a":[],"b":"[1"}"#),
            (r#"{"a":["x",1],"b":[[]]}"#, r#"{"a":["x",1],"b":[[]]}"#),
            (r#"{"a":[1,2"#, r#"{"a":["#),
        ] {
            for step in 1..=text.len() {
                assert_eq!(kept(text, false, step), expected, "{text} by {step}");
            }
        }
    }

    #[test]
    fn too_much_is_not_kept() {
        let mut body = Body::new(4, false);
        body.feed(b"12345");
        body.feed(b"6");
        assert_eq!((body.seen_bytes(), body.into_kept()), (6, None));
    }
}
