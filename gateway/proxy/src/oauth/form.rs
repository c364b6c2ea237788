//! Reads the form of a token request: which token, and for which task.
//!
//! Purely a function of headers and bytes. A parameter that stands twice, or text that is not
//! UTF-8 once decoded, is refused. What could make the token mean less than the whole (a scope,
//! an actor, another target) is refused too instead of being ignored; parameters that OAuth does
//! not know are ignored, as RFC 6749 section 3.2 wants it.

use std::fmt;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use tollgate_core::ids::TaskId;
use zeroize::Zeroizing;

use super::refusal::Ungranted;

const FORM: &str = "application/x-www-form-urlencoded";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const TOKEN_TYPES: &str = "urn:ietf:params:oauth:token-type:";

/// More parameters than any client sends.
const MAX_PARAMETERS: usize = 64;

/// A well-formed request for a token.
pub(super) struct Wanted {
    /// The token to exchange or renew.
    pub(super) subject: Zeroizing<String>,
    /// The task the request names.
    pub(super) task: Option<TaskId>,
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Wanted");
        shown.field("task", &self.task).finish_non_exhaustive()
    }
}

/// Whether the body is a form that can be read as it is.
pub(super) fn check_head(headers: &HeaderMap) -> Result<(), Ungranted> {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let is_form = match (kinds.next(), kinds.next()) {
        (Some(kind), None) => kind.to_str().is_ok_and(|kind| {
            let essence = kind.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case(FORM)
        }),
        _ => false,
    };
    if !is_form {
        return Err(Ungranted::Malformed(
            "the body must be application/x-www-form-urlencoded",
        ));
    }
    let plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(CONTENT_ENCODING).iter().all(plain) {
        Ok(())
    } else {
        Err(Ungranted::Malformed("the body must not be compressed"))
    }
}

impl Wanted {
    /// Reads a form; `audience` is what task tokens are for.
    pub(super) fn read(form: &[u8], audience: &str) -> Result<Self, Ungranted> {
        let form = Parameters::read(form)?;
        match form.get("grant_type") {
            Some(TOKEN_EXCHANGE) => {}
            Some(_) => return Err(Ungranted::Grant),
            None => return Err(Ungranted::Malformed("`grant_type` is missing")),
        }
        if form.get("actor_token").is_some() || form.get("actor_token_type").is_some() {
            return Err(Ungranted::Malformed("nobody acts for another here"));
        }
        if form.get("scope").is_some() {
            return Err(Ungranted::Scope);
        }
        if form.get("resource").is_some() || form.get("audience").is_some_and(|to| to != audience) {
            return Err(Ungranted::Target);
        }
        let subject_type = form.get("subject_token_type");
        if !is_type(subject_type, &["jwt", "id_token", "access_token"]) {
            return Err(Ungranted::Malformed(
                "`subject_token_type` must be that of a jwt, id_token or access_token",
            ));
        }
        let wanted_type = form.get("requested_token_type");
        if wanted_type.is_some() && !is_type(wanted_type, &["jwt", "access_token"]) {
            return Err(Ungranted::Malformed(
                "`requested_token_type` can only be that of a jwt or access_token",
            ));
        }
        let subject = form
            .get("subject_token")
            .ok_or(Ungranted::Malformed("`subject_token` is missing"))?;
        let task = form.get("task").map(str::parse).transpose();
        Ok(Self {
            subject: Zeroizing::new(subject.to_owned()),
            task: task.map_err(|_no_id| Ungranted::Malformed("`task` is no task id"))?,
        })
    }
}

fn is_type(given: Option<&str>, known: &[&str]) -> bool {
    given
        .and_then(|given| given.strip_prefix(TOKEN_TYPES))
        .is_some_and(|kind| known.contains(&kind))
}

/// The parameters of a form, decoded. Those without a value count as absent (RFC 6749 section
/// 3.2), but not as never said.
struct Parameters(Vec<(String, Zeroizing<String>)>);

impl Parameters {
    fn read(form: &[u8]) -> Result<Self, Ungranted> {
        let mut parameters: Vec<(String, Zeroizing<String>)> = Vec::new();
        for pair in form.split(|byte| *byte == b'&') {
            if pair.is_empty() {
                continue;
            }
            let at = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = pair.split_at(at.unwrap_or(pair.len()));
            let name = decoded(name)?;
            let value = Zeroizing::new(decoded(value.get(1..).unwrap_or_default())?);
            if parameters.len() == MAX_PARAMETERS {
                return Err(Ungranted::Malformed("the form has too many parameters"));
            }
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(Ungranted::Malformed("a parameter stands twice"));
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(known, _)| known == name);
        found
            .next()
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}

/// Undoes the encoding of forms: `+` is a space, `%` and two digits a byte.
fn decoded(text: &[u8]) -> Result<String, Ungranted> {
    const BAD: Ungranted = Ungranted::Malformed("the form is not percent-encoded UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || {
                    rest.next()
                        .and_then(|digit| char::from(*digit).to_digit(16))
                };
                let (Some(high), Some(low)) = (digit(), digit()) else {
                    return Err(BAD);
                };
                u8::try_from(high << 4 | low).unwrap_or_default()
            }
            byte => *byte,
        });
    }
    String::from_utf8(bytes).map_err(|_not_utf8| BAD)
}
