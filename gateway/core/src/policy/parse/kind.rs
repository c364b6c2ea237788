//! Reads what a credential's stored value is, and where access tokens are given out for it.

use super::place;
use crate::policy::reader::{self, Section};
use crate::policy::{ClientAuth, CredentialKind, Place, Provider, TokenEndpoint, Upstream};

/// Where Google gives out access tokens to service accounts.
const GOOGLE_TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
/// What they are good for: every Google Cloud interface that the account may use.
const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Static,
    AwsSigv4,
    Google,
    ClientCredentials,
    RefreshToken,
}

const KINDS: &[(&str, Word)] = &[
    ("static", Word::Static),
    ("aws_sigv4", Word::AwsSigv4),
    ("google_service_account", Word::Google),
    ("oauth2_client_credentials", Word::ClientCredentials),
    ("oauth2_refresh_token", Word::RefreshToken),
];

const CLIENT_AUTH: &[(&str, ClientAuth)] =
    &[("basic", ClientAuth::Basic), ("body", ClientAuth::Body)];

/// What a credential says of its kind, before its provider is known.
pub(super) struct Given {
    word: Option<Word>,
    token_url: Option<place::Origin>,
    slash: bool,
    scope: Option<String>,
    client_auth: Option<ClientAuth>,
    region: Option<String>,
}

pub(super) fn given(section: &Section<'_>) -> Given {
    Given {
        word: section.optional("kind", reader::one_of(KINDS)),
        token_url: section.optional("token_url", place::origin),
        slash: section.optional("token_url", ends_with_slash) == Some(true),
        scope: section.optional("scope", scope),
        client_auth: section.optional("client_auth", reader::one_of(CLIENT_AUTH)),
        region: section.optional("region", place::scope_part),
    }
}

/// A credential's kind, and its place with what the credential itself says of it.
pub(super) fn read(
    section: &Section<'_>,
    given: Given,
    place: Place,
    provider: &Provider,
) -> Option<(CredentialKind, Place)> {
    let Given {
        word,
        token_url,
        slash,
        scope,
        client_auth,
        region,
    } = given;
    let signs = matches!(place, Place::AwsSigv4 { .. });
    let word = match word {
        None if section.has("kind") => return None,
        None if signs => Word::AwsSigv4,
        None => Word::Static,
        Some(word) => word,
    };
    if signs != (word == Word::AwsSigv4) {
        section.mistake(
            section.at("kind"),
            "kind = \"aws_sigv4\" and place = { aws_sigv4 = \"bedrock\", region = \"us-east-1\" } go together only",
        );
        return None;
    }
    let place = match (place, region) {
        (Place::AwsSigv4 { service, .. }, Some(region)) => Place::AwsSigv4 { service, region },
        (place, _) => place,
    };
    only_with(section, "region", signs, "kind = \"aws_sigv4\"");
    let is_oauth = matches!(word, Word::ClientCredentials | Word::RefreshToken);
    only_with(section, "client_auth", is_oauth, "the kinds of OAuth 2");
    let obtains = is_oauth || word == Word::Google;
    for key in ["token_url", "scope"] {
        only_with(section, key, obtains, "kinds that obtain access tokens");
    }
    let endpoint = || {
        let upstream = token_origin(section, token_url, slash, provider, word)?;
        let usual = if word == Word::Google {
            GOOGLE_SCOPE
        } else {
            ""
        };
        Some(TokenEndpoint {
            upstream,
            scope: scope.unwrap_or_else(|| usual.to_owned()),
            client_auth: client_auth.unwrap_or(ClientAuth::Basic),
        })
    };
    let kind = match word {
        Word::Static => CredentialKind::Static,
        Word::AwsSigv4 => CredentialKind::AwsSigv4,
        Word::Google => CredentialKind::GoogleServiceAccount(endpoint()?),
        Word::ClientCredentials => CredentialKind::OAuth2ClientCredentials(endpoint()?),
        Word::RefreshToken => CredentialKind::OAuth2RefreshToken(endpoint()?),
    };
    Some((kind, place))
}

fn token_origin(
    section: &Section<'_>,
    token_url: Option<place::Origin>,
    slash: bool,
    provider: &Provider,
    word: Word,
) -> Option<Upstream> {
    let mut upstream = match token_url {
        Some(url) => upstream(url, slash, provider),
        None if section.has("token_url") => return None,
        None if word == Word::Google => google()?,
        None => {
            let missing = "this kind needs `token_url`, where access tokens are given out";
            section.mistake(section.start(), missing);
            return None;
        }
    };
    upstream.insecure_plain_http = provider.upstream.insecure_plain_http;
    if !upstream.tls && !upstream.insecure_plain_http {
        section.mistake(
            section.at("token_url"),
            format!(
                "this secret would go over plain http; use https://, or set `insecure = true` at provider `{}`",
                provider.name
            ),
        );
    }
    Some(upstream)
}

fn only_with(section: &Section<'_>, key: &str, fits: bool, what: &str) {
    if section.has(key) && !fits {
        section.mistake(section.at(key), format!("`{key}` goes with {what} only"));
    }
}

/// The endpoint's own authorities are the provider's where both are one server.
fn upstream(url: place::Origin, slash: bool, provider: &Provider) -> Upstream {
    let of = &provider.upstream;
    let is_same = (url.tls, &url.host, url.port) == (of.tls, &of.host, of.port);
    let mut path = url.base_path;
    if slash || path.is_empty() {
        path.push('/');
    }
    Upstream {
        tls: url.tls,
        host: url.host,
        port: url.port,
        base_path: path,
        ca_file: of.ca_file.clone().filter(|_| is_same),
        http2: url.tls && (!is_same || of.http2),
        insecure_plain_http: false,
    }
}

fn google() -> Option<Upstream> {
    place::upstream(GOOGLE_TOKEN_URL).ok()
}

fn ends_with_slash(value: &toml::de::DeValue<'_>) -> reader::Read<bool> {
    Ok(reader::text(value).is_ok_and(|text| text.ends_with('/')))
}

/// Scopes are separated by blanks (RFC 6749 section 3.3).
fn scope(value: &toml::de::DeValue<'_>) -> reader::Read<String> {
    let text = reader::text(value)?;
    if !text.is_empty() && text.len() <= 2048 && text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        Ok(text)
    } else {
        let shown = reader::shown(&text);
        Err(format!(
            "is \"{shown}\", but must be scopes with blanks between them"
        ))
    }
}
