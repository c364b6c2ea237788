//! The stores behind core's traits, each beside the medium it keeps its state on.

pub mod embedded;
pub mod redis;
pub mod vault;
