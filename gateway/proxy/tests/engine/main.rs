//! The HTTP engine on real sockets: a trivial handler between hand-written clients and upstreams.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

mod certificates;
mod downstream;
mod farewell;
mod framing;
mod hostile;
mod relay;
mod support;
mod upstream;
