//! Named fields of a body: where the value of one stands, and the same body with a secret there.
//!
//! A field is looked for only where it is declared. A body that two readers could take in two
//! ways there is refused: JSON in which an object on the way has a name twice, a form that has
//! the field twice; also the one that is meant in another case, which some readers do not mind:
//! a key of the client's own would go along. What else a body holds is not looked at, and every other byte stays.
//!
//! Worst case: one pass over the body for each object on the way to a JSON field. Bodies are
//! buffers shared with the codec and are not wiped; what is written here on the way to one is.

use std::borrow::Cow;
use std::ops::Range;

use http::HeaderValue;
use http::header::{CONTENT_TYPE, HeaderMap};
use zeroize::Zeroizing;

use super::inject::percent_encoded;
use super::search::decoded_bytes;
use crate::json::{Fields, JsonFault, offset, quoted};
use crate::policy::{JsonPointer, Place};
use crate::refusal::Refusal;
use crate::secret::Secret;

/// The head says that the body is not of the type in which the credential's field could be.
pub(super) const WRONG_TYPE: Refusal = Refusal::Malformed {
    code: "invalid_content_type",
    detail: "this credential goes into a field of the body, which must be application/json or application/x-www-form-urlencoded as its binding says, in UTF-8",
};

/// The body is compressed, so that no field of it can be read.
pub(super) const ENCODED: Refusal = Refusal::Malformed {
    code: "unsupported_content_encoding",
    detail: "a body with a field for a credential must not be compressed",
};

/// How the fields of a body are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Json,
    Form,
}

impl Kind {
    /// The kind that the head names; `None` for a type in which no credential is ever put.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let mut types = headers.get_all(CONTENT_TYPE).iter();
        let first = types.next().map(HeaderValue::to_str).transpose();
        let (Ok(only), None) = (first, types.next()) else {
            return Err(WRONG_TYPE);
        };
        let mut parts = only.unwrap_or_default().split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let in_utf8 = parts.all(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
                value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
            }
            _ => true,
        });
        let is_json = media == "application/json"
            || (media.starts_with("application/") && media.ends_with("+json"));
        Ok(match media.as_str() {
            _ if !in_utf8 => None,
            _ if is_json => Some(Self::Json),
            "application/x-www-form-urlencoded" => Some(Self::Form),
            _ => None,
        })
    }

    /// Whether a body of this kind can have the place in it.
    pub(super) const fn holds(self, place: &Place) -> bool {
        matches!(
            (self, place),
            (Self::Json, Place::JsonField { .. }) | (Self::Form, Place::FormField { .. })
        )
    }
}

/// The value of a field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Value<'a> {
    /// Where it stands in the body, quotes included.
    pub(super) span: Range<usize>,
    /// What it says, decoded; `None` if it is no text but a number, say.
    pub(super) text: Option<Cow<'a, [u8]>>,
}

/// The value at `place` in `body`; `None` if there is none, or if the place is in no body.
///
/// # Errors
/// [`Refusal::Malformed`] if the body cannot be read, or in two ways.
pub(super) fn find<'a>(body: &'a [u8], place: &Place) -> Result<Option<Value<'a>>, Refusal> {
    match place {
        Place::JsonField { pointer } => in_json(body, pointer),
        Place::FormField { name } => in_form(body, name),
        _ => Ok(None),
    }
}

/// What a body with `place` in it looks like, for whoever has sent one without.
pub(super) fn form(place: &Place) -> String {
    match place {
        Place::JsonField { pointer } => format!(
            "the body must be a JSON object with a text at {pointer}, such as \"$CRED{{name}}\""
        ),
        Place::FormField { name } => {
            format!("the form must have the field {name}, such as {name}=CRED~name~")
        }
        _ => String::new(),
    }
}

/// `body` with `secret`, escaped, as the value at `place`; `None` if there is no such value.
pub(super) fn replaced(body: &[u8], place: &Place, secret: &Secret) -> Option<Vec<u8>> {
    let span = find(body, place).ok()??.span;
    let value = Zeroizing::new(match place {
        Place::JsonField { .. } => quoted(std::str::from_utf8(secret.expose()).ok()?),
        _ => percent_encoded(secret.expose()),
    });
    let (before, after) = (body.get(..span.start)?, body.get(span.end..)?);
    Some([before, value.as_bytes(), after].concat())
}

fn in_json<'a>(body: &'a [u8], pointer: &JsonPointer) -> Result<Option<Value<'a>>, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_not_utf8| JsonFault::NotAnObject)?;
    let mut object = Fields::scan_text(text)?;
    for name in pointer.way() {
        match only(&object, name)? {
            Some(value) if value.starts_with('{') => object = Fields::scan_text(value)?,
            _ => return Ok(None),
        }
    }
    let Some(value) = only(&object, pointer.last())? else {
        return Ok(None);
    };
    let Some(start) = offset(value.as_bytes(), text.as_bytes()) else {
        return Ok(None);
    };
    let is_text = value.starts_with('"');
    let decoded = is_text.then(|| serde_json::from_str::<String>(value));
    let decoded = decoded
        .transpose()
        .map_err(|_no_text: serde_json::Error| JsonFault::NotAnObject)?;
    Ok(Some(Value {
        span: start..start.saturating_add(value.len()),
        text: decoded.map(|text| Cow::Owned(text.into_bytes())),
    }))
}

/// The value of a member, which no other member is called like but for the case.
fn only<'a>(object: &Fields<'a>, name: &str) -> Result<Option<&'a str>, Refusal> {
    let value = object.raw(name);
    let folded = folded(name);
    let mut like_it = object.names().filter(|it| *it != name);
    if value.is_some() && like_it.any(|it| self::folded(it) == folded) {
        return Err(JsonFault::DuplicateField.into());
    }
    Ok(value)
}

/// A name for comparison without regard to case, as Unicode and its lenient readers have it.
fn folded(name: &str) -> String {
    name.to_uppercase().to_lowercase()
}

fn in_form<'a>(body: &'a [u8], name: &str) -> Result<Option<Value<'a>>, Refusal> {
    let mut found = None;
    let mut like_it: usize = 0;
    let mut start: usize = 0;
    for field in body.split(|byte| *byte == b'&') {
        let equals = memchr::memchr(b'=', field);
        let (its_name, value) = match equals {
            Some(at) => (field.get(..at), field.get(at.saturating_add(1)..)),
            None => (Some(field), None),
        };
        let end = start.saturating_add(field.len());
        let its_name = decoded_field(its_name.unwrap_or_default());
        if its_name.eq_ignore_ascii_case(name.as_bytes()) {
            like_it = like_it.saturating_add(1);
        }
        if *its_name == *name.as_bytes() {
            found = Some(value.map(|value| Value {
                span: end.saturating_sub(value.len())..end,
                text: Some(decoded_field(value)),
            }));
        }
        start = end.saturating_add(1);
    }
    match found {
        Some(_) if like_it > 1 => Err(JsonFault::DuplicateField.into()),
        found => Ok(found.flatten()),
    }
}

/// A name or value of a form: `+` is a space, and percent-encoding is undone once.
fn decoded_field(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'+', text).is_none() {
        return decoded_bytes(text);
    }
    let spaced: Vec<u8> = text
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    Cow::Owned(decoded_bytes(&spaced).into_owned())
}
