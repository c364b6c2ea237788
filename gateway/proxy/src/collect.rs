//! Reads a client's whole body within bounds, and gets rid of a body that nobody wants.
//!
//! Decides only about sizes, memory and time. Worst case for memory: twice the budget, while a
//! body that came in pieces is put together.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::tracker::Tracker;

/// The budget is counted in pieces of so many bytes: a semaphore counts in 32 bits at a time.
const UNIT_BYTES: u64 = 4 * 1024;

/// Longest time a refused request's body is read and thrown away.
const LINGER: Duration = Duration::from_secs(2);

/// Longest body that is taken in after its call was turned away: one read's worth or a few.
const SMALL_BYTES: u64 = 64 * 1024;

/// How long the rest of it is waited for: it is on the wire, or its client is slow.
const AT_HAND: Duration = Duration::from_millis(20);

/// How much memory all buffered bodies may take together.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Semaphore>);

impl MemoryBudget {
    /// A budget of `bytes`, rounded up to 4 KiB.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let units = usize::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(usize::MAX);
        Self(Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))))
    }

    /// Bytes that are not taken.
    #[must_use]
    pub fn available_bytes(&self) -> u64 {
        self.0.available_permits() as u64 * UNIT_BYTES
    }
}

/// A body in memory, and its share of the budget for as long as this lives.
#[derive(Debug)]
pub struct Collected {
    /// The body.
    pub bytes: Bytes,
    share: Share,
}

impl Collected {
    /// A body that takes no part of the budget, since nobody has sent it.
    pub(crate) fn described(bytes: Bytes) -> Self {
        Self {
            bytes,
            share: Share::default(),
        }
    }

    /// Puts another form of the body in its place, and makes its share large enough for it.
    ///
    /// # Errors
    /// [`CollectError::Overloaded`] if the budget has not so much left; the body is then as it was.
    pub fn replace(&mut self, bytes: Vec<u8>, budget: &MemoryBudget) -> Result<(), CollectError> {
        self.share.grow(budget, bytes.len() as u64)?;
        self.bytes = Bytes::from(bytes);
        Ok(())
    }

    /// The body and, apart from it, the guard of its share of the budget.
    #[must_use]
    pub fn into_parts(self) -> (Bytes, Share) {
        (self.bytes, self.share)
    }
}

/// A share of a [`MemoryBudget`], given back when dropped.
#[derive(Debug, Default)]
pub struct Share {
    permit: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Makes the share large enough for `bytes`.
    fn grow(&mut self, budget: &MemoryBudget, bytes: u64) -> Result<(), CollectError> {
        let held = self
            .permit
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits) as u64;
        let missing = bytes.div_ceil(UNIT_BYTES).saturating_sub(held);
        let Some(missing) = u32::try_from(missing).ok().filter(|missing| *missing > 0) else {
            return if missing == 0 {
                Ok(())
            } else {
                Err(CollectError::Overloaded)
            };
        };
        let more = Arc::clone(&budget.0)
            .try_acquire_many_owned(missing)
            .map_err(|_none_left| CollectError::Overloaded)?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }
}

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CollectError {
    /// It is, or says it is, over the limit.
    #[error("the request body is over the limit")]
    TooLarge,
    /// It did not arrive in time.
    #[error("the request body did not arrive in time")]
    Timeout,
    /// The client hung up.
    #[error("the client broke off its request")]
    ClientGone,
    /// Its framing is broken.
    #[error("the request body is malformed")]
    Malformed,
    /// All buffered bodies together are over the budget.
    #[error("too many request bodies at one time")]
    Overloaded,
}

/// Reads a whole body of at most `limit_bytes` within `deadline`.
///
/// A declared length over the limit is refused before anything is read. Memory is taken as bytes
/// arrive, so that a large declared length alone costs others nothing.
///
/// # Errors
/// [`CollectError`]; the rest of the body has then not been read.
pub async fn collect(
    incoming: &mut Incoming,
    limit_bytes: u64,
    budget: &MemoryBudget,
    deadline: Duration,
) -> Result<Collected, CollectError> {
    let declared = incoming.size_hint();
    if declared.lower() > limit_bytes {
        return Err(CollectError::TooLarge);
    }
    let deadline = Instant::now() + deadline;
    let mut share = Share::default();
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut total: u64 = 0;
    while !incoming.is_end_stream() {
        let frame = timeout_at(deadline, incoming.frame())
            .await
            .map_err(|_elapsed| CollectError::Timeout)?;
        let Some(frame) = frame else { break };
        // Trailers are dropped: nothing has judged them.
        let Ok(bytes) = frame.map_err(|error| classify(&error))?.into_data() else {
            continue;
        };
        total = total.saturating_add(bytes.len() as u64);
        if total > limit_bytes {
            return Err(CollectError::TooLarge);
        }
        share.grow(budget, total)?;
        if first.is_empty() && rest.is_empty() {
            first = bytes;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(first.len() + bytes.len());
            rest.extend_from_slice(&std::mem::take(&mut first));
        }
        rest.extend_from_slice(&bytes);
    }
    let bytes = if rest.is_empty() {
        first
    } else {
        rest.freeze()
    };
    Ok(Collected { bytes, share })
}

fn classify(error: &hyper::Error) -> CollectError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && matches!(
                io.kind(),
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput
            )
        {
            return CollectError::Malformed;
        }
        source = cause.source();
    }
    CollectError::ClientGone
}

/// Reads and throws away the body of a refused request for at most two seconds, so that the
/// client gets to read the answer and may keep its connection.
///
/// Not if the client waits to be asked for the body: reading it would ask.
pub fn linger(tracker: &Tracker, headers: &HeaderMap, mut incoming: Incoming) {
    if incoming.is_end_stream() || headers.contains_key(header::EXPECT) {
        return;
    }
    tracker.detach(async move {
        let deadline = Instant::now() + LINGER;
        while let Ok(Some(Ok(_))) = timeout_at(deadline, incoming.frame()).await {}
    });
}

/// Takes in the small body of a call that is turned away and throws it away: it is mostly there
/// already, and a connection that is kept is cheaper than the next one.
///
/// Not if the client waits to be asked for the body, nor for long.
pub async fn take_in(headers: &HeaderMap, mut incoming: Incoming) {
    let is_small = incoming
        .size_hint()
        .upper()
        .is_some_and(|bytes| bytes <= SMALL_BYTES);
    if !is_small || headers.contains_key(header::EXPECT) {
        return;
    }
    let deadline = Instant::now() + AT_HAND;
    while let Ok(Some(Ok(_))) = timeout_at(deadline, incoming.frame()).await {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_takes_from_the_budget_and_gives_it_back() {
        let budget = MemoryBudget::new(64 * 1024);
        let mut share = Share::default();
        share.grow(&budget, 1).unwrap();
        assert_eq!(budget.available_bytes(), 60 * 1024);
        share.grow(&budget, 8 * 1024).unwrap();
        assert_eq!(budget.available_bytes(), 56 * 1024);
        assert_eq!(
            share.grow(&budget, 65 * 1024),
            Err(CollectError::Overloaded)
        );
        drop(share);
        assert_eq!(budget.available_bytes(), 64 * 1024);
    }
}
