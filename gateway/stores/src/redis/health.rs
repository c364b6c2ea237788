//! How a Redis server is, asked from outside of a fleet.
//!
//! For operators; no call needs it, and nothing is changed. Worst case: a user who may not ask for
//! INFO gets an error in place of figures.

use std::time::{Duration, Instant};

use tollgate_core::time::Timestamp;

use super::link::{LinkError, RedisConfig, Script};
use super::roster::connect;
use super::visits::texts;

/// KEYS: any of the fleet, so that a cluster asks one of its nodes.
static HEALTH: Script = Script::new(
    "local clock = redis.call('TIME')
     local info = redis.call('INFO', 'server') .. redis.call('INFO', 'persistence')
     local function said(name) return string.match(info, '\\n' .. name .. ':([^\\r\\n]*)') or '' end
     return { clock[1], clock[2], said('valkey_version'), said('redis_version'), said('aof_enabled'), said('rdb_last_bgsave_status') }",
);

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What time it is there, as of the answer.
    pub time: Timestamp,
    /// How long the question and the answer took.
    pub latency: Duration,
    /// What it is and which version.
    pub version: String,
    /// Whether it appends what changes to a file.
    pub appends: bool,
    /// Whether its last snapshot was written.
    pub saved: bool,
}

/// Asks.
///
/// # Errors
/// If Redis does not answer, or must not be used.
pub async fn health(config: &RedisConfig) -> Result<Health, LinkError> {
    let link = connect(config).await?;
    let key = [link.key("fleet", "epoch")];
    // The first one may have to bring the script.
    let _brought = link.run(&HEALTH, &key, &[], false).await?;
    let asked = Instant::now();
    let said = texts(link.run(&HEALTH, &key, &[], false).await?)?;
    let latency = asked.elapsed();
    let [seconds, micros, valkey, redis, appends, saved] = &said[..] else {
        return Err(LinkError::Foreign);
    };
    let number = |text: &str| text.parse::<i64>().map_err(|_no_number| LinkError::Foreign);
    let time = number(seconds)?
        .saturating_mul(1_000_000)
        .saturating_add(number(micros)?);
    Ok(Health {
        time: Timestamp::from_micros(time).plus(latency / 2),
        latency,
        version: match &**valkey {
            "" => format!("Redis {redis}"),
            valkey => format!("Valkey {valkey}"),
        },
        appends: appends == "1",
        saved: saved == "ok",
    })
}
