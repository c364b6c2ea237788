//! In what OpenAI's relatives differ from it: paths, where a stream states usage, and extra counts.
//!
//! One line each; a relative that is not here speaks as OpenAI does (vLLM, LM Studio, ...).

use serde_json::{Value, json};

use crate::mock::ask::Counts;

/// Where a stream states its usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stated {
    /// In a chunk of its own at the end, if that was asked for.
    WhenAsked,
    /// In the chunk with the finish reason, asked for or not.
    AtFinish,
    /// There, inside `x_groq`; and in a chunk of its own if that was asked for.
    InXGroq,
    /// In a chunk with an empty delta after the one with the finish reason, asked for or not.
    AfterFinish,
}

/// One relative.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flavour {
    name: &'static str,
    /// What stands in its paths where OpenAI has `/v1`; `*` is one segment.
    prefix: &'static str,
    pub(crate) stated: Stated,
    /// Whether streams start with comment lines.
    pub(crate) comments: bool,
    /// Whether streams start with a chunk about content filters.
    pub(crate) filters: bool,
    /// Whether reasoning comes on top of the completion's tokens.
    pub(crate) reasoning_beside: bool,
    extra: Extra,
}

/// What stands in the usage besides OpenAI's own fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extra {
    Nothing,
    CachedBeside,
    CachedOnTop,
    Times,
    HitAndMiss,
    Ticks,
    Cost,
}

/// OpenAI itself.
pub(crate) const OPENAI: Flavour = Flavour {
    name: "openai",
    prefix: "/v1",
    stated: Stated::WhenAsked,
    comments: false,
    filters: false,
    reasoning_beside: false,
    extra: Extra::Nothing,
};

/// The relatives; those with OpenAI's own prefix are told by a steering word.
const FLAVOURS: [Flavour; 10] = [
    Flavour {
        name: "azure",
        prefix: "/openai/deployments/*",
        filters: true,
        ..OPENAI
    },
    Flavour {
        name: "groq",
        prefix: "/openai/v1",
        stated: Stated::InXGroq,
        extra: Extra::Times,
        ..OPENAI
    },
    Flavour {
        name: "openrouter",
        prefix: "/api/v1",
        stated: Stated::AfterFinish,
        comments: true,
        extra: Extra::Cost,
        ..OPENAI
    },
    Flavour {
        name: "fireworks",
        prefix: "/inference/v1",
        stated: Stated::AtFinish,
        ..OPENAI
    },
    OPENAI,
    Flavour {
        name: "mistral",
        stated: Stated::AtFinish,
        extra: Extra::CachedBeside,
        ..OPENAI
    },
    Flavour {
        name: "xai",
        stated: Stated::AfterFinish,
        reasoning_beside: true,
        extra: Extra::Ticks,
        ..OPENAI
    },
    Flavour {
        name: "together",
        stated: Stated::AtFinish,
        extra: Extra::CachedOnTop,
        ..OPENAI
    },
    Flavour {
        name: "vllm",
        ..OPENAI
    },
    Flavour {
        name: "deepseek",
        prefix: "",
        stated: Stated::AtFinish,
        extra: Extra::HitAndMiss,
        ..OPENAI
    },
];

/// The relative of this name.
pub(crate) fn named(name: &str) -> Option<&'static Flavour> {
    FLAVOURS.iter().find(|flavour| flavour.name == name)
}

/// The relative whose path this is, and what follows its prefix.
pub(crate) fn of_path(path: &str) -> Option<(&'static Flavour, &str)> {
    FLAVOURS
        .iter()
        .find_map(|flavour| Some((flavour, flavour.rest(path)?)))
        .filter(|(flavour, rest)| !flavour.prefix.is_empty() || *rest == "/chat/completions")
}

/// A made-up cost in ticks of 1e-10 dollars: three dollars per million tokens in, fifteen out.
fn ticks(counts: &Counts) -> u64 {
    counts.input * 30_000 + (counts.output + counts.reasoning) * 150_000
}

impl Flavour {
    /// What follows the prefix, from its `/` on.
    fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = match self.prefix.strip_suffix('*') {
            Some(start) => {
                let segment = path.strip_prefix(start)?;
                segment.get(segment.find('/')?..)?
            }
            None => path.strip_prefix(self.prefix)?,
        };
        rest.starts_with('/').then_some(rest)
    }

    /// Adds to a usage object what this relative states besides.
    pub(crate) fn add(&self, usage: &mut Value, counts: &Counts) {
        match self.extra {
            Extra::Nothing => {}
            Extra::CachedBeside => usage["num_cached_tokens"] = json!(counts.cached),
            Extra::CachedOnTop => usage["cached_tokens"] = json!(counts.cached),
            Extra::Times => {
                for name in ["queue_time", "prompt_time", "completion_time", "total_time"] {
                    usage[name] = json!(0.01);
                }
            }
            Extra::HitAndMiss => {
                usage["prompt_cache_hit_tokens"] = json!(counts.cached);
                usage["prompt_cache_miss_tokens"] = json!(counts.input - counts.cached);
            }
            Extra::Ticks => usage["cost_in_usd_ticks"] = json!(ticks(counts)),
            Extra::Cost => {
                let usd = json!(ticks(counts) as f64 / 1e10);
                usage["cost"] = usd.clone();
                usage["is_byok"] = json!(false);
                usage["cost_details"] = json!({"upstream_inference_cost": usd});
            }
        }
    }
}
