//! The object store that the settings name, for commands that read records from there.

use anyhow::Context;
use tollgate_archive::shelf::{self, Shelf};

use crate::config::{self, Settings};

/// The shelf there, and where that is.
///
/// # Errors
/// If the settings name no store, or it cannot be set up.
pub(crate) fn shelf(settings: &Settings) -> anyhow::Result<(Box<dyn Shelf>, String)> {
    let store = settings.store.as_ref();
    let store = store.context("the settings name no [records.store] to read records from")?;
    let place = store.config.place.to_string();
    let opened = shelf::open(&store.config, &config::store_variables());
    let opened = opened.with_context(|| format!("[records.store] {place}"))?;
    Ok((opened, place))
}
