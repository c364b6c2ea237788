//! What a report needs of a record's line, borrowed from it.
//!
//! Members that no report asks for are passed over unread, so that ten million lines take seconds.
//! A line that another hand has changed may still read as an entry: that is what `audit verify`
//! is for. Worst case: none.

use std::borrow::Cow;
use std::ops::Deref;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, de};

use crate::money::PicoUsd;
use crate::record::{Outcome, UsageSource};
use crate::time::Timestamp;

/// One call or refusal.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// When it began: `2026-11-23T07:08:09.000123Z`, in no other form.
    pub started_at: Cow<'a, str>,
    /// The tenant; empty if the caller could not be proven to be anybody.
    pub tenant: Cow<'a, str>,
    /// The agent.
    pub agent: Cow<'a, str>,
    /// The task.
    pub task: Cow<'a, str>,
    /// The provider or tool.
    pub provider: Cow<'a, str>,
    /// What kind of call.
    pub operation: Cow<'a, str>,
    /// The model the client named.
    pub model: Cow<'a, str>,
    /// The credential, by name.
    pub credential: Cow<'a, str>,
    /// The prices in force.
    pub prices: Cow<'a, str>,
    /// How it ended.
    pub outcome: Outcome,
    /// The code of a refusal or failure.
    pub code: Cow<'a, str>,
    /// The rule behind the code.
    pub reason: Cow<'a, str>,
    /// The cap or limit that refused.
    pub limit: Cow<'a, str>,
    /// Where the counts come from.
    pub usage_source: UsageSource,
    /// The counts.
    pub usage: Counts,
    /// What it cost.
    pub cost: PicoUsd,
    /// What it could have cost at worst, if that was known.
    pub reserved: PicoUsd,
}

/// The counts that reports show.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Tokens in, cached ones included.
    pub input_tokens: u64,
    /// Of these, read from a cache.
    pub cached_input_tokens: u64,
    /// Tokens out, reasoning included.
    pub output_tokens: u64,
}

/// A line that is no record.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct NotAnEntry(#[from] serde_json::Error);

impl<'a> Entry<'a> {
    /// Reads a line; nothing for an event that is not about one call.
    ///
    /// # Errors
    /// [`NotAnEntry`].
    pub fn parse(line: &'a [u8]) -> Result<Option<Self>, NotAnEntry> {
        let line = match serde_json::from_slice::<Line<'a>>(line) {
            Ok(line) if line.event.is_empty() => line,
            Ok(_event) => return Ok(None),
            // What else an event states may have the name of a call's member and another kind.
            Err(_) if serde_json::from_slice::<Event<'_>>(line).is_ok() => return Ok(None),
            Err(wrong) => return Err(wrong.into()),
        };
        // Who could not be authenticated has no outcome but the refusal.
        let outcome = match line.outcome {
            Some(outcome) => outcome,
            None if line.tenant.is_empty() && !line.code.is_empty() => Outcome::Refused,
            None => return Err(serde_json::Error::missing_field("tollgate.outcome").into()),
        };
        Ok(Some(Self {
            started_at: canonical(line.started_at.0)?,
            tenant: line.tenant.0,
            agent: line.agent.0,
            task: line.task.0,
            provider: line.provider.0,
            operation: line.operation.0,
            model: line.model.0,
            credential: line.credential.0,
            prices: line.prices.0,
            outcome,
            code: line.code.0,
            reason: line.reason.0,
            limit: line.limit.0,
            usage_source: line.usage_source.unwrap_or(UsageSource::None),
            usage: line.usage,
            cost: money(&line.cost)?,
            reserved: money(&line.reserved)?,
        }))
    }

    /// Whether no upstream was contacted: refused, or failed in the gateway.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self.outcome, Outcome::Refused | Outcome::Failed)
    }

    /// When it began.
    #[must_use]
    pub fn at(&self) -> Option<Timestamp> {
        self.started_at.parse().ok()
    }
}

/// What tells an event from a call's record.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "tollgate.event", borrow)]
    _kind: Text<'a>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "tollgate.event", borrow, default)]
    event: Text<'a>,
    #[serde(rename = "tollgate.started_at", borrow)]
    started_at: Text<'a>,
    #[serde(rename = "tenant.id", borrow, default)]
    tenant: Text<'a>,
    #[serde(rename = "gen_ai.agent.id", borrow, default)]
    agent: Text<'a>,
    #[serde(rename = "tollgate.task.id", borrow, default)]
    task: Text<'a>,
    #[serde(rename = "gen_ai.provider.name", borrow, default)]
    provider: Text<'a>,
    #[serde(rename = "gen_ai.operation.name", borrow, default)]
    operation: Text<'a>,
    #[serde(rename = "gen_ai.request.model", borrow, default)]
    model: Text<'a>,
    #[serde(rename = "tollgate.credential.name", borrow, default)]
    credential: Text<'a>,
    #[serde(rename = "tollgate.price.version", borrow, default)]
    prices: Text<'a>,
    #[serde(rename = "tollgate.cost.reserved_usd", borrow, default)]
    reserved: Text<'a>,
    #[serde(rename = "tollgate.outcome", default)]
    outcome: Option<Outcome>,
    #[serde(rename = "error.type", borrow, default)]
    code: Text<'a>,
    #[serde(rename = "tollgate.refusal.reason", borrow, default)]
    reason: Text<'a>,
    #[serde(rename = "tollgate.refusal.limit", borrow, default)]
    limit: Text<'a>,
    #[serde(rename = "tollgate.usage.source", default)]
    usage_source: Option<UsageSource>,
    #[serde(rename = "tollgate.usage", default)]
    usage: Counts,
    #[serde(rename = "tollgate.cost_usd", borrow, default)]
    cost: Text<'a>,
}

/// Text that stays where it is if nothing in it is escaped; empty if it is absent.
#[derive(Default)]
struct Text<'a>(Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Reader)
    }
}

fn money(text: &str) -> Result<PicoUsd, serde_json::Error> {
    if text.is_empty() {
        return Ok(PicoUsd::ZERO);
    }
    text.parse().map_err(de::Error::custom)
}

/// The time as the gateway writes it. In that form times compare as text, and day and hour are
/// the text's beginning.
fn canonical(text: Cow<'_, str>) -> Result<Cow<'_, str>, serde_json::Error> {
    const SHAPE: &[u8; 27] = b"0000-00-00T00:00:00.000000Z";
    let fits = text.len() == SHAPE.len()
        && text.bytes().zip(SHAPE).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            other => byte == *other,
        });
    if fits {
        return Ok(text);
    }
    let time: Timestamp = text.parse().map_err(de::Error::custom)?;
    Ok(Cow::Owned(time.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"tollgate.schema":"tollgate.record/1","tollgate.seq":1,"tollgate.record.id":"x",
        "tollgate.started_at":"2026-11-23T07:08:09.000123Z","tenant.id":"acme","gen_ai.agent.id":"bot",
        "tollgate.task.id":"t-1","gen_ai.request.model":"a\n\"b","tollgate.untrusted":["tenant=\"globex\""],
        "tollgate.outcome":"completed","tollgate.usage.source":"exact",
        "tollgate.usage":{"input_tokens":10,"output_tokens":3,"pages":1},"tollgate.cost_usd":"0.5"}"#;

    #[test]
    fn a_line_is_read_for_what_reports_need_and_borrowed() {
        let entry = Entry::parse(LINE.as_bytes())
            .expect("a line")
            .expect("a call");
        assert!(matches!(entry.tenant, Cow::Borrowed("acme")));
        assert_eq!(entry.model, "a\n\"b");
        assert_eq!(
            (entry.usage.input_tokens, entry.usage.output_tokens),
            (10, 3)
        );
        assert_eq!(entry.cost.to_string(), "0.5");
        assert_eq!(entry.at(), "2026-11-23T07:08:09.000123Z".parse().ok());
    }

    #[test]
    fn events_are_passed_over_and_strangers_are_refusals() {
        let event =
            br#"{"tollgate.event":"cap_notice","tollgate.started_at":"2026-11-23T07:08:09Z"}"#;
        assert!(Entry::parse(event).expect("a line").is_none());
        let action = br#"{"tollgate.event":"admin_action","tollgate.started_at":"2026-11-23T07:08:09Z","tollgate.outcome":"done"}"#;
        assert!(Entry::parse(action).expect("a line").is_none());
        let stranger = br#"{"tollgate.started_at":"2026-11-23T07:08:09.5Z","client.address":"::1",
            "error.type":"invalid_api_key","tollgate.refusal.reason":"expired"}"#;
        let stranger = Entry::parse(stranger).expect("a line").expect("a refusal");
        assert!(stranger.is_refusal());
        assert_eq!(stranger.started_at, "2026-11-23T07:08:09.500000Z");
    }

    #[test]
    fn what_is_no_record_is_said() {
        for line in [
            "",
            "{}",
            "not JSON",
            r#"{"tollgate.started_at":"yesterday","tenant.id":"a","tollgate.outcome":"completed"}"#,
            r#"{"tollgate.started_at":"2026-11-23T07:08:09Z","tenant.id":"a"}"#,
            r#"{"tollgate.started_at":"2026-11-23T07:08:09Z","tenant.id":1,"tollgate.outcome":"refused"}"#,
            r#"{"tollgate.started_at":"2026-11-23T07:08:09Z","tenant.id":"a","tenant.id":"b","tollgate.outcome":"refused"}"#,
            r#"{"tollgate.started_at":"2026-11-23T07:08:09Z","tenant.id":"a","tollgate.outcome":"completed","tollgate.cost_usd":"free"}"#,
        ] {
            assert!(Entry::parse(line.as_bytes()).is_err(), "{line}");
        }
    }
}
