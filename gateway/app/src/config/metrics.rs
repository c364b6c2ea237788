//! `[metrics]`: how many tenants have series of their own, and who may read them.

use tollgate_admin::exposition::Open;
use tollgate_core::policy::reader::{self, Section};

/// How many, unless it is set. With some forty lines each, they stay a small part of an answer.
const TENANTS: u64 = 50;

/// More series than this help nobody and cost the collector dearly.
const MOST_TENANTS: u64 = 10_000;

const OPEN: [(&str, Open); 3] = [
    ("nothing", Open::Nothing),
    ("totals", Open::Totals),
    ("all", Open::All),
];

/// What is shown on `/metrics`, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MetricsSettings {
    /// Tenants with series of their own; all others are summed up.
    pub(crate) tenants: usize,
    /// What needs no credential.
    pub(crate) open: Open,
}

impl MetricsSettings {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let tenants = section.optional("tenants", reader::integer(0..=MOST_TENANTS));
        Self {
            tenants: usize::try_from(tenants.unwrap_or(TENANTS)).unwrap_or(0),
            open: section
                .optional("open", reader::one_of(&OPEN))
                .unwrap_or_default(),
        }
    }
}

impl std::fmt::Display for MetricsSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = OPEN.iter().find(|(_, open)| *open == self.open);
        let open = named.map_or("totals", |(name, _)| name);
        writeln!(
            f,
            "\n[metrics]\ntenants = {}\nopen = \"{open}\"",
            self.tenants
        )
    }
}
