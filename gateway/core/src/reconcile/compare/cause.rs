//! What can make two accounts of the same calls differ, and by how much at most.

use jiff::civil::Date;

use super::super::{Counts, Ours, Part, Records};
use super::{Finding, Verdict};
use crate::money::PicoUsd;

/// What is compared, and what it is called in a sentence.
pub(super) const METRICS: [(&str, &str); 5] = [
    ("requests", "requests"),
    ("input_tokens", "input tokens"),
    ("cached_tokens", "cached input tokens"),
    ("output_tokens", "output tokens"),
    ("cost_usd", "USD"),
];

/// The place of money among them.
const COST: usize = 4;

/// More than anything is: a room without an end.
const ENDLESS: i128 = i128::MAX / 4;

pub(super) fn values(counts: &Counts) -> [i128; 5] {
    [
        counts.requests,
        counts.input_tokens,
        counts.cached_tokens,
        counts.output_tokens,
        counts.cost_usd.as_pico(),
    ]
}

/// A cause, and the room that it leaves below and above our figures.
struct Cause {
    finding: Finding,
    below: [i128; 5],
    above: [i128; 5],
}

/// Every cause there is in one place, in the order in which they are called upon.
pub(super) struct Causes {
    causes: Vec<Cause>,
    /// Calls on credentials that are no key of the export, by credential.
    elsewhere: Vec<(String, Part)>,
}

impl Causes {
    pub(super) fn of(
        records: &Records,
        day: Date,
        key: Option<&str>,
        model: Option<&str>,
        ours: &Ours,
    ) -> Self {
        let causes = [
            estimated(ours),
            midnight(ours),
            deferred(records, day, key, model, ours),
        ];
        let mut elsewhere: Vec<(String, Part)> = Vec::new();
        for ((on, of), credentials) in &records.elsewhere {
            if *on == day && model.is_none_or(|model| model == of) {
                elsewhere.extend(credentials.iter().map(|(name, part)| (name.clone(), *part)));
            }
        }
        Self {
            causes: causes.into_iter().flatten().collect(),
            elsewhere,
        }
    }

    /// Whether batches are among them.
    pub(super) fn has_deferred(&self) -> bool {
        let mut kinds = self.causes.iter().map(|cause| cause.finding.kind);
        kinds.any(|kind| kind == "deferred")
    }

    /// The causes that are needed for a difference (the provider's figure less ours), and what is
    /// left over when all of them are used up.
    pub(super) fn explain(
        &self,
        metric: usize,
        difference: i128,
        tolerated: i128,
    ) -> (Vec<Finding>, i128) {
        let mut used = Vec::new();
        let mut left = difference;
        for cause in &self.causes {
            let side = if left > 0 { &cause.above } else { &cause.below };
            let room = side.get(metric).copied().unwrap_or(0);
            if left.abs() <= tolerated || room == 0 {
                continue;
            }
            used.push(cause.finding.clone());
            let covered = room.min(left.abs());
            left = if left > 0 {
                left.saturating_sub(covered)
            } else {
                left.saturating_add(covered)
            };
        }
        if left.abs() <= tolerated {
            left = 0;
        }
        (used, left)
    }

    /// Judges what is left over: calls on another credential account for it only if they are just
    /// as much.
    pub(super) fn judge_rest(
        &self,
        over: &[(usize, i128)],
        ours: &Ours,
        tokens_agree: bool,
        findings: &mut Vec<Finding>,
    ) -> Verdict {
        let others = |part: &Part| {
            let values = values(&part.counts);
            over.iter()
                .all(|(metric, left)| values.get(*metric) == Some(left))
        };
        if let Some((name, part)) = self.elsewhere.iter().find(|(_, part)| others(part)) {
            findings.push(Finding {
                kind: "other_credentials",
                text: format!(
                    "{} calls on {name}, which is mapped to no key, are just as much",
                    part.calls
                ),
            });
            return Verdict::Explained;
        }
        if tokens_agree {
            findings.push(price(over, ours));
            return Verdict::Unexplained;
        }
        let amount = |metric: usize, left: i128| {
            let (_, name) = METRICS.get(metric).copied().unwrap_or(("", ""));
            if metric == COST {
                format!("{} {name}", PicoUsd::new(left.saturating_abs()))
            } else {
                format!("{} {name}", left.saturating_abs())
            }
        };
        let listed = |is_theirs: bool| {
            let side = over.iter().filter(|(_, left)| (*left > 0) == is_theirs);
            let amounts: Vec<String> = side.map(|(metric, left)| amount(*metric, *left)).collect();
            (!amounts.is_empty()).then(|| amounts.join(", "))
        };
        if let Some(amounts) = listed(true) {
            findings.push(Finding {
                kind: "provider_only",
                text: format!(
                    "{amounts} only the provider knows of: this key was used outside Tollgate, or \
                     records are missing"
                ),
            });
            let calls: Vec<String> = self
                .elsewhere
                .iter()
                .map(|(name, part)| format!("{name} ({} calls)", part.calls))
                .collect();
            if !calls.is_empty() {
                findings.push(Finding {
                    kind: "other_credentials",
                    text: format!(
                        "credentials used on that day that are mapped to no key: {}",
                        calls.join(", ")
                    ),
                });
            }
        }
        if let Some(amounts) = listed(false) {
            findings.push(Finding {
                kind: "ours_only",
                text: format!(
                    "{amounts} only our records know of: the export is not complete yet, or leaves \
                     out what the keys are mapped to"
                ),
            });
        }
        Verdict::Unexplained
    }
}

fn estimated(ours: &Ours) -> Option<Cause> {
    let Part {
        calls,
        counts,
        reserved,
    } = ours.estimated;
    if calls == 0 {
        return None;
    }
    let cost = counts.cost_usd.as_pico();
    let tokens = counts.input_tokens.saturating_add(counts.output_tokens);
    // What was reserved pays for so many tokens at the price of those that are counted.
    let paid = tokens.saturating_mul(reserved.as_pico()).checked_div(cost);
    let most = if ours.uncounted > 0 {
        ENDLESS
    } else {
        paid.unwrap_or(0)
    };
    let mut above = values(&counts).map(|counted| most.saturating_sub(counted).max(0));
    above[0] = 0;
    above[COST] = reserved.as_pico().saturating_sub(cost).max(0);
    let uncounted = match ours.uncounted {
        0 => String::new(),
        some => format!(", {some} of them without any count"),
    };
    Some(Cause {
        finding: Finding {
            kind: "estimated",
            text: format!(
                "{calls} calls ended without a bill and are estimates{uncounted}; {reserved} USD \
                 were reserved for them, {} charged",
                counts.cost_usd
            ),
        },
        below: values(&counts),
        above,
    })
}

fn midnight(ours: &Ours) -> Option<Cause> {
    let (out, into) = (&ours.out, &ours.into);
    (out.calls > 0 || into.calls > 0).then(|| Cause {
        finding: Finding {
            kind: "midnight",
            text: format!(
                "{} calls went on past midnight into the next day, {} came over from the day \
                 before; the provider may count each on its other day",
                out.calls, into.calls
            ),
        },
        below: values(&out.counts),
        above: values(&into.counts),
    })
}

fn deferred(
    records: &Records,
    day: Date,
    key: Option<&str>,
    model: Option<&str>,
    ours: &Ours,
) -> Option<Cause> {
    let mut later = Part::default();
    let mut money = ours.deferred.counts.cost_usd.as_pico().saturating_abs();
    for ((of, on, named), place) in &records.places {
        let fits = *on > day
            && key.is_none_or(|key| key == of)
            && model.is_none_or(|model| model == named);
        if fits {
            later.merge(&place.deferred);
            let cost = place.deferred.counts.cost_usd.as_pico();
            money = money.saturating_add(cost.saturating_abs());
        }
    }
    if ours.deferred.calls == 0 && later.calls == 0 {
        return None;
    }
    let mut below = values(&ours.deferred.counts).map(|counted| counted.max(0));
    let mut above = values(&later.counts).map(|counted| counted.max(0));
    below[COST] = money;
    above[COST] = money;
    Some(Cause {
        finding: Finding {
            kind: "deferred",
            text: format!(
                "batches are charged when they start and corrected when their results are fetched \
                 ({} such records on this day, {} later); the provider counts them when it has \
                 made them",
                ours.deferred.calls, later.calls
            ),
        },
        below,
        above,
    })
}

/// Tokens agree and money does not.
fn price(over: &[(usize, i128)], ours: &Ours) -> Finding {
    let left = over.iter().find(|(metric, _)| *metric == COST);
    let left = PicoUsd::new(left.map_or(0, |(_, left)| *left));
    let prices: Vec<&str> = ours.prices.iter().map(String::as_str).collect();
    let reported = if ours.reported.calls > 0 {
        format!(
            "; its own answers to {} calls came to {} USD",
            ours.reported.calls, ours.reported.counts.cost_usd
        )
    } else {
        String::new()
    };
    Finding {
        kind: "price",
        text: format!(
            "tokens agree and money does not: the provider charges {left} USD more than prices {}{reported}",
            prices.join(", ")
        ),
    }
}
