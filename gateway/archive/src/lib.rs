//! Where records lie once they are written: reading, checking, copying and exporting them.
//!
//! Knows names, lines and stores of objects; who may ask and what a call is are decided elsewhere.
//! Nothing here is on a call's path.

pub mod courier;
pub mod export;
pub mod forms;
pub mod lines;
pub mod otlp;
pub mod purge;
pub mod records;
pub mod shelf;
pub mod store;
pub mod tally;
pub mod tombstone;
pub mod verify;
