//! Reads one file of `providers/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use http::Method;

use super::{place, policies_dir};
use crate::ids::{ModelName, ProviderName};
use crate::policy::reader::{self, Section};
use crate::policy::{
    Dialect, Endpoint, Endpoints, Operation, PathPattern, Place, Provider, Upstream,
};
use crate::shared_str::SharedStr;

const DIALECTS: &[(&str, Dialect)] = &[
    ("openai", Dialect::OpenAi),
    ("anthropic", Dialect::Anthropic),
    ("gemini", Dialect::Gemini),
    ("bedrock", Dialect::Bedrock),
    ("cohere", Dialect::Cohere),
    ("ollama", Dialect::Ollama),
    ("http", Dialect::Http),
];

const OPERATIONS: &[(&str, Operation)] = &[
    ("chat_completions", Operation::ChatCompletions),
    ("completions", Operation::Completions),
    ("responses", Operation::Responses),
    ("response_status", Operation::ResponseStatus),
    ("embeddings", Operation::Embeddings),
    ("image_generations", Operation::ImageGenerations),
    ("image_edits", Operation::ImageEdits),
    ("transcriptions", Operation::Transcriptions),
    ("speech", Operation::Speech),
    ("batch_input", Operation::BatchInput),
    ("batch", Operation::Batch),
    ("batch_status", Operation::BatchStatus),
    ("batch_output", Operation::BatchOutput),
    ("messages", Operation::Messages),
    ("message_batch", Operation::MessageBatch),
    ("message_batch_results", Operation::MessageBatchResults),
    ("generate_content", Operation::GenerateContent),
    ("embed_content", Operation::EmbedContent),
    ("converse", Operation::Converse),
    ("invoke_model", Operation::InvokeModel),
    ("cohere_chat", Operation::CohereChat),
    ("cohere_embed", Operation::CohereEmbed),
    ("rerank", Operation::Rerank),
    ("ocr", Operation::Ocr),
    ("ollama_chat", Operation::OllamaChat),
    ("ollama_embed", Operation::OllamaEmbed),
    ("free", Operation::Free),
    ("oauth_token", Operation::OauthToken),
    ("tool", Operation::Tool),
];

/// Whether streams of an OpenAI-compatible endpoint are asked to end with their usage.
const USAGE_IN_STREAMS: &[(&str, bool)] = &[("ask", true), ("as_is", false)];

/// First segments that belong to the gateway itself.
const RESERVED: [&str; 6] = [
    "healthz", "livez", "metrics", "oauth2", "readyz", "tollgate",
];

/// What a provider file yields: as much as could be understood.
#[derive(Default)]
pub(super) struct ReadProvider {
    /// The name and where it stands.
    pub(super) name: Option<(ProviderName, usize)>,
    /// The provider, if nothing needed for it is missing.
    pub(super) provider: Option<Provider>,
}

struct Head {
    upstream: Option<Upstream>,
    dialect: Option<Dialect>,
    prices: Option<String>,
    place: Option<Place>,
    keyless: bool,
    asks_for_usage: Option<bool>,
}

pub(super) fn read(root: &Section<'_>, path: &str) -> ReadProvider {
    let mut name = None;
    let head = root.table("provider", |section| {
        name = read_name(section);
        Head {
            upstream: read_upstream(section, path),
            dialect: section.required("dialect", reader::one_of(DIALECTS)),
            prices: section.optional("prices", reader::text),
            place: read_place(section),
            keyless: section.optional("keyless", reader::boolean) == Some(true),
            asks_for_usage: section.optional("usage_in_streams", reader::one_of(USAGE_IN_STREAMS)),
        }
    });
    if !root.has("provider") {
        root.mistake(0, "a provider file begins with [provider]");
    }
    let dialect = head.as_ref().and_then(|head| head.dialect);
    let aliases = read_aliases(root);
    let endpoints = read_endpoints(root, dialect);
    let provider = head.and_then(|head| {
        let upstream = head.upstream?;
        Some(Provider {
            name: name.as_ref().map(|(name, _)| name.clone())?,
            address: SharedStr::from(format!("{}:{}", upstream.host, upstream.port)),
            upstream,
            dialect: head.dialect?,
            prices: head.prices.map(SharedStr::from),
            place: (!head.keyless).then(|| head.place.unwrap_or_else(|| usual_place(dialect))),
            endpoints,
            aliases,
            asks_for_usage: head.asks_for_usage.unwrap_or(true),
        })
    });
    ReadProvider { name, provider }
}

fn read_place(section: &Section<'_>) -> Option<Place> {
    if section.has("place") && section.has("keyless") {
        section.mistake(
            section.at("keyless"),
            "`keyless` says that no key is sent, `place` says where it goes; use one",
        );
    }
    section.table("place", place::place).flatten()
}

/// `[aliases]`: what clients call a model, and what the price catalogue calls it.
fn read_aliases(root: &Section<'_>) -> BTreeMap<ModelName, ModelName> {
    let mut aliases = BTreeMap::new();
    for (name, at, model) in root.values("aliases", reader::parsed::<ModelName>) {
        match name.parse::<ModelName>() {
            Ok(alias) => {
                aliases.insert(alias, model);
            }
            Err(wrong) => {
                let shown = reader::shown(name);
                root.mistake(at, format!("`{shown}` cannot be used here: {wrong}"));
            }
        }
    }
    aliases
}

/// Where providers of a dialect expect their key.
fn usual_place(dialect: Option<Dialect>) -> Place {
    let bare = |name| Place::Header {
        name: http::HeaderName::from_static(name),
        prefix: String::new(),
    };
    match dialect {
        Some(Dialect::Anthropic) => bare("x-api-key"),
        Some(Dialect::Gemini) => bare("x-goog-api-key"),
        _ => Place::Header {
            name: http::header::AUTHORIZATION,
            prefix: "Bearer ".to_owned(),
        },
    }
}

fn read_name(section: &Section<'_>) -> Option<(ProviderName, usize)> {
    let name: ProviderName = section.required("name", reader::parsed)?;
    let at = section.at("name");
    if RESERVED.contains(&name.as_str()) {
        section.mistake(
            at,
            format!("`{name}` is a path of the gateway itself and cannot name a provider"),
        );
    }
    Some((name, at))
}

fn read_upstream(section: &Section<'_>, path: &str) -> Option<Upstream> {
    let origin = section.required("upstream", place::origin);
    let ca_file = section.optional("ca_file", reader::text);
    let http2 = section.optional("http2", reader::boolean);
    let insecure = section.optional("insecure", reader::boolean);
    let origin = origin?;
    if !origin.tls && http2 == Some(true) {
        section.mistake(section.at("http2"), "`http2` needs an https:// upstream");
    }
    if !origin.tls && ca_file.is_some() {
        section.mistake(
            section.at("ca_file"),
            "`ca_file` needs an https:// upstream",
        );
    }
    Some(Upstream {
        tls: origin.tls,
        host: origin.host,
        port: origin.port,
        base_path: origin.base_path,
        ca_file: ca_file.map(|file| beside_policies(path, &file)),
        http2: http2.unwrap_or(origin.tls),
        insecure_plain_http: insecure.unwrap_or(false),
    })
}

/// A relative path in a policy file counts from the policies directory.
pub(super) fn beside_policies(policy_path: &str, file: &str) -> PathBuf {
    Path::new(policies_dir(policy_path).unwrap_or_default()).join(file)
}

fn read_endpoints(root: &Section<'_>, dialect: Option<Dialect>) -> Endpoints {
    let mut endpoints = Endpoints::default();
    let read = root.tables("endpoint", |section| {
        let endpoint = read_endpoint(section, dialect)?;
        Some((endpoint, section.at("path")))
    });
    if read.is_empty() && !root.has("endpoint") {
        root.mistake(
            0,
            "nothing may be called here: list what may be in [[endpoint]] tables",
        );
    }
    for (endpoint, at) in read.into_iter().flatten() {
        for place in endpoints.near(&endpoint) {
            let earlier = endpoints.get(place);
            if let Some(wrong) = earlier.and_then(|earlier| conflict(earlier, &endpoint)) {
                root.mistake(at, wrong);
            }
        }
        endpoints.push(endpoint);
    }
    endpoints
}

fn read_endpoint(section: &Section<'_>, dialect: Option<Dialect>) -> Option<Endpoint> {
    let methods = read_methods(section);
    let path: Option<PathPattern> = section.required("path", reader::parsed);
    let operation = section.required("operation", reader::one_of(OPERATIONS));
    let price_per_call = section.optional("price_per_call_usd", reader::money);
    let elevated = section.optional("elevated", reader::boolean);
    let account_wide = section.optional("account_wide", reader::boolean);
    let seals_for: Vec<(ProviderName, usize)> = section.list("seals_for", reader::parsed);
    let operation = operation?;
    if let Some(wrong) = dialect.and_then(|dialect| foreign(dialect, operation)) {
        section.mistake(section.at("operation"), wrong);
    }
    let names_model = path.as_ref().is_none_or(PathPattern::names_model);
    if !names_model && dialect.is_some_and(|dialect| model_is_in_path(dialect, operation)) {
        section.mistake(
            section.at("path"),
            "here the path names the model, not the body: put `{model}` in its place",
        );
    }
    if !seals_for.is_empty() && operation != Operation::OauthToken {
        section.mistake(
            section.at("seals_for"),
            "`seals_for` goes with operation = \"oauth_token\" only",
        );
    }
    let is_tool = matches!(operation, Operation::Tool | Operation::OauthToken);
    if price_per_call.is_some() && !is_tool {
        section.mistake(
            section.at("price_per_call_usd"),
            "`price_per_call_usd` goes with operation = \"tool\" only; other operations are free or priced by tokens",
        );
    }
    Some(Endpoint {
        methods,
        path: path?,
        operation,
        price_per_call,
        elevated: elevated.unwrap_or(false),
        account_wide: account_wide.unwrap_or(false),
        seals_for: seals_for.into_iter().map(|(name, _)| name).collect(),
    })
}

fn read_methods(section: &Section<'_>) -> Vec<Method> {
    let one = section.optional("method", place::method);
    let many = section.list("methods", place::method);
    match (section.has("method"), section.has("methods")) {
        (true, true) => section.mistake(
            section.at("methods"),
            "`method` and `methods` are two ways to say the same; use one",
        ),
        (false, false) => section.mistake(
            section.start(),
            "an endpoint needs `method = \"POST\"` or `methods = [\"GET\", \"POST\"]`",
        ),
        (false, true) if many.is_empty() => section.mistake(
            section.at("methods"),
            "`methods` must name at least one method",
        ),
        _ => {}
    }
    one.into_iter()
        .chain(many.into_iter().map(|(method, _)| method))
        .collect()
}

/// What is wrong with an operation at a provider that does not have it. What many providers serve
/// beside their own interface is taken from all that are paid by tokens.
fn foreign(dialect: Dialect, operation: Operation) -> Option<String> {
    let (dialects, names): (&[Dialect], _) = match operation {
        Operation::Free | Operation::Tool | Operation::OauthToken => return None,
        Operation::ChatCompletions
        | Operation::Completions
        | Operation::Responses
        | Operation::Embeddings
        | Operation::Messages => {
            return (dialect == Dialect::Http).then(|| {
                "this operation is paid by tokens, which dialect = \"http\" knows nothing of"
                    .to_owned()
            });
        }
        Operation::MessageBatch | Operation::MessageBatchResults => {
            (&[Dialect::Anthropic], "\"anthropic\"")
        }
        Operation::BatchStatus => (
            &[Dialect::OpenAi, Dialect::Anthropic],
            "\"openai\" or \"anthropic\"",
        ),
        Operation::GenerateContent | Operation::EmbedContent => (&[Dialect::Gemini], "\"gemini\""),
        Operation::Converse | Operation::InvokeModel => (&[Dialect::Bedrock], "\"bedrock\""),
        Operation::CohereChat | Operation::CohereEmbed => (&[Dialect::Cohere], "\"cohere\""),
        Operation::Rerank => (
            &[Dialect::Cohere, Dialect::OpenAi],
            "\"cohere\" or \"openai\"",
        ),
        Operation::OllamaChat | Operation::OllamaEmbed => (&[Dialect::Ollama], "\"ollama\""),
        _ => (&[Dialect::OpenAi], "\"openai\""),
    };
    (!dialects.contains(&dialect))
        .then(|| format!("this operation is metered in the wire language of dialect = {names}"))
}

/// Whether requests say which model they want in their path only.
const fn model_is_in_path(dialect: Dialect, operation: Operation) -> bool {
    match operation {
        Operation::Converse
        | Operation::InvokeModel
        | Operation::GenerateContent
        | Operation::EmbedContent => true,
        Operation::Messages => matches!(dialect, Dialect::Gemini),
        _ => false,
    }
}

/// What is wrong with two endpoints side by side, if something is.
fn conflict(earlier: &Endpoint, later: &Endpoint) -> Option<String> {
    let (a, b) = (&earlier.path, &later.path);
    if !a.overlaps(b) {
        return None;
    }
    let method = later
        .methods
        .iter()
        .find(|method| earlier.methods.contains(method))?;
    if a.covers(b) && b.covers(a) {
        return Some(if a == b {
            format!("{method} {b} is already defined above")
        } else {
            format!("{method} {b} is already defined above as {a}")
        });
    }
    if !a.covers(b) && !b.covers(a) {
        return Some(format!(
            "{method} {b} and {a} both fit some paths and neither is the more specific; make them disjoint"
        ));
    }
    let (broad, narrow) = if a.covers(b) {
        (earlier, later)
    } else {
        (later, earlier)
    };
    (narrow.operation.is_metered() && !broad.operation.is_metered()).then(|| {
        format!(
            "{} is not metered but surrounds {}, which is: a look-alike path would be called without being paid for; list the paths instead",
            broad.path, narrow.path
        )
    })
}
