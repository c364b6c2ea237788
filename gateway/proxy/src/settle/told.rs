//! What metrics, the log, watchers and traces are told of a call: when its parts began and ended, and what it was.
//!
//! Decides nothing. Worst case: a call that is dropped in between counts as ended when it was.

use std::sync::Arc;

use tokio::time::Instant;
use tollgate_core::record::{Ending, Subject};

use super::{Settlement, Stage, Tariff};
use crate::metrics::{Kind, Timing};
use crate::record::operation_name;

impl Settlement {
    /// The request goes out, after all that `timing` has counted.
    pub(crate) fn sends(&mut self, timing: Timing) {
        self.timing.insert(timing).sends();
    }

    /// The head of the answer is handed on `now`.
    pub(crate) fn hands_on(&mut self, now: Instant) {
        if let Some(timing) = &mut self.timing {
            timing.hands_on(now);
        }
    }

    /// The answer is a stream.
    pub(crate) fn streams(&mut self) {
        self.stream = Some(self.gw.metrics.streams(&self.under_way));
    }

    /// The answer has ended.
    pub(crate) fn last_byte(&mut self) {
        self.ended = Some(Instant::now());
    }

    /// Tells whoever listens how a call has ended.
    pub(super) fn tell(&mut self, stage: Stage, ending: Ending) {
        let metrics = &self.gw.metrics;
        metrics.settled(&self.under_way, &ending);
        let Stage::Intended(subject) = stage else {
            return;
        };
        if matches!(self.tariff, Tariff::Unmetered(_) | Tariff::Unpriced) {
            metrics.unpriced();
        }
        if let Some(timing) = &self.timing {
            let ended = self.ended.unwrap_or_else(Instant::now);
            metrics.took(timing, ended, self.kind(&subject), &ending);
        }
        self.gw.call_log.ended(&subject, &ending);
        self.shown = None;
        self.gw.scene.ended(&subject, &ending);
        if let (Some(traces), Some(at)) = (&self.gw.traces, &self.trace) {
            traces.ended(at, Arc::unwrap_or_clone(subject), ending);
        }
    }

    /// What metrics call it, if it is a call of a model.
    fn kind<'s>(&'s self, subject: &'s Subject) -> Option<Kind<'s>> {
        Some(Kind {
            operation: operation_name(self.tariff.ask()?.operation),
            provider: subject.provider.as_ref()?.as_str(),
            model: match &self.tariff {
                Tariff::Metered(call) => Some(call.rates.priced_as()),
                _ => None,
            },
        })
    }
}
