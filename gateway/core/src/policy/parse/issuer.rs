//! Reads one file of `issuers/`: whose tokens may be exchanged, checked with which keys, and whose
//! tenant and agent they speak for.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use toml::de::DeValue;

use super::{place, provider};
use crate::identity::{Expected, SigningAlgorithm};
use crate::ids::ProviderName;
use crate::policy::Upstream;
use crate::policy::issuer::{ClaimPattern, Issuer, KeySource, Mapping, Named, Pointer};
use crate::policy::reader::{self, Read, Section};

/// No symmetric algorithm has a name here.
const ALGORITHMS: &[(&str, SigningAlgorithm)] = &[
    ("EdDSA", SigningAlgorithm::EdDsa),
    ("ES256", SigningAlgorithm::Es256),
    ("ES384", SigningAlgorithm::Es384),
    ("RS256", SigningAlgorithm::Rs256),
    ("RS512", SigningAlgorithm::Rs512),
    ("PS256", SigningAlgorithm::Ps256),
];

/// The longest `iss`, `aud` or claim value that is written down.
const LONGEST: usize = 512;

/// A year: a longer age is a typing error.
const OLDEST_SECONDS: u64 = 366 * 86_400;

/// The issuer of a file, and where its `iss` stands.
pub(super) fn read(root: &Section<'_>, path: &str) -> Option<(Issuer, usize)> {
    if !root.has("issuer") {
        root.mistake(0, "an issuer file begins with [issuer]");
    }
    let head = root.table("issuer", |section| {
        let name: Option<ProviderName> = section.required("name", reader::parsed);
        let expected = read_expected(section);
        let keys = read_keys(section, path);
        Some((name?.to_string(), expected?, keys?, section.at("iss")))
    });
    let read = root.tables("map", read_mapping);
    if read.is_empty() && !root.has("map") {
        root.mistake(
            0,
            "no token of this issuer stands for anybody: say whose in [[map]] tables",
        );
    }
    let mappings = read.into_iter().flatten().collect();
    let (name, expected, keys, at) = head.flatten()?;
    let issuer = Issuer {
        name,
        expected,
        keys,
        mappings,
    };
    Some((issuer, at))
}

fn read_expected(section: &Section<'_>) -> Option<Expected> {
    let issuer = section.required("iss", claim_text);
    let audience = section.required("audience", claim_text);
    let algorithms = section.list("algorithms", reader::one_of(ALGORITHMS));
    if algorithms.is_empty() && (!section.has("algorithms") || section.is_empty_list("algorithms"))
    {
        section.mistake(
            section.at("algorithms"),
            "name the `algorithms` this issuer signs with, such as [\"RS256\"]",
        );
    }
    let max_age = section.optional("max_age_seconds", reader::integer(1..=OLDEST_SECONDS));
    Some(Expected {
        issuer: issuer?,
        audience: audience?,
        algorithms: algorithms.into_iter().map(|(one, _)| one).collect(),
        max_age: max_age.map(Duration::from_secs),
    })
}

fn read_keys(section: &Section<'_>, path: &str) -> Option<KeySource> {
    let beside = |file: String| provider::beside_policies(path, &file);
    let file = section.optional("jwks_file", reader::text).map(beside);
    let origin = section.optional("jwks_url", place::origin);
    let ca_file = section.optional("ca_file", reader::text).map(beside);
    let bearer_token_file = section.optional("bearer_token_file", reader::text);
    let bearer_token_file = bearer_token_file.map(beside);
    let insecure = section.optional("insecure", reader::boolean) == Some(true);
    if section.has("jwks_url") == section.has("jwks_file") {
        section.mistake(
            section.start(),
            "say where the issuer's keys are: `jwks_url` or `jwks_file`, one of them",
        );
        return None;
    }
    if !section.has("jwks_url") {
        for key in ["ca_file", "bearer_token_file", "insecure"] {
            if section.has(key) {
                section.mistake(
                    section.at(key),
                    format!("`{key}` goes with `jwks_url` only"),
                );
            }
        }
        return file.map(KeySource::File);
    }
    let origin = origin?;
    let at = section.at("jwks_url");
    if !origin.tls && ca_file.is_some() {
        section.mistake(
            section.at("ca_file"),
            "`ca_file` needs an https:// `jwks_url`",
        );
    }
    if !origin.tls && !insecure && !is_loopback(&origin.host) {
        section.mistake(
            at,
            "whoever can change these keys on their way can be every tenant: use https://, or set `insecure = true`",
        );
    }
    if origin.base_path.is_empty() {
        section.mistake(at, "`jwks_url` names the key set itself, with its path");
    }
    Some(KeySource::Url {
        at: Upstream {
            tls: origin.tls,
            host: origin.host,
            port: origin.port,
            base_path: origin.base_path,
            ca_file,
            http2: origin.tls,
            insecure_plain_http: insecure,
        },
        bearer_token_file,
    })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn read_mapping(section: &Section<'_>) -> Option<Mapping> {
    let mut when = Vec::new();
    for (name, at, pattern) in section.values("when", pattern) {
        match name.parse::<Pointer>() {
            Ok(pointer) => when.push((pointer, pattern)),
            Err(wrong) => {
                let shown = reader::shown(name);
                section.mistake(at, format!("`{shown}` is no place in the claims: {wrong}"));
            }
        }
    }
    if !section.has("when") {
        section.mistake(
            section.start(),
            "[map] lacks `when`: without a condition every token of this issuer would fit",
        );
    } else if when.is_empty() {
        section.mistake(
            section.at("when"),
            "`when` has no condition that can be used: every token of this issuer would fit",
        );
    }
    let tenant = required(section, "tenant");
    let agent = required(section, "agent");
    let may = section.optional("task_may_be_requested", reader::boolean);
    let task_may_be_requested = may == Some(true);
    let task = if section.has("task") || !task_may_be_requested {
        Some(required(section, "task")?)
    } else {
        // Asked for, so that it counts as known.
        section.optional("task", reader::text);
        None
    };
    Some(Mapping {
        when,
        tenant: tenant?,
        agent: agent?,
        task,
        task_may_be_requested,
    })
}

/// An id, written down or `{ claim = "/sub", strip_prefix = "…" }`.
fn required<T>(section: &Section<'_>, key: &str) -> Option<Named<T>>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    if !section.is_table(key) {
        return section.required(key, reader::parsed).map(Named::Literal);
    }
    let named = section.table(key, |table| {
        let claim = table.required("claim", reader::parsed);
        let prefix = table.optional("strip_prefix", reader::text);
        Some(Named::Claim {
            claim: claim?,
            prefix: prefix.unwrap_or_default(),
        })
    });
    named.flatten()
}

/// What a claim must be: a text, one that ends in `*`, a truth value or a whole number. A `*` in
/// the midst of a name is a mistake: whoever can name things at the issuer makes one that fits.
fn pattern(value: &DeValue<'_>) -> Read<ClaimPattern> {
    if let Some(value) = value.as_bool() {
        return Ok(ClaimPattern::Boolean(value));
    }
    if value.is_integer() {
        return reader::integer(0..=u64::MAX)(value).map(ClaimPattern::Integer);
    }
    let text = reader::text(value)?;
    if text.len() > LONGEST {
        return Err(format!("must be at most {LONGEST} bytes"));
    }
    match text.strip_suffix('*') {
        Some(prefix) if prefix.contains('*') => Err("may have a `*` at its end only".to_owned()),
        Some(prefix) if prefix.ends_with(char::is_alphanumeric) => Err(
            "ends within a name, and `acme*` would fit `acme-evil`, too: end it where names are \
             separated, as in `acme/*`"
                .to_owned(),
        ),
        Some(prefix) => Ok(ClaimPattern::Prefix(prefix.to_owned())),
        None if text.contains('*') => Err("may have a `*` at its end only".to_owned()),
        None => Ok(ClaimPattern::Text(text)),
    }
}

/// The value of `iss` or `aud`: any short printable text.
fn claim_text(value: &DeValue<'_>) -> Read<String> {
    let text = reader::text(value)?;
    if text.is_empty() || text.len() > LONGEST || text.chars().any(char::is_control) {
        return Err(format!(
            "must be 1 to {LONGEST} bytes without control characters"
        ));
    }
    Ok(text)
}
