use std::sync::LazyLock;

use serde_json::Value;

use super::*;
use crate::call::{Ask, CacheWrite, Input, Terms};
use crate::money::PicoUsd;
use crate::policy::Operation;
use crate::usage::{Metered, Reading, Usage};

mod bounds;
mod files;
mod settlements;
mod vectors;

/// The embedded prices, read once.
static BOOK: LazyLock<PriceBook> =
    LazyLock::new(|| PriceBook::embedded().expect("the embedded prices are sound"));

/// A book of a test's own, to put a file on top of.
fn book() -> PriceBook {
    PriceBook::embedded().expect("the embedded prices are sound")
}

/// A Friday, off-peak everywhere.
fn noon() -> Timestamp {
    time("2026-11-20T12:00:00Z")
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn usd(text: &str) -> PicoUsd {
    text.parse().expect("an amount")
}

fn money(value: &Value) -> PicoUsd {
    usd(value.as_str().expect("an amount"))
}

/// A request of which only the operation and the model are known.
fn ask(operation: Operation, model: &str) -> Ask {
    Ask::bare(operation, model.parse().expect("a model's name"), b"")
}

/// An answer that states its usage.
fn stated(usage: Usage) -> Reading {
    Reading {
        metered: Metered::Exact(usage),
        ..Reading::nothing()
    }
}

fn tokens(input_tokens: u64, output_tokens: u64) -> Usage {
    Usage {
        input_tokens,
        output_tokens,
        ..Usage::default()
    }
}
