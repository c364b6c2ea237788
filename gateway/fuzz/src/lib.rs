//! What must hold whatever the bytes are: one function for each part that reads what strangers
//! wrote. It panics if its property does not hold, and returns nothing.
//!
//! `make fuzz` runs each under libFuzzer, over `corpus/`; the tests of this crate run the same
//! functions over the same corpus and over a few thousand changes to it, so that every test run
//! has tried them all. Nothing here knows how bytes come to be.

#![expect(
    clippy::expect_used,
    reason = "a panic is how a target says that its property does not hold"
)]

mod authority;
mod handles;
mod json_field;
mod pieces;
/// The proxy's own files. Depending on its crate would build TLS and the codecs with every
/// instrumented build, for a module that needs none of them.
#[path = "../../proxy/src"]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the proxy uses and exports what is not used here"
)]
mod proxy {
    pub(crate) mod guard;
}
mod record;
mod scene;
mod scrub;
mod token;
mod usage;

pub use authority::authority;
pub use handles::handles;
pub use json_field::json_field;
pub use record::record;
pub use scrub::scrub;
pub use token::token;
pub use usage::usage;

#[cfg(test)]
mod smoke;
