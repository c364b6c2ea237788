//! What grows: how the gateway and its load look at each size, and how each figure may grow.
//!
//! Everything but the one size stays as it is: ten tenants with a token each, plain calls of 2 KB in
//! and 1 KB out. What is looked up stands last in its list, so that a search from the front has the
//! longest way.

use std::fmt;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use super::fit::Expected;
use crate::proof::estate::{Estate, PROVIDER, TENANT, tenant};

/// Tenants, and tokens, where neither is what grows.
const FEW: u64 = 10;

/// What is not looked at more closely may grow by half, over a thousandfold size.
const CONSTANT: Expected = Expected::Constant { times: 1.5 };

/// A straight line, with room for what a machine does to memory.
const LINEAR: Expected = Expected::Linear { exponent: 1.15 };

/// What may be held at the largest of tenants and of streams, in KiB.
const HELD_KIB: f64 = 256.0 * 1024.0;

/// What is made to grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    /// Tenants, each with a file, a key and a token.
    Tenants,
    /// Live tokens of ten tenants.
    Tokens,
    /// Bytes of each request.
    RequestBytes,
    /// Bytes of each answer.
    AnswerBytes,
    /// Events of each stream.
    Events,
    /// Streams that are open at the same time.
    Streams,
    /// Models that one table allows, every second one a pattern.
    Models,
    /// Agents of one tenant, each with limits and leave of its own.
    Agents,
    /// Endpoints of one provider, every second one a pattern.
    Endpoints,
    /// Providers, each allowed to a tenant that has a key for it.
    Providers,
    /// Models with limits of their own, each a pattern.
    ModelLimits,
}

/// How the load looks at one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scene {
    pub(super) tenants: usize,
    pub(super) tokens: usize,
    pub(super) request_bytes: usize,
    pub(super) answer_bytes: usize,
    /// Events of each answer, if they are streamed.
    pub(super) events: Option<u64>,
    /// Before each of them.
    pub(super) pause: Duration,
}

impl Dimension {
    /// All of them, in the order they are measured in.
    pub const ALL: [Self; 11] = [
        Self::Tenants,
        Self::Tokens,
        Self::RequestBytes,
        Self::AnswerBytes,
        Self::Events,
        Self::Streams,
        Self::Models,
        Self::Agents,
        Self::Endpoints,
        Self::Providers,
        Self::ModelLimits,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tenants => "tenants",
            Self::Tokens => "tokens",
            Self::RequestBytes => "request-bytes",
            Self::AnswerBytes => "answer-bytes",
            Self::Events => "events",
            Self::Streams => "streams",
            Self::Models => "models",
            Self::Agents => "agents",
            Self::Endpoints => "endpoints",
            Self::Providers => "providers",
            Self::ModelLimits => "model-limits",
        }
    }

    /// What it is, for a table's head.
    pub(super) const fn meaning(self) -> &'static str {
        match self {
            Self::Tenants => "tenants, a file, a key and a token each",
            Self::Tokens => "live tokens of ten tenants",
            Self::RequestBytes => "bytes of each request",
            Self::AnswerBytes => "bytes of each answer",
            Self::Events => "events of each stream",
            Self::Streams => "streams open at the same time; a call is an event here",
            Self::Models => "models and patterns in one table of leave",
            Self::Agents => "agents of a tenant, with limits and leave of their own",
            Self::Endpoints => "endpoints and patterns of a provider",
            Self::Providers => "providers, with leave and a key each",
            Self::ModelLimits => "models of a tenant with limits of their own",
        }
    }

    /// The sizes it is measured at.
    pub(super) const fn sizes(self) -> &'static [u64] {
        match self {
            Self::Tokens => &[10, 1_000, 10_000, 100_000],
            Self::RequestBytes | Self::AnswerBytes => {
                &[1 << 10, 16 << 10, 256 << 10, 4 << 20, 16 << 20]
            }
            Self::Streams => &[1, 10, 100, 500, 1_000, 2_000],
            Self::Tenants
            | Self::Events
            | Self::Models
            | Self::Agents
            | Self::Endpoints
            | Self::Providers
            | Self::ModelLimits => &[10, 100, 1_000, 10_000],
        }
    }

    /// How instructions of a call may grow.
    pub(super) const fn instructions(self) -> Expected {
        match self {
            Self::RequestBytes | Self::AnswerBytes | Self::Events => LINEAR,
            _ => CONSTANT,
        }
    }

    /// How the greatest memory may grow.
    pub(super) const fn memory(self) -> Expected {
        match self {
            // A stream is passed on as it comes.
            Self::Events => CONSTANT,
            Self::Tenants | Self::Streams => Expected::AtMost { bound: HELD_KIB },
            _ => LINEAR,
        }
    }

    /// How the load looks at `size`. Under a tracer events come more slowly.
    pub(super) fn scene(self, size: u64, traced: bool) -> Scene {
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let plain = Scene {
            tenants: count(FEW),
            tokens: count(FEW),
            request_bytes: 2 << 10,
            answer_bytes: 1 << 10,
            events: None,
            pause: Duration::ZERO,
        };
        match self {
            Self::Tenants => Scene {
                tenants: count(size),
                tokens: count(size),
                ..plain
            },
            Self::Tokens => Scene {
                tokens: count(size),
                ..plain
            },
            Self::RequestBytes => Scene {
                request_bytes: count(size),
                ..plain
            },
            Self::AnswerBytes => Scene {
                answer_bytes: count(size),
                ..plain
            },
            Self::Events => Scene {
                events: Some(size),
                ..plain
            },
            Self::Streams => {
                // So many events a second, however many streams there are.
                let each = if traced { 2_000 } else { 200 };
                let pause = Duration::from_micros(size * each).max(Duration::from_millis(2));
                let most = Duration::from_secs(120).as_micros() / pause.as_micros();
                let events = u64::try_from(most).unwrap_or(u64::MAX).min(20_000);
                Scene {
                    events: Some(events),
                    pause,
                    ..plain
                }
            }
            // One agent calls, so one tenant is enough.
            _ => Scene {
                tenants: 1,
                ..plain
            },
        }
    }

    /// What is asked: the path of a call.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Providers => "/zz-last/v1/chat/completions",
            _ => "/openai/v1/chat/completions",
        }
    }

    /// Writes what a gateway of this size has besides its tenants.
    pub(super) fn furnish(
        self,
        estate: &Estate,
        size: u64,
        mock: SocketAddr,
    ) -> anyhow::Result<()> {
        let id = tenant(0);
        let own = TENANT.replace("{ID}", &id).replace("{DAILY}", "1000000");
        let file = format!("policies/tenants/{id}.toml");
        match self {
            Self::Models => estate.put(&file, &own.replace("[\"gpt-4o*\"]", &models(size))),
            Self::Agents => estate.put(&file, &with_agents(&own, size)),
            Self::ModelLimits => estate.put(&file, &(own + &model_limits(size))),
            Self::Endpoints => {
                let text = PROVIDER.replace("{MOCK}", &mock.to_string());
                estate.put(
                    "policies/providers/openai.toml",
                    &with_endpoints(&text, size),
                )
            }
            Self::Providers => providers(estate, &own, size, mock),
            _ => Ok(()),
        }
    }
}

/// A list of `size` models, the one that is called last.
fn models(size: u64) -> String {
    let mut list = String::from("[");
    for number in 1..size {
        let star = if number % 2 == 0 { "-*" } else { "" };
        // Writing to a String cannot fail.
        let _written = write!(list, "\"gpt-x{number:05}{star}\", ");
    }
    list + "\"gpt-4o-mini\"]"
}

/// `size` agents, each with leave of its own; the one that calls is last.
fn with_agents(own: &str, size: u64) -> String {
    let leave = "[[allow]]\nprovider = \"openai\"\nmodels = [\"gpt-4o*\"]\n";
    let (mut leaves, mut limits) = (String::new(), String::new());
    for number in 1..size {
        let _written = writeln!(leaves, "{leave}agents = [\"agent-{number:05}\"]\n");
        let _written = writeln!(limits, "[agents.agent-{number:05}]\ndaily_usd = \"5\"\n");
    }
    let _written = writeln!(leaves, "{leave}agents = [\"bot\"]\n");
    own.replace(leave, &leaves) + "\n" + &limits
}

/// `size` patterns with limits, of which one covers the model that is called.
fn model_limits(size: u64) -> String {
    let mut limits = String::new();
    for number in 1..size {
        let _written = writeln!(
            limits,
            "\n[models.\"gpt-x{number:05}*\"]\ndaily_usd = \"5\""
        );
    }
    limits + "\n[models.\"gpt-4o-mini*\"]\ndaily_usd = \"1000000\"\n"
}

/// `size` endpoints, the one that is called last.
fn with_endpoints(provider: &str, size: u64) -> String {
    let called = provider.find("[[endpoint]]").unwrap_or(provider.len());
    let (head, called) = provider.split_at(called);
    let mut text = head.to_owned();
    for number in 1..size {
        let path = if number % 2 == 0 {
            format!("/v1/things/*/part-{number:05}")
        } else {
            format!("/v1/thing-{number:05}/all")
        };
        let _written = writeln!(
            text,
            "[[endpoint]]\nmethod = \"GET\"\npath = \"{path}\"\noperation = \"free\"\n"
        );
    }
    text + called
}

/// `size` providers with leave and a key each; the one that is called is last, and stands for the
/// only one that there is otherwise.
fn providers(estate: &Estate, own: &str, size: u64, mock: SocketAddr) -> anyhow::Result<()> {
    let leave = "[[allow]]\nprovider = \"openai\"\nmodels = [\"gpt-4o*\"]\n";
    let key = "openai_key = { provider = \"openai\", default = true }\n";
    let (mut leaves, mut keys) = (String::new(), String::new());
    let text = PROVIDER.replace("{MOCK}", &mock.to_string());
    for number in 1..=size {
        let name = if number == size {
            "zz-last".to_owned()
        } else {
            format!("p{number:05}")
        };
        let named = text.replace("name = \"openai\"", &format!("name = \"{name}\""));
        estate.put(&format!("policies/providers/{name}.toml"), &named)?;
        leaves += &leave.replace("openai", &name);
        keys += &key
            .replace("\"openai\"", &format!("\"{name}\""))
            .replace("openai_key", &format!("{name}-key"));
        let id = tenant(0);
        estate.put(
            &format!("secrets/{id}/{name}-key"),
            "sk-canary-0123456789abcdef0123456789abcdef",
        )?;
    }
    let id = tenant(0);
    let own = own.replace(leave, &leaves).replace(key, &keys);
    estate.put(&format!("policies/tenants/{id}.toml"), &own)
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No dimension has this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownDimension(String);

impl std::error::Error for UnknownDimension {}

impl fmt::Display for UnknownDimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Dimension::ALL.map(Dimension::name).join(", ");
        write!(f, "`{}` is none of {names}", self.0)
    }
}

impl FromStr for Dimension {
    type Err = UnknownDimension;

    fn from_str(text: &str) -> Result<Self, UnknownDimension> {
        let mut all = Self::ALL.into_iter();
        let named = all.find(|dimension| dimension.name() == text);
        named.ok_or_else(|| UnknownDimension(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_ascend_and_names_are_read_back() {
        for dimension in Dimension::ALL {
            assert!(dimension.sizes().is_sorted(), "{dimension}");
            assert_eq!(dimension.name().parse(), Ok(dimension));
        }
        assert!("nothing".parse::<Dimension>().is_err());
    }

    #[test]
    fn rules_are_as_many_as_asked_for_and_the_one_that_counts_is_last() {
        let list = models(1_000);
        assert_eq!(list.matches('"').count(), 2_000);
        assert!(list.ends_with("\"gpt-4o-mini\"]"));
        let agents = with_agents(TENANT, 100);
        assert_eq!(agents.matches("[[allow]]").count(), 100);
        assert_eq!(agents.matches("[agents.").count(), 100);
        let endpoints = with_endpoints(PROVIDER, 50);
        assert_eq!(endpoints.matches("[[endpoint]]").count(), 50);
        assert!(
            endpoints
                .trim_end()
                .ends_with("operation = \"chat_completions\"")
        );
        assert_eq!(model_limits(30).matches("[models.").count(), 30);
    }
}
