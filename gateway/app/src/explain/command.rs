//! The command line's side: where the description comes from and who answers.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Value, json};
use tollgate_admin::explain::{NotACall, Question};
use tollgate_core::identity::KeySet;
use tollgate_proxy::authenticate::Keys;
use tollgate_proxy::explain::View;
use tollgate_proxy::gateway::CallLimits;
use tollgate_proxy::live::Snapshot;

use super::{Described, print};
use crate::clock;
use crate::config::Settings;
use crate::operator::Operator;
use crate::output;
use crate::prices::book::PriceFiles;
use crate::tenant;

/// The exit code of a description that is no call.
const CALLED_WRONGLY: u8 = 2;

/// A call, and who is to say what would become of it.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Whose call it would be: the tenant's id. Nothing is verified
    #[arg(long, requires = "agent", conflicts_with = "token")]
    tenant: Option<String>,
    /// Who would make it: the agent's id
    #[arg(long, requires = "tenant")]
    agent: Option<String>,
    /// For which task
    #[arg(long, default_value = "explained", requires = "tenant")]
    task: String,
    /// Whoever holds this task token: - reads it from standard input
    #[arg(long, value_name = "-", requires = "live", value_parser = ["-"])]
    token: Option<String>,
    /// Ask the running gateway, which knows tokens and balances
    #[arg(long)]
    pub(crate) live: bool,
    /// The gateway's admin API, if it does not run on this data directory
    #[arg(long, value_name = "URL", requires = "live")]
    pub(crate) admin: Option<String>,
    /// A header of the call; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The call's body: a file, or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    body: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The call's method
    method: String,
    /// The call's path with its query, as the agent calls it; a whole URL will do
    path: String,
}

impl Explain {
    /// Does it. Ends with 0 if the call would be made, with 1 if it would be refused.
    ///
    /// # Errors
    /// If there is nothing to explain it by.
    pub(crate) fn run(
        &self,
        settings: &Settings,
        operator: impl FnOnce() -> anyhow::Result<Operator>,
    ) -> anyhow::Result<ExitCode> {
        let question = match self.question() {
            Ok(question) => question,
            Err(Unusable::Call(why)) => {
                output::say(&format!("tollgate: {why}"));
                return Ok(ExitCode::from(CALLED_WRONGLY));
            }
            Err(Unusable::Input(error)) => return Err(error),
        };
        let told = if self.live {
            operator()?.post("/v1/explain", &question)?
        } else {
            match offline(settings, question)? {
                Ok(told) => told,
                Err(why) => {
                    output::say(&format!("tollgate: {why}"));
                    return Ok(ExitCode::from(CALLED_WRONGLY));
                }
            }
        };
        if self.json {
            output::json(&told)?;
        } else {
            output::data(&print::text(&told, self.live))?;
        }
        Ok(if told["allowed"] == true {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn question(&self) -> Result<Value, Unusable> {
        let mut headers = Vec::with_capacity(self.headers.len());
        for (at, line) in self.headers.iter().enumerate() {
            let Some((name, value)) = line.split_once(':') else {
                let place = at.saturating_add(1);
                return Err(Unusable::Call(format!(
                    "header {place} is not of the form \"name: value\""
                )));
            };
            headers.push((name, value.trim()));
        }
        let mut question = json!({
            "method": self.method,
            "path": self.path,
            "headers": headers,
        });
        if self.token.is_some() {
            let token = read_input(None).map_err(Unusable::Input)?;
            let token = String::from_utf8_lossy(&token).trim().to_owned();
            question["identity"] = json!({ "token": token });
        } else if let (Some(tenant), Some(agent)) = (&self.tenant, &self.agent) {
            let task = &self.task;
            question["identity"] = json!({ "tenant": tenant, "agent": agent, "task": task });
        }
        if let Some(path) = &self.body {
            let body = read_input(Some(path)).map_err(Unusable::Input)?;
            question["body_base64"] = STANDARD.encode(body).into();
        }
        Ok(question)
    }
}

/// Why there is no question.
enum Unusable {
    /// What is described is no call.
    Call(String),
    /// It cannot be read.
    Input(anyhow::Error),
}

/// A file, or standard input for `-` or none.
fn read_input(path: Option<&PathBuf>) -> anyhow::Result<Vec<u8>> {
    match path.filter(|path| path.as_os_str() != "-") {
        Some(path) => {
            std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
        }
        None => {
            let mut bytes = Vec::new();
            let read = std::io::stdin().read_to_end(&mut bytes);
            read.context("standard input cannot be read")?;
            Ok(bytes)
        }
    }
}

/// Explains by the files alone.
fn offline(settings: &Settings, question: Value) -> anyhow::Result<Result<Value, NotACall>> {
    if question["identity"].is_null() {
        bail!("say who calls with --tenant and --agent, or ask the running gateway with --live");
    }
    let question: Question = serde_json::from_value(question)?;
    let described = match Described::read(question) {
        Ok(described) => described,
        Err(why) => return Ok(Err(why)),
    };
    let live = Snapshot {
        policy: Arc::new(tenant::policy(settings)?),
        prices: Arc::new(PriceFiles::of(settings).load()?),
        keys: Arc::new(Keys::new(KeySet::new(&settings.tokens.audience))),
    };
    let view = View {
        live: &live,
        limits: &CallLimits {
            inspected_body_bytes: settings.limits.inspected_body_bytes,
            streamed_body_bytes: settings.limits.streamed_body_bytes,
            body_deadline: settings.deadlines.body,
            upload_idle: settings.deadlines.body,
        },
        stores: None,
        sealed: None,
        now: clock::now(),
        hints: true,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    Ok(Ok(json!(runtime.block_on(described.explained(&view)))))
}
