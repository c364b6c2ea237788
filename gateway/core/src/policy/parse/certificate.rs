//! Reads the `[[certificate]]` tables of a tenant's file: which client certificates are whose.
//!
//! Names are exact: a pattern would let whoever may be issued one certificate of an authority be
//! several agents. Worst case: an authority that the listener trusts signs one of these names for
//! somebody else.

use crate::identity::{InvalidSubjectName, SubjectName};
use crate::ids::{AgentId, TaskId, TenantId};
use crate::policy::Holder;
use crate::policy::reader::{self, Read, Section};
use toml::de::DeValue;

/// The task of calls that no token attributes to another.
const STANDING: &str = "standing";

/// A name in certificates, its place in the file, and whom it stands for.
pub(super) type Mapping = (SubjectName, usize, Holder);

pub(super) fn read(root: &Section<'_>, tenant: Option<&TenantId>) -> Vec<Mapping> {
    let read = root.tables("certificate", |section| {
        let spiffe = section.optional("spiffe", name(SubjectName::spiffe));
        let dns = section.optional("dns", name(SubjectName::dns));
        let agent: Option<AgentId> = section.required("agent", reader::parsed);
        let task: Option<TaskId> = section.optional("task", reader::parsed);
        let key = match (section.has("spiffe"), section.has("dns")) {
            (true, false) => "spiffe",
            (false, true) => "dns",
            (both, _) => {
                let how_many = if both { "both" } else { "neither" };
                section.mistake(
                    section.start(),
                    format!("a certificate is known by `spiffe` or by `dns`; this has {how_many}"),
                );
                return None;
            }
        };
        let holder = Holder {
            tenant: tenant?.clone(),
            agent: agent?,
            task: task.or_else(|| STANDING.parse().ok())?,
        };
        Some((spiffe.or(dns)?, section.at(key), holder))
    });
    read.into_iter().flatten().collect()
}

fn name(
    parse: impl Fn(&str) -> Result<SubjectName, InvalidSubjectName>,
) -> impl Fn(&DeValue<'_>) -> Read<SubjectName> {
    move |value| {
        let text = reader::text(value)?;
        let shown = reader::shown(&text);
        parse(&text).map_err(|wrong| format!("is \"{shown}\", but {wrong}"))
    }
}
