//! What tests of the whole gateway need and production code never does: a client that sends raw
//! bytes, an upstream that records them, certificates, forged tokens and a scan for secrets.
//!
//! Knows the wire, not the gateway: nothing here reads policy or starts a process. Everything
//! listens on loopback at a port of the system's choice, so that tests run side by side. Reached
//! only through `[dev-dependencies]`; a fault here fails a test loudly and nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test's helper reports a broken set-up by panicking"
)]

pub mod authority;
pub mod canary;
pub mod contract;
pub mod forge;
pub mod kv2;
pub mod issuer;
pub mod parcels;
pub mod partition;
pub mod raw;
pub mod recorder;
pub mod redis;
pub mod wait;
