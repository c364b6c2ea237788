//! Stand-ins that answer the same to everybody: money, paces, reports, explanations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tollgate_core::budget::{
    Account, Balance, BudgetKey, BudgetStore, Hold, Reserved, Scope, StoreError,
};
use tollgate_core::burn::Pace;
use tollgate_core::ids::{RecordId, TenantId};
use tollgate_core::money::PicoUsd;
use tollgate_core::rate::{Limit, Paced, Pass, RateStore};
use tollgate_core::report::{Report, Row, Summary, Sums, Topic};
use tollgate_core::time::Timestamp;

use crate::explain::{Explainer, NotACall, Question, Who};
use crate::live::LiveFigures;
use crate::reports::{CostAnswer, CostQuestion, CostReports, NoReport};

/// Every counter holds a dollar settled and a quarter reserved.
pub(super) struct Ledger;

#[async_trait]
impl BudgetStore for Ledger {
    async fn reserve(
        &self,
        _id: RecordId,
        _account: &Account,
        _amount: PicoUsd,
        _now: Timestamp,
    ) -> Result<Reserved, StoreError> {
        unreachable!("the admin side never reserves")
    }

    fn settle(&self, _hold: &Hold, _actual: PicoUsd) {
        unreachable!("the admin side never settles")
    }

    fn correct(&self, _keys: &[BudgetKey], _by: PicoUsd, _now: Timestamp) {}

    async fn balance(&self, _key: &BudgetKey) -> Result<Balance, StoreError> {
        Ok(Balance {
            settled: "1".parse().expect("money"),
            reserved: "0.25".parse().expect("money"),
        })
    }
}

/// A gateway in which one task spends a dollar an hour.
pub(super) struct Busy;

impl LiveFigures for Busy {
    fn paces(&self, tenant: &TenantId) -> BTreeMap<Scope, Pace> {
        let pace = Pace {
            five_minutes: "1".parse().expect("money"),
            hour: PicoUsd::ZERO,
        };
        let scopes = ["t-1", "t-2"].map(|task| Scope::Task(task.parse().expect("a task")));
        let scopes = scopes.into_iter().chain([Scope::Tenant]);
        let busy = scopes.filter(|_| tenant.as_str() == "acme");
        busy.map(|scope| (scope, pace)).collect()
    }

    fn watched_for(&self) -> Duration {
        Duration::from_secs(600)
    }

    fn in_flight(&self) -> usize {
        3
    }

    fn rates(&self) -> Arc<dyn RateStore> {
        Arc::new(Self)
    }
}

#[async_trait]
impl RateStore for Busy {
    async fn admit(&self, _: RecordId, _: &[Limit], _: u64) -> Result<Paced, StoreError> {
        unreachable!("the admin side never admits")
    }

    fn release(&self, _pass: &Pass, _tokens: Option<u64>) {
        unreachable!("the admin side never admits")
    }

    async fn left(&self, limits: &[Limit]) -> Result<Vec<i64>, StoreError> {
        Ok(vec![7; limits.len()])
    }
}

pub(super) struct Reports;

impl CostReports for Reports {
    fn cost(&self, question: &CostQuestion) -> Result<CostAnswer, NoReport> {
        Ok(CostAnswer::Json(match question.by.as_deref() {
            Some("forever") => {
                std::thread::sleep(Duration::from_millis(200));
                json!({})
            }
            Some(by @ ("tenant" | "reason")) => {
                let row = Row {
                    key: "acme".into(),
                    sums: Sums::default(),
                };
                let topic = if question.refusals {
                    Topic::Refusals
                } else {
                    Topic::Costs
                };
                tollgate_core::report::json(&Report {
                    summary: Summary {
                        topic,
                        by: vec![by.parse().expect("a dimension")],
                        left_out: u64::from(question.top == Some(1)),
                        ..Summary::default()
                    },
                    rows: vec![row],
                })
            }
            Some("colour") => {
                return Err(NoReport::Question("cannot group by colour".to_owned()));
            }
            Some("day") => {
                let kind = "text/csv; charset=utf-8; header=present";
                let text = "day,calls\r\n".to_owned();
                return Ok(CostAnswer::Text { kind, text });
            }
            by => json!({ "by": by, "tenant": question.tenant }),
        }))
    }
}

/// Explains nothing but who asks about whom.
pub(super) struct Echo;

#[async_trait]
impl Explainer for Echo {
    async fn explain(&self, question: Question, hints: bool) -> Result<Value, NotACall> {
        let who = match question.identity {
            None => "shown".to_owned(),
            Some(Who::Holder { .. }) => "holder".to_owned(),
            Some(Who::Claimed { tenant, .. }) => tenant,
        };
        if question.method.contains(' ') {
            return Err(NotACall("the method is not one of HTTP".to_owned()));
        }
        Ok(json!({ "who": who, "hints": hints }))
    }
}
