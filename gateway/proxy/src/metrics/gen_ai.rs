//! The OpenTelemetry GenAI client metrics under the names that Prometheus gives them, and answers
//! of upstreams by provider.
//!
//! Labels come from policy and price catalogue alone: a model is called what the catalogue calls
//! it, and one without a price is [`OTHER`]. As clients choose among thousands of models, only the
//! first [`SERIES`] combinations have series of their own; later ones count as [`OTHER`], too. Once a
//! combination is known, counting is two look-ups in tables that nobody changes.
//!
//! Source: OpenTelemetry, "Semantic conventions for generative AI metrics" (names, units, buckets).

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};
use tollgate_core::ids::ProviderName;
use tollgate_core::usage::Usage;

/// Models that have no name of their own here.
const OTHER: &str = "other";

/// Combinations of provider, operation and model with series of their own: 200 make some ten
/// thousand lines.
const SERIES: usize = 200;

const DURATION: [f64; 14] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// What an upstream answered.
const ANSWERS: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "429", "5xx"];

/// A call that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Kind<'c> {
    pub(crate) provider: &'c str,
    pub(crate) operation: &'static str,
    /// The catalogue's name, where it has one.
    pub(crate) model: Option<&'c str>,
}

struct Series {
    duration: Histogram,
    input: Histogram,
    output: Histogram,
}

type Table<K, V> = ArcSwap<HashMap<K, Arc<V>, RandomState>>;

/// The figures.
pub(crate) struct GenAi {
    duration: HistogramVec,
    tokens: HistogramVec,
    answers: IntCounterVec,
    /// By the hash of a [`Kind`]. Two kinds of one hash would be counted as one.
    series: Table<u64, Series>,
    providers: Table<ProviderName, [IntCounter; ANSWERS.len()]>,
    hasher: RandomState,
    adding: Mutex<()>,
}

impl GenAi {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let duration = HistogramVec::new(
            HistogramOpts::new(
                "gen_ai_client_operation_duration_seconds",
                "GenAI operation duration: of a model call, from its head to the end of its answer.",
            )
            .buckets(DURATION.to_vec()),
            &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"],
        )?;
        let tokens = HistogramVec::new(
            HistogramOpts::new(
                "gen_ai_client_token_usage",
                "Number of input and output tokens used by a model call.",
            )
            .buckets(TOKENS.to_vec()),
            &[
                "gen_ai_operation_name",
                "gen_ai_provider_name",
                "gen_ai_request_model",
                "gen_ai_token_type",
            ],
        )?;
        let answers = IntCounterVec::new(
            Opts::new(
                "tollgate_upstream_answers_total",
                "Answers of upstreams, by provider and status: its hundred, and 429 by itself.",
            ),
            &["provider", "status"],
        )?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(tokens.clone()))?;
        registry.register(Box::new(answers.clone()))?;
        Ok(Self {
            duration,
            tokens,
            answers,
            series: Table::default(),
            providers: Table::default(),
            hasher: RandomState::default(),
            adding: Mutex::default(),
        })
    }

    /// These are in the policy now.
    pub(crate) fn know<'p>(&self, providers: impl IntoIterator<Item = &'p ProviderName>) {
        // Each table is made anew, so that all go into one.
        let _one_at_a_time = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = HashMap::clone(&self.providers.load());
        for name in providers {
            let new = || Arc::new(self.counters(name));
            known.entry(name.clone()).or_insert_with(new);
        }
        self.providers.store(Arc::new(known));
    }

    fn counters(&self, provider: &ProviderName) -> [IntCounter; ANSWERS.len()] {
        ANSWERS.map(|status| self.answers.with_label_values(&[provider.as_str(), status]))
    }

    fn provider(&self, name: &ProviderName) -> Arc<[IntCounter; ANSWERS.len()]> {
        if let Some(known) = self.providers.load().get(name) {
            return Arc::clone(known);
        }
        self.add(&self.providers, name.clone(), self.counters(name))
    }

    /// An upstream has answered.
    pub(crate) fn answered(&self, provider: &ProviderName, status: u16) {
        let place = match status {
            429 => 4,
            100..=199 => 0,
            200..=299 => 1,
            300..=399 => 2,
            400..=499 => 3,
            _ => 5,
        };
        if let Some(counter) = self.provider(provider).get(place) {
            counter.inc();
        }
    }

    /// A model call has ended.
    pub(crate) fn ended(&self, kind: Kind<'_>, took: Duration, usage: Option<&Usage>) {
        let series = self.series(kind);
        series.duration.observe(took.as_secs_f64());
        if let Some(usage) = usage {
            #[expect(
                clippy::cast_precision_loss,
                reason = "2^53 tokens are more than there are"
            )]
            let [input, output] = [usage.input_tokens, usage.output_tokens].map(|n| n as f64);
            series.input.observe(input);
            series.output.observe(output);
        }
    }

    fn series(&self, kind: Kind<'_>) -> Arc<Series> {
        let hash = self.hasher.hash_one(kind);
        let known = self.series.load();
        if let Some(series) = known.get(&hash) {
            return Arc::clone(series);
        }
        let model = kind.model.filter(|_| known.len() < SERIES).unwrap_or(OTHER);
        let (operation, provider) = (kind.operation, kind.provider);
        let tokens = |of| {
            self.tokens
                .with_label_values(&[operation, provider, model, of])
        };
        let series = Series {
            duration: self
                .duration
                .with_label_values(&[operation, provider, model]),
            input: tokens("input"),
            output: tokens("output"),
        };
        if known.len() >= 2 * SERIES {
            // Not remembered: whoever tries so many models pays for the slower way.
            return Arc::new(series);
        }
        self.add(&self.series, hash, series)
    }

    fn add<K: Eq + Hash + Clone, V>(&self, table: &Table<K, V>, key: K, value: V) -> Arc<V> {
        let _one_at_a_time = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = HashMap::clone(&table.load());
        let value = Arc::clone(known.entry(key).or_insert_with(|| Arc::new(value)));
        table.store(Arc::new(known));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_beyond_the_bound_and_without_a_price_are_one() {
        let registry = Registry::new();
        let figures = GenAi::register(&registry).unwrap();
        let names: Vec<String> = (0..3 * SERIES).map(|n| format!("model-{n}")).collect();
        let kind = |model| Kind {
            provider: "openai",
            operation: "chat",
            model,
        };
        for name in &names {
            figures.ended(kind(Some(name)), Duration::from_secs(1), None);
        }
        figures.ended(kind(None), Duration::from_secs(1), None);
        let families = registry.gather();
        let family = families
            .iter()
            .find(|family| family.name().ends_with("duration_seconds"));
        assert_eq!(family.unwrap().get_metric().len(), SERIES + 1);
    }
}
