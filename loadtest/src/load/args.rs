//! The command line of `loadtest load`.
//!
//! It reads words and numbers; what they mean for a target is known elsewhere.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::dialect::Dialect;

/// What to load, and how.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Base URL as an SDK takes it, such as `https://gateway.example/openai/v1`; without a path, /v1 is meant.
    pub(super) target: String,
    /// Say that you may load a host that is not this machine itself.
    #[arg(long)]
    pub(super) i_may_load_this_host: bool,
    /// PEM file of certificates to trust besides those of the system.
    #[arg(long)]
    pub(super) ca: Option<PathBuf>,

    /// Calls a second, whatever comes back (open loop); several are steps, one after the other: 100,200,400.
    /// Without it, each connection calls again as soon as it is answered (closed loop).
    #[arg(long, value_delimiter = ',', help_heading = "Load")]
    pub(super) rate: Vec<f64>,
    /// Calls come at random, as from many callers that know nothing of each other, and not evenly.
    #[arg(long, requires = "rate", help_heading = "Load")]
    pub(super) poisson: bool,
    /// Connections at most; in a closed loop as many are always busy.
    #[arg(long, default_value_t = 64, help_heading = "Load")]
    pub(super) connections: usize,
    /// Seconds that are measured, in each step.
    #[arg(long, default_value_t = 10.0, help_heading = "Load")]
    pub(super) seconds: f64,
    /// Seconds before them that are not; otherwise 1, or none with --calls.
    #[arg(long, help_heading = "Load")]
    pub(super) warm_up: Option<f64>,
    /// Calls at most in each step, those of the warm-up among them.
    #[arg(long, help_heading = "Load")]
    pub(super) calls: Option<u64>,
    /// Seconds that one call may take from when it is sent.
    #[arg(long, default_value_t = 60.0, help_heading = "Load")]
    pub(super) timeout: f64,
    /// Threads of the load generator; otherwise one for each processor, up to 8.
    #[arg(long, help_heading = "Load")]
    pub(super) threads: Option<usize>,
    /// Where chance begins; the same number makes the same calls.
    #[arg(long, default_value_t = 1, help_heading = "Load")]
    pub(super) seed: u64,

    /// Languages and their weights: chat, responses (OpenAI), messages (Anthropic); such as chat=3,messages=1.
    #[arg(
        long,
        default_value = "chat",
        value_delimiter = ',',
        help_heading = "Calls"
    )]
    pub(super) dialect: Vec<Weighted>,
    /// The target is a Tollgate: OpenAI below /openai/v1, Anthropic below /anthropic/v1.
    #[arg(long, help_heading = "Calls")]
    pub(super) tollgate: bool,
    /// Path of OpenAI's API, if not that of the URL.
    #[arg(long, help_heading = "Calls")]
    pub(super) openai_base: Option<String>,
    /// Path of Anthropic's API, if not that of the URL.
    #[arg(long, help_heading = "Calls")]
    pub(super) anthropic_base: Option<String>,
    /// Model of calls in OpenAI's languages.
    #[arg(long, default_value = "gpt-4o-mini", help_heading = "Calls")]
    pub(super) model: String,
    /// Model of calls in Anthropic's.
    #[arg(long, default_value = "claude-haiku-4-5", help_heading = "Calls")]
    pub(super) anthropic_model: String,
    /// Share of calls that ask for a stream, from 0 to 1.
    #[arg(long, default_value_t = 0.0, help_heading = "Calls")]
    pub(super) stream_share: f64,
    /// Length of the prompts: 2000, one of several (500,2000,20000), or any in a range (500-2000).
    #[arg(long, default_value = "2000", help_heading = "Calls")]
    pub(super) prompt_bytes: Sizes,
    /// Tokens of an answer at most.
    #[arg(long, default_value_t = 256, help_heading = "Calls")]
    pub(super) max_tokens: u64,
    /// Another header of each call, `name: value`; may be repeated.
    #[arg(long, help_heading = "Calls")]
    pub(super) header: Vec<String>,

    /// API key or task token; may be repeated, one for each tenant.
    #[arg(
        long,
        env = "LOADTEST_KEY",
        hide_env_values = true,
        help_heading = "Keys"
    )]
    pub(super) key: Vec<String>,
    /// File with one key a line.
    #[arg(long, help_heading = "Keys")]
    pub(super) keys: Option<PathBuf>,
    /// How calls choose among keys.
    #[arg(long, default_value = "turn", help_heading = "Keys")]
    pub(super) key_order: KeyOrder,

    /// The p99 that is still good enough, in milliseconds: exit code 1 if (the first step of) the load does not hold it.
    #[arg(long, help_heading = "Results")]
    pub(super) p99_ms: Option<f64>,
    /// Print the results as one JSON object on stdout.
    #[arg(long, help_heading = "Results")]
    pub(super) json: bool,
    /// Write the results with plots as an HTML page.
    #[arg(long, help_heading = "Results")]
    pub(super) html: Option<PathBuf>,
}

impl LoadArgs {
    /// Seconds that are not measured. Few calls would all fall into them.
    pub(super) fn warm_up_seconds(&self) -> f64 {
        let usual = if self.calls.is_some() { 0.0 } else { 1.0 };
        self.warm_up.unwrap_or(usual)
    }
}

/// How calls choose among keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum KeyOrder {
    /// One after the other.
    Turn,
    /// At random.
    Random,
}

/// A language and how often it is spoken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Weighted {
    pub(super) dialect: Dialect,
    pub(super) weight: f64,
}

impl std::str::FromStr for Weighted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, weight) = text.split_once('=').unwrap_or((text, "1"));
        let dialect = Dialect::named(name)
            .ok_or_else(|| format!("{name:?} is none of chat, responses, messages"))?;
        match weight.parse() {
            Ok(weight) if weight > 0.0 && f64::is_finite(weight) => Ok(Self { dialect, weight }),
            _ => Err(format!("{weight:?} is no weight above zero")),
        }
    }
}

/// Lengths of prompts, each range with both its ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sizes(pub(super) Vec<(u64, u64)>);

/// The longest prompt: a longer one is more than any gateway takes.
const MOST_PROMPT_BYTES: u64 = 64 << 20;

impl std::str::FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ranges = text.split(',').map(|range| {
            let (low, high) = range.split_once('-').unwrap_or((range, range));
            match (low.trim().parse(), high.trim().parse()) {
                (Ok(low), Ok(high)) if low <= high && high <= MOST_PROMPT_BYTES => Ok((low, high)),
                _ => Err(format!(
                    "{range:?} is no number of bytes, such as 2000, or range of them, such as 500-2000"
                )),
            }
        });
        ranges.collect::<Result<_, _>>().map(Self)
    }
}

/// The command line without what is secret in it: keys and values of headers.
pub(super) fn without_secrets(words: impl Iterator<Item = String>) -> String {
    let mut line = vec!["loadtest".to_owned()];
    let mut before = String::new();
    for word in words.skip(1) {
        let (name, value) = match before.as_str() {
            "--key" | "--header" => (before.as_str(), Some(word.as_str())),
            _ => match word.split_once('=') {
                Some((name @ ("--key" | "--header"), value)) => (name, Some(value)),
                _ => ("", None),
            },
        };
        let shown = match (name, value) {
            ("--key", Some(_)) => "KEY".to_owned(),
            (_, Some(header)) => {
                let name = header.split(':').next().unwrap_or_default();
                format!("{name}: …")
            }
            _ => word.clone(),
        };
        let glued = value.is_some() && before != name;
        let shown = if glued {
            format!("{name}={shown}")
        } else {
            shown
        };
        line.push(quoted(&shown));
        before = if glued { String::new() } else { word };
    }
    line.join(" ")
}

/// The word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:,=@%+".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_repeats_a_run_holds_no_secret() {
        let words = "x load http://h/v1 --key sk-canary-1 --key=sk-canary-2 --rate 5 --header";
        let words =
            words
                .split(' ')
                .chain(["x-api: sk-canary-3", "--header=a:sk-canary-4", "--poisson"]);
        let line = without_secrets(words.map(str::to_owned));
        assert_eq!(
            line,
            "loadtest load http://h/v1 --key KEY --key=KEY --rate 5 --header 'x-api: …' '--header=a: …' --poisson"
        );
    }

    #[test]
    fn a_key_that_looks_like_an_option_is_still_a_key() {
        let words = ["x", "--key", "--key", "sk-canary-1"].map(str::to_owned);
        assert_eq!(without_secrets(words.into_iter()), "loadtest --key KEY KEY");
    }

    #[test]
    fn sizes_and_weights_are_read_or_refused() {
        for (text, expected) in [
            ("2000", Some(vec![(2000, 2000)])),
            ("500,20-30", Some(vec![(500, 500), (20, 30)])),
            ("30-20", None),
            ("", None),
            ("2k", None),
            ("99999999999", None),
        ] {
            assert_eq!(
                text.parse::<Sizes>().ok().map(|sizes| sizes.0),
                expected,
                "{text}"
            );
        }
        for (text, expected) in [
            ("chat", Some((Dialect::Chat, 1.0))),
            ("messages=0.5", Some((Dialect::Messages, 0.5))),
            ("chat=0", None),
            ("chat=nan", None),
            ("smalltalk", None),
        ] {
            let read = text.parse::<Weighted>().ok();
            assert_eq!(
                read.map(|read| (read.dialect, read.weight)),
                expected,
                "{text}"
            );
        }
    }
}
