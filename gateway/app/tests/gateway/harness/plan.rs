//! Policy files, written the way an operator writes them, with the parts a test varies.
//!
//! The texts here are the format's plainest use; the parser's own tests cover its mistakes.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use super::process::Site;

/// What a tool call costs, since tenants with a cap cannot call what has no price.
const TOOL_PRICE: &str = "price_per_call_usd = \"0.001\"\n";

/// Everything a gateway is started with.
pub(crate) struct Plan {
    /// More lines for `gateway.toml`.
    pub(crate) gateway: String,
    /// Providers by name.
    pub(crate) providers: BTreeMap<String, ProviderPlan>,
    /// Tenants by id.
    pub(crate) tenants: BTreeMap<String, TenantPlan>,
    /// Other files beside `gateway.toml`.
    pub(crate) files: BTreeMap<String, String>,
}

/// One provider file.
pub(crate) struct ProviderPlan {
    /// `openai`, `anthropic` or `http`.
    pub(crate) dialect: &'static str,
    /// The origin, with scheme.
    pub(crate) url: String,
    /// More lines before the endpoints.
    pub(crate) more: String,
    /// The `[[endpoint]]` tables.
    pub(crate) endpoints: String,
}

/// One tenant file, and the secrets put into its vault.
pub(crate) struct TenantPlan {
    /// Lines of `[caps]`.
    pub(crate) caps: String,
    /// Lines of `[limits]`.
    pub(crate) limits: String,
    /// The `[[allow]]` tables.
    pub(crate) grants: String,
    /// Lines of `[credentials]`.
    pub(crate) credentials: String,
    /// More tables.
    pub(crate) more: String,
    /// Secrets by name.
    pub(crate) secrets: BTreeMap<String, String>,
}

impl Plan {
    /// Three providers at one upstream that speaks plain HTTP, and the tenants `acme` and `globex`
    /// with a key of their own for each.
    pub(crate) fn at(upstream: SocketAddr) -> Self {
        let url = format!("http://{upstream}");
        let providers = [
            ("openai", ProviderPlan::openai(&url)),
            ("anthropic", ProviderPlan::anthropic(&url)),
            ("github", ProviderPlan::github(&url)),
        ];
        let tenants = ["acme", "globex"].map(|id| (id.to_owned(), TenantPlan::new(id)));
        Self {
            gateway: String::new(),
            providers: providers.map(|(name, plan)| (name.to_owned(), plan)).into(),
            tenants: tenants.into(),
            files: BTreeMap::new(),
        }
    }

    /// A tenant of the plan.
    pub(crate) fn tenant(&mut self, id: &str) -> &mut TenantPlan {
        self.tenants.get_mut(id).expect("a tenant of the plan")
    }

    /// A provider of the plan.
    pub(crate) fn provider(&mut self, name: &str) -> &mut ProviderPlan {
        self.providers
            .get_mut(name)
            .expect("a provider of the plan")
    }

    /// Writes everything, the secrets through the command line.
    pub(crate) fn write(&self, site: &Site) {
        let gateway = format!(
            "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n{}",
            self.gateway
        );
        site.write_policy("gateway.toml", &gateway);
        for (path, text) in &self.files {
            site.write_policy(path, text);
        }
        for (name, provider) in &self.providers {
            site.write_policy(&format!("providers/{name}.toml"), &provider.text(name));
        }
        for (id, tenant) in &self.tenants {
            site.write_policy(&format!("tenants/{id}.toml"), &tenant.text(id));
        }
        for (id, tenant) in &self.tenants {
            for (name, value) in &tenant.secrets {
                site.secret("set", id, name, value);
            }
        }
    }
}

impl ProviderPlan {
    fn new(dialect: &'static str, url: &str, more: &str, endpoints: &[(&str, &str, &str)]) -> Self {
        let mut plan = Self {
            dialect,
            url: url.to_owned(),
            more: more.to_owned(),
            endpoints: String::new(),
        };
        if url.starts_with("http://") {
            plan.more.push_str("insecure = true\n");
        }
        for (method, path, operation) in endpoints {
            let priced = if *operation == "tool" { TOOL_PRICE } else { "" };
            plan.endpoint(method, path, operation, priced);
        }
        plan
    }

    /// OpenAI.
    pub(crate) fn openai(url: &str) -> Self {
        Self::new(
            "openai",
            url,
            "prices = \"openai\"\n",
            &[
                ("POST", "/v1/chat/completions", "chat_completions"),
                ("POST", "/v1/responses", "responses"),
                ("POST", "/v1/embeddings", "embeddings"),
                ("GET", "/v1/models", "free"),
                ("GET", "/v1/models/*", "free"),
                ("POST", "/v1/files", "tool"),
            ],
        )
    }

    /// Anthropic.
    pub(crate) fn anthropic(url: &str) -> Self {
        Self::new(
            "anthropic",
            url,
            "prices = \"anthropic\"\n",
            &[
                ("POST", "/v1/messages", "messages"),
                ("POST", "/v1/messages/count_tokens", "free"),
                ("GET", "/v1/models", "free"),
            ],
        )
    }

    /// The Gemini API. Google's SDKs differ in which version they call.
    pub(crate) fn gemini(url: &str) -> Self {
        let mut plan = Self::new("gemini", url, "prices = \"google\"\n", &[]);
        for version in ["v1", "v1beta"] {
            for (action, operation) in [
                ("generateContent", "generate_content"),
                ("streamGenerateContent", "generate_content"),
                ("embedContent", "embed_content"),
                ("batchEmbedContents", "embed_content"),
                ("countTokens", "free"),
            ] {
                let path = format!("/{version}/models/{{model}}:{action}");
                plan.endpoint("POST", &path, operation, "");
            }
        }
        plan
    }

    /// Amazon Bedrock.
    pub(crate) fn bedrock(url: &str) -> Self {
        Self::new(
            "bedrock",
            url,
            "prices = \"aws\"\n",
            &[
                ("POST", "/model/{model}/converse", "converse"),
                ("POST", "/model/{model}/converse-stream", "converse"),
                ("POST", "/model/{model}/invoke", "invoke_model"),
                (
                    "POST",
                    "/model/{model}/invoke-with-response-stream",
                    "invoke_model",
                ),
            ],
        )
    }

    /// A tool over HTTP.
    pub(crate) fn github(url: &str) -> Self {
        Self::new(
            "http",
            url,
            "",
            &[
                ("GET", "/user", "tool"),
                ("GET", "/repos/**", "tool"),
                ("POST", "/repos/**", "tool"),
            ],
        )
    }

    /// Adds an endpoint, with further `lines`.
    pub(crate) fn endpoint(&mut self, method: &str, path: &str, operation: &str, lines: &str) {
        write!(
            self.endpoints,
            "\n[[endpoint]]\nmethod = \"{method}\"\npath = \"{path}\"\noperation = \"{operation}\"\n{lines}"
        )
        .unwrap();
    }

    pub(crate) fn text(&self, name: &str) -> String {
        let Self {
            dialect,
            url,
            more,
            endpoints,
        } = self;
        format!(
            "[provider]\nname = \"{name}\"\nupstream = \"{url}\"\ndialect = \"{dialect}\"\n{more}{endpoints}"
        )
    }
}

impl TenantPlan {
    /// A tenant with a roomy cap, leave to call everything, and a default key for each provider.
    pub(crate) fn new(id: &str) -> Self {
        Self::with_keys(
            id,
            &[
                ("openai", "openai_key"),
                ("anthropic", "anthropic_key"),
                ("github", "github_token"),
            ],
        )
    }

    /// The same with these providers and the names of its keys for them.
    pub(crate) fn with_keys(id: &str, keys: &[(&str, &str)]) -> Self {
        let mut plan = Self {
            caps: "daily_usd = \"100\"\n".to_owned(),
            limits: String::new(),
            grants: String::new(),
            credentials: String::new(),
            more: String::new(),
            secrets: BTreeMap::new(),
        };
        for &(provider, name) in keys {
            plan.allow(provider, "");
            plan.credential(
                name,
                &format!("{{ provider = \"{provider}\", default = true }}"),
            );
            plan.secret(name, &super::world::key(id, provider));
        }
        plan
    }

    /// Adds leave to call a provider, restricted by further `lines`.
    pub(crate) fn allow(&mut self, provider: &str, lines: &str) -> &mut Self {
        write!(
            self.grants,
            "\n[[allow]]\nprovider = \"{provider}\"\n{lines}"
        )
        .unwrap();
        self
    }

    /// Adds a credential; `table` is an inline table.
    pub(crate) fn credential(&mut self, name: &str, table: &str) -> &mut Self {
        writeln!(self.credentials, "{name} = {table}").unwrap();
        self
    }

    /// Adds a secret.
    pub(crate) fn secret(&mut self, name: &str, value: &str) -> &mut Self {
        self.secrets.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn text(&self, id: &str) -> String {
        let Self {
            caps,
            limits,
            grants,
            credentials,
            more,
            ..
        } = self;
        format!(
            "[tenant]\nid = \"{id}\"\n\n[caps]\n{caps}\n[limits]\n{limits}{grants}\n[credentials]\n{credentials}\n{more}"
        )
    }
}
