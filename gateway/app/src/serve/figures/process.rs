//! What runs here: the version, the process, and what the last run has left.

use prometheus::process_collector::ProcessCollector;
use prometheus::{IntGaugeVec, Opts, Registry};

use super::counter;

/// Registers it. `interrupted` calls of the last run had no outcome.
///
/// # Errors
/// If metrics of these names exist.
pub(super) fn register(registry: &Registry, interrupted: usize) -> prometheus::Result<()> {
    registry.register(Box::new(ProcessCollector::for_self()))?;
    let build = Opts::new("tollgate_build_info", "1, with the version that runs.");
    let build = IntGaugeVec::new(build, &["version"])?;
    registry.register(Box::new(build.clone()))?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    let lapsed = counter(
        registry,
        "tollgate_reservations_lapsed_total",
        "Calls of the last run that were found without an outcome, and settled at their reservation.",
    )?;
    lapsed.inc_by(u64::try_from(interrupted).unwrap_or(u64::MAX));
    Ok(())
}
