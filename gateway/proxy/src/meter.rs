//! The tap on an answer: every frame is metered as it passes, and the end settles the call.

use bytes::Bytes;
use tollgate_core::identity::Caller;
use tollgate_core::record::Outcome;
use tollgate_core::registry::Liveness;
use tollgate_core::usage::{Meter, Reading, Relay};

use std::sync::Arc;

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
        // A registry that cannot be read is no proof of revocation; new calls are refused anyway.
        let liveness = self.gw.stores.registry.liveness(&self.caller);
        self.revoked = matches!(liveness, Ok(Liveness::Revoked));
        !self.revoked
    }

    fn end(self: Box<Self>, how: RelayEnd) {
        let outcome = match how {
            RelayEnd::Complete => Outcome::Completed,
            RelayEnd::ClientGone => Outcome::ClientGone,
            RelayEnd::Cut if self.revoked => Outcome::Revoked,
            RelayEnd::Cut | RelayEnd::UpstreamFailed | RelayEnd::Idle => Outcome::UpstreamFailed,
        };
        let reading = self
            .meter
            .map(Meter::finish)
            .unwrap_or_else(Reading::nothing);
        self.settlement.close(outcome, &reading);
    }
}
