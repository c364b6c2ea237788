//! What would become of a call, told by the functions that decide.
//!
//! A description walks the way of [`crate::admit`] as far as the vault: the stages are the very
//! ones of a call, and the refusal is worded by the same hand. Nothing is contacted, fetched,
//! reserved, counted or recorded; of the counters only the balances are read. No header's value
//! and no query is repeated in the answer.
//!
//! Worst case: what only the attempt can tell. Whether a limit on pace has room now, whether the
//! vault holds the secret and whether the upstream answers are not asked; other calls may take
//! what is left of a cap between the explanation and the call.

mod elevation;
mod look;
mod words;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use serde::Serialize;
use serde_json::{Map, Value};
use tollgate_core::deferred::DeferredCharges;
use tollgate_core::identity::{Caller, find_token};
use tollgate_core::ids::{AgentId, RecordId, TaskId, TenantId};
use tollgate_core::refusal::Refusal;
use tollgate_core::time::Timestamp;

use crate::admit::Rejected;
use crate::ask::{judge, needs_body, unread};
use crate::authenticate::{Identified, enabled_tenant, registered};
use crate::authorize::authorize;
use crate::bind::bind;
use crate::collect::Collected;
use crate::exchange::dialect;
use crate::gateway::{CallLimits, Stores};
use crate::live::Snapshot;
use crate::record::Draft;
use crate::reserve::{fit, quote};
use crate::respond::{Verdict, message};
use crate::route::route;
use crate::sealed::SealedTokens;

use look::{Look, NothingKnown};

/// The id of a token that exists in a description only.
const NO_TOKEN: &str = "explained";

/// Who is said to call.
pub enum Identity {
    /// Somebody said this is who it is: nothing is verified.
    Claimed {
        /// The tenant.
        tenant: TenantId,
        /// The agent.
        agent: AgentId,
        /// The task.
        task: TaskId,
    },
    /// The holder of this task token, which is verified.
    Token(String),
    /// Whoever the request itself shows a task token of, if any.
    Shown,
}

/// What a call is explained by.
pub struct View<'a> {
    /// Policy, prices and keys.
    pub live: &'a Snapshot,
    /// How long a body may be.
    pub limits: &'a CallLimits,
    /// What the running gateway has counted. `None`: the files alone decide, as if nothing had
    /// been spent.
    pub stores: Option<&'a Stores>,
    /// The tokens that the running gateway has sealed.
    pub sealed: Option<&'a SealedTokens>,
    /// When the call would be made.
    pub now: Timestamp,
    /// Whether whoever asks may be told of routes that a wrong path comes close to.
    pub hints: bool,
}

/// What would become of a call.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// Whether it would leave for its provider.
    pub allowed: bool,
    /// Who would pay for it, as far as that is known.
    pub tenant: Option<TenantId>,
    /// What was decided, in order; the last step is where it ended.
    pub steps: Vec<Step>,
    /// What the caller would be told.
    pub refusal: Option<Told>,
    /// What the record would note.
    pub notes: Vec<Cow<'static, str>>,
}

/// One decision.
#[derive(Debug, Serialize)]
pub struct Step {
    /// Which stage decides: `identity`, `route`, `grant`, `elevation`, `credential`, `request`,
    /// `model`, `money` or `pace`.
    pub stage: &'static str,
    /// Whether the call goes on from here.
    pub passed: bool,
    /// What was decided, for people.
    pub decision: String,
    /// The rule of the policy that decided, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// Where it ends: what would have to be otherwise. The caller is told none of this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The same for programs.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub facts: Map<String, Value>,
}

/// A refusal as the caller and the record would have it.
#[derive(Debug, Serialize)]
pub struct Told {
    /// The status of the answer.
    pub status: u16,
    /// The stable code.
    pub code: &'static str,
    /// The finer reason, which only the record and this explanation tell.
    pub reason: &'static str,
    /// What the caller reads.
    pub message: String,
    /// The cap that refuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
}

/// Explains a call with this head and body.
pub async fn explain(view: &View<'_>, who: &Identity, head: &Parts, body: Bytes) -> Explanation {
    let client = ([0, 0, 0, 0], 0).into();
    let mut walk = Walk {
        view,
        draft: Draft::open(RecordId::new(uuid::Uuid::nil()), view.now, head, client),
        caller: None,
        steps: Vec::new(),
        at: "identity",
    };
    let ended = walk.all_the_way(who, head, body).await;
    let refusal = ended.err().map(|rejected| {
        walk.refused(&rejected, head);
        told(&rejected, &Verdict::of(&rejected, dialect(view.live, head)))
    });
    let subject = walk
        .caller
        .as_ref()
        .map(|caller| walk.draft.subject(caller));
    Explanation {
        allowed: refusal.is_none(),
        tenant: subject.as_ref().map(|subject| subject.tenant.clone()),
        steps: walk.steps,
        refusal,
        notes: subject.map_or_else(Vec::new, |subject| subject.notes),
    }
}

fn told(rejected: &Rejected, verdict: &Verdict) -> Told {
    let (reason, limit) = match rejected {
        Rejected::Refused(refusal) => (refusal.reason(), refusal.limit()),
        Rejected::Failed(failure) => (failure.code(), None),
    };
    Told {
        status: verdict.status.as_u16(),
        code: verdict.code,
        reason,
        message: message(rejected),
        limit,
    }
}

/// A call on its way, and what has been decided so far.
struct Walk<'v> {
    view: &'v View<'v>,
    draft: Draft,
    caller: Option<Arc<Caller>>,
    steps: Vec<Step>,
    /// The stage that decides next.
    at: &'static str,
}

impl Walk<'_> {
    /// The order of [`crate::admit::admit`], up to the vault.
    async fn all_the_way(
        &mut self,
        who: &Identity,
        head: &Parts,
        body: Bytes,
    ) -> Result<(), Rejected> {
        let (live, now) = (self.view.live, self.view.now);
        let identified = self.identify(who, head).await?;
        self.tell_identity(who, &identified);
        self.at = "route";
        let routed = route(live, head, &mut self.draft)?;
        self.tell_route(&routed.route);
        self.at = "grant";
        let mut permit = authorize(identified, routed, &head.method, &mut self.draft)?;
        if let Some(sealed) = self.view.sealed {
            permit = permit.with_sealed(sealed);
        }
        self.tell_grant(&permit);
        self.tell_elevation(&permit, &head.method);
        self.at = "credential";
        let bound = bind(permit, head)?;
        self.at = "request";
        let limits = self.view.limits;
        let needs_body = needs_body(&bound, head, limits)?;
        let (limit, read) = if needs_body {
            (limits.inspected_body_bytes, &*body)
        } else {
            (limits.streamed_body_bytes, &[][..])
        };
        refuse_too_long(&body, limit)?;
        self.at = "credential";
        let bound = bound.with_body(head, read)?;
        self.tell_credential(&bound);
        self.at = "request";
        let mut call = if needs_body {
            judge(bound, head, Collected::described(body), &mut self.draft)?
        } else {
            unread(bound)
        };
        self.tell_request(&call);
        self.at = "money";
        let deferred: &dyn DeferredCharges = match self.view.stores {
            Some(stores) => stores.deferred.as_ref(),
            None => &NothingKnown,
        };
        let mut quote = quote(live, None, deferred, &mut call, &mut self.draft, now)?;
        let balances = Look::at(self.view.stores, &quote.bounds.account).await?;
        let fitted = fit(
            &balances,
            &mut quote,
            &mut call.payload,
            &mut self.draft,
            now,
        )
        .await;
        self.tell_money(
            &quote,
            &balances,
            fitted.as_ref().ok().map(|(hold, _)| hold.amount),
        );
        fitted?;
        if quote.clamping.written.is_some() {
            self.draft.is_clamped();
        }
        self.tell_pace(&call, &quote);
        Ok(())
    }

    async fn identify(&mut self, who: &Identity, head: &Parts) -> Result<Identified, Rejected> {
        let (live, now) = (self.view.live, self.view.now);
        let verify = |token: &str| live.keys.caller(token, now).map_err(Refusal::from);
        let caller = match who {
            Identity::Claimed {
                tenant,
                agent,
                task,
            } => Arc::new(claimed(tenant, agent, task, now)?),
            Identity::Token(token) => verify(token)?,
            Identity::Shown => {
                let shown = find_token(&head.headers, head.uri.query());
                verify(shown.map_err(Refusal::from)?.token)?
            }
        };
        let tenant = enabled_tenant(live, &caller)?;
        self.caller = Some(Arc::clone(&caller));
        self.draft.belongs_to(Arc::clone(&caller));
        if let (Identity::Token(_) | Identity::Shown, Some(stores)) = (who, self.view.stores) {
            registered(stores.registry.as_ref(), &caller).await?;
        }
        Ok(Identified { caller, tenant })
    }
}

/// A caller whom nobody has verified. It goes no further than this module.
fn claimed(
    tenant: &TenantId,
    agent: &AgentId,
    task: &TaskId,
    now: Timestamp,
) -> Result<Caller, Refusal> {
    let token = NO_TOKEN.parse().map_err(|_not_a_name| Refusal::Malformed {
        code: "malformed_request",
        detail: "the caller has no name",
    })?;
    Ok(Caller {
        tenant: tenant.clone(),
        agent: agent.clone(),
        task: task.clone(),
        token,
        issued_at: now,
        expires_at: now.plus(Duration::from_secs(300)),
        certificate: None,
    })
}

fn refuse_too_long(body: &Bytes, limit_bytes: u64) -> Result<(), Refusal> {
    match u64::try_from(body.len()) {
        Ok(length) if length <= limit_bytes => Ok(()),
        _ => Err(Refusal::BodyTooLarge { limit_bytes }),
    }
}
