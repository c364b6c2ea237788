//! What a gateway takes as its work grows: CPU and instructions per call, memory, time to start.
//!
//! One dimension is made to grow at a time, over some powers of ten; everything else stays as it is,
//! with all features on. Instructions and memory are judged: nothing may grow faster than it must.
//! Times are shown only, because they move with the machine. It knows the gateway as a program with a
//! command line, nothing of its insides. It is bounded: sizes × calls. Worst case: without valgrind there
//! are no instructions, and memory alone is judged.

mod calls;
mod dimension;
mod fit;
mod measure;
mod show;

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use crate::children::raise_file_limit;
use crate::proof::Common;

pub use dimension::{Dimension, UnknownDimension};

use fit::Verdict;
use measure::Point;

/// What to measure, and how thoroughly.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every scenario needs.
    pub common: Common,
    /// What is made to grow, one after the other.
    pub dimensions: Vec<Dimension>,
    /// Sizes below it are left out.
    pub least: u64,
    /// Sizes beyond it are left out.
    pub most: u64,
    /// How long calls are made while CPU is measured.
    pub time: Duration,
    /// Plain calls whose instructions are counted; fewer of larger ones. 0: none.
    pub calls: u64,
    /// Where plots go, one of each dimension.
    pub plots: Option<PathBuf>,
}

/// Measures all, prints tables on stderr and, if asked, lines of JSON on stdout; whether everything
/// grows as it may.
///
/// # Errors
/// If something could not be started or measured, or an answer was wrong.
pub async fn run(config: &Config, as_json: bool) -> anyhow::Result<bool> {
    raise_file_limit();
    let mut all_held = true;
    for dimension in &config.dimensions {
        let points = points(config, *dimension, as_json).await?;
        let verdicts = judge(*dimension, &points);
        all_held &= verdicts.iter().all(Verdict::held);
        writeln!(
            io::stderr(),
            "{}",
            show::table(*dimension, &points, &verdicts)
        )?;
        if as_json {
            for verdict in &verdicts {
                writeln!(io::stdout(), "{}", show::verdict(*dimension, verdict))?;
            }
        }
        if let Some(directory) = &config.plots {
            fs::create_dir_all(directory)?;
            let path = directory.join(format!("growth-{dimension}.svg"));
            fs::write(&path, show::plot(*dimension, &points))
                .with_context(|| format!("writing {}", path.display()))?;
        }
    }
    if as_json {
        writeln!(io::stdout(), "{}", json!({ "held": all_held }))?;
    }
    Ok(all_held)
}

async fn points(
    config: &Config,
    dimension: Dimension,
    as_json: bool,
) -> anyhow::Result<Vec<Point>> {
    let mut points = Vec::new();
    for size in dimension.sizes() {
        if *size < config.least || *size > config.most {
            continue;
        }
        let point = measure::point(config, dimension, *size)
            .await
            .with_context(|| format!("{dimension} {size}"))?;
        writeln!(io::stderr(), "measured: {dimension} {size}")?;
        if as_json {
            writeln!(io::stdout(), "{}", show::point(dimension, &point)?)?;
        }
        points.push(point);
    }
    Ok(points)
}

/// Instructions and memory against what they may be.
fn judge(dimension: Dimension, points: &[Point]) -> Vec<Verdict> {
    let figures = |of: fn(&Point) -> Option<f64>| -> Vec<(f64, f64)> {
        let all = points.iter();
        all.filter_map(|point| Some((show::float(point.size), of(point)?)))
            .collect()
    };
    let instructions = Verdict::of(
        "instructions",
        dimension.instructions(),
        &figures(|point| point.instructions),
    );
    let memory = Verdict::of(
        "peak_kib",
        dimension.memory(),
        &figures(|point| Some(show::float(point.peak_kib))),
    );
    instructions.into_iter().chain(memory).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(size: u64, instructions: f64, peak_kib: u64) -> Point {
        Point {
            size,
            ready_ms: 1.0,
            first_answer_ms: 2.0,
            start_kib: 1,
            after_kib: 2,
            peak_kib,
            cpu_us: 3.0,
            instructions: Some(instructions),
            cold_instructions: None,
        }
    }

    fn held(dimension: Dimension, points: &[Point]) -> Vec<bool> {
        let verdicts = judge(dimension, points);
        verdicts.iter().map(Verdict::held).collect()
    }

    #[test]
    fn calls_may_not_cost_more_with_more_tenants_nor_memory_pass_its_bound() {
        let few = at(10, 300_000.0, 60_000);
        let good = [few, at(10_000, 310_000.0, 200_000)];
        assert_eq!(held(Dimension::Tenants, &good), [true, true]);
        let scans = [few, at(10_000, 900_000.0, 300_000)];
        assert_eq!(held(Dimension::Tenants, &scans), [false, false]);
    }

    #[test]
    fn calls_may_cost_as_much_more_as_their_bytes_are_more() {
        let small = at(1 << 10, 300_000.0, 60_000);
        let good = [small, at(16 << 20, 160_000_000.0, 400_000)];
        assert_eq!(held(Dimension::RequestBytes, &good), [true, true]);
        let squares = [
            at(1 << 20, 1_000_000.0, 60_000),
            at(16 << 20, 200_000_000.0, 400_000),
        ];
        assert_eq!(held(Dimension::RequestBytes, &squares), [false, true]);
    }
}
