//! The adversarial cases, black-box, each named by its number.
//!
//! Every module sends what an attacker would and looks at three places: the answer, the provider
//! behind, and the records. How the gateway comes to its decision is not known here.

mod body_fields;
mod destinations;
mod echoes;
mod framing;
mod handle_forms;
mod handle_places;
mod hang_ups;
mod headers;
mod http2;
mod identity;
mod injection;
mod leaks;
mod indistinct;
mod lies;
mod limits;
mod metering;
mod mislabels;
mod money_dialects;
mod names;
mod origin_headers;
mod reloads;
mod retries;
mod tokens;
mod unsearchable;
mod ways;
