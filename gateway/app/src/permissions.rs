//! Which elevated permissions the gateway has adopted, and that a change of them is on record.
//!
//! ```text
//! policy → differs from permissions.json? → event in the tenant's chain → permissions.json → in force
//! ```
//! A permission is used under no policy whose change could not be recorded: the caller puts a
//! policy in force only after [`Ledger::adopt`]. Worst case: a kill between event and file leaves
//! the event twice, the second with the time that counts. If the file is lost, spoilt or another
//! version's, every permission counts as new, and the event says that nothing is known of before.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tollgate_core::audit::EventLog;
use tollgate_core::ids::RecordId;
use tollgate_core::policy::Policy;
use tollgate_core::policy::permissions::{Adopted, PERMISSIONS_SCHEMA};
use tollgate_core::time::Timestamp;
use tracing::{error, info};

/// The file's name in the data directory.
const FILE: &str = "permissions.json";

/// What was last adopted, and where changes of it are recorded.
pub(crate) struct Ledger {
    data_dir: PathBuf,
    events: Arc<dyn EventLog>,
    last: Option<Adopted>,
    waiting: tokio::runtime::Runtime,
}

impl Ledger {
    /// Reads what the last run has adopted.
    ///
    /// # Errors
    /// If the file is there and cannot be read, or there is no runtime to be had.
    pub(crate) fn open(data_dir: &Path, events: Arc<dyn EventLog>) -> anyhow::Result<Self> {
        let last = read(data_dir).or_else(|unreadable| match unreadable {
            Unreadable::Io(error) => Err(error),
            Unreadable::Spoilt(why) => {
                error!(%why, "permissions.json is spoilt; every elevated permission counts as new");
                Ok(None)
            }
        })?;
        let waiting = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            data_dir: data_dir.to_owned(),
            events,
            last,
            waiting,
        })
    }

    /// Records what `policy` changes, which may be put in force then. May be repeated.
    ///
    /// # Errors
    /// If that cannot be recorded.
    pub(crate) fn adopt(&mut self, policy: &Policy, now: Timestamp) -> anyhow::Result<()> {
        let known = self.last.as_ref();
        if known.is_some_and(|known| known.policy == policy.version) {
            return Ok(());
        }
        let (adopted, changes) = Adopted::after(known, policy, now);
        for change in &changes {
            let event = change.event(RecordId::new(uuid::Uuid::now_v7()), now);
            self.waiting.block_on(self.events.keep(&event))?;
            info!(
                tenant = %change.tenant,
                before = change.before.as_ref().map(Vec::len),
                after = change.after.len(),
                "elevated permissions changed"
            );
        }
        write(&self.data_dir, &adopted)?;
        self.last = Some(adopted);
        Ok(())
    }
}

/// What the gateway of a data directory has last adopted; `None` if none ever ran there.
///
/// # Errors
/// If that cannot be read or understood.
pub(crate) fn adopted(data_dir: &Path) -> anyhow::Result<Option<Adopted>> {
    read(data_dir).map_err(|unreadable| match unreadable {
        Unreadable::Io(error) => error,
        Unreadable::Spoilt(why) => anyhow!("{} is spoilt: {why}", data_dir.join(FILE).display()),
    })
}

enum Unreadable {
    Io(anyhow::Error),
    Spoilt(String),
}

fn read(data_dir: &Path) -> Result<Option<Adopted>, Unreadable> {
    let path = data_dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            return Err(Unreadable::Spoilt(error.to_string()));
        }
        Err(error) => {
            let shown = format!("{} cannot be read", path.display());
            return Err(Unreadable::Io(anyhow::Error::new(error).context(shown)));
        }
    };
    let adopted: Adopted =
        serde_json::from_str(&text).map_err(|error| Unreadable::Spoilt(error.to_string()))?;
    if adopted.schema == PERMISSIONS_SCHEMA {
        Ok(Some(adopted))
    } else {
        Err(Unreadable::Spoilt(format!(
            "its schema is {:?}",
            adopted.schema
        )))
    }
}

/// Whole or not at all.
fn write(data_dir: &Path, adopted: &Adopted) -> anyhow::Result<()> {
    let path = data_dir.join(FILE);
    let aside = path.with_extension("json.new");
    let mut text = serde_json::to_string_pretty(adopted)?;
    text.push('\n');
    let written = || -> std::io::Result<()> {
        let mut file = File::create(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, &path)?;
        File::open(data_dir)?.sync_all()
    };
    written().with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests;
