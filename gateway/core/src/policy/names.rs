//! Lists of name patterns that may be long: which of them fit a name is found without a look at each.
//!
//! It answers as [`NamePattern::matches`] does of each by itself. A short list is looked through.

use std::collections::{BTreeSet, HashMap};
use std::ops::Deref;

use super::{NamePattern, ScopeLimits};

/// Up to so many, a look at each is the quicker way and takes no memory.
const FEW: usize = 16;

/// Where patterns stand in their list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NameIndex {
    whole: HashMap<Box<str>, usize>,
    /// Patterns with a star, by what is before it.
    beginnings: HashMap<Box<str>, usize>,
    /// How long these are.
    lengths: BTreeSet<usize>,
}

impl NameIndex {
    /// None for a short list. Of equal patterns only the first is in it.
    fn of<'p>(patterns: impl ExactSizeIterator<Item = &'p NamePattern>) -> Option<Box<Self>> {
        if patterns.len() <= FEW {
            return None;
        }
        let mut index = Self {
            whole: HashMap::new(),
            beginnings: HashMap::new(),
            lengths: BTreeSet::new(),
        };
        for (place, pattern) in patterns.enumerate() {
            let (text, open) = pattern.parts();
            let map = if open {
                index.lengths.insert(text.len());
                &mut index.beginnings
            } else {
                &mut index.whole
            };
            map.entry(text.into()).or_insert(place);
        }
        Some(Box::new(index))
    }

    /// Places of the patterns that fit `name`, in no particular order.
    fn fitting(&self, name: &str) -> impl Iterator<Item = usize> {
        let stems = self.lengths.range(..=name.len());
        let open = stems.filter_map(|length| self.beginnings.get(name.get(..*length)?));
        self.whole.get(name).into_iter().chain(open).copied()
    }
}

/// Patterns in the order of their file. An empty list covers every name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    all: Vec<NamePattern>,
    index: Option<Box<NameIndex>>,
}

impl Names {
    /// Whether one of them fits `name`, or there is none.
    #[must_use]
    pub fn cover(&self, name: &str) -> bool {
        match &self.index {
            Some(index) => index.fitting(name).next().is_some(),
            None => super::covers(&self.all, name),
        }
    }
}

impl From<Vec<NamePattern>> for Names {
    fn from(all: Vec<NamePattern>) -> Self {
        let index = NameIndex::of(all.iter());
        Self { all, index }
    }
}

impl Deref for Names {
    type Target = [NamePattern];

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl<'n> IntoIterator for &'n Names {
    type Item = &'n NamePattern;
    type IntoIter = std::slice::Iter<'n, NamePattern>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

/// Models with limits of their own, in the order of their file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelLimits {
    all: Vec<(NamePattern, ScopeLimits)>,
    index: Option<Box<NameIndex>>,
}

impl ModelLimits {
    /// The places of those whose pattern fits one of `names`, in the order of their file.
    pub fn covering<'n, N: Iterator<Item = &'n str>>(&self, names: impl Fn() -> N) -> Vec<usize> {
        let Some(index) = &self.index else {
            let covers = |pattern: &NamePattern| names().any(|name| pattern.matches(name));
            let all = self.all.iter().enumerate();
            return all
                .filter(|(_, (pattern, _))| covers(pattern))
                .map(|(place, _)| place)
                .collect();
        };
        let places: BTreeSet<usize> = names().flat_map(|name| index.fitting(name)).collect();
        places.into_iter().collect()
    }
}

impl FromIterator<(NamePattern, ScopeLimits)> for ModelLimits {
    fn from_iter<I: IntoIterator<Item = (NamePattern, ScopeLimits)>>(all: I) -> Self {
        let all: Vec<_> = all.into_iter().collect();
        let index = NameIndex::of(all.iter().map(|(pattern, _)| pattern));
        Self { all, index }
    }
}

impl Deref for ModelLimits {
    type Target = [(NamePattern, ScopeLimits)];

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl<'m> IntoIterator for &'m ModelLimits {
    type Item = &'m (NamePattern, ScopeLimits);
    type IntoIter = std::slice::Iter<'m, (NamePattern, ScopeLimits)>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn patterns() -> impl Strategy<Value = Vec<NamePattern>> {
        // Short names over two letters, so that they begin like one another, and long lists too.
        proptest::collection::vec("[ab]{1,4}|[ab]{0,3}\\*", 0..3 * FEW)
            .prop_map(|texts| texts.iter().filter_map(|text| text.parse().ok()).collect())
    }

    proptest! {
        #[test]
        fn a_list_covers_what_one_of_its_patterns_fits(all in patterns(), name in "[abé]{0,5}") {
            let by_one = super::super::covers(&all, &name);
            prop_assert_eq!(Names::from(all).cover(&name), by_one);
        }

        #[test]
        fn limits_are_those_of_every_pattern_that_fits(
            all in patterns(),
            names in proptest::collection::vec("[ab]{1,5}", 1..4),
        ) {
            // A file has each pattern once.
            let once: BTreeMap<_, _> = all.into_iter().map(|it| (it, ScopeLimits::default())).collect();
            let limits: ModelLimits = once.into_iter().collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let found = limits.covering(|| names.iter().copied());
            let fits = |place: &usize| {
                let pattern = limits.get(*place).map(|(pattern, _)| pattern);
                pattern.is_some_and(|pattern| names.iter().any(|name| pattern.matches(name)))
            };
            let by_one: Vec<usize> = (0..limits.len()).filter(fits).collect();
            prop_assert_eq!(found, by_one);
        }
    }
}
