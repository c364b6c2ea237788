//! `/metrics`: what is measured, for whom.
//!
//! Figures of single tenants are business data: how much each spends, and how its caps stand. So they
//! are shown to whoever shows a credential for them, and to anybody only where the settings say so.
//! A credential that is shown must hold; nobody falls through to what is open. Reading leaves no
//! record, since a collector reads every few seconds and nothing comes of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, extract::rejection::ExtensionRejection};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use prometheus::{Encoder, IntCounter, IntCounterVec, Opts, Registry, TextEncoder};
use tollgate_core::admin_log::Outcome;

use crate::Admin;
use crate::access::{Asker, Gate, require};
use crate::problem::Problem;

/// What is shown to whoever shows no credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Open {
    /// Nothing at all.
    Nothing,
    /// Everything but figures of single tenants.
    #[default]
    Totals,
    /// Everything.
    All,
}

/// Brings figures that are kept elsewhere up to date.
pub type Refresh = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Everything that is measured.
pub struct Exposition {
    /// Figures without a tenant's name in them.
    pub totals: Registry,
    /// Figures of single tenants.
    pub of_tenants: Registry,
    /// Who may read them.
    pub open: Open,
    /// Called before they are read.
    pub refresh: Refresh,
    /// One reading at a time: what has grown since the last one is shared out among tenants.
    pub reading: tokio::sync::Mutex<()>,
}

/// Counters of the admin API itself.
pub struct AdminFigures {
    actions: IntCounterVec,
    strangers: IntCounter,
}

impl AdminFigures {
    /// Makes and registers them.
    ///
    /// # Errors
    /// If metrics of these names exist.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let actions = Opts::new(
            "tollgate_admin_actions_total",
            "Requests to the admin API with a good credential, by outcome.",
        );
        let actions = IntCounterVec::new(actions, &["outcome"])?;
        let strangers = IntCounter::new(
            "tollgate_admin_unauthorized_total",
            "Requests to the admin API without a good credential.",
        )?;
        registry.register(Box::new(actions.clone()))?;
        registry.register(Box::new(strangers.clone()))?;
        for outcome in ["done", "denied", "failed", "interrupted"] {
            actions.with_label_values(&[outcome]).reset();
        }
        Ok(Self { actions, strangers })
    }

    pub(crate) fn ended(&self, outcome: Outcome) {
        let word = match outcome {
            Outcome::Done => "done",
            Outcome::Denied => "denied",
            Outcome::Failed => "failed",
            Outcome::Interrupted => "interrupted",
        };
        self.actions.with_label_values(&[word]).inc();
    }

    pub(crate) fn unauthorized(&self) {
        self.strangers.inc();
    }
}

/// Lets those through who show a good credential, and those who need none.
pub(crate) async fn admit(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let shows_one = request.headers().contains_key(AUTHORIZATION);
    if shows_one || gate.admin().exposition.open == Open::Nothing {
        return require(State(gate), request, next).await;
    }
    next.run(request).await
}

pub(crate) async fn metrics(
    State(admin): State<Arc<Admin>>,
    asker: Result<Extension<Asker>, ExtensionRejection>,
) -> Result<Response, Problem> {
    let Exposition {
        totals,
        of_tenants,
        open,
        refresh,
        reading,
    } = &admin.exposition;
    let may_read = asker.is_ok_and(|Extension(asker)| asker.may_read_metrics());
    if *open == Open::Nothing && !may_read {
        return Err(Problem::forbidden());
    }
    let _one_at_a_time = reading.lock().await;
    refresh().await;
    let mut families = totals.gather();
    if may_read || *open == Open::All {
        families.extend(of_tenants.gather());
    }
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    encoder
        .encode(&families, &mut text)
        .map_err(|_only_if_a_metric_is_malformed| Problem::internal())?;
    let content_type = encoder.format_type().to_owned();
    Ok(([(CONTENT_TYPE, content_type)], text).into_response())
}
