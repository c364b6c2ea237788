//! What is known about a call so far, and the record of one that never left.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};
use tollgate_core::call::Ask;
use tollgate_core::identity::{Caller, CertificateDigest, is_token};
use tollgate_core::ids::{HandleName, ModelName, ProviderName, RecordId, TenantId};
use tollgate_core::money::PicoUsd;
use tollgate_core::policy::Operation;
use tollgate_core::record::{Ending, Outcome, Record, Stranger, Subject};
use tollgate_core::refusal::Refusal;
use tollgate_core::route::Route;
use tollgate_core::shared_str::SharedStr;
use tollgate_core::time::Timestamp;
use tollgate_core::trace::{CallTrace, TraceParent};

use crate::admit::Rejected;
use crate::gateway::Gateway;
use crate::guard::HeadFault;
use crate::metrics::{Elevated, Timing};
use crate::oauth::Ungranted;
use crate::respond::{Failure, Verdict};
use crate::settle::Tariff;
use crate::statement::Unstated;
use crate::traces::{self, Traces};

/// Carries the record's id on every answer.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-tollgate-request-id");

/// Headers with which clients of other gateways name a tenant, an agent or a task. They decide
/// nothing here; what they claim is kept as untrusted text.
pub(crate) static CLAIM_HEADERS: [HeaderName; 11] = [
    HeaderName::from_static("x-tenant-id"),
    HeaderName::from_static("x-tenant"),
    HeaderName::from_static("x-workspace-id"),
    HeaderName::from_static("x-agent-id"),
    HeaderName::from_static("x-task-id"),
    HeaderName::from_static("x-user-id"),
    HeaderName::from_static("openai-organization"),
    HeaderName::from_static("baggage"),
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-forwarded-client-cert"),
    HeaderName::from_static("x-spiffe-id"),
];

/// The code of a request whose head cannot be read in one way only.
const MALFORMED: &str = "malformed_request";

/// The longest claim kept, in bytes.
const CLAIM_BYTES: usize = 128;

/// A record in the making. Stages fill in what they learn.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) id: RecordId,
    pub(crate) started_at: Timestamp,
    pub(crate) timing: Timing,
    client: SocketAddr,
    method: Cow<'static, str>,
    path: SharedStr,
    caller: Option<Arc<Caller>>,
    certificate: Option<CertificateDigest>,
    provider: Option<ProviderName>,
    operation: Option<&'static str>,
    request_model: Option<ModelName>,
    upstream: Option<SharedStr>,
    credential: Option<(HandleName, u32)>,
    price_provider: Option<SharedStr>,
    price_version: Option<SharedStr>,
    reserved: Option<PicoUsd>,
    elevated: bool,
    parent: Option<TraceParent>,
    trace: Option<CallTrace>,
    untrusted: Vec<String>,
    notes: Vec<Cow<'static, str>>,
    /// What was made of it, once the call is let through.
    written: Option<Arc<Subject>>,
}

impl Draft {
    pub(crate) fn open(id: RecordId, now: Timestamp, head: &Parts, client: SocketAddr) -> Self {
        Self {
            id,
            started_at: now,
            timing: Timing::start(),
            client,
            method: method(&head.method),
            path: SharedStr::from(head.uri.path()),
            caller: None,
            certificate: None,
            provider: None,
            operation: None,
            request_model: None,
            upstream: None,
            credential: None,
            price_provider: None,
            price_version: None,
            reserved: None,
            elevated: false,
            parent: traces::told(&head.headers),
            trace: None,
            untrusted: claims(head),
            notes: Vec::new(),
            written: None,
        }
    }

    /// Spans are made of it.
    pub(crate) fn is_traced(&mut self, traces: Option<&Traces>) {
        self.trace = traces.and_then(|traces| traces.place(self.parent));
    }

    /// Where its spans stand, if there are any.
    pub(crate) const fn trace(&self) -> Option<CallTrace> {
        self.trace
    }

    /// It came over a connection on which this certificate was shown.
    pub(crate) fn comes_with(&mut self, certificate: CertificateDigest) {
        self.certificate = Some(certificate);
    }

    pub(crate) fn belongs_to(&mut self, caller: Arc<Caller>) {
        self.caller = Some(caller);
    }

    /// Whose call it is, once that is proven.
    pub(crate) fn tenant(&self) -> Option<&TenantId> {
        self.caller.as_ref().map(|caller| &caller.tenant)
    }

    /// Whom the client claims to be, which decides nothing.
    pub(crate) fn claims(&self) -> &[String] {
        &self.untrusted
    }

    /// Whether it is proven whose call this is.
    pub(crate) const fn has_caller(&self) -> bool {
        self.caller.is_some()
    }

    pub(crate) fn goes_to(&mut self, route: &Route<'_>) {
        self.provider = Some(route.provider.name.clone());
        self.operation = Some(operation_name(route.endpoint.operation));
        self.upstream = Some(route.provider.address.clone());
    }

    /// Whether it is an elevated action, be it granted or not.
    pub(crate) const fn is_elevated(&mut self, elevated: bool) {
        self.elevated = elevated;
    }

    pub(crate) fn asks_for(&mut self, ask: &Ask, mentions_handle: bool) {
        self.request_model = Some(ask.model.clone());
        if mentions_handle {
            self.notes.push("handle_inert".into());
        }
    }

    pub(crate) fn is_charged_by(&mut self, prices: &SharedStr, tariff: &Tariff) {
        match tariff {
            Tariff::Metered(call) => {
                self.price_provider = Some(call.catalogue.clone());
                self.price_version = Some(prices.clone());
            }
            Tariff::Deferred(work) => {
                if let [only] = work.models() {
                    self.request_model = Some(only.clone());
                }
                if work.starts_work() {
                    self.price_provider = work.catalogue().cloned();
                    self.price_version = Some(prices.clone());
                }
            }
            Tariff::Unmetered(_) => self.notes.push("model_not_priced".into()),
            Tariff::PerCall(_) | Tariff::Unpriced | Tariff::Free => {}
        }
    }

    pub(crate) fn costs_at_most(&mut self, amount: PicoUsd) {
        self.reserved = Some(amount);
    }

    /// The request's bound on output was lowered, or written where there was none.
    pub(crate) fn is_clamped(&mut self) {
        self.notes.push("output_clamped".into());
    }

    /// Its usage is stated by a later call.
    pub(crate) fn is_deferred(&mut self) {
        self.notes.push("deferred".into());
    }

    /// It corrects a charge by these prices.
    pub(crate) fn corrects(&mut self, catalogue: Option<&SharedStr>, prices: &SharedStr) {
        self.price_provider = catalogue.cloned();
        self.price_version = Some(prices.clone());
    }

    /// The secret is so short that answers are not searched for it.
    pub(crate) fn cannot_be_scrubbed(&mut self) {
        self.notes.push("secret_too_short_to_scrub".into());
    }

    pub(crate) fn uses(&mut self, credential: &HandleName, version: u32) {
        self.credential = Some((credential.clone(), version));
    }

    /// Everything known about a call of `caller`, as the record keeps it.
    pub(crate) fn subject(&self, caller: &Caller) -> Subject {
        match &self.written {
            Some(subject) => Subject::clone(subject),
            None => self.clone().give(caller),
        }
    }

    /// The same for a call that is let through: the draft has no more use for its parts.
    pub(crate) fn let_through(&mut self, caller: &Caller) -> Arc<Subject> {
        let subject = Arc::new(self.give(caller));
        self.written = Some(Arc::clone(&subject));
        subject
    }

    fn give(&mut self, caller: &Caller) -> Subject {
        let (trace, span) = self.trace.map(|own| (own.trace, own.server)).unzip();
        let (credential, credential_version) = self.credential.take().unzip();
        Subject {
            id: self.id,
            started_at: self.started_at,
            tenant: caller.tenant.clone(),
            agent: caller.agent.clone(),
            task: caller.task.clone(),
            token: caller.token.clone(),
            certificate: self.certificate,
            provider: self.provider.take(),
            operation: self.operation.map(Cow::Borrowed),
            request_model: self.request_model.take(),
            method: std::mem::take(&mut self.method),
            path: std::mem::take(&mut self.path),
            upstream: self.upstream.take(),
            credential,
            credential_version,
            price_provider: self.price_provider.take(),
            price_version: self.price_version.take(),
            reserved: self.reserved,
            elevated: self.elevated,
            trace: trace.or(self.parent.map(|parent| parent.trace)),
            span: span.or(self.parent.map(|parent| parent.span)),
            untrusted: std::mem::take(&mut self.untrusted),
            notes: std::mem::take(&mut self.notes),
        }
    }
}

/// Keeps a call that ended before contact: in its tenant's partition, or, if nobody could be
/// proven to have made it, in the gateway's own.
pub(crate) fn keep_rejected(gw: &Gateway, draft: &Draft, rejected: &Rejected, verdict: &Verdict) {
    let (outcome, reason, limit) = match rejected {
        Rejected::Refused(refusal) => (Outcome::Refused, refusal.reason(), refusal.limit()),
        Rejected::Failed(failure) => (Outcome::Failed, failure.reason(), None),
    };
    gw.metrics.rejected(verdict.code, draft.tenant());
    if draft.elevated {
        gw.metrics.security.elevated(Elevated::Refused);
    }
    if let Rejected::Refused(refusal) = rejected {
        gw.caps.refused(refusal);
    }
    if let Rejected::Refused(Refusal::Unauthenticated(fault)) = rejected {
        gw.metrics.security.unauthenticated(fault.reason());
    }
    match rejected {
        // Its log line says so; another for each of so many would be part of the load.
        Rejected::Failed(Failure::Overloaded(pressed)) => gw.metrics.overloaded(*pressed),
        Rejected::Failed(failure) => log_failure(draft.id, failure),
        Rejected::Refused(_) => {}
    }
    keep(gw, draft, (outcome, reason, limit), verdict);
}

/// Keeps a request for a token that was not given out.
pub(crate) fn keep_ungranted(gw: &Gateway, draft: &Draft, no: &Ungranted) {
    let verdict = Verdict {
        status: no.status(),
        code: no.code(),
    };
    let outcome = if no.is_failure() {
        Outcome::Failed
    } else {
        Outcome::Refused
    };
    gw.metrics.rejected(verdict.code, draft.tenant());
    keep(gw, draft, (outcome, no.reason(), None), &verdict);
}

/// Keeps a request for a statement that was not given.
pub(crate) fn keep_unstated(gw: &Gateway, draft: &Draft, no: &Unstated) {
    let verdict = Verdict {
        status: no.status(),
        code: no.code(),
    };
    let outcome = if no.is_failure() {
        Outcome::Failed
    } else {
        Outcome::Refused
    };
    gw.metrics.rejected(verdict.code, draft.tenant());
    keep(gw, draft, (outcome, no.reason(), None), &verdict);
}

fn keep(
    gw: &Gateway,
    draft: &Draft,
    (outcome, reason, limit): (Outcome, &'static str, Option<String>),
    verdict: &Verdict,
) {
    let Some(caller) = &draft.caller else {
        let stranger = Stranger {
            id: draft.id,
            at: draft.started_at,
            client: draft.client.ip().to_string(),
            code: verdict.code.to_owned(),
            reason: reason.to_owned(),
            status: verdict.status.as_u16(),
        };
        gw.scene.stranger(&stranger);
        gw.stores.records.turn_away(&stranger);
        return;
    };
    let subject = draft.subject(caller);
    let ending = Ending {
        status: Some(verdict.status.as_u16()),
        code: Some(verdict.code.to_owned()),
        reason: Some(reason.to_owned()),
        limit,
        ..Ending::new((gw.clock)(), outcome)
    };
    gw.call_log.ended(&subject, &ending);
    gw.scene.turned_away(&subject, &ending);
    let record = Record { subject, ending };
    gw.stores.records.refuse(&record);
    if let (Some(traces), Some(at)) = (&gw.traces, &draft.trace) {
        traces.ended(at, record.subject, record.ending);
    }
}

/// Why the gateway could not, for its operator: the client sees none of the causes.
pub(crate) fn log_failure(id: RecordId, failure: &Failure) {
    let mut causes = String::new();
    let mut source = std::error::Error::source(failure);
    while let Some(cause) = source {
        // Writing to a String cannot fail.
        let _written = write!(causes, ": {cause}");
        source = cause.source();
    }
    if failure.is_the_clients() {
        tracing::debug!(request = %id, code = failure.code(), "{failure}{causes}");
    } else {
        tracing::warn!(request = %id, code = failure.code(), "{failure}{causes}");
    }
}

/// Keeps a request whose head was refused before anything in it was believed.
pub(crate) fn keep_unread(gw: &Gateway, fault: HeadFault, request_id: &str, client: SocketAddr) {
    gw.metrics.rejected(MALFORMED, None);
    let Ok(id) = request_id.parse() else { return };
    let stranger = Stranger {
        id,
        at: (gw.clock)(),
        client: client.ip().to_string(),
        code: MALFORMED.to_owned(),
        reason: fault.to_string(),
        status: fault.status().as_u16(),
    };
    gw.scene.stranger(&stranger);
    gw.stores.records.turn_away(&stranger);
}

/// The operation's name in the OpenTelemetry GenAI conventions.
pub(crate) const fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::ChatCompletions
        | Operation::Responses
        | Operation::Messages
        | Operation::Converse
        | Operation::InvokeModel
        | Operation::CohereChat
        | Operation::OllamaChat => "chat",
        Operation::Completions => "text_completion",
        Operation::GenerateContent
        | Operation::ImageGenerations
        | Operation::ImageEdits
        | Operation::Transcriptions
        | Operation::Speech
        | Operation::Ocr => "generate_content",
        Operation::Embeddings
        | Operation::EmbedContent
        | Operation::CohereEmbed
        | Operation::OllamaEmbed => "embeddings",
        Operation::Rerank => "retrieval",
        Operation::Batch | Operation::MessageBatch | Operation::BatchInput => "batch",
        Operation::ResponseStatus
        | Operation::BatchStatus
        | Operation::BatchOutput
        | Operation::MessageBatchResults => "batch_result",
        Operation::Free => "metadata",
        Operation::Tool | Operation::OauthToken => "execute_tool",
    }
}

/// A method as text, which is at hand for those that have a name here.
fn method(method: &Method) -> Cow<'static, str> {
    let known = [
        Method::POST,
        Method::GET,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
    ];
    let names = ["POST", "GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    let mut named = known.iter().zip(names);
    match named.find(|(known, _)| *known == method) {
        Some((_, name)) => Cow::Borrowed(name),
        None => Cow::Owned(method.to_string()),
    }
}

fn claims(head: &Parts) -> Vec<String> {
    let mut claims = Vec::new();
    // A head has few headers, and hardly ever one of these.
    for name in head
        .headers
        .keys()
        .filter(|name| CLAIM_HEADERS.contains(name))
    {
        if let Some(value) = head.headers.get(name) {
            claims.push(format!("{name}: {}", shorten(value)));
        }
    }
    if let Some(query) = head.uri.query() {
        let named = query.split('&').find(|pair| pair.starts_with("tenant="));
        claims.extend(named.map(|pair| pair.chars().take(CLAIM_BYTES).collect()));
    }
    claims
}

/// Whether a token can hold this character.
const fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn shorten(value: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    // A token is worth something for five minutes, and records are read by more than one.
    if text.split(|c: char| !is_token_char(c)).any(is_token) {
        return "[token]".to_owned();
    }
    text.chars().take(CLAIM_BYTES).collect()
}
