//! Finds the tokens in an OAuth token endpoint's answer, and writes handles in their place.
//!
//! An answer is understood if it is one JSON object, or a form that says that it is one; every
//! text in a member whose name ends in `token`, at any depth and however that is spelled, is one:
//! `access_token`, `refresh_token`, `id_token`, and servers' own `token` or `bot_access_token`.
//! What is not understood is for the caller to withhold, and so is an answer with such members in
//! one of its texts, which may be JSON or a form again. All bytes but the tokens' stay as they
//! are. This module keeps nothing and does not know where a token may go.
//!
//! Worst case: a server that hands out a token under quite another name is not understood as one
//! that does; the definition of such an endpoint should be another.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::credential::life;
use crate::handle::{decoded, percent_encoded};
use crate::ids::HandleName;
use crate::json::Fields;
use crate::scrub::Needles;
use crate::secret::Secret;

/// How long a token is kept whose answer does not say how long it lives.
pub const DEFAULT_LIFE: Duration = Duration::from_secs(3600);
/// The most tokens in one answer.
const MAX_TOKENS: usize = 16;
/// The deepest object a token is looked for in.
const MAX_DEPTH: usize = 16;

/// Which token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// It is sent with calls.
    Access,
    /// It is sent to the token endpoint, for another access token.
    Refresh,
    /// It says who somebody is.
    Id,
}

/// A token and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Which.
    pub kind: TokenKind,
    /// The token.
    pub secret: Secret,
    span: Range<usize>,
}

/// An answer that has been understood.
pub struct Reply<'a> {
    body: &'a [u8],
    is_form: bool,
    tokens: Vec<Token>,
    /// How long its access token lives.
    pub life: Duration,
}

/// The answer may hold a token that nobody finds, or says that it failed and holds one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer of the token endpoint is not understood")]
pub struct NotUnderstood;

/// Reads a token endpoint's whole answer.
///
/// # Errors
/// [`NotUnderstood`]: nothing of it may be passed on.
pub fn read<'a>(
    is_success: bool,
    content_type: Option<&str>,
    body: &'a [u8],
) -> Result<Reply<'a>, NotUnderstood> {
    let mut reply = Reply {
        body,
        is_form: false,
        tokens: Vec::new(),
        life: DEFAULT_LIFE,
    };
    if body.is_empty() {
        return Ok(reply);
    }
    if let Ok(fields) = Fields::scan(body) {
        if let Some(raw) = fields.given("expires_in") {
            reply.life = life(raw);
        }
        in_object(body, &fields, MAX_DEPTH, &mut reply.tokens)?;
    } else if is_success && content_type.is_some_and(is_form) {
        reply.is_form = true;
        in_form(body, &mut reply)?;
    } else {
        return Err(NotUnderstood);
    }
    let odd = reply.tokens.len() > MAX_TOKENS || !is_success && !reply.tokens.is_empty();
    if odd { Err(NotUnderstood) } else { Ok(reply) }
}

/// Says nothing of the answer's bytes, in which the tokens still stand.
impl fmt::Debug for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Reply");
        shown.field("tokens", &self.tokens.len());
        shown.finish_non_exhaustive()
    }
}

impl Reply<'_> {
    /// The tokens, in their order.
    #[must_use]
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// The answer with handles of these names in place of its tokens, one for each; and without
    /// what else of it repeats a token.
    #[must_use]
    pub fn with_handles(&self, names: &[HandleName]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len().saturating_add(64));
        let mut copied = 0;
        for (token, name) in self.tokens.iter().zip(names) {
            out.extend_from_slice(self.body.get(copied..token.span.start).unwrap_or_default());
            let handle = format!("$CRED{{{name}}}");
            let written = if self.is_form {
                percent_encoded(handle.as_bytes())
            } else {
                format!("\"{handle}\"")
            };
            out.extend_from_slice(written.as_bytes());
            copied = token.span.end;
        }
        out.extend_from_slice(self.body.get(copied..).unwrap_or_default());
        for token in &self.tokens {
            let needles = Needles::new(&token.secret);
            if let Some(scrubbed) = needles.and_then(|needles| needles.scrub(&out)) {
                out = scrubbed;
            }
        }
        out
    }
}

/// Which token a text is in a member of this name, whether that is written with underscores or in
/// humps.
fn kind(name: &[u8]) -> Option<TokenKind> {
    let plain: Vec<u8> = name
        .iter()
        .filter(|byte| !matches!(byte, b'_' | b'-'))
        .map(u8::to_ascii_lowercase)
        .collect();
    if !plain.ends_with(b"token") {
        None
    } else if plain.ends_with(b"refreshtoken") {
        Some(TokenKind::Refresh)
    } else if plain.ends_with(b"idtoken") {
        Some(TokenKind::Id)
    } else {
        Some(TokenKind::Access)
    }
}

fn in_object(
    body: &[u8],
    fields: &Fields<'_>,
    depth: usize,
    tokens: &mut Vec<Token>,
) -> Result<(), NotUnderstood> {
    for name in fields.names() {
        let raw = fields.raw(name).ok_or(NotUnderstood)?;
        match (kind(name.as_bytes()), raw) {
            // Nothing, or the answer to whether there is one.
            (Some(_), "null" | "\"\"" | "true" | "false") => {}
            (Some(kind), raw) if raw.starts_with('"') => {
                let secret = Secret::new(text(raw)?.as_bytes().to_vec());
                let span = span(body, raw).ok_or(NotUnderstood)?;
                tokens.push(Token { kind, secret, span });
            }
            (Some(_), raw) => {
                let known = tokens.len();
                in_value(body, raw, depth, tokens)?;
                if tokens.len() == known {
                    return Err(NotUnderstood);
                }
            }
            (None, raw) => in_value(body, raw, depth, tokens)?,
        }
    }
    Ok(())
}

fn in_value(
    body: &[u8],
    raw: &str,
    depth: usize,
    tokens: &mut Vec<Token>,
) -> Result<(), NotUnderstood> {
    let within = depth.checked_sub(1);
    match raw.as_bytes().first() {
        Some(b'{') => {
            let fields = Fields::scan_text(raw).map_err(|_fault| NotUnderstood)?;
            in_object(body, &fields, within.ok_or(NotUnderstood)?, tokens)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> =
                serde_json::from_str(raw).map_err(|_fault: serde_json::Error| NotUnderstood)?;
            let within = within.ok_or(NotUnderstood)?;
            items
                .into_iter()
                .try_for_each(|item| in_value(body, item.get(), within, tokens))
        }
        Some(b'"') if holds_members(&text(raw)?) => Err(NotUnderstood),
        _ => Ok(()),
    }
}

fn text(raw: &str) -> Result<Zeroizing<String>, NotUnderstood> {
    let text = serde_json::from_str::<String>(raw);
    text.map(Zeroizing::new).map_err(|_no_text| NotUnderstood)
}

/// Whether a text is JSON again, or has a token in it as a form or an address would.
fn holds_members(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
        || text.split(['&', '?', '#', ';', ' ']).any(|pair| {
            let pair = pair.split_once('=');
            pair.is_some_and(|(name, value)| !value.is_empty() && kind(&decoded(name)).is_some())
        })
}

/// Where in `body` its slice `part` stands.
fn span(body: &[u8], part: &str) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(body.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= body.len()).then_some(start..end)
}

fn is_form(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence
        .trim()
        .eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn in_form(body: &[u8], reply: &mut Reply<'_>) -> Result<(), NotUnderstood> {
    let text = std::str::from_utf8(body).map_err(|_no_text| NotUnderstood)?;
    let of_form = |b: u8| b.is_ascii_graphic() && !matches!(b, b'<' | b'>' | b'"' | b'{' | b'}');
    if !text.bytes().all(of_form) {
        return Err(NotUnderstood);
    }
    for pair in text.split('&') {
        let (name, value) = pair.split_once('=').ok_or(NotUnderstood)?;
        let plain = value.replace('+', " ");
        let plain = Zeroizing::new(decoded(&plain).into_owned());
        let name = decoded(name);
        if &*name == b"expires_in" {
            reply.life = life(&String::from_utf8_lossy(&plain));
        }
        if let Some(kind) = kind(&name).filter(|_| !value.is_empty()) {
            reply.tokens.push(Token {
                kind,
                secret: Secret::new(plain.to_vec()),
                span: span(body, value).ok_or(NotUnderstood)?,
            });
        } else if holds_members(&String::from_utf8_lossy(&plain)) {
            return Err(NotUnderstood);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
