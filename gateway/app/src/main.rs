//! The `tollgate` program: one command line for the gateway and for those who run it.
//!
//! Ends with 0 when done, 1 when refused or failed, 2 when called wrongly. Data goes to standard
//! output, everything said about it to standard error.

mod admins;
mod audit;
mod check;
mod cli;
mod clock;
mod config;
mod data_dir;
mod doctor;
mod exchange;
mod explain;
mod fleet;
mod health;
mod k8s;
mod live;
mod log;
mod logging;
mod operator;
mod output;
mod permissions;
mod prices;
mod private_file;
mod probe;
mod quickstart;
mod reconcile;
mod reload;
mod report;
mod secret;
mod serve;
mod sidecar;
mod store;
mod tenant;
mod token;
mod vault;

use std::process::ExitCode;

use clap::Parser;

/// Calls allocate and free many small buffers on several threads; the system's allocator costs
/// more of each call than anything else it does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Each of a dozen threads would fill a page of 2 MiB with what takes some KiB. Where the kernel
    // does not let this be said, the program takes more memory and that is all.
    let _unchanged = rustix::thread::disable_transparent_huge_pages(true);
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(wrong) => cli::unseeing(wrong).exit(),
    };
    match cli.run() {
        Ok(code) => code,
        Err(error) => {
            output::say(&format!("tollgate: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
