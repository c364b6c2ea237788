//! Reports over many records: how long they take, how much memory, and whether the sums are right.
//!
//! Writes partitions of records as a gateway leaves them behind, then asks the gateway's program
//! for reports and compares their totals with what was written. Worst case: the disk takes about
//! 1 KB a record and says that it is full.

mod partitions;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::{Value, json};

use partitions::{Plan, Written};

/// How often the memory of a running report is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Over what, and with which program.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The gateway's program.
    #[arg(long, default_value = "target/release/tollgate")]
    gateway: PathBuf,
    /// How many records.
    #[arg(long, default_value_t = 10_000_000)]
    records: u64,
    /// Of how many tenants.
    #[arg(long, default_value_t = 50)]
    tenants: u64,
    /// Over how many days.
    #[arg(long, default_value_t = 31)]
    days: u64,
    /// Where chance begins; the same number makes the same records.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the records below this directory, which must be empty, and leave them there.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Print JSON on stdout.
    #[arg(long)]
    json: bool,
}

/// One report, measured.
struct Measured {
    asked: String,
    took: Duration,
    peak_kib: u64,
    output_bytes: usize,
}

/// Runs it. True if every total was right.
///
/// # Errors
/// If it could not be carried out.
pub fn run(args: &ReportArgs) -> anyhow::Result<bool> {
    let temporary = tempfile::tempdir()?;
    let dir = args.keep.as_deref().unwrap_or(temporary.path());
    fs::create_dir_all(dir)?;
    ensure!(
        fs::read_dir(dir)?.next().is_none(),
        "{} is not empty",
        dir.display()
    );
    let plan = Plan {
        records: args.records,
        tenants: args.tenants,
        days: args.days,
        seed: args.seed,
    };
    let start = Instant::now();
    let written = plan.write(dir)?;
    let writing = start.elapsed();
    let settings = tempfile::tempdir()?;
    let mut all = Vec::new();
    let mut held = true;
    for asked in [
        &["--by", "tenant,model", "--json"][..],
        &["--by", "task", "--top", "20", "--json"],
        &["--by", "task", "--format", "csv"],
        &["--refusals", "--json"],
        &["--tenant", "t-01", "--by", "agent,day", "--json"],
        &["--format", "html"],
    ] {
        let (measured, output) = report(&args.gateway, settings.path(), dir, asked)?;
        let whole =
            asked.contains(&"--json") && !asked.iter().any(|word| word.starts_with("--tenant"));
        if whole && !asked.contains(&"--refusals") {
            held &= written.agrees(&serde_json::from_slice(&output)?);
        }
        all.push(measured);
    }
    let table = table(&written, writing, &all, held);
    writeln!(io::stderr(), "{table}")?;
    if args.json {
        writeln!(io::stdout(), "{}", to_json(&written, writing, &all, held))?;
    }
    Ok(held)
}

fn report(
    program: &Path,
    settings: &Path,
    dir: &Path,
    asked: &[&str],
) -> anyhow::Result<(Measured, Vec<u8>)> {
    let mut command = Command::new(program);
    command.arg("report").arg("--records").arg(dir).args(asked);
    command
        .arg("--policies")
        .arg(settings)
        .arg("--data")
        .arg(settings);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let start = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let mut out = child.stdout.take().context("a pipe")?;
    let reading = thread::spawn(move || {
        let mut output = Vec::new();
        out.read_to_end(&mut output).map(|_| output)
    });
    let mut peak_kib = 0;
    let status = loop {
        peak_kib = peak_kib.max(peak(&child));
        match child.try_wait()? {
            Some(status) => break status,
            None => thread::sleep(LOOK),
        }
    };
    let took = start.elapsed();
    let output = reading
        .join()
        .map_err(|_panic| anyhow::anyhow!("reading failed"))??;
    ensure!(status.success(), "{asked:?} ended with {status}");
    let asked = asked.join(" ");
    let output_bytes = output.len();
    Ok((
        Measured {
            asked,
            took,
            peak_kib,
            output_bytes,
        },
        output,
    ))
}

/// The most memory the process has had, in KiB; 0 once it is gone.
fn peak(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
    let status = status.unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let digits = line.and_then(|line| line.split_whitespace().next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn table(written: &Written, writing: Duration, all: &[Measured], held: bool) -> String {
    let mut text = format!(
        "{} records, {} MB, written in {:.1} s\n{:>9}  {:>9}  {:>12}  report\n",
        written.records,
        written.bytes / 1_000_000,
        writing.as_secs_f64(),
        "seconds",
        "peak MiB",
        "output bytes"
    );
    for Measured {
        asked,
        took,
        peak_kib,
        output_bytes,
    } in all
    {
        let (seconds, mib) = (took.as_secs_f64(), peak_kib / 1024);
        text.push_str(&format!(
            "{seconds:>9.2}  {mib:>9}  {output_bytes:>12}  {asked}\n"
        ));
    }
    text.push_str(if held {
        "every total is right"
    } else {
        "A TOTAL IS WRONG"
    });
    text
}

fn to_json(written: &Written, writing: Duration, all: &[Measured], held: bool) -> Value {
    let reports: Vec<Value> = all
        .iter()
        .map(|measured| {
            json!({
                "report": measured.asked,
                "seconds": measured.took.as_secs_f64(),
                "peak_kib": measured.peak_kib,
                "output_bytes": measured.output_bytes,
            })
        })
        .collect();
    json!({
        "records": written.records,
        "bytes": written.bytes,
        "writing_seconds": writing.as_secs_f64(),
        "reports": reports,
        "held": held,
    })
}
