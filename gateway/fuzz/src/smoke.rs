//! Runs every target over its corpus and over changes to it: the same ones on every run.

use std::path::Path;

use super::token::true_token;

/// Changed inputs per target.
const CHANGES: usize = 3_000;

/// Marsaglia's xorshift64, so that a failure comes again.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % below.max(1)
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .expect("a corpus")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no corpus");
    files
        .iter()
        .map(|file| std::fs::read(file).expect("a file"))
        .collect()
}

fn run(target: &str, judge: fn(&[u8])) {
    let seeds = corpus(target);
    for seed in &seeds {
        judge(seed);
    }
    let mut chance = Chance(0x0123_4567_89ab_cdef);
    for _ in 0..CHANGES {
        let mut input = seeds[chance.next(seeds.len())].clone();
        for _ in 0..=chance.next(4) {
            change(&mut input, &seeds, &mut chance);
        }
        judge(&input);
    }
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], chance: &mut Chance) {
    let at = chance.next(input.len() + 1);
    let other = &seeds[chance.next(seeds.len())];
    let from = chance.next(other.len() + 1);
    let until = (from + chance.next(24)).min(other.len());
    match chance.next(5) {
        0 if at < input.len() => input[at] ^= 1 << chance.next(8),
        1 => input.insert(at, u8::try_from(chance.next(256)).expect("a byte")),
        2 => input.truncate(at),
        3 => {
            let end = (at + chance.next(16)).min(input.len());
            input.drain(at..end);
        }
        _ => {
            input.splice(at..at, other[from..until].iter().copied());
        }
    }
}

#[test]
fn handles_hold() {
    run("handles", super::handles);
}

#[test]
fn tokens_hold() {
    assert!(
        corpus("token").contains(&true_token().as_bytes().to_vec()),
        "{}",
        true_token()
    );
    run("token", super::token);
}

#[test]
fn authorities_hold() {
    run("authority", super::authority);
}

#[test]
fn scrubbing_holds() {
    run("scrub", super::scrub);
}

#[test]
fn usage_holds() {
    run("usage", super::usage);
}

#[test]
fn fields_hold() {
    run("json_field", super::json_field);
}

#[test]
fn records_hold() {
    run("record", super::record);
}
