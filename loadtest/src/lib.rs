//! A provider to test against, and the tools that measure the gateway.
//!
//! Nothing here knows the gateway's insides: it is a program and a URL like any other. Everything
//! stays on loopback, unless the user of [`load`] claims leave to load another host.

mod callgrind;
mod children;
pub mod growth;
pub mod load;
pub mod mock;
pub mod overhead;
pub mod plot;
pub mod proof;
pub mod report;
mod stamp;
pub mod store;
