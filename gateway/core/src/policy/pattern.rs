//! Patterns for names and paths, and which of two is the more specific.
//!
//! Patterns compare bytes; they decode and normalise nothing. A `*` never stands for an empty
//! segment, so a trailing slash cannot slip a call past the literal path it imitates.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::route;

/// A path, segment by segment: literal text, `*` for one segment, a last `**` for any rest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathPattern(Vec<Segment>);

/// One part of a [`PathPattern`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Exactly this text.
    Literal(String),
    /// Any one segment that is not empty.
    Any,
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
    /// A path pattern that no request may ask for.
    #[error("it could never match: {0}")]
    Unreachable(&'static str),
}

impl NamePattern {
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
                Segment::Literal(text) if text == segment => {}
                Segment::Any if !segment.is_empty() => {}
                Segment::Rest => return !segment.is_empty() && segments.all(|s| !s.is_empty()),
                Segment::Literal(_) | Segment::Any => return false,
            }
        }
        segments.next().is_none()
    }

    /// Orders patterns that fit one path: the most specific is the least. Segments compare from
    /// the left; a literal comes before `*`, and `*` before `**`.
    #[must_use]
    pub fn by_specificity(&self, other: &Self) -> Ordering {
        let rank = |segment: &Segment| match segment {
            Segment::Literal(_) => 0_u8,
            Segment::Any => 1,
            Segment::Rest => 2,
        };
        self.0.iter().map(rank).cmp(other.0.iter().map(rank))
    }

    /// Whether every path that fits `other` fits this pattern too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let (mut mine, mut theirs) = (self.0.iter(), other.0.iter());
        loop {
            match (mine.next(), theirs.next()) {
                (None, None) | (Some(Segment::Rest), Some(_)) => return true,
                (Some(Segment::Any), Some(Segment::Any | Segment::Literal(_))) => {}
                (Some(Segment::Literal(a)), Some(Segment::Literal(b))) if a == b => {}
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
                (None, None) | (Some(Segment::Rest), Some(_)) | (Some(_), Some(Segment::Rest)) => {
                    return true;
                }
                (Some(Segment::Literal(a)), Some(Segment::Literal(b))) if a != b => return false,
                (Some(_), Some(_)) => {}
                (None, Some(_)) | (Some(_), None) => return false,
            }
        }
    }
}

impl FromStr for PathPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let rest = text.strip_prefix('/').ok_or(InvalidPattern::Path)?;
        route::refuse_ambiguity(text).map_err(InvalidPattern::Unreachable)?;
        let mut segments = Vec::new();
        for segment in rest.split('/') {
            if segments.last() == Some(&Segment::Rest) {
                return Err(InvalidPattern::Path);
            }
            segments.push(match segment {
                "*" => Segment::Any,
                "**" => Segment::Rest,
                text if text.contains('*') => return Err(InvalidPattern::Path),
                text => Segment::Literal(text.to_owned()),
            });
        }
        Ok(Self(segments))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.0 {
            match segment {
                Segment::Literal(text) => write!(f, "/{text}")?,
                Segment::Any => f.write_str("/*")?,
                Segment::Rest => f.write_str("/**")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> PathPattern {
        text.parse().expect(text)
    }

    #[test]
    fn a_path_fits_segment_by_segment() {
        for (pattern, fits, does_not) in [
            (
                "/v1/models",
                vec!["/v1/models"],
                vec![
                    "/v1/models/",
                    "/v1/models/x",
                    "/v1",
                    "/v1/Models",
                    "v1/models",
                ],
            ),
            (
                "/v1/models/*",
                vec!["/v1/models/gpt-4o"],
                vec!["/v1/models", "/v1/models/", "/v1/models/a/b"],
            ),
            (
                "/v1/**",
                vec!["/v1/a", "/v1/a/b/c"],
                vec!["/v1", "/v1/", "/v1/a/", "/v1/a//b", "/v2/a"],
            ),
            ("/dir/", vec!["/dir/"], vec!["/dir", "/dir//", "/dir/x"]),
            ("/**", vec!["/a", "/a/b"], vec!["/", ""]),
        ] {
            for good in fits {
                assert!(path(pattern).matches(good), "{pattern} {good}");
            }
            for bad in does_not {
                assert!(!path(pattern).matches(bad), "{pattern} {bad}");
            }
            assert_eq!(path(pattern).to_string(), pattern);
        }
    }

    #[test]
    fn literals_are_more_specific_than_stars() {
        for (first, second) in [
            ("/a/b", "/a/*"),
            ("/a/*", "/a/**"),
            ("/a/b", "/**"),
            ("/a/*", "/*/b"),
            ("/a/*/c", "/a/**"),
        ] {
            assert_eq!(
                path(first).by_specificity(&path(second)),
                Ordering::Less,
                "{first} {second}"
            );
        }
    }

    #[test]
    fn covering_and_overlapping_are_told_apart() {
        for (a, b, covers, overlaps) in [
            ("/a/b", "/a/b", true, true),
            ("/a/*", "/a/b", true, true),
            ("/a/b", "/a/*", false, true),
            ("/a/**", "/a/*/c", true, true),
            ("/a/**", "/a", false, false),
            ("/a/*", "/*/b", false, true),
            ("/a/*", "/a/b/c", false, false),
            ("/a/*", "/a/**", false, true),
        ] {
            assert_eq!(path(a).covers(&path(b)), covers, "{a} covers {b}");
            assert_eq!(path(a).overlaps(&path(b)), overlaps, "{a} overlaps {b}");
            assert_eq!(path(b).overlaps(&path(a)), overlaps, "{b} overlaps {a}");
        }
    }

    #[test]
    fn patterns_that_promise_too_much_are_refused() {
        for bad in [
            "", "v1", "/a*", "/**/b", "/***", "//a", "/a/../b", "/%61", "/a;b", "/a?b", "/ü",
        ] {
            assert!(bad.parse::<PathPattern>().is_err(), "{bad:?}");
        }
        for bad in ["", "*a", "a*b", "a**", "a b", "a\n"] {
            assert_eq!(
                bad.parse::<NamePattern>(),
                Err(InvalidPattern::Name),
                "{bad:?}"
            );
        }
        let pattern: NamePattern = "gpt-4o*".parse().expect("a pattern");
        assert!(pattern.matches("gpt-4o") && pattern.matches("gpt-4o-mini"));
        assert!(!pattern.matches("gpt-4") && !pattern.matches("xgpt-4o"));
    }
}
