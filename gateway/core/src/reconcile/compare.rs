//! Both sides next to each other, place by place, and why they differ.
//!
//! A difference is explained by causes in a fixed order, each of which leaves room for so much and
//! no more. What is left over is never explained away. Worst case: two causes at once, of which
//! only the first is named because its room was enough.

mod cause;

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde::{Serialize, Serializer};

use super::export::{Export, What};
use super::{Counts, Ours, Records};
use crate::money::PicoUsd;
use cause::{Causes, METRICS, values};

/// Differences that are none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tolerance {
    /// So many tokens or requests, either way.
    pub tokens: u32,
    /// So much money, either way.
    pub usd: PicoUsd,
}

/// What came of a place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Both sides say the same, within the tolerance.
    Agrees,
    /// They do not, by no more than the causes named leave room for.
    Explained,
    /// Something is left over.
    Unexplained,
}

/// Why two figures differ, or may.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// In a fixed word: `estimated`, `midnight`, `deferred`, `other_credentials`, `other_name`,
    /// `price`, `provider_only`, `ours_only`.
    pub kind: &'static str,
    /// For people.
    pub text: String,
}

/// One place, compared.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Compared {
    /// The provider's key; `*` are all of them together.
    pub key: String,
    /// The UTC day.
    #[serde(serialize_with = "date")]
    pub day: Date,
    /// The name that all versions of the model share; `*` are all models together.
    pub model: String,
    /// Whether money is compared here, or else tokens.
    pub is_cost: bool,
    /// What the provider states.
    pub provider: Counts,
    /// What we have on record.
    pub ours: Counts,
    /// What came of it.
    pub verdict: Verdict,
    /// Why.
    pub findings: Vec<Finding>,
}

fn date<S: Serializer>(day: &Date, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(day)
}

/// Everything compared.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Reconciliation {
    /// Place by place.
    pub places: Vec<Compared>,
    /// Keys of the export that are mapped to no credential, with the tokens used by each.
    pub unmapped: BTreeMap<String, i128>,
    /// Keys that are mapped, and of which the export knows nothing.
    pub unused: BTreeSet<String>,
    /// Whether the export's last page says that there are more.
    pub is_cut: bool,
}

impl Reconciliation {
    /// Whether nothing is left over.
    #[must_use]
    pub fn agrees(&self) -> bool {
        let unexplained = |place: &Compared| place.verdict == Verdict::Unexplained;
        !self.is_cut && !self.places.iter().any(unexplained)
    }
}

/// A place of the export: `None` are all keys, or all models.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Spot {
    is_cost: bool,
    day: Date,
    key: Option<String>,
    model: Option<String>,
}

#[derive(Clone, Default)]
struct Theirs {
    counts: Counts,
    names: BTreeSet<String>,
    has_requests: bool,
}

/// Compares an export with our records.
#[must_use]
pub fn compare(export: &Export, records: &Records, tolerance: Tolerance) -> Reconciliation {
    let known = records.keys.names();
    let mut unmapped: BTreeMap<String, i128> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut spots: BTreeMap<Spot, Theirs> = BTreeMap::new();
    for stated in &export.stated {
        if let Some(key) = &stated.key {
            if !known.contains(key.as_str()) {
                let tokens = unmapped.entry(key.clone()).or_default();
                *tokens = tokens
                    .saturating_add(stated.counts.input_tokens)
                    .saturating_add(stated.counts.output_tokens);
                continue;
            }
            seen.insert(key.as_str());
        }
        let spot = Spot {
            is_cost: stated.what == What::Cost,
            day: stated.day,
            key: stated.key.clone(),
            model: stated.common_model(),
        };
        let theirs = spots.entry(spot).or_default();
        theirs.counts.add(&stated.counts);
        theirs.names.extend(stated.model.clone());
        theirs.has_requests |= stated.what == What::Usage;
    }
    let by_key = export.stated.iter().any(|stated| stated.key.is_some());
    let unused = known.iter().filter(|key| by_key && !seen.contains(*key));
    let unused = unused.map(|key| (*key).to_owned()).collect();
    add_ours(export, records, &mut spots);
    let mut places: Vec<Compared> = Vec::new();
    for (spot, theirs) in &spots {
        let ours = ours_at(records, spot);
        let agrees = tokens_agree(&places, spot);
        places.push(judge(records, spot, theirs, &ours, tolerance, agrees));
    }
    places.sort_by(|a, b| {
        (a.day, &a.key, &a.model, a.is_cost).cmp(&(b.day, &b.key, &b.model, b.is_cost))
    });
    Reconciliation {
        places,
        unmapped,
        unused,
        is_cut: export.is_cut,
    }
}

/// Adds the places of which only our records know, on the days that the export is about.
fn add_ours(export: &Export, records: &Records, spots: &mut BTreeMap<Spot, Theirs>) {
    for is_cost in [false, true] {
        let of_kind: Vec<Spot> = spots
            .keys()
            .filter(|spot| spot.is_cost == is_cost)
            .cloned()
            .collect();
        // An export without a line is one of usage.
        if of_kind.is_empty() && (is_cost || !spots.is_empty()) {
            continue;
        }
        for ((key, day, model), ours) in &records.places {
            let fits = |spot: &Spot| {
                spot.day == *day
                    && spot.key.as_ref().is_none_or(|own| own == key)
                    && spot.model.as_ref().is_none_or(|own| own == model)
            };
            let counted = if is_cost {
                ours.all.cost_usd != PicoUsd::ZERO
            } else {
                (ours.all.input_tokens, ours.all.output_tokens) != (0, 0)
            };
            if !counted || !export.days.contains(day) || of_kind.iter().any(fits) {
                continue;
            }
            let spot = Spot {
                is_cost,
                day: *day,
                key: (!is_cost).then(|| key.clone()),
                model: Some(model.clone()),
            };
            spots.entry(spot).or_default();
        }
    }
}

fn ours_at(records: &Records, spot: &Spot) -> Ours {
    let mut all = Ours::default();
    for ((key, day, model), ours) in &records.places {
        let fits = *day == spot.day
            && spot.key.as_ref().is_none_or(|own| own == key)
            && spot.model.as_ref().is_none_or(|own| own == model);
        if fits {
            all.merge(ours);
        }
    }
    all
}

/// Whether tokens of the same day and model have been compared, and agree.
fn tokens_agree(places: &[Compared], spot: &Spot) -> bool {
    let model = spot.model.as_deref();
    let mut same = places
        .iter()
        .filter(|place| !place.is_cost && place.day == spot.day)
        .filter(|place| model.is_none_or(|model| place.model == model))
        .peekable();
    spot.is_cost && same.peek().is_some() && same.all(|place| place.verdict == Verdict::Agrees)
}

fn judge(
    records: &Records,
    spot: &Spot,
    theirs: &Theirs,
    ours: &Ours,
    tolerance: Tolerance,
    tokens_agree: bool,
) -> Compared {
    let causes = Causes::of(
        records,
        spot.day,
        spot.key.as_deref(),
        spot.model.as_deref(),
        ours,
    );
    let (stated, kept) = (values(&theirs.counts), values(&ours.all));
    let mut verdict = Verdict::Agrees;
    let mut findings: Vec<Finding> = Vec::new();
    let mut over: Vec<(usize, i128)> = Vec::new();
    for (metric, (theirs_now, ours_now)) in stated.iter().zip(kept).enumerate() {
        let (name, _) = METRICS.get(metric).copied().unwrap_or(("", ""));
        let is_compared = match name {
            "cost_usd" => spot.is_cost,
            // How many calls a batch held stands in no record.
            "requests" => theirs.has_requests && !causes.has_deferred(),
            _ => !spot.is_cost,
        };
        let tolerated = if spot.is_cost {
            tolerance.usd.as_pico()
        } else {
            tolerance.tokens.into()
        };
        let difference = theirs_now.saturating_sub(ours_now);
        if !is_compared || difference.abs() <= tolerated {
            continue;
        }
        verdict = verdict.max(Verdict::Explained);
        let (used, left) = causes.explain(metric, difference, tolerated);
        for finding in used {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
        if left != 0 {
            over.push((metric, left));
        }
    }
    if !over.is_empty() {
        verdict = causes.judge_rest(&over, ours, tokens_agree, &mut findings);
    }
    if verdict > Verdict::Agrees && !theirs.names.is_empty() && !ours.names.is_empty() {
        findings.extend(other_names(&theirs.names, &ours.names));
    }
    Compared {
        key: spot.key.clone().unwrap_or_else(|| "*".to_owned()),
        day: spot.day,
        model: spot.model.clone().unwrap_or_else(|| "*".to_owned()),
        is_cost: spot.is_cost,
        provider: theirs.counts,
        ours: ours.all,
        verdict,
        findings,
    }
}

fn other_names(theirs: &BTreeSet<String>, ours: &BTreeSet<String>) -> Option<Finding> {
    let listed = |names: &BTreeSet<String>| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.join(", ")
    };
    (theirs != ours).then(|| Finding {
        kind: "other_name",
        text: format!(
            "the provider names it {}, our records {}",
            listed(theirs),
            listed(ours)
        ),
    })
}
