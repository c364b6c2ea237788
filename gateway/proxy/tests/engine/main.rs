//! The HTTP engine on real sockets: a trivial handler between hand-written clients and upstreams.

mod relay;
mod support;
