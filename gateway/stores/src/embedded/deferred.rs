//! What is known of deferred work, in memory behind one lock per tenant, and in the journal before
//! it counts.
//!
//! A charge is claimed under the lock, so of any number of corrections one is made. That one's
//! journal line is at the same time its call's outcome and the end of the charge: the shipper
//! applies both in one transaction, and a crash before the line is written undoes the claim.
//!
//! Worst case: killed within 5 ms of a correction, its charge stands until the results are fetched
//! again; a tenant with more work under way than is kept has its oldest charged at the bound.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tollgate_core::budget::{BudgetKey, StoreError};
use tollgate_core::deferred::{DeferredCharges, KEPT_FOR, KEPT_PER_TENANT, Known, RemoteId};
use tollgate_core::ids::{RecordId, TenantId};
use tollgate_core::record::Ending;
use tollgate_core::time::Timestamp;

use super::journal::Journal;
use super::journal::entry::Written;

/// What is known of the deferred work of every tenant.
pub struct Deferred {
    journal: Arc<Journal>,
    tenants: RwLock<HashMap<TenantId, Arc<Mutex<Book>>>>,
    kept_per_tenant: usize,
}

/// What one tenant has under way.
#[derive(Default)]
struct Book {
    known: HashMap<RemoteId, Entry>,
    /// The same by age. The number tells those of one instant apart.
    by_age: BTreeMap<(Timestamp, u64), RemoteId>,
    next: u64,
}

struct Entry {
    place: (Timestamp, u64),
    known: Known,
}

impl Deferred {
    pub(crate) fn new(
        journal: Arc<Journal>,
        kept: impl IntoIterator<Item = (RemoteId, Timestamp, Known)>,
    ) -> Self {
        let mut tenants: HashMap<TenantId, Book> = HashMap::new();
        for (id, at, known) in kept {
            let book = tenants.entry(id.tenant.clone()).or_default();
            book.put(id, at, known);
        }
        let locked = tenants
            .into_iter()
            .map(|(tenant, book)| (tenant, Arc::new(Mutex::new(book))))
            .collect();
        Self {
            journal,
            tenants: RwLock::new(locked),
            kept_per_tenant: KEPT_PER_TENANT,
        }
    }

    /// The charge that the call `record` made has been corrected elsewhere.
    pub(crate) fn forget(&self, id: &RemoteId, record: RecordId) {
        let Some(book) = self.known(&id.tenant) else {
            return;
        };
        let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Entry {
            known: Known::Charge(charge),
            place,
        }) = book.known.get(id)
            && charge.record == record
        {
            let place = *place;
            self.journal.append_later(&Written::Forgotten(id), false);
            book.by_age.remove(&place);
            book.known.remove(id);
        }
    }

    /// Shows the counters of the charge that `ending` corrects, and forgets it; false if it is not
    /// kept any more.
    pub(crate) fn claim(
        &self,
        id: &RemoteId,
        record: RecordId,
        ending: &Ending,
        keep: impl FnOnce(&[BudgetKey]),
    ) -> bool {
        let Some(book) = self.known(&id.tenant) else {
            return false;
        };
        let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Entry {
            known: Known::Charge(charge),
            place,
        }) = book.known.get(id)
        else {
            return false;
        };
        // A provider that gives an id a second time has put another charge in its place.
        if charge.record != ending.adjusts.unwrap_or(record) {
            return false;
        }
        let place = *place;
        keep(&charge.keys);
        book.by_age.remove(&place);
        book.known.remove(id);
        true
    }

    fn known(&self, tenant: &TenantId) -> Option<Arc<Mutex<Book>>> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.get(tenant).cloned()
    }

    fn book(&self, tenant: &TenantId) -> Arc<Mutex<Book>> {
        self.known(tenant).unwrap_or_else(|| {
            let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
            tenants.entry(tenant.clone()).or_default().clone()
        })
    }
}

impl DeferredCharges for Deferred {
    fn remember(&self, id: &RemoteId, known: &Known, now: Timestamp) -> Result<(), StoreError> {
        let book = self.book(&id.tenant);
        let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
        // What passes again and again, such as the state of a batch, is written down once.
        if book
            .known
            .get(id)
            .is_some_and(|entry| entry.known == *known)
        {
            return Ok(());
        }
        let entry = Written::Remembered { id, at: now, known };
        let written = self.journal.append_unsynced(&entry);
        written.map_err(|error| StoreError {
            operation: "keep a deferred charge",
            store: "record",
            cause: Box::new(error),
        })?;
        book.put(id.clone(), now, known.clone());
        while book.known.len() > self.kept_per_tenant || book.is_overdue(now) {
            let Some((_, oldest)) = book.by_age.pop_first() else {
                break;
            };
            book.known.remove(&oldest);
            self.journal
                .append_later(&Written::Forgotten(&oldest), false);
        }
        Ok(())
    }

    fn recall(&self, id: &RemoteId, now: Timestamp) -> Option<Known> {
        let book = self.known(&id.tenant)?;
        let book = book.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = book.known.get(id)?;
        (now.since(entry.place.0) <= KEPT_FOR).then(|| entry.known.clone())
    }

    fn correct(&self, id: &RemoteId, record: RecordId, ending: &Ending) -> bool {
        self.claim(id, record, ending, |keys| {
            let entry = Written::Correction {
                id: record,
                ending,
                of: id,
                keys,
            };
            self.journal.append_later(&entry, false);
        })
    }
}

impl Book {
    fn put(&mut self, id: RemoteId, at: Timestamp, known: Known) {
        let place = (at, self.next);
        self.next = self.next.wrapping_add(1);
        self.by_age.insert(place, id.clone());
        if let Some(before) = self.known.insert(id, Entry { place, known }) {
            self.by_age.remove(&before.place);
        }
    }

    /// Whether the oldest is too old.
    fn is_overdue(&self, now: Timestamp) -> bool {
        self.by_age
            .first_key_value()
            .is_some_and(|((at, _), _)| now.since(*at) > KEPT_FOR)
    }
}

#[cfg(test)]
mod tests;
