//! Counts that are agreed on, and how others compare with them.
//!
//! Knows files, figures by name and how much dearer each may become; not what is counted, nor how.
//! Counts of another compiler or processor are others: then they are shown and judged by nobody.

mod comparison;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

pub use comparison::{Comparison, Tolerance};

/// What one thing costs, by the names of figures. What has no figure costs none of it.
pub type Figures = BTreeMap<String, f64>;

/// Figures of everything that is counted, and what they depend on.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// What each of them is, in a word.
    kind: &'static str,
    made_by: MadeBy,
    all: BTreeMap<String, Figures>,
}

/// What counts depend on besides what is counted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct MadeBy {
    rustc: String,
    architecture: String,
}

/// A baseline as it stands in a file.
#[derive(Deserialize)]
struct Written {
    #[serde(flatten)]
    made_by: MadeBy,
    #[serde(flatten)]
    all: BTreeMap<String, BTreeMap<String, Figures>>,
}

impl Baseline {
    /// Figures of what this compiler has made, one entry for each thing of that kind.
    pub fn of(kind: &'static str, all: impl IntoIterator<Item = (String, Figures)>) -> Self {
        Self {
            kind,
            made_by: MadeBy {
                rustc: env!("TOLLGATE_BASELINE_RUSTC").to_owned(),
                architecture: std::env::consts::ARCH.to_owned(),
            },
            all: all.into_iter().collect(),
        }
    }

    /// What was agreed on for things of a kind.
    ///
    /// # Errors
    /// If there is no such file, or it is not what [`Baseline::write`] writes.
    pub fn read(kind: &'static str, path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("reading the baseline {}", path.display()))?;
        Self::parse(kind, &text).with_context(|| format!("the baseline {}", path.display()))
    }

    fn parse(kind: &'static str, text: &str) -> anyhow::Result<Self> {
        let mut written: Written = toml::from_str(text)?;
        let all = written.all.remove(kind).unwrap_or_default();
        let other = written.all.keys().next();
        ensure!(other.is_none(), "it holds {other:?}, not only {kind}");
        Ok(Self {
            kind,
            made_by: written.made_by,
            all,
        })
    }

    /// Makes this what is agreed on.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let written = std::fs::write(path, self.text());
        written.with_context(|| format!("writing the baseline {}", path.display()))
    }

    fn text(&self) -> String {
        let MadeBy {
            rustc,
            architecture,
        } = &self.made_by;
        let mut text = format!("rustc = \"{rustc}\"\narchitecture = \"{architecture}\"\n");
        // Writing to a String cannot fail.
        for (name, figures) in &self.all {
            let _written = writeln!(text, "\n[{}.{name}]", self.kind);
            for (figure, count) in figures {
                let _written = writeln!(text, "{figure} = {count}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests;
