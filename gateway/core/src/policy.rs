//! What is allowed, as plain immutable data: providers, tenants, grants, credentials and limits,
//! and the issuers whose tokens can be exchanged.
//!
//! A [`Policy`] is always whole and valid; [`parse()`] is the only way to make one.

mod credentials;
mod elevated;
mod endpoints;
mod grant;
pub mod issuer;
mod names;
pub mod parse;
pub mod pattern;
pub mod permissions;
mod place;
mod pointer;
pub mod reader;
pub mod shared;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use http::Method;

use crate::budget::Scope;
use crate::identity::{ClientCertificate, SubjectName, TokenFault};
use crate::ids::{AgentId, HandleName, ModelName, ProviderName, TaskId, TenantId};
use crate::money::PicoUsd;
use crate::rate::Limits;
use crate::shared_str::SharedStr;
use crate::vault::SecretName;

pub use credentials::Credentials;
pub use elevated::{ElevatedRule, Elevation};
pub use endpoints::Endpoints;
pub use grant::{Grant, Grants, covers};
pub use issuer::Issuer;
pub use names::{ModelLimits, Names};
pub use parse::{PolicyFile, parse};
pub use pattern::{NamePattern, PathPattern, Segment};
pub use place::{Binding, Place};
pub use pointer::{InvalidJsonPointer, JsonPointer};
pub use reader::Mistake;

/// Everything the policy files say.
#[derive(Debug, Default)]
pub struct Policy {
    /// SHA-256 over the names and bytes of the files, in hexadecimal.
    pub version: String,
    /// Providers and tools by name.
    pub providers: BTreeMap<ProviderName, Arc<Provider>>,
    /// Tenants by id.
    pub tenants: HashMap<TenantId, Arc<Tenant>>,
    /// Issuers of foreign tokens by their `iss`.
    pub issuers: BTreeMap<String, Arc<Issuer>>,
    /// Whom client certificates speak for, by the name in them. A name belongs to one agent of
    /// one tenant.
    pub certificates: HashMap<SubjectName, Arc<Holder>>,
}

/// The agent that holds a client certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holder {
    /// Its tenant.
    pub tenant: TenantId,
    /// Itself.
    pub agent: AgentId,
    /// What its calls are attributed to where no token names a task.
    pub task: TaskId,
}

/// A destination of calls.
#[derive(Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its name, which is also the first path segment of its routes.
    pub name: ProviderName,
    /// Where it is.
    pub upstream: Upstream,
    /// Its host and port, as records name it.
    pub address: SharedStr,
    /// The language it speaks: shapes the gateway's own answers and says how usage is read.
    pub dialect: Dialect,
    /// Its name in the price catalogue, where it has one.
    pub prices: Option<SharedStr>,
    /// Where its key goes, unless a tenant's credential says otherwise. `None`: it takes no key,
    /// and none is ever sent to it.
    pub place: Option<Place>,
    /// What may be called; anything else is refused.
    pub endpoints: Endpoints,
    /// The catalogue's names of models that go by other names here: deployments, inference
    /// profiles, fine-tuned models.
    pub aliases: BTreeMap<ModelName, ModelName>,
    /// Whether streams are asked to end with their usage, where the dialect lets a client ask.
    /// False for servers that refuse the question or answer without it.
    pub asks_for_usage: bool,
}

/// An origin, and how far it is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host name or address, lower case, no port, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Put before every path; empty, or starts with `/` and does not end with one.
    pub base_path: String,
    /// PEM file of the authorities to trust instead of the system's.
    pub ca_file: Option<std::path::PathBuf>,
    /// Whether HTTP/2 is offered to it.
    pub http2: bool,
    /// Whether secrets may go to it without TLS. For tests and development.
    pub insecure_plain_http: bool,
}

/// A provider's wire language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI and everything compatible with it.
    OpenAi,
    /// Anthropic.
    Anthropic,
    /// Google: the Gemini API and Vertex AI.
    Gemini,
    /// Amazon Bedrock.
    Bedrock,
    /// Cohere.
    Cohere,
    /// Ollama's own API.
    Ollama,
    /// Anything else over HTTP: answers of the gateway are RFC 9457 problems.
    Http,
}

/// One callable place of a provider.
#[derive(Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The methods it takes.
    pub methods: Vec<Method>,
    /// The paths it covers, without the provider's prefix.
    pub path: PathPattern,
    /// What is done there.
    pub operation: Operation,
    /// A fixed price per call, for tools.
    pub price_per_call: Option<PicoUsd>,
    /// Whether it counts as an elevated action, which only a tenant's [`ElevatedRule`] lets an
    /// agent use.
    pub elevated: bool,
    /// Whether it shows or changes what the whole account behind the key keeps, so that it is
    /// refused on a key that tenants share. Some operations are so of themselves.
    pub account_wide: bool,
    /// To which providers access tokens out of its answers may go.
    pub seals_for: Vec<ProviderName>,
}

/// What is done at an endpoint, which decides whether and how it is metered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// OpenAI chat completions.
    ChatCompletions,
    /// OpenAI completions, the older text interface.
    Completions,
    /// OpenAI responses.
    Responses,
    /// What became of a response that was made in the background: `GET /v1/responses/{id}`.
    ResponseStatus,
    /// OpenAI embeddings.
    Embeddings,
    /// OpenAI image generations.
    ImageGenerations,
    /// OpenAI image edits: a form with files.
    ImageEdits,
    /// OpenAI transcriptions and translations: a form with a file.
    Transcriptions,
    /// OpenAI speech.
    Speech,
    /// An upload that may be the input of a batch: `POST /v1/files`.
    BatchInput,
    /// The start of a batch of OpenAI calls.
    Batch,
    /// What became of a batch, or of a list of them.
    BatchStatus,
    /// A file that may be the output of a batch, whose lines state their usage.
    BatchOutput,
    /// Anthropic messages, also as Vertex AI serves them.
    Messages,
    /// The start of a batch of Anthropic messages.
    MessageBatch,
    /// The results of a batch of Anthropic messages, whose lines state their usage.
    MessageBatchResults,
    /// Gemini and Vertex AI, streamed or not: `:generateContent`, `:streamGenerateContent`.
    GenerateContent,
    /// Gemini and Vertex AI embeddings: `:embedContent`, `:batchEmbedContents`, `:predict`.
    EmbedContent,
    /// Bedrock Converse and ConverseStream.
    Converse,
    /// Bedrock InvokeModel and its stream, in the language of the model behind it.
    InvokeModel,
    /// Cohere chat.
    CohereChat,
    /// Cohere embeddings.
    CohereEmbed,
    /// Cohere rerank, and servers that speak the same.
    Rerank,
    /// Mistral OCR.
    Ocr,
    /// Ollama chat and generate.
    OllamaChat,
    /// Ollama embeddings.
    OllamaEmbed,
    /// Known to cost nothing: model lists, token counting.
    Free,
    /// A tool call whose answer gives out OAuth tokens, which are kept from the agent.
    OauthToken,
    /// A tool call, with a fixed price or none. Its body is not inspected but streamed.
    Tool,
}

/// A tenant: the unit of isolation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// False locks it out.
    pub enabled: bool,
    /// Spend caps over everything it does.
    pub caps: Caps,
    /// The most one task may spend in total.
    pub task_cap: Option<PicoUsd>,
    /// How fast it may call.
    pub limits: Limits,
    /// The output bound assumed where neither the request nor the model gives one, in tokens.
    pub default_max_output_tokens: u64,
    /// Whether an output bound that is missing or too high is lowered in the request instead of
    /// being refused, and to how many tokens at most.
    pub clamp: Option<Clamp>,
    /// What is charged where a provider never says what was used.
    pub unreported: Unreported,
    /// Shares of a cap, in percent, whose passing is reported once per window. Ascending.
    pub notify_percent: Vec<u8>,
    /// What it may call.
    pub grants: Grants,
    /// What of it is elevated, and for whom.
    pub elevated: Vec<ElevatedRule>,
    /// Its credentials by handle name.
    pub credentials: Credentials,
    /// Agents with limits of their own. An agent that is not listed has only the tenant's.
    pub agents: BTreeMap<AgentId, ScopeLimits>,
    /// Agents that are locked out.
    pub disabled_agents: BTreeSet<AgentId>,
    /// Models with limits of their own. Models that one pattern covers share its limits; a model
    /// that several cover is held to all of them.
    pub models: ModelLimits,
    /// How long its records are kept, and how firmly.
    pub records: Retention,
    /// Agents that may read the figures of the whole tenant, not only their own.
    pub usage_readers: Vec<NamePattern>,
}

/// How long a tenant's records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Days after the day a record belongs to; `None` keeps it for good.
    pub days: Option<u32>,
    /// Whether the object store is to hold each object for as long, against everybody.
    pub lock: Option<ObjectLock>,
}

/// How an object store holds what is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectLock {
    /// Nobody can shorten it, not even the account's owner.
    Compliance,
    /// Whoever has a permission of its own can.
    Governance,
}

/// What is charged for a call whose usage the provider never states: the client left and the rest
/// of the answer went on too long, or the upstream broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unreported {
    /// An estimate from what was seen: close to the bill, and perhaps below it, since nobody sees
    /// hidden reasoning.
    #[default]
    Estimate,
    /// All that was reserved: never below the bill.
    Reservation,
}

/// What is written into a request whose output bound is missing or too high.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clamp {
    /// The tenant's ceiling in output tokens per choice; `None` leaves it to what is affordable.
    pub max_output_tokens: Option<u64>,
}

/// Spend caps by UTC window; absent means unlimited, zero blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caps {
    /// Per UTC day.
    pub daily: Option<PicoUsd>,
    /// Per UTC month.
    pub monthly: Option<PicoUsd>,
}

/// Limits of one agent or of some models, inside the tenant's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScopeLimits {
    /// Spend caps.
    pub caps: Caps,
    /// How fast it may be used.
    pub limits: Limits,
}

/// A tenant's key for a provider, and where it may go.
#[derive(Debug, PartialEq, Eq)]
pub struct Credential {
    /// The name in handles.
    pub name: HandleName,
    /// Where its value lies: under its own name in the tenant's scope, or a shared key of the
    /// platform.
    pub secret: SecretName,
    /// The provider it is for.
    pub provider: ProviderName,
    /// Whether it is used when the request names none.
    pub is_default: bool,
    /// Which agents may use it; empty means every one.
    pub agents: Vec<NamePattern>,
    /// Where it may go.
    pub binding: Binding,
    /// What the stored value is, and so what is sent.
    pub kind: CredentialKind,
}

/// How names of credentials begin that the gateway gives to tokens it keeps from agents.
pub const SEALED_PREFIX: &str = "sealed-";

/// What a stored value is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// The very thing that is sent.
    Static,
    /// An access key of AWS, which signs requests and is not sent.
    AwsSigv4,
    /// A key of a Google service account, for which access tokens are given out.
    GoogleServiceAccount(TokenEndpoint),
    /// The id and secret of an OAuth 2 client, for which access tokens are given out.
    OAuth2ClientCredentials(TokenEndpoint),
    /// A refresh token and its client, for which access tokens are given out.
    OAuth2RefreshToken(TokenEndpoint),
    /// A token out of an answer that was kept from the agent; it is in no vault.
    Sealed,
}

/// Where access tokens are given out, and how one asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenEndpoint {
    /// Its origin. `base_path` is the whole path.
    pub upstream: Upstream,
    /// What the token is to be good for; empty leaves it to the endpoint.
    pub scope: String,
    /// How the client says who it is.
    pub client_auth: ClientAuth,
}

/// How an OAuth 2 client says who it is (RFC 6749 section 2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientAuth {
    /// HTTP Basic authentication.
    Basic,
    /// Fields of the form.
    Body,
}

impl Policy {
    /// The tenant, if neither it nor the agent is locked out.
    ///
    /// # Errors
    /// [`TokenFault::UnknownTenant`], also of one that is disabled, or
    /// [`TokenFault::DisabledAgent`].
    pub fn lets_in(&self, tenant: &TenantId, agent: &AgentId) -> Result<&Arc<Tenant>, TokenFault> {
        let tenant = self.tenants.get(tenant).filter(|tenant| tenant.enabled);
        let tenant = tenant.ok_or(TokenFault::UnknownTenant)?;
        if tenant.disabled_agents.contains(agent) {
            return Err(TokenFault::DisabledAgent);
        }
        Ok(tenant)
    }

    /// Every agent that a certificate names: none if it is mapped nowhere, and more than one if
    /// it bears several names that are.
    pub fn holders(&self, certificate: &ClientCertificate) -> Vec<&Arc<Holder>> {
        let mut holders: Vec<&Arc<Holder>> = Vec::new();
        for name in certificate.known_by() {
            let holder = self.certificates.get(name);
            holders.extend(holder.filter(|holder| !holders.contains(holder)));
        }
        holders
    }
}

impl Upstream {
    /// Scheme, host, and port where it is not the usual one.
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// Host and port as a `Host` header names them: brackets around IPv6, no default port.
    #[must_use]
    pub fn authority(&self) -> String {
        let default = if self.tls { 443 } else { 80 };
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == default {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

impl Operation {
    /// Whether calls are paid by what they use: their answers are metered.
    #[must_use]
    pub const fn is_metered(self) -> bool {
        !matches!(self, Self::Free | Self::OauthToken | Self::Tool)
    }

    /// Whether the request's body says what the call may cost, so that it is read whole and
    /// judged before anything is sent.
    #[must_use]
    pub const fn is_judged(self) -> bool {
        !matches!(
            self,
            Self::Free
                | Self::OauthToken
                | Self::Tool
                | Self::ResponseStatus
                | Self::BatchStatus
                | Self::BatchOutput
                | Self::MessageBatchResults
        )
    }
}

impl Tenant {
    /// The caps of its parts: of each agent and of each group of models that has limits of its own.
    pub fn parts(&self) -> impl Iterator<Item = (Scope, Caps)> {
        let agents = self.agents.iter();
        let agents = agents.map(|(agent, of)| (Scope::Agent(agent.clone()), of.caps));
        let models = self.models.iter();
        agents.chain(models.map(|(pattern, of)| (Scope::Model(pattern.clone()), of.caps)))
    }
}
