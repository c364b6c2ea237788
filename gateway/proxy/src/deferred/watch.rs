//! Reads what one answer tells of deferred work, as it passes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode};
use tollgate_core::deferred::{Charge, Correction, Kind, Known, RemoteId, Tally};
use tollgate_core::ids::{ProviderName, TenantId};
use tollgate_core::money::PicoUsd;
use tollgate_core::policy::Operation;
use tollgate_core::record::UsageSource;
use tollgate_core::usage::batch::{Line, Results, batch_states, begun_id, streamed_id};
use tollgate_core::usage::{Framing, Meter, Metered, Usage};

use super::Later;
use crate::forward::is_plain;
use crate::gateway::Gateway;
use crate::pool::UpstreamAnswer;
use crate::settle::Settlement;

/// The longest answer that is held back until it has been understood. A list of a hundred batches
/// is a tenth of it; a response repeats its instructions and tools.
const MAX_HELD_BYTES: usize = 1024 * 1024;

/// Watches one answer for what it tells of deferred work.
pub(crate) struct Watch {
    gw: Arc<Gateway>,
    tenant: TenantId,
    provider: ProviderName,
    held: Option<BytesMut>,
    sought: Sought,
    /// The upstream has said everything.
    whole: bool,
}

/// What is looked for.
enum Sought {
    /// The id of what is begun.
    Id {
        kind: Kind,
        known: Known,
        in_events: bool,
    },
    /// How batches stand.
    States(Option<(RemoteId, Charge)>),
    /// The results of a batch, and how many have passed.
    Results(RemoteId, Box<(Results, Tally)>, u64),
    /// A response that was made in the background.
    Response(RemoteId, Box<(Meter, Tally)>),
    /// Nothing more.
    Nothing,
}

/// What the work of a charge has come to.
pub(crate) struct Stated {
    /// What the charge is kept under.
    pub(crate) id: RemoteId,
    pub(crate) charge: Charge,
    pub(crate) correction: Correction,
}

impl Watch {
    /// `None` if an answer with this head has nothing to tell.
    pub(crate) fn new(
        gw: &Arc<Gateway>,
        (tenant, provider): (&TenantId, &ProviderName),
        later: Later,
        answer: &UpstreamAnswer,
    ) -> Option<Self> {
        let (status, headers) = (answer.response.status(), answer.response.headers());
        let kind = headers.get(http::header::CONTENT_TYPE);
        let framing = |operation| Framing::of(operation, kind.map(HeaderValue::as_bytes), false);
        let sought = match later {
            Later::Nothing => return None,
            // What is compressed cannot be read here, and its work stays charged.
            _ if !status.is_success() || !is_plain(headers) => return None,
            Later::Begins(kind, known) => Sought::Id {
                kind,
                known: *known,
                in_events: framing(Operation::Responses) == Framing::Events,
            },
            Later::States => Sought::States(None),
            // A part of the results (206) never corrects anything.
            Later::Results(..) if status != StatusCode::OK => return None,
            Later::Results(Operation::ResponseStatus, charged) => {
                let (id, charge, prices) = *charged;
                let operation = Operation::Responses;
                let meter = Meter::new(operation, framing(operation), false);
                Sought::Response(id, Box::new((meter, Tally::new(charge, prices))))
            }
            Later::Results(operation, charged) => {
                let (id, charge, prices) = *charged;
                let results = Results::new(operation);
                Sought::Results(id, Box::new((results, Tally::new(charge, prices))), 0)
            }
        };
        let holds = matches!(sought, Sought::Id { .. } | Sought::States(_));
        Some(Self {
            gw: Arc::clone(gw),
            tenant: tenant.clone(),
            provider: provider.clone(),
            held: holds.then(BytesMut::new),
            sought,
            whole: false,
        })
    }

    /// One piece of the answer; what may be passed on for it.
    pub(crate) fn frame(&mut self, bytes: Bytes, settlement: &mut Settlement) -> Bytes {
        match &mut self.sought {
            Sought::Results(_, reader, lines) => {
                let (results, tally) = &mut **reader;
                results.feed(&bytes, |line| add(tally, lines, line));
            }
            Sought::Response(_, reader) => {
                // Nothing is withheld from the answer to a status.
                let _unchanged = reader.0.feed(&bytes);
            }
            Sought::Id { .. } | Sought::States(_) | Sought::Nothing => {}
        }
        let Some(held) = &mut self.held else {
            return bytes;
        };
        // The end of an event may have begun in the piece before.
        let seam = held.len().saturating_sub(3);
        held.extend_from_slice(&bytes);
        if let Sought::Id {
            in_events: true, ..
        } = &self.sought
            && held.get(seam..).is_some_and(ends_an_event)
            && let Some(named) = streamed_id(held)
        {
            self.begun(named, settlement);
            return self.release();
        }
        if self
            .held
            .as_ref()
            .is_some_and(|held| held.len() > MAX_HELD_BYTES)
        {
            tracing::warn!("an answer about deferred work is too long to be read");
            self.sought = Sought::Nothing;
            return self.release();
        }
        Bytes::new()
    }

    /// The upstream has said everything: what has been held back, if anything.
    pub(crate) fn flush(&mut self, settlement: &mut Settlement) -> Option<Bytes> {
        self.whole = true;
        let held = self.held.take()?.freeze();
        match &self.sought {
            Sought::Id { .. } => self.begun(begun_id(&held), settlement),
            Sought::States(_) => self.states(&held),
            Sought::Results(..) | Sought::Response(..) | Sought::Nothing => {}
        }
        Some(held)
    }

    /// What the answer has stated, if it changes what the call costs. Results that did not pass
    /// whole state nothing.
    pub(crate) fn end(self) -> Option<Box<Stated>> {
        if !self.whole {
            return None;
        }
        let (id, charge, correction) = match self.sought {
            Sought::Results(id, reader, mut lines) => {
                let (results, mut tally) = *reader;
                results.finish(|line| add(&mut tally, &mut lines, line));
                let charge = tally.charge().clone();
                // An end that nothing announces may come too early.
                if lines < charge.lines {
                    return None;
                }
                (id, charge, tally.finish())
            }
            Sought::Response(id, reader) => {
                let (meter, mut tally) = *reader;
                let reading = meter.finish();
                // Under way, or ended without a word on its usage.
                let Metered::Exact(_) = reading.metered else {
                    return None;
                };
                tally.add(&reading);
                let charge = tally.charge().clone();
                (id, charge, tally.finish())
            }
            Sought::States(Some((id, charge))) => {
                let correction = Correction {
                    cost: PicoUsd::ZERO.saturating_sub(charge.amount),
                    usage: Usage::default(),
                    models: Vec::new(),
                    source: UsageSource::Exact,
                };
                (id, charge, correction)
            }
            Sought::States(None) | Sought::Id { .. } | Sought::Nothing => return None,
        };
        Some(Box::new(Stated {
            id,
            charge,
            correction,
        }))
    }

    fn release(&mut self) -> Bytes {
        self.held.take().unwrap_or_default().freeze()
    }

    fn id(&self, kind: Kind, id: &str) -> Option<RemoteId> {
        RemoteId::new(&self.tenant, &self.provider, kind, id)
    }

    /// Keeps what has been begun under its id.
    fn begun(&mut self, named: Option<String>, settlement: &mut Settlement) {
        let Sought::Id { kind, known, .. } = std::mem::replace(&mut self.sought, Sought::Nothing)
        else {
            return;
        };
        let Some(id) = named.and_then(|named| self.id(kind, &named)) else {
            tracing::warn!("an answer names no id for the work it begins; it stays charged");
            return;
        };
        match known {
            Known::Charge(charge) => settlement.begun(id, charge),
            Known::Input(_) | Known::Results { .. } => self.remember(&id, &known),
        }
    }

    /// Keeps where the results of known batches are, and finds one that is to be paid back whole.
    fn states(&mut self, document: &[u8]) {
        let now = (self.gw.clock)();
        let mut nothing = None;
        for state in batch_states(document) {
            let Some(id) = self.id(Kind::Batch, &state.id) else {
                continue;
            };
            let Some(Known::Charge(charge)) = self.gw.stores.deferred.recall(&id, now) else {
                continue;
            };
            if let Some(file) = state
                .output_file
                .and_then(|file| self.id(Kind::File, &file))
            {
                let results = Known::Results {
                    batch: state.id,
                    lines: state.completed,
                };
                self.remember(&file, &results);
            } else if state.came_to_nothing && nothing.is_none() {
                nothing = Some((id, charge));
            }
        }
        self.sought = Sought::States(nothing);
    }

    fn remember(&self, id: &RemoteId, known: &Known) {
        let kept = self
            .gw
            .stores
            .deferred
            .remember(id, known, (self.gw.clock)());
        if let Err(error) = kept {
            tracing::error!(%error, id = id.as_str(), "deferred work stays charged as it is");
        }
    }
}

/// Whether an empty line is among these bytes: only then is it worth reading what has come so far.
fn ends_an_event(bytes: &[u8]) -> bool {
    let mut windows = bytes.windows(3);
    bytes.ends_with(b"\n\n")
        || windows.any(|three| three == b"\n\r\n" || three.starts_with(b"\n\n"))
}

fn add(tally: &mut Tally, lines: &mut u64, line: Line) {
    *lines = lines.saturating_add(1);
    match line {
        Line::Used(reading) => tally.add(&reading),
        Line::Unbilled => {}
        Line::Unread => tally.add_unread(),
    }
}

#[cfg(test)]
mod tests {
    use super::ends_an_event;

    #[test]
    fn an_event_ends_with_an_empty_line_of_either_kind() {
        for bytes in ["\n\n", "a\r\n\r\n", "a\n\nb", "\r\n\r\nb"] {
            assert!(ends_an_event(bytes.as_bytes()), "{bytes:?}");
        }
        for bytes in ["", "\n", "a\nb\n", "a\r\nb\r\n", "\n\r"] {
            assert!(!ends_an_event(bytes.as_bytes()), "{bytes:?}");
        }
    }
}
