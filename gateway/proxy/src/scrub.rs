//! Keeps the secret of a call from coming back: nothing of an answer reaches the client but
//! through here, once one was sent.
//!
//! Values of headers get [`MARK`] for it; a header whose name holds it goes, and so does a reason
//! phrase. A body whose length was announced keeps that length: what stands for the secret is
//! filled up to it, so that clients, connections and framing inside the body see what they would
//! have seen. Only a body that may hold a form shorter than the mark loses its `content-length`.
//! What the meter reads are the upstream's own bytes; of what it read, only names reach a record,
//! and they are scrubbed as well.
//!
//! A body that is compressed or in UTF-16 although its head says that it is plain text ends at
//! once: nobody could search it but whoever unpacks it.
//!
//! Worst case: a secret too short to have needles is not looked for, which its record says.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, response};
use hyper::ext::ReasonPhrase;
use tollgate_core::scrub::{Filling, MARK, Needles, Passed, Scrubber};
use tollgate_core::usage::Reading;

use crate::metrics::{Metrics, Where};

/// Looks for the secret that a call has sent in its answer.
pub(crate) struct Scrub {
    /// Absent where the secret is too short to look for.
    needles: Option<Arc<Needles>>,
    /// What the body begins with, while that may still show that it is not the text it is said
    /// to be.
    lead: Option<Lead>,
    body: Option<Scrubber>,
    hits_in_head: u64,
}

impl Scrub {
    pub(crate) const fn new(needles: Option<Arc<Needles>>) -> Self {
        Self {
            needles,
            lead: None,
            body: None,
            hits_in_head: 0,
        }
    }

    /// Scrubs the head of the answer; the body comes next.
    pub(crate) fn head(&mut self, head: &mut response::Parts) {
        let Some(needles) = &self.needles else { return };
        let holds_it = |name: &&HeaderName| needles.are_in_name(name.as_str());
        let named: Vec<HeaderName> = head.headers.keys().filter(holds_it).cloned().collect();
        for name in named {
            head.headers.remove(name);
            self.hits_in_head = self.hits_in_head.saturating_add(1);
        }
        for (name, value) in &mut head.headers {
            // The codec has read it as a number already.
            if *name == CONTENT_LENGTH {
                continue;
            }
            if let Some(scrubbed) = needles.scrub(value.as_bytes()) {
                *value = HeaderValue::from_bytes(&scrubbed)
                    .unwrap_or_else(|_unprintable| HeaderValue::from_static("[redacted]"));
                self.hits_in_head = self.hits_in_head.saturating_add(1);
            }
        }
        let reason = head.extensions.get::<ReasonPhrase>();
        if reason.is_some_and(|reason| needles.scrub(reason.as_bytes()).is_some()) {
            head.extensions.remove::<ReasonPhrase>();
            self.hits_in_head = self.hits_in_head.saturating_add(1);
        }
        if !needles.has_room_for_mark() {
            head.headers.remove(CONTENT_LENGTH);
        }
        self.lead = is_said_to_be_text(&head.headers).then(Lead::default);
        let filling = if head.headers.contains_key(CONTENT_LENGTH) {
            Filling::SameLength
        } else {
            Filling::Mark
        };
        self.body = Some(Scrubber::new(Arc::clone(needles), filling));
    }

    /// Whether these next bytes of the body show that it is compressed, or in UTF-16, although its
    /// head says that it is text: what is in it cannot be searched.
    pub(crate) fn is_hidden_by(&mut self, bytes: &[u8]) -> bool {
        let Some(lead) = &mut self.lead else {
            return false;
        };
        match lead.take(bytes) {
            None => false,
            Some(is_hidden) => {
                self.lead = None;
                is_hidden
            }
        }
    }

    /// What the client gets for the next bytes of the body.
    pub(crate) fn frame(&mut self, mut bytes: Bytes) -> Bytes {
        let Some(body) = &mut self.body else {
            return bytes;
        };
        match body.feed(&bytes) {
            Passed::All => bytes,
            Passed::First(length) => bytes.split_to(length),
            Passed::Instead(others) => Bytes::from(others),
        }
    }

    /// What the client gets at the end, when the body ends with `rest`.
    pub(crate) fn flush(&mut self, rest: Option<Bytes>) -> Option<Bytes> {
        let rest = rest.map(|rest| self.frame(rest)).unwrap_or_default();
        let held = self.body.as_mut().map(Scrubber::end).unwrap_or_default();
        if held.is_empty() {
            return Some(rest);
        }
        Some(Bytes::from([&rest[..], &held].concat()))
    }

    /// Takes the secret out of the names in `reading` that are kept.
    pub(crate) fn reading(&self, reading: &mut Reading) {
        let Some(needles) = &self.needles else { return };
        let elsewhere = reading.elsewhere.iter_mut().map(|(name, _)| name);
        for name in elsewhere.chain(reading.response_model.as_mut()) {
            if needles.scrub(name.as_bytes()).is_some() {
                *name = String::from_utf8_lossy(MARK).into_owned();
            }
        }
    }

    /// Counts what was found. True if anything was.
    pub(crate) fn count(&self, metrics: &Metrics) -> bool {
        let in_body = self.body.as_ref().map_or(0, Scrubber::hits);
        metrics.security.scrubbed(Where::Header, self.hits_in_head);
        metrics.security.scrubbed(Where::Body, in_body);
        self.hits_in_head > 0 || in_body > 0
    }
}

/// The first bytes of a body.
#[derive(Debug, Clone, Copy, Default)]
struct Lead {
    bytes: [u8; 4],
    length: usize,
}

impl Lead {
    /// Whether the body begins as one does that cannot be searched; `None` while that cannot be said.
    fn take(&mut self, bytes: &[u8]) -> Option<bool> {
        for (free, byte) in self.bytes.iter_mut().skip(self.length).zip(bytes) {
            *free = *byte;
            self.length += 1;
        }
        let begin = &self.bytes[..self.length];
        if UNSEARCHABLE.iter().any(|magic| begin.starts_with(magic)) {
            return Some(true);
        }
        let may_become = UNSEARCHABLE.iter().any(|magic| magic.starts_with(begin));
        (!may_become).then_some(false)
    }
}

/// How gzip (RFC 1952), Zstandard (RFC 8878), zlib (RFC 1950, its three usual levels), xz, and
/// texts in UTF-16 or UTF-32 with a byte order mark begin. Brotli begins like anything.
const UNSEARCHABLE: [&[u8]; 9] = [
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
    b"\x78\x01",
    b"\x78\x9c",
    b"\x78\xda",
    b"\xfd7zX",
    b"\xff\xfe",
    b"\xfe\xff",
    b"\x00\x00\xfe\xff",
];

/// Whether the head announces text; an archive that says so is one. A body of no announced type
/// may be read as anything.
fn is_said_to_be_text(headers: &HeaderMap) -> bool {
    !headers.contains_key(CONTENT_TYPE)
        || headers.get_all(CONTENT_TYPE).iter().any(|value| {
            let value = value.to_str().unwrap_or_default().to_ascii_lowercase();
            let kind = value.split(';').next().unwrap_or_default().trim();
            kind.starts_with("text/")
                || [
                    "json",
                    "jsonl",
                    "xml",
                    "javascript",
                    "x-www-form-urlencoded",
                    "x-ndjson",
                ]
                .iter()
                .any(|text| kind.ends_with(text))
        })
}

#[cfg(test)]
mod tests;
