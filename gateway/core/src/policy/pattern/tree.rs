//! Path patterns by their segments: those that fit a path are found without a look at the others.
//!
//! It answers as [`PathPattern::matches`] does of each pattern by itself. Each branch is followed
//! at most once, so that a search is no longer than the path and the patterns that begin like it.

use std::collections::BTreeMap;

use super::{PathPattern, Segment};

/// Patterns, each known by a number that was given with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PathTree {
    literals: BTreeMap<Box<str>, PathTree>,
    others: BTreeMap<Segment, PathTree>,
    /// Patterns that end here.
    here: Vec<usize>,
}

impl PathTree {
    pub(crate) fn insert(&mut self, pattern: &PathPattern, number: usize) {
        let mut place = self;
        for segment in &pattern.0 {
            place = place.branch(segment);
        }
        place.here.push(number);
    }

    fn branch(&mut self, segment: &Segment) -> &mut Self {
        if let Segment::Literal(text) = segment {
            return self.literals.entry(text.as_str().into()).or_default();
        }
        self.others.entry(segment.clone()).or_default()
    }

    /// Visits the number of each pattern that `path` fits, in no particular order.
    pub(crate) fn fitting(&self, path: &str, visit: &mut impl FnMut(usize)) {
        if let Some(path) = path.strip_prefix('/') {
            self.follow(Some(path), visit);
        }
    }

    fn follow(&self, path: Option<&str>, visit: &mut impl FnMut(usize)) {
        let Some(path) = path else {
            self.here.iter().copied().for_each(visit);
            return;
        };
        let slash = memchr::memchr(b'/', path.as_bytes());
        let (segment, rest) = match slash.and_then(|at| path.split_at_checked(at)) {
            Some((segment, rest)) => (segment, rest.strip_prefix('/')),
            None => (path, None),
        };
        if let Some(branch) = self.literals.get(segment) {
            branch.follow(rest, visit);
        }
        for (expected, branch) in &self.others {
            if *expected == Segment::Rest {
                if path.split('/').all(|segment| !segment.is_empty()) {
                    branch.follow(None, visit);
                }
            } else if expected.fits(segment) {
                branch.follow(rest, visit);
            }
        }
    }

    /// Visits the number of each pattern that may fit a path in common with `pattern`, and perhaps
    /// of others.
    pub(crate) fn near(&self, pattern: &PathPattern, visit: &mut impl FnMut(usize)) {
        self.beside(&pattern.0, visit);
    }

    fn beside(&self, segments: &[Segment], visit: &mut impl FnMut(usize)) {
        let Some((first, rest)) = segments.split_first() else {
            self.here.iter().copied().for_each(visit);
            return;
        };
        if *first == Segment::Rest {
            self.all(visit);
            return;
        }
        if let Segment::Literal(text) = first {
            if let Some(branch) = self.literals.get(text.as_str()) {
                branch.beside(rest, visit);
            }
        } else {
            for branch in self.literals.values() {
                branch.beside(rest, visit);
            }
        }
        for (other, branch) in &self.others {
            if *other == Segment::Rest {
                branch.all(visit);
            } else {
                branch.beside(rest, visit);
            }
        }
    }

    fn all(&self, visit: &mut impl FnMut(usize)) {
        self.here.iter().copied().for_each(&mut *visit);
        for branch in self.literals.values().chain(self.others.values()) {
            branch.all(visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(search: impl FnOnce(&mut dyn FnMut(usize))) -> Vec<usize> {
        let mut found = Vec::new();
        search(&mut |number| found.push(number));
        found.sort_unstable();
        found
    }

    const SEGMENTS: [&str; 8] = ["a", "b", "*", "{model}", "{model}:act", "a:act", "", "ab"];

    fn pattern() -> impl Strategy<Value = String> {
        let segments = proptest::collection::vec(proptest::sample::select(&SEGMENTS[..]), 1..5);
        (segments, any::<bool>()).prop_map(|(segments, open)| {
            let end = if open { "/**" } else { "" };
            format!("/{}{end}", segments.join("/"))
        })
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_each_pattern_by_itself_fits(
            texts in proptest::collection::vec(pattern(), 1..24),
            paths in proptest::collection::vec(pattern(), 1..12),
        ) {
            let patterns: Vec<PathPattern> =
                texts.iter().filter_map(|text| text.parse().ok()).collect();
            let mut tree = PathTree::default();
            for (number, pattern) in patterns.iter().enumerate() {
                tree.insert(pattern, number);
            }
            let those = |fits: &dyn Fn(&PathPattern) -> bool| -> Vec<usize> {
                let all = patterns.iter().enumerate();
                all.filter(|(_, pattern)| fits(pattern)).map(|(number, _)| number).collect()
            };
            for path in paths.iter().map(String::as_str).chain(["", "/", "a", "/a//b", "/a/b/"]) {
                let found = numbers(|visit| tree.fitting(path, &mut |number| visit(number)));
                prop_assert_eq!(found, those(&|pattern| pattern.matches(path)), "{}", path);
            }
            for pattern in &patterns {
                let near = numbers(|visit| tree.near(pattern, &mut |number| visit(number)));
                for number in those(&|other| other.overlaps(pattern)) {
                    prop_assert!(near.contains(&number), "{} beside {}", patterns[number], pattern);
                }
            }
        }
    }
}
