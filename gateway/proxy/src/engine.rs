//! Every limit and deadline of the HTTP engine, in one place.
//!
//! Decides nothing; it does not know where its values come from. Worst case: a value that does
//! not fit the machine, hence the defaults are those of one small node.

use std::time::Duration;

/// Limits of both legs. Sizes are bytes, counts are counts, everything else is a duration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Client connections at one time; the next one is closed at once.
    pub max_connections: usize,
    /// Longest request head, in bytes, request line included.
    pub max_head_bytes: usize,
    /// Longest request target, in bytes.
    pub max_target_bytes: usize,
    /// Time from the first byte of a request head to its last.
    pub head_deadline: Duration,
    /// Time a client connection may be open without a request.
    pub client_idle: Duration,
    /// Time one write to a client may make no progress.
    pub write_deadline: Duration,
    /// Time unread request bytes are taken and thrown away after the last answer, so that a
    /// reset does not eat that answer.
    pub linger: Duration,
    /// Whether HTTP/2 without TLS (prior knowledge) is spoken with clients.
    pub clear_text_http2: bool,
    /// HTTP/2 streams at one time on one client connection.
    pub max_streams: u32,
    /// Time between HTTP/2 pings to a client.
    pub ping_interval: Duration,
    /// Time a client has to answer an HTTP/2 ping.
    pub ping_deadline: Duration,
    /// Exchanges whose client has gone that may run on at one time, drains included. Beyond it
    /// they are cut and settle as they stand.
    pub max_detached: usize,
    /// Time an answer is read on after its client has gone.
    pub drain_deadline: Duration,
    /// Bytes of an answer that are read on after its client has gone.
    pub drain_bytes: u64,
    /// Time between two pieces of an answer.
    pub answer_idle: Duration,
    /// Time to look up an upstream's name and to reach one of its addresses.
    pub connect_deadline: Duration,
    /// Time for the TLS handshake with an upstream.
    pub tls_deadline: Duration,
    /// Time from sending a request to the head of its answer.
    pub first_byte_deadline: Duration,
    /// Time an unused upstream connection is kept.
    pub upstream_idle: Duration,
    /// Unused upstream connections kept for each origin.
    pub max_idle_per_upstream: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_head_bytes: 64 * 1024,
            max_target_bytes: 16 * 1024,
            head_deadline: Duration::from_secs(15),
            client_idle: Duration::from_secs(75),
            write_deadline: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            clear_text_http2: true,
            max_streams: 128,
            ping_interval: Duration::from_secs(30),
            ping_deadline: Duration::from_secs(10),
            max_detached: 1_024,
            drain_deadline: Duration::from_secs(15),
            drain_bytes: 8 * 1024 * 1024,
            answer_idle: Duration::from_secs(300),
            connect_deadline: Duration::from_secs(5),
            tls_deadline: Duration::from_secs(10),
            first_byte_deadline: Duration::from_secs(600),
            upstream_idle: Duration::from_secs(60),
            max_idle_per_upstream: 128,
        }
    }
}
