//! Keeps what reached the mock, for tests to look at.
//!
//! It judges nothing. Bodies are hashed whole and kept up to a limit, so that memory stays bounded by
//! the number of requests, of which only the newest may be kept; hashes and lengths are exact for any
//! size.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version};
use tokio::sync::watch;

use super::account::Account;

/// How far an answer got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is still being sent, or waits.
    Open,
    /// Its last byte was handed to the connection.
    Sent,
    /// The connection went away before that, or the mock broke it off as told.
    Broken,
}

/// What a provider bills for one answer, whether or not the answer says so.
///
/// Input contains what was read from and written to a cache, output contains reasoning: what the
/// same counts mean in a gateway's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Billed {
    /// Tokens in.
    pub input: u64,
    /// Those of them that were read from a cache.
    pub cached: u64,
    /// Those of them that were written to a cache.
    pub cache_write: u64,
    /// Tokens out.
    pub output: u64,
    /// Those of them that are reasoning.
    pub reasoning: u64,
    /// Characters spoken.
    pub characters: u64,
    /// Milliseconds of audio heard.
    pub audio_ms: u64,
    /// Searches, as rerank counts them.
    pub searches: u64,
    /// Pages read.
    pub pages: u64,
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct SeenRequest {
    /// Method.
    pub method: Method,
    /// Path and query as sent.
    pub path_and_query: String,
    /// Authority: `:authority`, the absolute form's, or nothing.
    pub authority: Option<String>,
    /// Protocol version.
    pub version: Version,
    /// Header names (lower case) and values in order of first appearance.
    pub headers: Vec<(String, HeaderValue)>,
    /// The connection it came on, counted from 1.
    pub connection: u64,
    /// When its head arrived.
    pub at: Instant,
    /// Whether the body's end was seen; the fields below are final then.
    pub complete: bool,
    /// Length of the body in bytes.
    pub body_len: u64,
    /// SHA-256 of the body in hexadecimal, once complete.
    pub body_sha256: String,
    /// The body's start, up to the configured limit.
    pub body: Bytes,
    /// How far the answer got. What is not [`Outcome::Sent`] may not have stated its usage.
    pub outcome: Outcome,
    /// What the answer costs; `None` for what is free and for errors.
    pub billed: Option<Billed>,
}

impl SeenRequest {
    /// All values of a header, in order; unreadable bytes replaced.
    pub fn header_values(&self, name: &str) -> Vec<String> {
        let matching = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        matching
            .map(|(_, value)| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    }

    /// The value of a header that stands exactly once.
    pub fn header(&self, name: &str) -> Option<String> {
        match self.header_values(name).as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        }
    }

    /// Whether a text stands anywhere in path, query, headers or the kept part of the body.
    pub fn mentions(&self, text: &str) -> bool {
        let needle = text.as_bytes();
        let found = |haystack: &[u8]| {
            !needle.is_empty() && haystack.windows(needle.len()).any(|w| w == needle)
        };
        found(self.path_and_query.as_bytes())
            || self
                .headers
                .iter()
                .any(|(n, v)| found(n.as_bytes()) || found(v.as_bytes()))
            || found(&self.body)
    }
}

/// A request's body, measured.
#[derive(Debug, Default)]
pub(crate) struct BodyFacts {
    pub(crate) len: u64,
    pub(crate) sha256: String,
    pub(crate) kept: Bytes,
}

/// One kept request, shared with whoever is answering it.
#[derive(Debug)]
pub(crate) struct Entry {
    seen: SeenRequest,
    body: Mutex<Option<BodyFacts>>,
    billed: OnceLock<Billed>,
    outcome: AtomicU8,
    account: Arc<Account>,
}

impl Entry {
    /// Notes what the answer costs.
    pub(crate) fn bill(&self, billed: Billed) {
        // One request, one answer: there is no second bill.
        if self.billed.set(billed).is_ok() {
            self.account.add(&self.seen.headers, &billed);
        }
    }

    pub(crate) fn finish(&self, outcome: Outcome) {
        let code = match outcome {
            Outcome::Open => 0,
            Outcome::Sent => 1,
            Outcome::Broken => 2,
        };
        // The first verdict stands: a dropped body after its last byte changes nothing.
        let _ = self
            .outcome
            .compare_exchange(0, code, Ordering::AcqRel, Ordering::Acquire);
    }

    fn snapshot(&self) -> SeenRequest {
        let mut seen = self.seen.clone();
        if let Some(body) = lock(&self.body).as_ref() {
            seen.complete = true;
            seen.body_len = body.len;
            seen.body_sha256.clone_from(&body.sha256);
            seen.body = body.kept.clone();
        }
        seen.billed = self.billed.get().copied();
        seen.outcome = match self.outcome.load(Ordering::Acquire) {
            0 => Outcome::Open,
            1 => Outcome::Sent,
            _ => Outcome::Broken,
        };
        seen
    }
}

/// Everything one mock has seen.
#[derive(Debug)]
pub(crate) struct Journal {
    entries: Mutex<VecDeque<Arc<Entry>>>,
    /// How many of them are kept.
    most: usize,
    complete: watch::Sender<usize>,
    account: Arc<Account>,
}

impl Journal {
    /// Keeps the newest `most` requests.
    pub(crate) fn of(most: usize) -> Self {
        Self {
            entries: Mutex::default(),
            most,
            complete: watch::Sender::new(0),
            account: Arc::default(),
        }
    }

    /// What was billed since the start, whatever of it is still kept.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    pub(crate) fn open(&self, head: &Parts, connection: u64) -> Arc<Entry> {
        let seen = SeenRequest {
            method: head.method.clone(),
            path_and_query: head
                .uri
                .path_and_query()
                .map_or_else(String::new, ToString::to_string),
            authority: head.uri.authority().map(ToString::to_string),
            version: head.version,
            headers: in_order(&head.headers),
            connection,
            at: Instant::now(),
            complete: false,
            body_len: 0,
            body_sha256: String::new(),
            body: Bytes::new(),
            outcome: Outcome::Open,
            billed: None,
        };
        let entry = Arc::new(Entry {
            seen,
            body: Mutex::default(),
            billed: OnceLock::new(),
            outcome: AtomicU8::new(0),
            account: Arc::clone(&self.account),
        });
        let mut entries = lock(&self.entries);
        entries.push_back(Arc::clone(&entry));
        if entries.len() > self.most {
            entries.pop_front();
        }
        entry
    }

    pub(crate) fn complete(&self, entry: &Entry, body: BodyFacts) {
        *lock(&entry.body) = Some(body);
        self.complete.send_modify(|count| *count += 1);
    }

    pub(crate) fn snapshot(&self) -> Vec<SeenRequest> {
        lock(&self.entries)
            .iter()
            .map(|entry| entry.snapshot())
            .collect()
    }

    pub(crate) fn clear(&self) {
        lock(&self.entries).clear();
        self.complete.send_modify(|count| *count = 0);
    }

    pub(crate) async fn wait_for(&self, wanted: usize) {
        // The sender lives as long as `self`, so this only ends by success.
        let _ = self
            .complete
            .subscribe()
            .wait_for(|count| *count >= wanted)
            .await;
    }
}

fn in_order(headers: &HeaderMap) -> Vec<(String, HeaderValue)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.clone()))
        .collect()
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
