//! A provider to test against, and the tools that measure the gateway.
//!
//! Nothing here knows the gateway's insides: it is a program and a URL like any other. Everything
//! stays on loopback.

mod children;
pub mod mock;
pub mod overhead;
pub mod proof;
pub mod report;
mod stamp;
pub mod store;
