//! The main path: what the client sends arrives, what the provider answers comes back, and what
//! it cost is known to the last token.

mod bodies;
mod endings;
mod exactness;
