//! Who belongs to a fleet, asked from outside of it, and taking a replica off the list.
//!
//! For operators; no call needs it. Worst case: a replica that is taken off the list and was not
//! gone puts itself back on it.

use super::keeper::forget;
use super::link::{Link, LinkError, RedisConfig, Script};
use super::visits::texts;

/// KEYS: epoch, members, heirs, policies.
static ROSTER: Script = Script::new(
    "local clock = redis.call('TIME')
     local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
     local answer = {}
     local members = redis.call('HGETALL', KEYS[2])
     for n = 1, #members, 2 do
       local present = redis.call('HGET', KEYS[1], 'm:' .. members[n]) or '1'
       local heir = redis.call('HGET', KEYS[3], members[n]) or ''
       local silence = math.floor((now - tonumber(members[n + 1])) / 1000)
       local policy = redis.call('HGET', KEYS[4], members[n]) or ''
       for _, field in ipairs({ members[n], string.format('%.0f', silence), heir, present, policy }) do
         answer[#answer + 1] = field
       end
     end
     -- Somebody may be waited for of whom Redis has not heard since it forgot.
     for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
       local name = string.match(field, '^m:(.*)$')
       if name and redis.call('HEXISTS', KEYS[2], name) == 0 then
         for _, field in ipairs({ name, '', '', redis.call('HGET', KEYS[1], 'm:' .. name), '' }) do
           answer[#answer + 1] = field
         end
       end
     end
     return answer",
);

/// One replica of a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it is called in Redis.
    pub name: String,
    /// For how many seconds it has said nothing; `None` if nothing was heard of it since Redis
    /// last forgot.
    pub silent_seconds: Option<u64>,
    /// Who speaks for it, if it is gone.
    pub heir: Option<String>,
    /// Whether the fleet waits for it.
    pub waited_for: bool,
    /// The version of the policy in force there.
    pub policy: Option<String>,
}

/// Everybody who belongs to the fleet, by name.
///
/// # Errors
/// If Redis does not answer.
pub async fn list(config: &RedisConfig) -> Result<Vec<Member>, LinkError> {
    let link = connect(config).await?;
    let keys = ["epoch", "members", "heirs", "policies"].map(|rest| link.key("fleet", rest));
    let said = texts(link.run(&ROSTER, &keys, &[], false).await?)?;
    let members = said.chunks(5).map(|fields| match fields {
        [name, silence, heir, present, policy] => Ok(Member {
            name: name.clone(),
            silent_seconds: silence.parse().ok(),
            heir: Some(heir.clone()).filter(|heir| !heir.is_empty()),
            waited_for: present != "1",
            policy: Some(policy.clone()).filter(|policy| !policy.is_empty()),
        }),
        _ => Err(LinkError::Foreign),
    });
    let mut members = members.collect::<Result<Vec<_>, _>>()?;
    members.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(members)
}

/// Takes a replica off the list, for good: what it has spent and not said is not counted.
///
/// # Errors
/// If Redis does not answer.
pub async fn remove(config: &RedisConfig, name: &str) -> Result<(), LinkError> {
    let link = connect(config).await?;
    forget(&link, name).await
}

pub(super) async fn connect(config: &RedisConfig) -> Result<std::sync::Arc<Link>, LinkError> {
    let link = Link::new(config.clone())?;
    link.mend(config.max_wait.saturating_mul(8)).await?;
    Ok(link)
}
