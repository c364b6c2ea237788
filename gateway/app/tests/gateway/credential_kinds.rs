//! Credentials that are not sent as they are stored.

mod aws;
mod oauth;
