//! The tap on an answer: every frame is metered as it passes, and the end settles the call.

use bytes::Bytes;
use tollgate_core::identity::Caller;
use tollgate_core::record::Outcome;
use tollgate_core::usage::{Meter, Reading, Relay};

use std::sync::Arc;

use crate::authenticate::is_cut_off;
use crate::gateway::Gateway;
use crate::relay::{RelayEnd, Tap, Tapped};
use crate::settle::Settlement;

/// Meters one answer. Its end, whatever the reason, settles the call exactly once.
pub(crate) struct MeterTap {
    gw: Arc<Gateway>,
    caller: Arc<Caller>,
    meter: Option<Meter>,
    settlement: Settlement,
    revoked: bool,
}

impl MeterTap {
    /// `meter` is absent where nothing is metered: tools, free endpoints, error answers.
    pub(crate) fn new(
        gw: Arc<Gateway>,
        caller: Arc<Caller>,
        meter: Option<Meter>,
        settlement: Settlement,
    ) -> Self {
        Self {
            gw,
            caller,
            meter,
            settlement,
            revoked: false,
        }
    }
}

impl Tap for MeterTap {
    fn frame(&mut self, bytes: Bytes) -> Tapped {
        match &mut self.meter {
            Some(meter) => match meter.feed(&bytes) {
                Relay::Unchanged => Tapped::Pass(bytes),
                Relay::Instead(others) => Tapped::Pass(Bytes::copy_from_slice(others)),
            },
            None => Tapped::Pass(bytes),
        }
    }

    fn flush(&mut self) -> Option<Bytes> {
        self.meter.as_mut().map(|meter| Bytes::from(meter.end()))
    }

    fn tick(&mut self) -> bool {
        self.revoked = is_cut_off(&self.gw, &self.caller);
        !self.revoked
    }

    fn end(self: Box<Self>, how: RelayEnd) {
        let outcome = match how {
            RelayEnd::Complete => Outcome::Completed,
            RelayEnd::ClientGone => Outcome::ClientGone,
            RelayEnd::Cut if self.revoked => Outcome::Revoked,
            RelayEnd::Cut | RelayEnd::UpstreamFailed | RelayEnd::Idle => Outcome::UpstreamFailed,
        };
        // A meter that has just panicked would do so again, and take the process with it.
        let meter = self.meter.filter(|_| !std::thread::panicking());
        let reading = meter.map_or_else(Reading::nothing, Meter::finish);
        self.settlement.close(outcome, &reading);
    }
}
