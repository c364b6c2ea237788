//! Purses and the real script, with answers lost, messages late and messages that never leave: the
//! sum holds at every moment.

use std::time::Instant;

use tollgate_core::budget::{Account, Budget};
use tollgate_testkit::contract::{daily, name, now, record_id};

use super::*;
use crate::redis::link::Link;
use crate::redis::tests::{SERVER, redis};
use crate::redis::visits::{MARK, TRIP, texts};

const LIMIT: i128 = 1_000;
const REPLICAS: usize = 3;
const STEPS: u32 = 200;

/// xorshift64*: the same seed gives the same story.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }

    fn place(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).expect("small")
    }
}

type Answer = oneshot::Receiver<Result<Taken, Arc<StoreError>>>;

/// A message to Redis that is still on its way when everybody has given up on it.
type Late = (Vec<String>, Vec<String>);

struct Story {
    link: Arc<Link>,
    purses: Vec<Purse>,
    waiting: Vec<(usize, Answer)>,
    held: Vec<(usize, Hold)>,
    late: Vec<Late>,
    chance: Chance,
    budget: Budget,
    start: Instant,
    step: u32,
}

impl Story {
    async fn new(seed: u64) -> Self {
        let link = Link::new(redis(SERVER.port(), &format!("story-{seed}"))).expect("settings");
        link.mend(Duration::from_secs(10)).await.expect("up");
        let marker = [link.key("acme", "marker")];
        link.run(&MARK, &marker, &["e".to_owned()], false)
            .await
            .expect("up");
        Self {
            link,
            purses: (0..REPLICAS).map(|_| Purse::new(name("acme"), 1)).collect(),
            waiting: Vec::new(),
            held: Vec::new(),
            late: Vec::new(),
            chance: Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            budget: daily("acme", Some(LIMIT)),
            start: Instant::now(),
            step: 0,
        }
    }

    fn terms(&self) -> Terms {
        Terms {
            members: 3,
            leases: true,
            lease: Duration::from_secs(10),
            // So much between two steps that whoever waits for others is tried again.
            now: self.start + Duration::from_millis(200) * self.step,
        }
    }

    fn take(&mut self) {
        let at = self.chance.place(REPLICAS);
        let amount = i128::from(self.chance.below(120) + 1);
        let demand = Demand {
            id: record_id(self.step),
            account: &Account::from(std::slice::from_ref(&self.budget)),
            amount: PicoUsd::new(amount),
            limits: &[],
            tokens: 0,
            now: now(),
        };
        let terms = self.terms();
        match self.purses[at].take(&demand, &terms) {
            Ok(Taken::All(hold, _)) => self.held.push((at, hold)),
            Ok(other) => panic!("nothing is refused without a visit: {other:?}"),
            Err(answer) => self.waiting.push((at, answer)),
        }
    }

    fn settle(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let place = self.chance.place(self.held.len());
        let (at, hold) = self.held.swap_remove(place);
        let amount = u64::try_from(hold.amount.as_pico()).expect("small");
        let cost = i128::from(self.chance.below(amount + 1));
        self.purses[at].settle(hold.id, PicoUsd::new(cost));
    }

    async fn visit(&mut self, at: usize, faults: bool) {
        let terms = self.terms();
        let Some(plan) = self.purses[at].plan(&terms, now()) else {
            return;
        };
        let mut keys = vec![
            self.link.key("acme", "marker"),
            self.link.key("acme", "counters"),
        ];
        keys.extend(plan.keys.iter().map(|rest| self.link.key("acme", rest)));
        let mut args = vec![
            "e".to_owned(),
            format!("r{at}"),
            plan.visit.to_string(),
            plan.answered.to_string(),
            "visit".to_owned(),
            plan.counters.to_string(),
        ];
        args.extend(plan.args.iter().cloned());
        let error = Arc::new(StoreError {
            operation: "reserve",
            store: "shared",
            cause: "lost".into(),
        });
        match if faults { self.chance.below(10) } else { 9 } {
            0 => return self.purses[at].failed(plan, false, &error),
            1 => {
                self.late.push((keys, args));
                return self.purses[at].failed(plan, true, &error);
            }
            _ => {}
        }
        let said = texts(self.link.run(&TRIP, &keys, &args, false).await.expect("up"));
        let said = said.expect("text");
        if faults && self.chance.below(10) == 0 {
            return self.purses[at].failed(plan, true, &error);
        }
        match said[0].as_str() {
            "done" => {
                let reply = Reply::parse(&said[1..], plan.counters).expect("an answer");
                self.purses[at].arrived(plan, &reply, &terms);
            }
            "late" => {
                self.purses[at].go_on_after(said[1].parse().expect("a number"));
                self.purses[at].put_off(plan);
            }
            other => panic!("step {}: {other}", self.step),
        }
    }

    /// What was on its way all the time arrives.
    async fn late(&mut self) {
        if !self.late.is_empty() {
            let place = self.chance.place(self.late.len());
            let (keys, args) = self.late.swap_remove(place);
            self.link.run(&TRIP, &keys, &args, false).await.expect("up");
        }
    }

    fn hear(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        for (at, mut answer) in waiting {
            match answer.try_recv() {
                Ok(Ok(Taken::All(hold, _))) => self.held.push((at, hold)),
                Ok(_) | Err(oneshot::error::TryRecvError::Closed) => {}
                Err(oneshot::error::TryRecvError::Empty) => self.waiting.push((at, answer)),
            }
        }
    }

    fn used(&self) -> i128 {
        let purses = self.purses.iter();
        let counters = purses.flat_map(|purse| purse.counters.iter());
        counters.map(|counter| counter.used().as_pico()).sum()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_lost_late_or_never_sent_the_sum_holds_and_comes_out_right() {
    for seed in 0..30 {
        let mut story = Story::new(seed).await;
        for step in 0..STEPS {
            story.step = step;
            match story.chance.below(8) {
                0..=2 => story.take(),
                3 => story.settle(),
                4 => story.late().await,
                _ => {
                    let at = story.chance.place(REPLICAS);
                    story.visit(at, true).await;
                }
            }
            story.hear();
            let used = story.used();
            assert!(used <= LIMIT, "seed {seed}, step {step}: {used}");
        }
        while !story.held.is_empty() {
            story.settle();
        }
        // Everybody says the last of it, and what was late comes in at the worst time.
        for round in 0..6 {
            story.step = STEPS + round;
            story.late().await;
            for at in 0..REPLICAS {
                story.purses[at].tick();
                story.visit(at, false).await;
                story.hear();
                while !story.held.is_empty() {
                    story.settle();
                }
            }
        }
        // Slices have gone back, and Redis holds what was really spent, from whomever it heard.
        let settled = story.used();
        let key = story.link.key("acme", "money:tenant/day:2026-11-18");
        for field in ["settled", "claimed"] {
            let said = SERVER.ask(&["HGET", &key, field]);
            let expected = format!("0:{settled}");
            assert!(
                said.contains(&expected),
                "seed {seed}: {field} {said}, not {expected}"
            );
        }
    }
}

#[test]
fn a_slice_is_a_part_of_what_is_left_and_shrinks_with_it() {
    let budget = daily("acme", Some(8_000));
    let mut counter = Counter::new(budget.key, now());
    counter.limit = budget.limit;
    counter.take(PicoUsd::new(500), now());
    let terms = |leases, members| Terms {
        members,
        leases,
        lease: Duration::from_secs(10),
        now: Instant::now(),
    };
    let slice = |counter: &Counter, terms: Terms| counter.slice(PicoUsd::ZERO, &terms).as_pico();
    assert_eq!(
        slice(&counter, terms(true, 1)),
        500,
        "as much as a second took"
    );
    assert_eq!(
        slice(&counter, terms(true, 3)),
        7_500 / 24,
        "a third of an eighth"
    );
    assert_eq!(slice(&counter, terms(false, 1)), 0);
    counter.others = PicoUsd::new(7_400);
    assert_eq!(slice(&counter, terms(true, 1)), 100 / 8);
    counter.others = PicoUsd::new(7_500);
    assert_eq!(slice(&counter, terms(true, 1)), 0);
    counter.others = PicoUsd::ZERO;
    counter.exact_until = Some(Instant::now() + Duration::from_secs(5));
    assert_eq!(slice(&counter, terms(true, 1)), 0, "others are short of it");
    counter.exact_until = None;
    counter.tick();
    counter.tick();
    assert_eq!(
        slice(&counter, terms(true, 1)),
        0,
        "what is not used goes back"
    );
}
