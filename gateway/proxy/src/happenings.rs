//! What calls show to those who watch: which are under way, who was turned away, how they ended.
//!
//! Costs a call one entry in a book of many parts, and nothing more while nobody watches. Each
//! who watches has a queue of its own that takes only what it may see, so that one who reads
//! slowly holds nobody up and misses only what it did not read. Decides nothing and keeps
//! nothing. Worst case: [`MOST_WATCHING`] queues of [`MOST_WAITING`] each, a few megabytes.

mod open;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;
use tollgate_core::happening::{
    Audience, CallEnd, Following, Happening, Happenings, News, OpenCalls, TurnedAway,
};
use tollgate_core::ids::TenantId;
use tollgate_core::money::PicoUsd;
use tollgate_core::record::{Ending, Outcome, Stranger, Subject};

pub(crate) use open::Shown;
use open::{Book, Entry};

/// How many may watch at one time: consoles of those on duty.
const MOST_WATCHING: usize = 16;

/// How many happenings wait for one who watches.
const MOST_WAITING: usize = 512;

/// Who has not looked for so long can lose its place to another.
const ABSENT: Duration = Duration::from_secs(10);

/// A call that took as long may have been seen under way, so its end is told.
const LONG: Duration = Duration::from_secs(1);

/// The longest part of a path that is shown, in characters.
const PATH_CHARACTERS: usize = 256;

/// What happens, and who watches.
#[derive(Default)]
pub struct Scene {
    open: Arc<Book>,
    audience: Arc<Seats>,
}

/// Everybody who watches.
#[derive(Default)]
struct Seats {
    taken: AtomicUsize,
    all: RwLock<Vec<Arc<Seat>>>,
}

/// One who watches.
struct Seat {
    audience: Audience,
    waiting: Mutex<Waiting>,
}

struct Waiting {
    happenings: VecDeque<Happening>,
    missed: u64,
    looked_at: Instant,
    is_lost: bool,
}

impl Scene {
    /// A call has been let through. It is shown until the answer is dropped.
    pub(crate) fn enters(&self, subject: Arc<Subject>, held: PicoUsd, stream: bool) -> Shown {
        self.open.add(Entry::of(subject, held, stream))
    }

    /// A caller was turned away.
    pub(crate) fn turned_away(&self, subject: &Subject, ending: &Ending) {
        self.audience.tell(Some(&subject.tenant), || {
            Happening::TurnedAway(Box::new(TurnedAway {
                id: subject.id,
                at: subject.started_at,
                outcome: ending.outcome,
                status: ending.status.unwrap_or_default(),
                code: ending.code.clone().unwrap_or_default(),
                reason: ending.reason.clone().unwrap_or_default(),
                limit: ending.limit.clone(),
                tenant: Some(subject.tenant.clone()),
                agent: Some(subject.agent.clone()),
                task: Some(subject.task.clone()),
                provider: subject.provider.clone(),
                model: subject.request_model.clone(),
                method: Some(subject.method.to_string()),
                path: Some(subject.path.chars().take(PATH_CHARACTERS).collect()),
                client: None,
            }))
        });
    }

    /// Somebody unknown was turned away.
    pub(crate) fn stranger(&self, stranger: &Stranger) {
        self.audience.tell(None, || {
            Happening::TurnedAway(Box::new(TurnedAway {
                id: stranger.id,
                at: stranger.at,
                outcome: Outcome::Refused,
                status: stranger.status,
                code: stranger.code.clone(),
                reason: stranger.reason.clone(),
                limit: None,
                tenant: None,
                agent: None,
                task: None,
                provider: None,
                model: None,
                method: None,
                path: None,
                client: Some(stranger.client.clone()),
            }))
        });
    }

    /// A call has ended. Those that ended well and soon were hardly seen, and are too many.
    pub(crate) fn ended(&self, subject: &Subject, ending: &Ending) {
        let took = ending.ended_at.since(subject.started_at);
        if ending.outcome == Outcome::Completed && took < LONG {
            return;
        }
        self.audience.tell(Some(&subject.tenant), || {
            Happening::Ended(Box::new(CallEnd {
                id: subject.id,
                at: ending.ended_at,
                tenant: subject.tenant.clone(),
                agent: subject.agent.clone(),
                task: subject.task.clone(),
                provider: subject.provider.clone(),
                model: subject.request_model.clone(),
                outcome: ending.outcome,
                status: ending.status,
                code: ending.code.clone(),
                cost_usd: ending.cost,
                input_tokens: ending.usage.map(|usage| usage.input_tokens),
                output_tokens: ending.usage.map(|usage| usage.output_tokens),
            }))
        });
    }
}

impl Happenings for Scene {
    fn open_calls(&self, audience: &Audience, most: usize) -> OpenCalls {
        self.open.seen_by(audience, most)
    }

    fn follow(&self, audience: Audience) -> Option<Box<dyn Following>> {
        let seats = Arc::clone(&self.audience);
        let seat = seats.take_one(audience)?;
        Some(Box::new(Place { seats, seat }))
    }
}

impl Seats {
    fn take_one(&self, audience: Audience) -> Option<Arc<Seat>> {
        let now = Instant::now();
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_WATCHING {
            let absent = all.iter().position(|seat| seat.waiting().is_absent(now))?;
            all.swap_remove(absent).waiting().lose();
        }
        let seat = Arc::new(Seat {
            audience,
            waiting: Mutex::new(Waiting {
                happenings: VecDeque::new(),
                missed: 0,
                looked_at: now,
                is_lost: false,
            }),
        });
        all.push(Arc::clone(&seat));
        self.taken.store(all.len(), Ordering::Relaxed);
        Some(seat)
    }

    /// Hands what `tenant` does, or a stranger, to those who see it; makes it only then.
    fn tell(&self, tenant: Option<&TenantId>, make: impl Fn() -> Happening) {
        if self.taken.load(Ordering::Relaxed) == 0 {
            return;
        }
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        for seat in all.iter().filter(|seat| seat.audience.sees(tenant)) {
            seat.waiting().push(make());
        }
    }

    fn leave(&self, seat: &Arc<Seat>) {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| !Arc::ptr_eq(other, seat));
        self.taken.store(all.len(), Ordering::Relaxed);
    }
}

impl Seat {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn push(&mut self, happening: Happening) {
        if self.happenings.len() >= MOST_WAITING {
            self.happenings.pop_front();
            self.missed = self.missed.saturating_add(1);
        }
        self.happenings.push_back(happening);
    }

    fn is_absent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.looked_at) >= ABSENT
    }

    fn lose(&mut self) {
        self.is_lost = true;
        self.happenings = VecDeque::new();
    }
}

/// A seat, until this is dropped.
struct Place {
    seats: Arc<Seats>,
    seat: Arc<Seat>,
}

impl Following for Place {
    fn take(&mut self) -> Option<News> {
        let mut waiting = self.seat.waiting();
        if waiting.is_lost {
            return None;
        }
        waiting.looked_at = Instant::now();
        Some(News {
            happenings: std::mem::take(&mut waiting.happenings).into(),
            missed: std::mem::take(&mut waiting.missed),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.seats.leave(&self.seat);
    }
}
