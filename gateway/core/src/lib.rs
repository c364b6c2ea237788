//! The decisions of Tollgate, and nothing else.
//!
//! Everything here is a synchronous function of its arguments: no clock, socket, environment,
//! file or log. "Now" is always passed in. The store traits are the only `async` code, and they
//! are implemented elsewhere. Each decision can therefore be tested with a table of values.
#![deny(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::float_arithmetic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "tests compute their expectations"
    )
)]

mod digits;
pub mod ids;
pub mod money;
pub mod secret;
pub mod time;
pub mod trace;

pub mod admin_log;
pub mod admission;
pub mod audit;
pub mod budget;
pub mod burn;
pub mod call;
pub mod credential;
pub mod deferred;
pub mod handle;
pub mod happening;
pub mod identity;
pub mod issue;
pub mod json;
pub mod latency;
pub mod notice;
pub mod policy;
pub mod price;
pub mod rate;
pub mod reconcile;
#[expect(
    clippy::disallowed_types,
    reason = "what serde derives for flattened fields names every type there is"
)]
pub mod record;
pub mod refusal;
pub mod registry;
pub mod report;
pub mod route;
pub mod scrub;
pub mod sealed;
pub mod shared_str;
pub mod sigv4;
pub mod standing;
pub mod usage;
pub mod vault;
