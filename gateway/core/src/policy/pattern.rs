//! Patterns for names and paths, and which of two is the more specific.
//!
//! Patterns compare bytes; they decode and normalise nothing. A `*` never stands for an empty
//! segment, so a trailing slash cannot slip a call past the literal path it imitates. Where an
//! action follows the model (`{model}:generateContent`), the model holds no colon in any
//! spelling: the first colon is the last one, and every reader finds the same action.
//!
//! Worst case: a model whose own name holds a colon cannot be called where actions follow it.

mod look_alike;
pub(crate) mod tree;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::route;

/// What stands for the model in a path pattern.
const MODEL: &str = "{model}";

/// A path, segment by segment: literal text, `*` for one segment, `{model}` for one that names
/// the model, a last `**` for any rest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathPattern(Vec<Segment>);

/// One part of a [`PathPattern`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// Exactly this text.
    Literal(String),
    /// Any one segment that is not empty.
    Any,
    /// One segment that names the model, and what follows the name in it.
    Model {
        /// Empty, or a colon and an action, such as `:generateContent`.
        action: String,
    },
    /// Everything that follows: at least one segment, and none of them empty.
    Rest,
}

/// A name, or a prefix followed by `*`, or `*` alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamePattern(String);

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// A name pattern with a star elsewhere than at its end, or none at all.
    #[error("a name pattern is a name, or the beginning of one followed by `*`, such as gpt-4o*")]
    Name,
    /// A path pattern that does not begin at the root, or has stars within a segment.
    #[error(
        "a path pattern begins with `/`; `*` stands for one whole segment, `**` for all that follow and only at the end, such as /repos/*/issues or /files/**"
    )]
    Path,
    /// A path pattern that names the model in a way that cannot be read back.
    #[error(
        "`{{model}}` stands once, for a whole segment or for one that ends in `:` and a word, such as /models/{{model}}:generateContent"
    )]
    Model,
    /// A path pattern that no request may ask for.
    #[error("it could never match: {0}")]
    Unreachable(&'static str),
}

impl NamePattern {
    /// The name, or what is before the star, and whether there is one.
    pub(super) fn parts(&self) -> (&str, bool) {
        match self.0.strip_suffix('*') {
            Some(beginning) => (beginning, true),
            None => (&self.0, false),
        }
    }

    /// Whether `name` fits.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => self.0 == name,
        }
    }
}

impl FromStr for NamePattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let stem = text.strip_suffix('*').unwrap_or(text);
        let odd = |c: char| c == '*' || c.is_control() || c.is_whitespace();
        if text.is_empty() || text.len() > 256 || stem.contains(odd) {
            return Err(InvalidPattern::Name);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Segment {
    /// Whether one segment of a path fits. What [`Segment::Rest`] stands for is not one segment.
    fn fits(&self, segment: &str) -> bool {
        match self {
            Self::Literal(text) => text == segment,
            Self::Any => !segment.is_empty(),
            Self::Model { .. } => self.model(segment).is_some(),
            Self::Rest => false,
        }
    }

    /// The part of a fitting segment that names the model, as it is written there.
    fn model<'p>(&self, segment: &'p str) -> Option<&'p str> {
        let Self::Model { action } = self else {
            return None;
        };
        let name = segment.strip_suffix(action.as_str())?;
        let plain = action.is_empty() || !holds_colon(name);
        (plain && !name.is_empty()).then_some(name)
    }

    /// Whether every single segment that fits `other` fits this one too.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Literal(text)) => self.fits(text),
            (Self::Any, Self::Any | Self::Model { .. }) => true,
            (Self::Model { action }, Self::Any) => action.is_empty(),
            (Self::Model { action: a }, Self::Model { action: b }) => a.is_empty() || a == b,
            _ => false,
        }
    }

    /// Whether some single segment fits both.
    fn overlaps(&self, other: &Self) -> bool {
        // Two actions are alike or apart; all else that fits one segment in common, fits whole.
        self.covers(other) || other.covers(self)
    }

    /// Whether this can stand among the segments of a [`Segment::Rest`].
    fn may_be_filled(&self) -> bool {
        *self != Self::Literal(String::new())
    }

    const fn rank(&self) -> u8 {
        match self {
            Self::Literal(_) => 0,
            Self::Model { action } if !action.is_empty() => 1,
            Self::Any | Self::Model { .. } => 2,
            Self::Rest => 3,
        }
    }
}

impl FromStr for Segment {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        if let Some(action) = text.strip_prefix(MODEL) {
            let word = action.strip_prefix(':').unwrap_or("x");
            return if word.is_empty()
                || !word.bytes().all(|b| b.is_ascii_alphanumeric())
                || !(action.is_empty() || action.starts_with(':'))
            {
                Err(InvalidPattern::Model)
            } else {
                Ok(Self::Model {
                    action: action.to_owned(),
                })
            };
        }
        match text {
            "*" => Ok(Self::Any),
            "**" => Ok(Self::Rest),
            _ if text.contains(MODEL) => Err(InvalidPattern::Model),
            _ if text.contains('*') => Err(InvalidPattern::Path),
            _ => Ok(Self::Literal(text.to_owned())),
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => f.write_str(text),
            Self::Any => f.write_str("*"),
            Self::Model { action } => write!(f, "{MODEL}{action}"),
            Self::Rest => f.write_str("**"),
        }
    }
}

fn holds_colon(text: &str) -> bool {
    text.contains(':') || text.to_ascii_lowercase().contains("%3a")
}

impl PathPattern {
    /// Whether `path` fits, byte for byte and without decoding.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else {
            return false;
        };
        let mut segments = path.split('/');
        for expected in &self.0 {
            let Some(segment) = segments.next() else {
                return false;
            };
            match expected {
                Segment::Rest => return !segment.is_empty() && segments.all(|s| !s.is_empty()),
                expected if expected.fits(segment) => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }

    /// Whether paths that fit name the model.
    #[must_use]
    pub fn names_model(&self) -> bool {
        let names = |segment: &Segment| matches!(segment, Segment::Model { .. });
        self.0.iter().any(names)
    }

    /// What names the model in a path that fits, exactly as it is written there.
    #[must_use]
    pub fn model<'p>(&self, path: &'p str) -> Option<&'p str> {
        if !self.names_model() {
            return None;
        }
        let segments = path.strip_prefix('/')?.split('/');
        let mut pairs = self.0.iter().zip(segments);
        pairs.find_map(|(expected, segment)| expected.model(segment))
    }

    /// Orders patterns that fit one path: the most specific is the least. Segments compare from
    /// the left: a literal, a model with an action, any one segment, any rest.
    #[must_use]
    pub fn by_specificity(&self, other: &Self) -> Ordering {
        let rank = Segment::rank;
        self.0.iter().map(rank).cmp(other.0.iter().map(rank))
    }

    /// Whether every path that fits `other` fits this pattern too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let (mut mine, mut theirs) = (self.0.iter(), other.0.iter());
        loop {
            match (mine.next(), theirs.next()) {
                (None, None) => return true,
                (Some(Segment::Rest), Some(first)) => {
                    return first.may_be_filled() && theirs.all(Segment::may_be_filled);
                }
                (Some(mine), Some(theirs)) if mine.covers(theirs) => {}
                _ => return false,
            }
        }
    }

    /// Whether some path fits both patterns.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut mine, mut theirs) = (self.0.iter(), other.0.iter());
        loop {
            match (mine.next(), theirs.next()) {
                (None, None) => return true,
                (Some(Segment::Rest), Some(first)) => {
                    return first.may_be_filled() && theirs.all(Segment::may_be_filled);
                }
                (Some(first), Some(Segment::Rest)) => {
                    return first.may_be_filled() && mine.all(Segment::may_be_filled);
                }
                (Some(mine), Some(theirs)) if mine.overlaps(theirs) => {}
                _ => return false,
            }
        }
    }
}

impl FromStr for PathPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let rest = text.strip_prefix('/').ok_or(InvalidPattern::Path)?;
        if text.matches(MODEL).count() > 1 {
            return Err(InvalidPattern::Model);
        }
        // Any path that fits it must pass; so does one in which the model is called `x`.
        route::refuse_ambiguity(&text.replace(MODEL, "x")).map_err(InvalidPattern::Unreachable)?;
        let mut segments = Vec::new();
        for segment in rest.split('/') {
            if segments.last() == Some(&Segment::Rest) {
                return Err(InvalidPattern::Path);
            }
            segments.push(segment.parse()?);
        }
        Ok(Self(segments))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.0 {
            write!(f, "/{segment}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
