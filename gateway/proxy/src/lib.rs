//! The gateway's HTTP side: from a client's bytes to an upstream's answer and back.
//!
//! Modules stand in the order in which a request meets them.

pub mod engine;
pub mod listener;

pub mod body;
pub mod collect;
pub mod dial;
pub mod guard;
pub mod io;
pub mod pool;
pub mod relay;
pub mod service;
pub mod tracker;
