//! The path of a call through the gateway. The modules stand in the order a call meets them.
//!
//! This is the only crate that names hyper or pingora types. The engine (`engine` to `guard`, and
//! `collect` to `tracker`) moves bytes and knows nothing of tenants; the stages between them
//! decide and know nothing of sockets.

pub mod engine;
pub mod listener;
mod client_certificate;
mod handshake;
mod server_name;
pub mod farewell;
pub mod service;
pub mod io;
pub mod guard;

pub mod gateway;
pub mod live;
pub mod exchange;
pub mod oauth;
pub mod statement;
mod pace;
mod admit;
pub mod authenticate;
pub mod pressure;
mod route;
mod authorize;
mod bind;
mod ask;
mod deferred;
pub mod reserve;
pub mod obtain;
pub mod sealed;
mod sign;
mod unseal;
mod forward;
mod seal;
mod scrub;
mod meter;
mod settle;
pub mod happenings;
mod record;
pub mod call_log;
pub mod traces;
mod respond;
pub mod explain;
pub mod metrics;
pub mod notices;

pub mod collect;
pub mod dial;
pub mod pool;
pub mod body;
pub mod relay;
pub mod tracker;

#[cfg(test)]
mod fakes;
