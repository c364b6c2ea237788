//! What the calls, the streams and the records of the scenario say about the promises.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::Value;

use super::super::Findings;
use super::super::rig::Rig;
use super::{CLOSED_WITHIN, Calls, Holder, REFUSED_WITHIN, Stream, TENANTS, ms};

/// When it was revoked, and who is concerned.
pub(super) struct Case<'a> {
    pub(super) holders: &'a [Holder],
    pub(super) concerned: &'a [bool],
    /// When the revocation was sent.
    pub(super) sent: Instant,
}

impl Case<'_> {
    fn concerns(&self, holder: usize) -> bool {
        self.concerned.get(holder) == Some(&true)
    }

    /// Whether a holder is of another tenant than those concerned.
    fn is_foreign(&self, holder: usize) -> bool {
        let tenant = |who: usize| self.holders.get(who).map(|holder| holder.tenant);
        let revoked = self.concerned.iter().position(|concerned| *concerned);
        tenant(holder) != revoked.and_then(tenant)
    }

    pub(super) fn calls(&self, calls: &[(usize, Calls)], found: &mut Findings) {
        let mut first_refusal = Some(0);
        let (mut last_accepted, mut late, mut others, mut made) = (0, 0, 0, 0);
        for (who, calls) in calls {
            made += calls.accepted.len() as u64 + calls.refused;
            if !self.concerns(*who) {
                others += calls.refused;
                continue;
            }
            let refused = calls.first_refusal.map(|at| ms(self.sent, at));
            first_refusal = first_refusal
                .zip(refused)
                .map(|(worst, this)| worst.max(this));
            for begun in &calls.accepted {
                last_accepted = last_accepted.max(ms(self.sent, *begun));
                late += i128::from(*begun > self.sent + REFUSED_WITHIN);
            }
        }
        let bound = ms(self.sent, self.sent + REFUSED_WITHIN);
        found.note("calls", "made by callers meanwhile", made);
        found.note(
            "first_refusal_ms",
            "from sending the revocation to the first refusal, at the slowest caller",
            first_refusal,
        );
        found.must(first_refusal.is_some_and(|ms| ms <= bound), || {
            format!("the first refusal came after {first_refusal:?} ms, not within {bound}")
        });
        found.note(
            "last_acceptance_ms",
            "from sending it to the begin of the last call accepted",
            last_accepted,
        );
        found.must_be_zero(
            "calls_accepted_after_1s",
            "calls begun later than that and accepted",
            late,
        );
        found.must_be_zero(
            "other_calls_refused",
            "calls refused of those not concerned",
            others.into(),
        );
    }

    pub(super) fn streams(&self, ended: &[Stream], found: &mut Findings) {
        let mut last = 0;
        let [mut ran_on, mut foreign, mut neighbours] = [0; 3];
        for stream in ended {
            if self.concerns(stream.holder) {
                last = last.max(ms(self.sent, stream.ended));
                ran_on += i128::from(stream.whole);
            } else if !stream.whole && self.is_foreign(stream.holder) {
                foreign += 1;
            } else if !stream.whole {
                neighbours += 1;
            }
        }
        let bound = ms(self.sent, self.sent + CLOSED_WITHIN);
        found.note(
            "last_stream_closed_ms",
            "from sending the revocation to the end of the last stream concerned",
            last,
        );
        found.must(last <= bound, || {
            format!("the last stream closed after {last} ms, not within {bound}")
        });
        found.must_be_zero(
            "revoked_streams_not_cut",
            "streams concerned that came to their regular end",
            ran_on,
        );
        found.must_be_zero(
            "other_tenants_streams_cut",
            "streams of other tenants that did not come to their regular end",
            foreign,
        );
        found.must_be_zero(
            "neighbours_streams_cut",
            "streams of the same tenant, not concerned, that did not",
            neighbours,
        );
    }

    /// Each stream has one record, which says how it ended and what it cost.
    ///
    /// # Errors
    /// If the records cannot be read.
    pub(super) fn records(
        &self,
        rig: &Rig,
        ended: &[Stream],
        found: &mut Findings,
    ) -> anyhow::Result<()> {
        let mut records: HashMap<String, Vec<(String, String)>> = HashMap::new();
        let text = |record: &Value, name: &str| {
            let field = record.get(name).and_then(Value::as_str);
            field.unwrap_or_default().to_owned()
        };
        for tenant in TENANTS {
            rig.each_record(tenant, |record| {
                let outcome = text(record, "tollgate.outcome");
                let cost = text(record, "tollgate.cost_usd");
                let id = text(record, "tollgate.record.id");
                records.entry(id).or_default().push((outcome, cost));
                Ok(())
            })?;
        }
        let [mut unrecorded, mut doubled, mut wrong, mut free] = [0; 4];
        for stream in ended {
            let Some([(outcome, cost), more @ ..]) = records.get(&stream.record).map(Vec::as_slice)
            else {
                unrecorded += 1;
                continue;
            };
            let expected = if self.concerns(stream.holder) {
                "revoked"
            } else {
                "completed"
            };
            doubled += i128::from(!more.is_empty());
            wrong += i128::from(outcome != expected);
            free += i128::from(cost == "0");
        }
        for (name, meaning, count) in [
            ("unrecorded_streams", "streams without a record", unrecorded),
            ("doubly_recorded_streams", "with more than one", doubled),
            (
                "misrecorded_streams",
                "whose record says another end than theirs",
                wrong,
            ),
            ("free_streams", "that are charged nothing", free),
        ] {
            found.must_be_zero(name, meaning, count);
        }
        Ok(())
    }
}
