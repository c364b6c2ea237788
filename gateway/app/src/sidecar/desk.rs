//! Asks the gateway for task tokens: RFC 8693 token exchange over the calls' own connections.
//!
//! Knows the request's and the answers' form; when to ask is the keeper's business. The file with
//! the credential is read for each exchange, because kubelet replaces it. Tokens are wiped from
//! every buffer that is ours; the HTTP codec's and the kernel's cannot be. Worst case: an answer
//! that is no exchange's is an error, and at most [`MAX_ANSWER_BYTES`] of it are read.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::time::timeout;
use tollgate_core::ids::TaskId;
use zeroize::Zeroizing;

use super::keeper::{Desk, Granted, Subject, Trouble};
use super::link::{Link, LinkConfig};

/// Where the gateway exchanges tokens.
const ENDPOINT: &str = "/oauth2/token";

/// RFC 8693 sections 2.1 and 3.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// How long an exchange may take in all.
const DEADLINE: Duration = Duration::from_secs(10);

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// The longest file that is taken for a token, in bytes.
const MAX_TOKEN_BYTES: u64 = 32 * 1024;

/// The most of the gateway's words that is repeated, in characters.
const MAX_REASON_CHARS: usize = 300;

/// What the first token is asked for with.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A token of an issuer that the gateway knows.
    SubjectToken {
        /// Where it lies.
        file: PathBuf,
        /// The task to be named.
        task: Option<TaskId>,
    },
    /// A task token.
    TaskToken(PathBuf),
}

/// The gateway's side of an exchange.
pub(super) struct GatewayDesk {
    link: LinkConfig,
    source: Source,
}

/// RFC 6749 section 5.1, with RFC 8693 section 2.2.1. What is not needed is not read.
#[derive(Deserialize)]
struct Answer<'a> {
    /// Borrowed, so that no copy is left behind; a token needs no escapes.
    access_token: &'a str,
    token_type: &'a str,
    expires_in: u64,
}

/// RFC 6749 section 5.2.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<String>,
}

impl GatewayDesk {
    pub(super) fn new(link: LinkConfig, source: Source) -> Self {
        Self { link, source }
    }

    fn form(&self, subject: &Subject<'_>) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        let from_file;
        let (token, kind, task): (&[u8], _, _) = match (subject, &self.source) {
            (Subject::Token(token), _) => (token.as_bytes(), ACCESS_TOKEN, None),
            (Subject::Credential, Source::TaskToken(file)) => {
                from_file = read_token(file)?;
                (from_file.as_slice(), ACCESS_TOKEN, None)
            }
            (Subject::Credential, Source::SubjectToken { file, task }) => {
                from_file = read_token(file)?;
                (from_file.as_slice(), JWT, task.as_ref())
            }
        };
        let fields = [
            ("grant_type", Some(GRANT.as_bytes())),
            ("subject_token_type", Some(kind.as_bytes())),
            ("task", task.map(|task| task.as_str().as_bytes())),
            ("subject_token", Some(token)),
        ];
        // Three bytes for each is the most, so that nothing is moved and left behind.
        let mut form = Zeroizing::new(Vec::with_capacity(512 + 3 * token.len()));
        for (name, value) in fields {
            let Some(value) = value else { continue };
            if !form.is_empty() {
                form.push(b'&');
            }
            form.extend_from_slice(name.as_bytes());
            form.push(b'=');
            escape(value, &mut form);
        }
        Ok(form)
    }
}

impl Desk for GatewayDesk {
    fn link(&self, current: Option<&Arc<Link>>) -> Result<Arc<Link>, Trouble> {
        let read = self.link.read();
        match (read, current) {
            (Ok(files), Some(current)) if current.is_made_from(&files) => Ok(Arc::clone(current)),
            (Ok(files), _) => Link::new(&self.link, &files).map(Arc::new),
            (Err(error), Some(current)) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "keeping the certificates in use"
                );
                return Ok(Arc::clone(current));
            }
            (Err(error), None) => Err(error),
        }
        .map_err(|error| Trouble::File(format!("{error:#}")))
    }

    async fn exchange(&self, link: &Link, subject: Subject<'_>) -> Result<Granted, Trouble> {
        let form = Bytes::from_owner(self.form(&subject)?);
        let request = Request::post(ENDPOINT)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(Either::Left(Full::new(form)))
            .map_err(|error| Trouble::Unreachable(error.to_string()))?;
        let exchange = async {
            let answer = link.send(request).await.map_err(Trouble::Unreachable)?;
            let (head, body) = answer.into_parts();
            let body = read_answer(body).await?;
            judge(head.status, &body)
        };
        timeout(DEADLINE, exchange)
            .await
            .unwrap_or_else(|_elapsed| Err(Trouble::Unreachable("no answer in 10 s".to_owned())))
    }
}

fn judge(status: StatusCode, body: &[u8]) -> Result<Granted, Trouble> {
    if status.is_success() {
        let unusable = |what: &str| Trouble::Unavailable(format!("its answer {what}"));
        let answer: Answer<'_> = serde_json::from_slice(body)
            .map_err(|_not_quoted: serde_json::Error| unusable("is no token exchange's"))?;
        if !answer.token_type.eq_ignore_ascii_case("bearer") {
            return Err(unusable("is of another token type than Bearer"));
        }
        if answer.expires_in == 0 {
            return Err(unusable("is a token that has ended"));
        }
        let bytes = Zeroizing::new(answer.access_token.as_bytes().to_vec());
        let mut token = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes))
            .map_err(|_not_quoted| unusable("holds a token that no header can carry"))?;
        token.set_sensitive(true);
        return Ok(Granted {
            token,
            life: Duration::from_secs(answer.expires_in),
        });
    }
    let status_code = status.as_u16();
    let reason = match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => match refusal.error_description {
            Some(why) => printable(&format!("{}: {why}", refusal.error)),
            None => printable(&refusal.error),
        },
        Err(_no_refusal) => "no RFC 6749 error".to_owned(),
    };
    let judged = matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    );
    Err(if judged {
        Trouble::Refused {
            status: status_code,
            reason,
        }
    } else {
        Trouble::Unavailable(format!("{status_code} {reason}"))
    })
}

/// What may stand in a log line and in an answer.
fn printable(text: &str) -> String {
    let chars = text.chars().take(MAX_REASON_CHARS);
    chars
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

async fn read_answer(mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    // Room from the start: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_ANSWER_BYTES));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Trouble::Unreachable(error.to_string()))?;
        let Some(piece) = frame.data_ref() else {
            continue;
        };
        if bytes.len() + piece.len() > MAX_ANSWER_BYTES {
            return Err(Trouble::Unavailable("its answer is too long".to_owned()));
        }
        bytes.extend_from_slice(piece);
    }
    Ok(bytes)
}

fn read_token(file: &Path) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let wrong = |what: &dyn std::fmt::Display| Trouble::File(format!("{}: {what}", file.display()));
    let about = std::fs::metadata(file).map_err(|error| wrong(&error))?;
    if about.len() > MAX_TOKEN_BYTES {
        return Err(wrong(&"is too long for a token"));
    }
    let read = Zeroizing::new(std::fs::read(file).map_err(|error| wrong(&error))?);
    let token = read.trim_ascii();
    if token.is_empty() {
        return Err(wrong(&"holds no token"));
    }
    Ok(Zeroizing::new(token.to_vec()))
}

/// Everything but what RFC 3986 section 2.3 calls unreserved becomes `%XX`.
fn escape(value: &[u8], form: &mut Vec<u8>) {
    const HEX: [u8; 16] = *b"0123456789ABCDEF";
    for &byte in value {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            form.push(byte);
        } else {
            let [high, low] = [byte >> 4, byte & 15].map(usize::from);
            form.extend_from_slice(&[b'%', HEX[high], HEX[low]]);
        }
    }
}

#[cfg(test)]
mod tests;
