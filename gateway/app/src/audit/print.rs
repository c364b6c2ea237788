//! What a check came to, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tollgate_archive::verify::{Chain, Finding, Verified, Why};

/// Partition by partition, chain by chain; what is wrong stands below its partition.
pub(super) fn text(verified: &[Verified], beside: &[Finding]) -> String {
    let mut text = String::new();
    let mut findings = 0;
    // Writing to a string cannot fail.
    for partition in verified {
        let _ = writeln!(text, "{}", partition.partition);
        for chain in &partition.chains {
            write_chain(&mut text, chain);
        }
        for finding in &partition.findings {
            write_finding(&mut text, finding);
        }
        if partition.more_findings > 0 {
            let _ = writeln!(text, "  and {} more", partition.more_findings);
        }
        let verdict = if partition.holds() { "ok" } else { "NOT OK" };
        let _ = writeln!(text, "  verdict: {verdict}\n");
        findings += partition.findings.len();
    }
    for finding in beside {
        write_finding(&mut text, finding);
        findings += 1;
    }
    let records: u64 = verified
        .iter()
        .flat_map(|partition| &partition.chains)
        .map(|chain| chain.records)
        .sum();
    let partitions = verified.len();
    let _ = match findings {
        0 => writeln!(
            text,
            "{records} records in {partitions} partitions: all as written"
        ),
        _ => writeln!(
            text,
            "{records} records in {partitions} partitions: {findings} findings"
        ),
    };
    text
}

fn write_chain(text: &mut String, chain: &Chain) {
    let _ = write!(
        text,
        "  replica {}: {} records",
        chain.replica, chain.records
    );
    if let (Some(first), Some(last)) = (chain.first, chain.last) {
        let (from, to) = (first.seq, last.seq);
        let _ = write!(text, ", {from} ({}) to {to} ({})", first.at, last.at);
    }
    let _ = write!(
        text,
        "\n    {} checkpoints hold; signed or known to the database up to {}",
        chain.checkpoints, chain.covered_to
    );
    match chain.uncovered {
        0 => {}
        after => {
            let _ = write!(text, ", {after} after that only linked");
        }
    }
    if chain.newer > 0 {
        let _ = write!(text, "; {} newer ones not judged", chain.newer);
    }
    text.push('\n');
    for absent in &chain.absent {
        let why = match absent.why {
            Why::Purged => "purged",
            Why::OtherDays => "of days that were not exported",
        };
        let _ = writeln!(text, "    {} to {}: {why}", absent.first, absent.last);
    }
}

fn write_finding(text: &mut String, finding: &Finding) {
    let _ = write!(text, "  ! {}", finding.kind.as_str());
    if let Some(replica) = &finding.replica {
        let _ = write!(text, ", replica {replica}");
    }
    match (finding.seq, finding.to) {
        (Some(seq), Some(to)) => {
            let _ = write!(text, ", records {seq} to {to}");
        }
        (Some(seq), None) => {
            let _ = write!(text, ", record {seq}");
        }
        _ => {}
    }
    if let Some(record) = finding.record {
        let _ = write!(text, " (id {record})");
    }
    if let Some(file) = &finding.file {
        let _ = write!(text, "\n    {file}");
    }
    if let Some(line) = finding.line {
        let _ = write!(text, ":{line}");
    }
    let _ = write!(text, "\n    {}", finding.detail);
    if let Some(from) = finding.perhaps_from {
        let _ = write!(text, "; records from {from} on may be bad as well");
    }
    text.push('\n');
}

/// The same for programs.
pub(super) fn json(verified: &[Verified], beside: &[Finding], holds: bool) -> Value {
    json!({ "holds": holds, "partitions": verified, "manifest_findings": beside })
}
