//! What would become of a call.
//!
//! Reads the description of a call and prints the explanation; the decisions are the call path's
//! own. Worst case: the description holds a secret, in a header for instance; it is dropped with
//! the request, and no part of it is in the answer but names.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use tollgate_core::admin_log::About;

use crate::Admin;
use crate::access::{Action, Asker};
use crate::problem::Problem;
use crate::server::{name, read};

/// The longest description in bytes, its body in base64. Calls with longer bodies are explained by
/// the files, on the command line.
pub const MAX_QUESTION_BYTES: usize = 8 * 1024 * 1024;

/// A call as it is described.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Who calls; without it, whoever the headers show a task token of.
    pub identity: Option<Who>,
    /// The method.
    pub method: String,
    /// The path as the agent calls it, with its query.
    pub path: String,
    /// Names and values of its headers.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Its body, as text.
    pub body: Option<String>,
    /// Its body, in base64.
    pub body_base64: Option<String>,
}

/// Who calls.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Who {
    /// The holder of this task token.
    Holder {
        /// The token.
        token: String,
    },
    /// Somebody of whom nothing is verified.
    Claimed {
        /// The tenant.
        tenant: String,
        /// The agent.
        agent: String,
        /// The task.
        task: String,
    },
}

/// What cannot be explained, and why. It repeats no value of the description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotACall(pub String);

/// Explains calls.
#[async_trait]
pub trait Explainer: Send + Sync {
    /// The explanation as JSON. `hints`: whether routes may be named that the path comes close to.
    ///
    /// # Errors
    /// If what is described is no call at all.
    async fn explain(&self, question: Question, hints: bool) -> Result<Value, NotACall>;
}

impl From<NotACall> for Problem {
    fn from(NotACall(why): NotACall) -> Self {
        Self::invalid(why)
    }
}

pub(crate) async fn explain(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let question: Question = read(body)?;
    // Whose a token is shows only when it is verified, so that those who may ask about some
    // tenants only name the caller themselves.
    let about = match &question.identity {
        Some(Who::Claimed {
            tenant,
            agent,
            task,
        }) => About {
            tenant: Some(name(tenant)?),
            agent: Some(name(agent)?),
            task: Some(name(task)?),
            token: None,
        },
        Some(Who::Holder { .. }) | None => About::default(),
    };
    let deed = asker.begin(&admin, Action::Explain, about).await?;
    let told = admin.explainer.explain(question, asker.is_operator()).await;
    Ok(deed.close(told.map(Json).map_err(Problem::from)))
}
