//! The real binary, its files and its clients, for one test at a time.
//!
//! A [`Site`] is a directory with policies and data; a [`Gateway`] is a process serving it. Nothing
//! is shared between tests: each has its own directory, ports and mock provider, so all can run at
//! once. Knows how the gateway is started and where it keeps things; what it should answer is the
//! tests' business. A process that dies takes its standard error into the panic message.

mod client;
mod clouds;
mod plan;
mod process;
mod records;
mod refusal;
mod scan;
mod scripted;
mod world;

pub(crate) use client::{Ask, Dialect, chat, message};
pub(crate) use clouds::{Called, Streams, Way};
pub(crate) use plan::{Plan, ProviderPlan, TenantPlan};
pub(crate) use process::{Gateway, Site};
pub(crate) use records::{cost, outcome, text};
pub(crate) use refusal::Refused;
pub(crate) use scan::Tokens;
pub(crate) use scripted::{Heard, Scripted, answer, json_answer};
pub(crate) use world::{World, body_text, key, start_mock};
