//! Which records count: `model=gpt-4o*`, `agent!=intern-bot`.
//!
//! Conditions on one dimension are alternatives, those on different ones must all hold; each
//! `!=` must hold by itself. Worst case: a pattern of many stars takes time in proportion to the
//! product of its length and the value's, both of which are short.

use std::str::FromStr;

use super::{Dimension, Entry, InvalidDimension};

/// A text in which `*` stands for any run of characters, also none. Empty: no value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern(String);

impl Pattern {
    /// Takes any text; what is no `*` stands for itself.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether `text` is one of those it stands for.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else {
            return self.0 == text;
        };
        let Some(mut text) = text.strip_prefix(first) else {
            return false;
        };
        // Between two stars the first place that fits is as good as any; the last piece is an end.
        let mut pieces = rest.split('*').peekable();
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                return text.ends_with(piece);
            }
            match text.split_once(piece) {
                Some((_, after)) => text = after,
                None => return false,
            }
        }
        true
    }
}

/// One condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// On what.
    pub on: Dimension,
    /// What it is, or is not.
    pub pattern: Pattern,
    /// Whether it must not be that.
    pub negated: bool,
}

/// Why a text is not a [`Condition`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCondition {
    /// No `=` in it.
    #[error("{0:?} is no condition, such as model=gpt-4o* or agent!=intern-bot")]
    Form(String),
    /// What stands before it is no dimension.
    #[error(transparent)]
    Dimension(#[from] InvalidDimension),
}

impl FromStr for Condition {
    type Err = InvalidCondition;

    fn from_str(text: &str) -> Result<Self, InvalidCondition> {
        let (on, pattern) = text
            .split_once('=')
            .ok_or_else(|| InvalidCondition::Form(text.to_owned()))?;
        let negated = on.ends_with('!');
        let on = on.strip_suffix('!').unwrap_or(on);
        Ok(Self {
            on: on.trim().parse()?,
            pattern: Pattern::new(pattern),
            negated,
        })
    }
}

/// All conditions of a question.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter(Vec<Condition>);

impl Filter {
    /// Puts conditions together.
    #[must_use]
    pub const fn new(conditions: Vec<Condition>) -> Self {
        Self(conditions)
    }

    /// The conditions.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        &self.0
    }

    /// Whether an entry meets them.
    #[must_use]
    pub fn takes(&self, entry: &Entry<'_>) -> bool {
        self.0.is_empty() || self.meets(|dimension, look| look(&dimension.value(entry)))
    }

    /// Whether a tenant can have entries that meet them: nothing else is known yet.
    #[must_use]
    pub fn takes_tenant(&self, tenant: &str) -> bool {
        self.meets(|dimension, look| dimension != Dimension::Tenant || look(tenant))
    }

    fn meets(&self, is: impl Fn(Dimension, &dyn Fn(&str) -> bool) -> bool) -> bool {
        self.0.iter().all(|condition| {
            let on = condition.on;
            if condition.negated {
                return is(on, &|value| !condition.pattern.matches(value));
            }
            let alternatives = || {
                self.0
                    .iter()
                    .filter(|other| other.on == on && !other.negated)
            };
            is(on, &|value| {
                alternatives().any(|other| other.pattern.matches(value))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, text, fits) in [
            ("gpt-4o", "gpt-4o", true),
            ("gpt-4o", "gpt-4o-mini", false),
            ("gpt-4o*", "gpt-4o-mini", true),
            ("gpt-4o*", "gpt-4o", true),
            ("*mini", "gpt-4o-mini", true),
            ("*mini", "mini-x", false),
            ("g*4*i", "gpt-4o-mini", true),
            ("g*5*i", "gpt-4o-mini", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*", "", true),
            ("**", "x", true),
            ("", "", true),
            ("", "x", false),
            ("*ab*ab", "abab", true),
            ("*ab*ab", "ab", false),
        ] {
            assert_eq!(
                Pattern::new(pattern).matches(text),
                fits,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn conditions_on_one_dimension_are_alternatives_and_the_rest_must_all_hold() {
        let filter = |texts: &[&str]| {
            Filter::new(
                texts
                    .iter()
                    .map(|text| text.parse().expect("a condition"))
                    .collect(),
            )
        };
        let line = br#"{"tollgate.started_at":"2026-11-23T07:08:09.000123Z","tenant.id":"acme",
            "gen_ai.agent.id":"bot","gen_ai.request.model":"gpt-5","tollgate.outcome":"completed"}"#;
        let entry = Entry::parse(line).expect("a line").expect("a call");
        for (texts, takes) in [
            (&["model=gpt-4*", "model=gpt-5"][..], true),
            (&["model=gpt-4*"], false),
            (&["model=gpt-5", "agent=other"], false),
            (&["model=gpt-5", "agent!=other"], true),
            (&["agent!=b*"], false),
            (&["agent!=b*", "agent=bot"], false),
            (&["task="], true),
            (
                &["hour=2026-11-23T07*", "day=2026-11-23", "month=2026-*"],
                true,
            ),
            (&["tenant=globex"], false),
        ] {
            assert_eq!(filter(texts).takes(&entry), takes, "{texts:?}");
        }
        assert!(filter(&["model=x", "tenant=ac*"]).takes_tenant("acme"));
        assert!(!filter(&["tenant=ac*"]).takes_tenant("globex"));
        assert!(!filter(&["tenant!=acme"]).takes_tenant("acme"));
    }

    #[test]
    fn what_is_no_condition_is_said() {
        for text in ["model", "colour=red", "=x"] {
            assert!(text.parse::<Condition>().is_err(), "{text}");
        }
    }
}
