//! Who asks, whether their role reaches so far, and the record of it.
//!
//! A handler gets to act by one way: [`Asker::begin`] gives a [`Deed`] only after the role has
//! been checked and the action is in the log for good. What the role does not reach is recorded,
//! too, and answered alike whether the tenant exists or not. Knows no tenant's affairs. Worst
//! case: the client leaves in the midst of an action, whose line then says `interrupted`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use tollgate_core::admin_log::{About, AdminAction, EVENT, Ended, Outcome};
use tollgate_core::audit::Partition;
use tollgate_core::ids::{RecordId, TenantId};
use tollgate_core::time::Timestamp;
use tracing::{error, warn};

use crate::credentials::{Credential, Role};
use crate::exposition::AdminFigures;
use crate::problem::Problem;
use crate::{Admin, AdminLog, Clock};

/// Log lines a second about requests without a good credential: anybody can send one, at no cost.
const WARNINGS_PER_SECOND: u32 = 10;

/// What can be done through the admin API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Making a task token.
    MintToken,
    /// Ending tokens.
    RevokeTokens,
    /// Declaring a task finished.
    CompleteTask,
    /// Asking what a token is worth.
    IntrospectToken,
    /// Reading balances.
    ReadBudget,
    /// Reading how caps stand and how fast money goes.
    ReadLive,
    /// Reading what has been spent.
    ReadReport,
    /// Reading which tenants there are.
    ListTenants,
    /// Reading what a tenant may do.
    ReadTenant,
    /// Asking what would become of a call.
    Explain,
    /// Reading what signatures of records are checked with.
    ReadAuditKey,
    /// Taking away records whose time is over.
    PurgeRecords,
    /// Reading which calls are under way.
    ReadCalls,
    /// Being told what happens, as it happens.
    FollowEvents,
    /// Reading whom the credential makes one.
    ReadSelf,
    /// Reading how much is said in the log.
    ReadLog,
    /// Changing how much is said in the log.
    SetLog,
}

impl Action {
    const fn as_str(self) -> &'static str {
        match self {
            Self::MintToken => "token.mint",
            Self::RevokeTokens => "tokens.revoke",
            Self::CompleteTask => "task.complete",
            Self::IntrospectToken => "token.introspect",
            Self::ReadBudget => "budget.read",
            Self::ReadLive => "live.read",
            Self::ReadReport => "report.read",
            Self::ListTenants => "tenants.list",
            Self::ReadTenant => "tenant.read",
            Self::Explain => "explain",
            Self::ReadAuditKey => "audit_key.read",
            Self::PurgeRecords => "records.purge",
            Self::ReadCalls => "calls.read",
            Self::FollowEvents => "events.follow",
            Self::ReadSelf => "self.read",
            Self::ReadLog => "log.read",
            Self::SetLog => "log.set",
        }
    }

    /// Whether the role is for this at all.
    const fn is_of(self, role: &Role) -> bool {
        match role {
            Role::Operator => true,
            Role::Auditor(_) => matches!(
                self,
                Self::IntrospectToken
                    | Self::ReadBudget
                    | Self::ReadLive
                    | Self::ReadReport
                    | Self::ListTenants
                    | Self::ReadTenant
                    | Self::Explain
                    | Self::ReadAuditKey
                    | Self::ReadCalls
                    | Self::FollowEvents
                    | Self::ReadSelf
            ),
            Role::Minter(_) => matches!(
                self,
                Self::MintToken
                    | Self::RevokeTokens
                    | Self::CompleteTask
                    | Self::IntrospectToken
                    | Self::ReadSelf
            ),
            // Metrics are no action.
            Role::Metrics => false,
        }
    }
}

/// The address a request came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// Who asks: somebody with a good credential.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    credential: Credential,
    client: Option<IpAddr>,
}

impl Asker {
    /// By what they are known.
    pub(crate) const fn credential(&self) -> &Credential {
        &self.credential
    }

    /// The tenants that are theirs, or `None` if all are.
    pub(crate) const fn tenants(&self) -> Option<&BTreeSet<TenantId>> {
        self.credential.role.tenants()
    }

    /// All that is theirs: one tenant, or several that no partition is of.
    pub(crate) fn about_its_own(&self) -> About {
        let only = self.tenants().filter(|tenants| tenants.len() == 1);
        let only = only.and_then(BTreeSet::first);
        only.cloned().map_or_else(About::default, About::tenant)
    }

    /// Whether the credential still is what it was when it was shown.
    pub(crate) fn still_holds(&self, admin: &Admin) -> bool {
        let known = admin.credentials.current();
        known.is_ok_and(|known| known.hold(&self.credential, (admin.clock)()))
    }

    /// Whether everything is open to them.
    pub(crate) const fn is_operator(&self) -> bool {
        matches!(self.credential.role, Role::Operator)
    }

    /// Whether figures of single tenants are shown to them.
    pub(crate) const fn may_read_metrics(&self) -> bool {
        matches!(self.credential.role, Role::Operator | Role::Metrics)
    }

    /// Whether the tenant's affairs are theirs to deal with.
    pub(crate) fn is_of(&self, tenant: &TenantId) -> bool {
        self.tenants()
            .is_none_or(|tenants| tenants.contains(tenant))
    }

    /// Begins what the role reaches, after it is on record. An action about no tenant in
    /// particular is about all of them, and the operator's.
    ///
    /// # Errors
    /// `forbidden`, or that it cannot be recorded. Then nothing may be done.
    pub(crate) async fn begin(
        &self,
        admin: &Admin,
        action: Action,
        about: About,
    ) -> Result<Deed, Problem> {
        let reaches = match &about.tenant {
            Some(tenant) => self.is_of(tenant),
            None => self.is_operator(),
        };
        let allowed = action.is_of(&self.credential.role) && reaches;
        self.record(admin, action, about, allowed).await
    }

    /// As [`begin`](Self::begin), for answers that leave out what is not the asker's: a foreign
    /// tenant is no reason to refuse, since the refusal would tell that it is one.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub(crate) async fn begin_unseeing(
        &self,
        admin: &Admin,
        action: Action,
        about: About,
    ) -> Result<Deed, Problem> {
        let allowed = action.is_of(&self.credential.role);
        self.record(admin, action, about, allowed).await
    }

    async fn record(
        &self,
        admin: &Admin,
        action: Action,
        about: About,
        allowed: bool,
    ) -> Result<Deed, Problem> {
        let partition = match &about.tenant {
            Some(tenant) if allowed && !self.is_operator() && self.is_of(tenant) => {
                Partition::Tenant(tenant.clone())
            }
            _ => Partition::Operators,
        };
        let begun = AdminAction {
            id: RecordId::new(uuid::Uuid::now_v7()),
            event: EVENT.to_owned(),
            at: (admin.clock)(),
            name: self.credential.name.clone(),
            role: self.credential.role.as_str().to_owned(),
            action: action.as_str().to_owned(),
            about,
            client: self.client.map(|client| client.to_string()),
            partition,
        };
        admin.log.begin(&begun).await?;
        let mut deed = Deed {
            log: Arc::clone(&admin.log),
            figures: Arc::clone(&admin.figures),
            id: begun.id,
            clock: admin.clock,
            open: true,
        };
        if allowed {
            return Ok(deed);
        }
        let denied = Problem::forbidden();
        deed.end(Outcome::Denied, Some(&denied), None);
        Err(denied)
    }
}

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Problem;

    /// The one that [`require`] has found.
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let asker = parts.extensions.get::<Self>();
        asker.cloned().ok_or_else(Problem::unauthorized)
    }
}

/// Something that may be done, and is on record as begun.
#[must_use = "a deed that is dropped is recorded as interrupted"]
pub(crate) struct Deed {
    log: Arc<dyn AdminLog>,
    figures: Arc<AdminFigures>,
    id: RecordId,
    clock: Clock,
    open: bool,
}

impl Deed {
    /// Records how it ended, and gives the answer.
    pub(crate) fn close(mut self, done: Result<impl IntoResponse, Problem>) -> Response {
        match done {
            Ok(answer) => {
                let answer = answer.into_response();
                self.end(Outcome::Done, None, Some(answer.status().as_u16()));
                answer
            }
            Err(problem) => {
                self.end(Outcome::Failed, Some(&problem), None);
                problem.into_response()
            }
        }
    }

    fn end(&mut self, outcome: Outcome, problem: Option<&Problem>, status: Option<u16>) {
        self.open = false;
        let ended = Ended {
            at: (self.clock)(),
            outcome,
            status: status.or_else(|| problem.map(|problem| problem.status().as_u16())),
            code: problem.map(|problem| problem.code().to_owned()),
        };
        self.log.end(self.id, &ended);
        self.figures.ended(outcome);
    }
}

impl Drop for Deed {
    fn drop(&mut self) {
        if self.open {
            self.end(Outcome::Interrupted, None, None);
        }
    }
}

/// Lets those with a good credential through.
pub(crate) struct Gate {
    admin: Arc<Admin>,
    /// The second of the last warning, and how many there were in it.
    warned: Mutex<(i64, u32)>,
}

impl Gate {
    pub(crate) fn new(admin: Arc<Admin>) -> Self {
        Self {
            admin,
            warned: Mutex::new((0, 0)),
        }
    }

    pub(crate) fn admin(&self) -> &Admin {
        &self.admin
    }

    fn asker(&self, request: &Request) -> Result<Asker, Problem> {
        let now = (self.admin.clock)();
        let credentials = self.admin.credentials.current().map_err(|unreadable| {
            if self.may_warn(now) {
                let cause = std::error::Error::source(&unreadable).map(ToString::to_string);
                error!(error = %unreadable, cause, "nobody is let in");
            }
            Problem::no_credentials()
        })?;
        let client = request.extensions().get::<ClientAddress>();
        let client = client.map(|ClientAddress(address)| *address);
        let found = bearer(request.headers()).and_then(|text| credentials.find(text, now));
        let Some(credential) = found else {
            self.admin.figures.unauthorized();
            if self.may_warn(now) {
                let client = client.map(|client| client.to_string());
                warn!(
                    client,
                    "a request without a good admin credential was refused"
                );
            }
            return Err(Problem::unauthorized());
        };
        Ok(Asker {
            credential: credential.clone(),
            client,
        })
    }

    fn may_warn(&self, now: Timestamp) -> bool {
        let second = now.as_seconds();
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if second > warned.0 {
            *warned = (second, 0);
        }
        warned.1 = warned.1.saturating_add(1);
        warned.1 <= WARNINGS_PER_SECOND
    }
}

/// The bearer token of a request that shows exactly one.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// Lets only those through who are known, and says who they are.
pub(crate) async fn require(
    State(gate): State<Arc<Gate>>,
    mut request: Request,
    next: Next,
) -> Response {
    match gate.asker(&request) {
        Ok(asker) => {
            request.extensions_mut().insert(asker);
            next.run(request).await
        }
        Err(problem) => {
            let mut refused = problem.into_response();
            let challenge = HeaderValue::from_static("Bearer realm=\"tollgate-admin\"");
            refused.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            refused
        }
    }
}
