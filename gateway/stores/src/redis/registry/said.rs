//! Revocations as they are told Redis and everybody, once more when Redis has forgotten them.
//!
//! Worst case: one that cannot be said waits here, and is said as soon as Redis answers.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tollgate_core::registry::Revocation;
use tollgate_core::time::Timestamp;

use super::{SharedRegistry, Token, lock, read, tenant_of};
use crate::redis::causes;
use crate::redis::link::{LinkError, Script};
use crate::redis::news::Told;
use crate::redis::visits::texts;

static REVOKE: Script = Script::new(include_str!("../revoke.lua"));

/// How long it is remembered that a task is over.
const TASKS_KEPT_FOR: Duration = Duration::from_secs(90 * 86_400);
/// After Redis has forgotten, revocations this young are said again in full: others may not have
/// heard of them.
const SAID_AGAIN_FOR: Duration = Duration::from_secs(60);

impl SharedRegistry {
    /// Tells Redis everything that it may have forgotten.
    pub(in crate::redis) async fn restore(&self) -> Result<(), LinkError> {
        let ends = self.local.ends().map_err(|error| {
            tracing::error!(error = causes(&error), "revocations cannot be read");
            LinkError::Foreign
        })?;
        for (what, at) in &ends {
            self.tell_redis(what, *at, "recall").await?;
        }
        self.restore_tokens().await?;
        for said in lock(&self.said).iter_mut() {
            said.told = false;
        }
        self.say_again().await
    }

    async fn restore_tokens(&self) -> Result<(), LinkError> {
        let now = (self.clock)();
        let tenants: Vec<_> = {
            let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
            tenants
                .iter()
                .map(|(tenant, tokens)| (tenant.clone(), tokens.clone()))
                .collect()
        };
        for (tenant, tokens) in tenants {
            let live: Vec<_> = {
                let tokens = read(&tokens);
                let live = tokens.iter().filter(|(_, token)| {
                    !token.revoked.load(Ordering::Relaxed) && token.expires_at > now
                });
                live.map(|(id, token)| {
                    (
                        id.clone(),
                        token.agent.clone(),
                        token.task.clone(),
                        token.expires_at,
                    )
                })
                .collect()
            };
            for (id, agent, task, expires_at) in live {
                let said = self
                    .put(&tenant, &agent, &task, &id, expires_at, None)
                    .await?;
                if let [word, number] = said.as_slice()
                    && word == "live"
                {
                    // Counting begins anew, and a token is as old as it is registered.
                    let number = number.parse().unwrap_or(0);
                    let token = Token::new(agent, task, number, expires_at, false);
                    self.insert(&tenant, id, token);
                }
            }
        }
        Ok(())
    }

    /// Says what could not be said when it was to be.
    pub(in crate::redis) async fn say_again(&self) -> Result<(), LinkError> {
        loop {
            let next = {
                let mut said = lock(&self.said);
                said.retain(|said| !said.told || said.when.elapsed() < SAID_AGAIN_FOR);
                let next = said.iter().find(|said| !said.told);
                next.map(|said| (said.what.clone(), said.at))
            };
            let Some((what, at)) = next else {
                return Ok(());
            };
            self.say(&what, at).await?;
        }
    }

    /// Tells Redis and everybody; returns how many live tokens that ended.
    pub(super) async fn say(&self, what: &Revocation, at: Timestamp) -> Result<usize, LinkError> {
        let (number, ended) = self.tell_redis(what, at, "say").await?;
        let told = Told::Revoked {
            what: what.clone(),
            number,
            at,
        };
        self.news.tell(&told).await?;
        for said in lock(&self.said)
            .iter_mut()
            .filter(|said| said.what == *what)
        {
            said.told = true;
        }
        Ok(ended)
    }

    async fn tell_redis(
        &self,
        what: &Revocation,
        at: Timestamp,
        mode: &str,
    ) -> Result<(u64, usize), LinkError> {
        let tag = tenant_of(what).as_str();
        let cut_offs = self.link.key(tag, "cut_offs");
        let (kind, name, third) = match what {
            Revocation::Token { token, .. } => {
                let key = self.link.key(tag, &format!("token:{token}"));
                ("token", token.to_string(), key)
            }
            Revocation::Task { task, .. } => {
                let key = self.link.key(tag, &format!("task:{task}"));
                ("task", task.to_string(), key)
            }
            Revocation::Agent { agent, .. } => ("agent", agent.to_string(), cut_offs.clone()),
            Revocation::Tenant { .. } => ("tenant", String::new(), cut_offs.clone()),
        };
        let keys = [cut_offs, self.link.key(tag, "tokens"), third];
        let args = [
            kind.to_owned(),
            name,
            at.as_micros().to_string(),
            TASKS_KEPT_FOR.as_millis().to_string(),
            mode.to_owned(),
            self.millis(),
        ];
        let said = texts(self.link.run(&REVOKE, &keys, &args, true).await?)?;
        let [number, ended] = said.as_slice() else {
            return Err(LinkError::Foreign);
        };
        let number = number.parse().map_err(|_e| LinkError::Foreign)?;
        let ended = ended.parse().map_err(|_e| LinkError::Foreign)?;
        Ok((number, ended))
    }
}
