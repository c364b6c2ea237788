//! Counters by a label whose values are known beforehand.
//!
//! Each is there from the start, at 0, so that its first count is a change; and counting is a
//! look-up in a table that nobody changes, without a lock. A word that is not in the table is
//! counted all the same, with a lock: only code of ours makes words, so that one is a mistake here.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Counters by word.
pub(crate) struct ByWord {
    known: HashMap<&'static str, IntCounter, RandomState>,
    all: IntCounterVec,
}

impl ByWord {
    /// Makes and registers them, with every word at 0.
    pub(crate) fn register(
        registry: &Registry,
        (name, help): (&str, &str),
        label: &str,
        words: impl IntoIterator<Item = &'static str>,
    ) -> Result<Self, prometheus::Error> {
        let all = IntCounterVec::new(Opts::new(name, help), &[label])?;
        registry.register(Box::new(all.clone()))?;
        let known = words.into_iter();
        let known = known.map(|word| (word, all.with_label_values(&[word])));
        Ok(Self {
            known: known.collect(),
            all,
        })
    }

    pub(crate) fn add(&self, word: &str, count: u64) {
        match self.known.get(word) {
            Some(counter) => counter.inc_by(count),
            None => self.all.with_label_values(&[word]).inc_by(count),
        }
    }

    pub(crate) fn inc(&self, word: &str) {
        self.add(word, 1);
    }
}
