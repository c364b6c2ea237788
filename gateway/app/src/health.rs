//! `tollgate health`: asks the gateway that runs on the data directory whether it can serve calls.
//!
//! For health checks of containers, whose image holds no other client. It shows no credential and
//! reads no policy: where the gateway is, it says itself in its data directory. So a mistake in a
//! file that a running gateway has yet to read makes nobody think that it is ill.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use crate::data_dir::DataDir;
use crate::{output, probe};

/// How it is called.
#[derive(Debug, Args)]
pub(crate) struct Health {
    /// Print JSON: what `/readyz` answers
    #[arg(long)]
    json: bool,
}

impl Health {
    /// Ends with 0 if the gateway can serve calls, with 1 if it cannot or there is none.
    ///
    /// # Errors
    /// If no gateway answers.
    pub(crate) fn run(&self, data_dir: &Path) -> anyhow::Result<ExitCode> {
        let admin = DataDir::at(data_dir).announced()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (status, told) = runtime.block_on(probe::get("gateway", admin, "/readyz"))?;
        let told: Value = serde_json::from_slice(&told)
            .with_context(|| format!("{admin} answered {status}, not in JSON"))?;
        if self.json {
            output::json(&told)?;
        } else {
            output::data(&format!("{}\n", in_words(&told)))?;
        }
        Ok(if status.is_success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// `ready`, or what is missing.
fn in_words(told: &Value) -> String {
    let parts = |name: &str| {
        let parts = told[name].as_array().into_iter().flatten();
        let parts: Vec<&str> = parts.filter_map(Value::as_str).collect();
        parts.join(", ")
    };
    let state = if told["status"] == json!("ready") {
        "ready".to_owned()
    } else {
        format!("not ready: {}", parts("missing"))
    };
    match parts("degraded").as_str() {
        "" => state,
        degraded => format!("{state} (degraded: {degraded})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        for (told, words) in [
            (json!({"status": "ready"}), "ready"),
            (
                json!({"status": "ready", "degraded": ["admin_credentials"]}),
                "ready (degraded: admin_credentials)",
            ),
            (
                json!({"status": "not_ready", "missing": ["ledger", "shared_store"]}),
                "not ready: ledger, shared_store",
            ),
        ] {
            assert_eq!(in_words(&told), words);
        }
    }
}
