//! The tap on an answer: every frame is metered as it passes, and the end settles the call.

use bytes::Bytes;
use tollgate_core::identity::Caller;
use tollgate_core::record::Outcome;
use tollgate_core::usage::{Meter, Reading, Relay};

use std::sync::Arc;

use crate::authenticate::is_cut_off;
use crate::deferred::Watch;
use crate::gateway::Gateway;
use crate::relay::{RelayEnd, Tap, Tapped};
use crate::scrub::Scrub;
use crate::settle::Settlement;

/// Meters one answer. Its end, whatever the reason, settles the call exactly once.
pub(crate) struct MeterTap {
    gw: Arc<Gateway>,
    caller: Arc<Caller>,
    meter: Option<Meter>,
    watch: Option<Watch>,
    scrub: Option<Scrub>,
    settlement: Box<Settlement>,
    revoked: bool,
}

impl MeterTap {
    /// `meter` is absent where nothing is metered: tools, free endpoints, error answers; `scrub`
    /// where no secret was sent.
    pub(crate) fn new(
        gw: Arc<Gateway>,
        caller: Arc<Caller>,
        meter: Option<Meter>,
        watch: Option<Watch>,
        scrub: Option<Scrub>,
        settlement: Box<Settlement>,
    ) -> Self {
        Self {
            gw,
            caller,
            meter,
            watch,
            scrub,
            settlement,
            revoked: false,
        }
    }
}

impl Tap for MeterTap {
    fn frame(&mut self, bytes: Bytes) -> Tapped {
        self.settlement.passed(bytes.len());
        if self
            .scrub
            .as_mut()
            .is_some_and(|scrub| scrub.is_hidden_by(&bytes))
        {
            tracing::warn!(
                request = %self.settlement.id(),
                "an answer was cut: it was compressed, or in UTF-16, although it said that it was plain text"
            );
            return Tapped::Cut;
        }
        let bytes = match &mut self.meter {
            Some(meter) => match meter.feed(&bytes) {
                Relay::Unchanged => bytes,
                Relay::Instead(others) => Bytes::copy_from_slice(others),
            },
            None => bytes,
        };
        let bytes = match &mut self.watch {
            Some(watch) => watch.frame(bytes, &mut self.settlement),
            None => bytes,
        };
        Tapped::Pass(match &mut self.scrub {
            Some(scrub) => scrub.frame(bytes),
            None => bytes,
        })
    }

    fn flush(&mut self) -> Option<Bytes> {
        let rest = self.meter.as_mut().map(|meter| Bytes::from(meter.end()));
        // The meter withholds chunks of chat completions only, which nothing else is sought in.
        let rest = match &mut self.watch {
            Some(watch) => watch.flush(&mut self.settlement).or(rest),
            None => rest,
        };
        match &mut self.scrub {
            Some(scrub) => scrub.flush(rest),
            None => rest,
        }
    }

    fn tick(&mut self) -> bool {
        self.revoked = is_cut_off(&self.gw, &self.caller);
        !self.revoked
    }

    fn end(mut self: Box<Self>, how: RelayEnd) {
        self.settlement.last_byte();
        let outcome = match how {
            RelayEnd::Complete => Outcome::Completed,
            RelayEnd::ClientGone => Outcome::ClientGone,
            RelayEnd::Cut if self.revoked => Outcome::Revoked,
            RelayEnd::Cut | RelayEnd::UpstreamFailed | RelayEnd::Idle => Outcome::UpstreamFailed,
        };
        if outcome == Outcome::Revoked {
            self.gw.metrics.cut_off(&self.caller, (self.gw.clock)());
        }
        // A meter that has just panicked would do so again, and take the process with it.
        let panicking = std::thread::panicking();
        let meter = self.meter.filter(|_| !panicking);
        let mut reading = meter.map_or_else(Reading::nothing, Meter::finish);
        if let Some(scrub) = self.scrub.filter(|_| !panicking) {
            scrub.reading(&mut reading);
            if scrub.count(&self.gw.metrics) {
                self.settlement.scrubbed();
            }
        }
        match self.watch.filter(|_| !panicking).and_then(Watch::end) {
            Some(stated) => self.settlement.correct(outcome, *stated),
            None => self.settlement.close(outcome, &reading),
        }
    }
}
