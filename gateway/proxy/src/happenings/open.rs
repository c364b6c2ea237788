//! The calls under way, in a book of many parts: no call waits for another to enter or leave.
//!
//! A call is written in once it may leave and struck out when it is settled, whichever way it
//! ends. Worst case: a look locks one part after the other, so what it shows is not of one moment.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tollgate_core::happening::{Audience, OpenCall, OpenCalls};
use tollgate_core::ids::RecordId;
use tollgate_core::money::PicoUsd;
use tollgate_core::record::Subject;

/// Parts of the book; calls are spread over them as they come.
const PARTS: usize = 32;

type Part = HashMap<RecordId, Arc<Entry>, foldhash::fast::RandomState>;

/// Every call under way.
#[derive(Default)]
pub(super) struct Book {
    parts: [Mutex<Part>; PARTS],
    next: AtomicU64,
}

/// One call.
pub(super) struct Entry {
    subject: Arc<Subject>,
    held: PicoUsd,
    stream: bool,
    /// Zero while there is no answer.
    status: AtomicU16,
    bytes: AtomicU64,
}

impl Entry {
    pub(super) const fn of(subject: Arc<Subject>, held: PicoUsd, stream: bool) -> Self {
        Self {
            subject,
            held,
            stream,
            status: AtomicU16::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    fn as_seen(&self) -> OpenCall {
        let status = self.status.load(Ordering::Relaxed);
        let subject = &self.subject;
        OpenCall {
            id: subject.id,
            started_at: subject.started_at,
            tenant: subject.tenant.clone(),
            agent: subject.agent.clone(),
            task: subject.task.clone(),
            token: subject.token.clone(),
            provider: subject.provider.clone(),
            model: subject.request_model.clone(),
            stream: self.stream,
            reserved_usd: self.held,
            status: (status != 0).then_some(status),
            answer_bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

impl Book {
    pub(super) fn add(self: &Arc<Self>, entry: Entry) -> Shown {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let part = usize::try_from(next).unwrap_or_default() % PARTS;
        let entry = Arc::new(entry);
        let id = entry.subject.id;
        self.part(part).insert(id, Arc::clone(&entry));
        Shown {
            book: Arc::clone(self),
            part,
            entry,
        }
    }

    pub(super) fn seen_by(&self, audience: &Audience, most: usize) -> OpenCalls {
        let mut seen: Vec<Arc<Entry>> = Vec::new();
        for part in 0..PARTS {
            let part = self.part(part);
            let entries = part.values();
            seen.extend(
                entries
                    .filter(|entry| audience.sees(Some(&entry.subject.tenant)))
                    .cloned(),
            );
        }
        seen.sort_unstable_by_key(|entry| (entry.subject.started_at, entry.subject.id));
        let left_out = seen.len().saturating_sub(most);
        seen.truncate(most);
        OpenCalls {
            calls: seen.iter().map(|entry| entry.as_seen()).collect(),
            left_out,
        }
    }

    fn part(&self, part: usize) -> MutexGuard<'_, Part> {
        let part = &self.parts[part];
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's line in the book; dropping it strikes it out.
pub(crate) struct Shown {
    book: Arc<Book>,
    part: usize,
    entry: Arc<Entry>,
}

impl Shown {
    /// The upstream has answered with this status.
    pub(crate) fn answered(&self, status: u16) {
        self.entry.status.store(status, Ordering::Relaxed);
    }

    /// So many bytes of the answer have come.
    pub(crate) fn passed(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.entry.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.book.part(self.part).remove(&self.entry.subject.id);
    }
}
