//! The endpoints of one provider, found by path.

use std::ops::Deref;
use std::sync::Arc;

use super::Endpoint;
use super::pattern::tree::PathTree;

/// Endpoints in the order of their file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    all: Vec<Arc<Endpoint>>,
    by_path: PathTree,
    elevated: Vec<Arc<Endpoint>>,
}

impl Endpoints {
    /// Adds one behind the others.
    pub(super) fn push(&mut self, endpoint: Endpoint) {
        self.by_path.insert(&endpoint.path, self.all.len());
        let endpoint = Arc::new(endpoint);
        if endpoint.elevated {
            self.elevated.push(Arc::clone(&endpoint));
        }
        self.all.push(endpoint);
    }

    /// Visits those whose pattern `path` fits, in no particular order.
    pub fn fitting<'e>(&'e self, path: &str, mut visit: impl FnMut(&'e Arc<Endpoint>)) {
        self.by_path.fitting(path, &mut |number| {
            self.all.get(number).into_iter().for_each(&mut visit);
        });
    }

    /// Places in the file of those that may fit a path in common with `endpoint`, ascending.
    pub(super) fn near(&self, endpoint: &Endpoint) -> Vec<usize> {
        let mut near = Vec::new();
        self.by_path
            .near(&endpoint.path, &mut |number| near.push(number));
        near.sort_unstable();
        near
    }

    /// Those that are marked as elevated.
    #[must_use]
    pub fn elevated(&self) -> &[Arc<Endpoint>] {
        &self.elevated
    }
}

impl Deref for Endpoints {
    type Target = [Arc<Endpoint>];

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl<'e> IntoIterator for &'e Endpoints {
    type Item = &'e Arc<Endpoint>;
    type IntoIter = std::slice::Iter<'e, Arc<Endpoint>>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}
