//! `[vault]`: where secrets lie.
//!
//! A key of one backend beside another backend is a mistake, because whoever wrote it expects it
//! to count. Paths of directories that somebody else fills are absolute as a rule; relative ones
//! count from the policies directory, like all files that `gateway.toml` names.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tollgate_core::policy::Upstream;
use tollgate_core::policy::parse::upstream;
use tollgate_core::policy::reader::{self, Read, Section};
use toml::de::DeValue;

use super::InsecureSettings;
use super::print::{escaped, quoted};
use super::read::path;

/// Where secrets lie.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum VaultSettings {
    /// Encrypted in the data directory.
    #[default]
    Age,
    /// In directories that somebody else fills.
    Mounted {
        /// The directory of the scopes' directories.
        directory: PathBuf,
    },
    /// On a server that speaks KV v2.
    Kv2(Box<Kv2Settings>),
    /// In environment variables.
    Environment,
}

/// A server that speaks KV v2, and how each scope logs in to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kv2Settings {
    /// Its URL.
    pub(crate) address: String,
    /// The same, taken apart.
    pub(crate) server: Upstream,
    /// The namespace, where it has them.
    pub(crate) namespace: Option<String>,
    /// The path of its KV v2 engine.
    pub(crate) mount: String,
    /// Where a secret lies in that: `{scope}` and `{name}` stand for the secret's.
    pub(crate) path: String,
    /// The field that is the secret.
    pub(crate) field: String,
    /// How scopes log in.
    pub(crate) auth: AuthSettings,
    /// How long a value is used after it was asked for.
    pub(crate) cache: Duration,
}

/// How a scope logs in; `{scope}` stands for the scope's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AuthSettings {
    /// With the pod's service-account token, to a role of its own.
    Kubernetes {
        mount: String,
        role: String,
        token_file: PathBuf,
    },
    /// With a role id and a secret id of its own.
    AppRole {
        mount: String,
        role_id_file: String,
        secret_id_file: String,
    },
    /// With a client token of its own.
    Token { file: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    Age,
    Mounted,
    Kv2,
    Environment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Auth {
    Kubernetes,
    AppRole,
    Token,
}

const BACKENDS: &[(&str, Backend)] = &[
    ("age", Backend::Age),
    ("mounted", Backend::Mounted),
    ("kv2", Backend::Kv2),
    ("environment", Backend::Environment),
];

const AUTHS: &[(&str, Auth)] = &[
    ("kubernetes", Auth::Kubernetes),
    ("approle", Auth::AppRole),
    ("token", Auth::Token),
];

/// What goes with backend = "kv2" only.
const OF_KV2: [&str; 14] = [
    "address",
    "ca_file",
    "namespace",
    "mount",
    "path",
    "field",
    "cache_ms",
    "auth",
    "auth_mount",
    "role",
    "service_account_token_file",
    "role_id_file",
    "secret_id_file",
    "token_file",
];

const SCOPE: &str = "{scope}";
const NAME: &str = "{name}";

impl VaultSettings {
    /// Reads `[vault]`. What is wrong with it is noted, and the default returned.
    pub(super) fn read(section: &Section<'_>, dir: &Path, insecure: InsecureSettings) -> Self {
        let backend = section.optional("backend", reader::one_of(BACKENDS));
        let backend = backend.unwrap_or(Backend::Age);
        if backend != Backend::Mounted {
            belongs(section, "directory", "backend = \"mounted\"");
        }
        if backend != Backend::Kv2 {
            for key in OF_KV2 {
                belongs(section, key, "backend = \"kv2\"");
            }
        }
        match backend {
            Backend::Age => Self::Age,
            Backend::Mounted => {
                let directory = section.optional("directory", path);
                let usual = || PathBuf::from("/var/run/tollgate/secrets");
                Self::Mounted {
                    directory: dir.join(directory.unwrap_or_else(usual)),
                }
            }
            Backend::Environment => {
                if !insecure.environment_vault {
                    section.mistake(
                        section.at("backend"),
                        "secrets in the environment can be read by every process of the same user; for development, set `environment_vault = true` in [insecure]",
                    );
                }
                Self::Environment
            }
            Backend::Kv2 => Kv2Settings::read(section, dir, insecure)
                .map_or(Self::Age, |settings| Self::Kv2(Box::new(settings))),
        }
    }
}

impl Kv2Settings {
    fn read(section: &Section<'_>, dir: &Path, insecure: InsecureSettings) -> Option<Self> {
        let address = section.required("address", reader::text);
        let ca_file = section.optional("ca_file", path);
        let namespace = section.optional("namespace", header_text);
        let mount = section.optional("mount", url_path);
        let secret = section.optional("path", url_template);
        let field = section.optional("field", reader::text);
        let cache = section.optional("cache_ms", reader::integer(50..=1_000));
        let auth = AuthSettings::read(section, dir)?;
        let address = address?;
        let at = section.at("address");
        let mut server = upstream(&address)
            .map_err(|wrong| section.mistake(at, format!("`address` is no URL to ask: {wrong}")))
            .ok()?;
        if !server.tls && !insecure.plain_http_vault {
            section.mistake(
                at,
                "tokens and secrets would be readable on the way: give an https:// URL, or set `plain_http_vault = true` in [insecure]",
            );
        }
        if !server.tls && ca_file.is_some() {
            section.mistake(section.at("ca_file"), "`ca_file` needs an https:// address");
        }
        server.ca_file = ca_file.map(|file| dir.join(file));
        Some(Self {
            address,
            server,
            namespace,
            mount: mount.unwrap_or_else(|| "secret".to_owned()),
            path: secret.unwrap_or_else(|| format!("tollgate/{SCOPE}/{NAME}")),
            field: field.unwrap_or_else(|| "value".to_owned()),
            auth,
            cache: Duration::from_millis(cache.unwrap_or(750)),
        })
    }
}

impl AuthSettings {
    fn read(section: &Section<'_>, dir: &Path) -> Option<Self> {
        let auth = section.required("auth", reader::one_of(AUTHS))?;
        let mount = section.optional("auth_mount", url_path);
        let role = section.optional("role", template);
        let jwt = section.optional("service_account_token_file", path);
        for (key, kind, form) in [
            ("auth_mount", None, "auth = \"kubernetes\" or \"approle\""),
            ("role", Some(Auth::Kubernetes), "auth = \"kubernetes\""),
            (
                "service_account_token_file",
                Some(Auth::Kubernetes),
                "auth = \"kubernetes\"",
            ),
            ("role_id_file", Some(Auth::AppRole), "auth = \"approle\""),
            ("secret_id_file", Some(Auth::AppRole), "auth = \"approle\""),
            ("token_file", Some(Auth::Token), "auth = \"token\""),
        ] {
            if kind.map_or(auth == Auth::Token, |kind| kind != auth) {
                belongs(section, key, form);
            }
        }
        let file = |key| {
            let file = section.required(key, template)?;
            Some(dir.join(file).to_string_lossy().into_owned())
        };
        let mount = |usual: &str| mount.clone().unwrap_or_else(|| usual.to_owned());
        Some(match auth {
            Auth::Kubernetes => Self::Kubernetes {
                mount: mount("kubernetes"),
                role: role.unwrap_or_else(|| format!("tollgate-{SCOPE}")),
                token_file: jwt.map_or_else(
                    || "/var/run/secrets/kubernetes.io/serviceaccount/token".into(),
                    |file| dir.join(file),
                ),
            },
            Auth::AppRole => {
                let (role_id, secret_id) = (file("role_id_file"), file("secret_id_file"));
                Self::AppRole {
                    mount: mount("approle"),
                    role_id_file: role_id?,
                    secret_id_file: secret_id?,
                }
            }
            Auth::Token => Self::Token {
                file: file("token_file")?,
            },
        })
    }
}

/// Notes a key that counts only with something else than what is set.
fn belongs(section: &Section<'_>, key: &str, with: &str) {
    if section.has(key) {
        // Looked at, so that it is not called unknown as well.
        let _present: Option<()> = section.optional(key, |_| Ok(()));
        section.mistake(section.at(key), format!("`{key}` goes with {with} only"));
    }
}

/// A text that differs from scope to scope.
fn template(value: &DeValue<'_>) -> Read<String> {
    let text = reader::text(value)?;
    if text.contains(SCOPE) && !text.contains('\0') {
        Ok(text)
    } else {
        Err("must hold {scope}: each scope has its own".to_owned())
    }
}

/// The path of a secret, of its scope and name. In one segment they could not be told apart, and
/// one tenant's secret could lie where another's does: `a` and `b-c`, `a-b` and `c`.
fn url_template(value: &DeValue<'_>) -> Read<String> {
    let text = reader::text(value)?;
    let plain = text.replace(SCOPE, "scope").replace(NAME, "name");
    let is_apart = text.contains(SCOPE)
        && text.contains(NAME)
        && text
            .split('/')
            .all(|segment| !(segment.contains(SCOPE) && segment.contains(NAME)));
    if is_apart && is_url_path(&plain) {
        Ok(text)
    } else {
        Err("must be a path such as tollgate/{scope}/{name}, with a / between the two".to_owned())
    }
}

fn url_path(value: &DeValue<'_>) -> Read<String> {
    let text = reader::text(value)?;
    if is_url_path(&text) {
        Ok(text)
    } else {
        Err("must be a path such as secret, without / at its ends".to_owned())
    }
}

/// Segments of characters that need no escaping in a URL.
fn is_url_path(text: &str) -> bool {
    text.split('/').all(|segment| {
        !segment.is_empty()
            && !matches!(segment, "." | "..")
            && segment
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~'))
    })
}

fn header_text(value: &DeValue<'_>) -> Read<String> {
    let text = reader::text(value)?;
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text)
    } else {
        Err("must be visible ASCII".to_owned())
    }
}

impl fmt::Display for VaultSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Age => writeln!(f, "\n[vault]\nbackend = \"age\""),
            Self::Environment => writeln!(f, "\n[vault]\nbackend = \"environment\""),
            Self::Mounted { directory } => {
                writeln!(f, "\n[vault]\nbackend = \"mounted\"")?;
                writeln!(f, "directory = {}", quoted(directory))
            }
            Self::Kv2(settings) => {
                writeln!(f, "\n[vault]\nbackend = \"kv2\"")?;
                settings.print(f)
            }
        }
    }
}

impl Kv2Settings {
    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "address = {}", escaped(&self.address))?;
        if let Some(file) = &self.server.ca_file {
            writeln!(f, "ca_file = {}", quoted(file))?;
        }
        if let Some(namespace) = &self.namespace {
            writeln!(f, "namespace = {}", escaped(namespace))?;
        }
        for (key, text) in [
            ("mount", &self.mount),
            ("path", &self.path),
            ("field", &self.field),
        ] {
            writeln!(f, "{key} = {}", escaped(text))?;
        }
        writeln!(f, "cache_ms = {}", self.cache.as_millis())?;
        match &self.auth {
            AuthSettings::Kubernetes {
                mount,
                role,
                token_file,
            } => {
                writeln!(f, "auth = \"kubernetes\"\nauth_mount = {}", escaped(mount))?;
                writeln!(f, "role = {}", escaped(role))?;
                writeln!(f, "service_account_token_file = {}", quoted(token_file))
            }
            AuthSettings::AppRole {
                mount,
                role_id_file,
                secret_id_file,
            } => {
                writeln!(f, "auth = \"approle\"\nauth_mount = {}", escaped(mount))?;
                writeln!(f, "role_id_file = {}", escaped(role_id_file))?;
                writeln!(f, "secret_id_file = {}", escaped(secret_id_file))
            }
            AuthSettings::Token { file } => {
                writeln!(f, "auth = \"token\"\ntoken_file = {}", escaped(file))
            }
        }
    }
}
