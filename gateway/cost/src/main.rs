//! Guards what the decisions on a call's path cost: counts their instructions and allocations
//! with valgrind, which counts alike on a busy machine and an idle one, and compares them with
//! `baseline.toml`.
//!
//! - `tollgate-cost` compares, and fails if one has become dearer by more than the tolerance.
//! - `tollgate-cost renew` writes a new baseline.
//!
//! Counts of another compiler or processor are others: then the figures are shown and judged by
//! nobody.

mod baseline;
mod callgrind;
mod inputs;
mod operations;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::bail;

use baseline::Baseline;

/// What this program is called with when it is to be counted.
const COUNTED: &str = "counted";

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let decisions = operations::all()?;
    match arguments.first().map(String::as_str) {
        Some(COUNTED) => {
            callgrind::run(&decisions)?;
            Ok(ExitCode::SUCCESS)
        }
        Some("renew") => {
            let now = measure(&decisions)?;
            now.write()?;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            let comparison = measure(&decisions)?.against(&Baseline::read()?);
            std::io::stdout().write_all(comparison.text.as_bytes())?;
            Ok(ExitCode::from(u8::from(!comparison.holds)))
        }
        Some(other) => bail!("{other} is no command; there is only `renew`"),
    }
}

fn measure(decisions: &[operations::Named]) -> anyhow::Result<Baseline> {
    let counts = callgrind::count(COUNTED, decisions.len())?;
    let names = decisions.iter().map(|decision| decision.name.to_owned());
    Ok(Baseline::of(names.zip(counts)))
}
