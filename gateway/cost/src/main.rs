//! Guards what the decisions on a call's path cost: counts their instructions and allocations
//! with valgrind, which counts alike on a busy machine and an idle one, and compares them with
//! `baseline.toml`.
//!
//! - `tollgate-cost` compares, and fails if one has become dearer by more than the tolerance.
//! - `tollgate-cost renew` writes a new baseline.
//!
//! Counts of another compiler or processor are others: then the figures are shown and judged by
//! nobody.

mod callgrind;
mod inputs;
mod operations;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use tollgate_baseline::{Baseline, Figures, Tolerance};

use callgrind::Count;

/// What is counted, in the baseline's words.
const KIND: &str = "decision";

const INSTRUCTIONS: &str = "instructions";
const ALLOCATIONS: &str = "allocations";

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
            now.write(path())?;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            let agreed = Baseline::read(KIND, path())?;
            let comparison = measure(&decisions)?.against(&agreed, tolerance);
            std::io::stdout().write_all(comparison.text.as_bytes())?;
            Ok(ExitCode::from(u8::from(!comparison.holds)))
        }
        Some(other) => bail!("{other} is no command; there is only `renew`"),
    }
}

fn measure(decisions: &[operations::Named]) -> anyhow::Result<Baseline> {
    let counts = callgrind::count(COUNTED, decisions.len())?;
    let names = decisions.iter().map(|decision| decision.name.to_owned());
    let figures = counts.into_iter().map(figures);
    Ok(Baseline::of(KIND, names.zip(figures)))
}

fn figures(count: Count) -> Figures {
    Figures::from([
        (INSTRUCTIONS.to_owned(), count.instructions as f64),
        (ALLOCATIONS.to_owned(), count.allocations as f64),
    ])
}

/// How much dearer a decision may become. Instructions move when code beside it changes and the compiler
/// lays things out anew.
fn tolerance(figure: &str) -> Option<Tolerance> {
    let (percent, count) = match figure {
        INSTRUCTIONS => (3.0, 100.0),
        _ => (0.0, 0.0),
    };
    Some(Tolerance { percent, count })
}

fn path() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.toml"))
}
