//! `tollgate explain`: what would become of a call, by the files alone or by a running gateway.
//!
//! Turns a description into a head and a body, and prints what the call path says of it. Decides
//! nothing. Without `--live` no gateway is asked: balances are taken for empty, tokens cannot be
//! verified, and a batch over an uploaded file is not known.

mod command;
mod print;

use std::str::FromStr;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, Request, Uri};
use serde_json::{Value, json};
use tollgate_admin::explain::{Explainer, NotACall, Question, Who};
use tollgate_proxy::explain::{Explanation, Identity, View, explain};
use tollgate_proxy::gateway::Gateway;

pub(crate) use command::Explain;

/// Explains by what a running gateway has in force and has counted.
pub(crate) struct Running(Weak<Gateway>);

impl Running {
    pub(crate) fn new(gateway: &Arc<Gateway>) -> Self {
        Self(Arc::downgrade(gateway))
    }
}

#[async_trait]
impl Explainer for Running {
    async fn explain(&self, question: Question, hints: bool) -> Result<Value, NotACall> {
        let described = Described::read(question)?;
        let gone = || NotACall("the gateway is stopping and takes no calls".to_owned());
        let gateway = self.0.upgrade().ok_or_else(gone)?;
        let live = gateway.live.snapshot();
        let view = View {
            live: &live,
            limits: &gateway.limits,
            stores: Some(&gateway.stores),
            sealed: Some(&gateway.sealed),
            now: (gateway.clock)(),
            hints,
        };
        Ok(json!(described.explained(&view).await))
    }
}

/// A call that nobody makes.
struct Described {
    who: Identity,
    head: Parts,
    body: Bytes,
}

impl Described {
    fn read(question: Question) -> Result<Self, NotACall> {
        let who = match question.identity {
            None => Identity::Shown,
            Some(Who::Holder { token }) => Identity::Token(token),
            Some(Who::Claimed {
                tenant,
                agent,
                task,
            }) => Identity::Claimed {
                tenant: name(&tenant)?,
                agent: name(&agent)?,
                task: name(&task)?,
            },
        };
        let body = match (question.body, question.body_base64) {
            (None, None) => Bytes::new(),
            (Some(text), None) => text.into(),
            (None, Some(encoded)) => {
                let decoded = STANDARD.decode(encoded);
                decoded
                    .map_err(|_not_base64| no_call("body_base64 is not base64"))?
                    .into()
            }
            (Some(_), Some(_)) => return Err(no_call("a call has one body")),
        };
        let head = head(&question.method, &question.path, &question.headers)?;
        Ok(Self { who, head, body })
    }

    async fn explained(self, view: &View<'_>) -> Explanation {
        explain(view, &self.who, &self.head, self.body).await
    }
}

fn no_call(why: &str) -> NotACall {
    NotACall(why.to_owned())
}

fn name<T>(text: &str) -> Result<T, NotACall>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|wrong: T::Err| NotACall(wrong.to_string()))
}

/// The head of a request. Headers are told apart by their place: a value may be a secret, and a
/// name may be a misplaced value.
fn head(method: &str, path: &str, headers: &[(String, String)]) -> Result<Parts, NotACall> {
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_odd| no_call("the method is not one of HTTP"))?;
    let uri: Uri = path
        .parse()
        .map_err(|_odd| no_call("the path is not one of HTTP"))?;
    if !uri.path().starts_with('/') {
        return Err(no_call("the path begins with /"));
    }
    let mut request = Request::builder().method(method).uri(uri);
    for (at, (name, value)) in headers.iter().enumerate() {
        request = request.header(name.as_str(), value.as_str());
        if request.headers_ref().is_none() {
            let place = at.saturating_add(1);
            return Err(NotACall(format!(
                "header {place} cannot stand in a request"
            )));
        }
    }
    let request = request.body(());
    let request = request.map_err(|_odd| no_call("this is no request of HTTP"))?;
    Ok(request.into_parts().0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_is_told_without_its_words() {
        let canary = "sk-canary-explain".to_owned();
        for (method, path, header) in [
            ("GE T", "/x/y", ("a".to_owned(), "b".to_owned())),
            ("GET", "x y", ("a".to_owned(), "b".to_owned())),
            ("GET", "/x/y", (format!("{canary} "), "b".to_owned())),
            ("GET", "/x/y", ("a".to_owned(), format!("{canary}\n"))),
        ] {
            let wrong = head(method, path, &[header]).expect_err("no call");
            assert!(!wrong.to_string().contains("sk-canary"), "{wrong}");
        }
        let whole = head("GET", "http://tollgate:8080/openai/v1/models?a=b", &[]);
        assert_eq!(whole.expect("a head").uri.path(), "/openai/v1/models");
    }
}
