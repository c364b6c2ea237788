//! The `tollgate` program.

mod config;

fn main() {}
