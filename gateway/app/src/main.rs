//! The `tollgate` program.

mod check;
mod config;
mod reload;

fn main() {}
