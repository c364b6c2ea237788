//! Talks to a running gateway's admin API on behalf of the operator.
//!
//! One request over one plain connection; the admin API listens on loopback. Knows nothing of
//! what is asked. Worst case: the gateway does not answer, and the command ends after
//! [`DEADLINE`], unless it was told to wait longer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use serde_json::Value;

use crate::config::{Settings, Vars};
use crate::data_dir::DataDir;
use crate::exchange::exchange;

/// How long a request may take in all.
const DEADLINE: Duration = Duration::from_secs(10);

/// A gateway's admin API, and the token that opens it.
pub(crate) struct Operator {
    /// `HOST:PORT`.
    authority: String,
    token: String,
    deadline: Duration,
}

impl Operator {
    /// A gateway of which everything is known.
    pub(crate) fn at(admin: SocketAddr, token: String) -> Self {
        Self {
            authority: admin.to_string(),
            token,
            deadline: DEADLINE,
        }
    }

    /// Finds the gateway: as told, or the one that runs on the data directory.
    ///
    /// # Errors
    /// If there is none, or no token for it.
    pub(crate) fn find(
        told: Option<&str>,
        settings: &Settings,
        vars: &dyn Vars,
    ) -> anyhow::Result<Self> {
        let data = DataDir::at(&settings.data_dir);
        let authority = match told {
            Some(url) => authority(url)?,
            None => data.announced()?.to_string(),
        };
        let token = match vars.var("TOLLGATE_ADMIN_TOKEN") {
            Some(token) => token,
            None => DataDir::at(settings.keys_dir()).admin_token()?,
        };
        Ok(Self {
            authority,
            token,
            deadline: DEADLINE,
        })
    }

    /// The same, asked for what may take so long.
    pub(crate) fn within(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Posts JSON and waits for the JSON that comes back.
    ///
    /// # Errors
    /// If the gateway cannot be reached or says no; then with its own words.
    pub(crate) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask(Method::POST, path, body.to_string())
    }

    /// Puts JSON, as [`post`](Self::post).
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub(crate) fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask(Method::PUT, path, body.to_string())
    }

    /// Gets JSON.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::GET, path, String::new())
    }

    fn ask(&self, method: Method, path: &str, body: String) -> anyhow::Result<Value> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let answer = runtime.block_on(async {
            tokio::time::timeout(self.deadline, self.exchange(method, path, body)).await
        });
        let (status, answer) = answer
            .with_context(|| format!("the gateway at {} does not answer", self.authority))??;
        let value: Value = serde_json::from_slice(&answer)
            .with_context(|| format!("{} answered {status}, not in JSON", self.authority))?;
        if status.is_success() {
            return Ok(value);
        }
        let detail = value["detail"].as_str().unwrap_or("it does not say why");
        if status == StatusCode::UNAUTHORIZED {
            bail!("the gateway does not accept the operator token: {detail}");
        }
        bail!("the gateway refused: {detail}");
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.authority)
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .context("the operator token has bytes that no header can carry")?;
        exchange("gateway", &self.authority, request).await
    }
}

/// `HOST:PORT` out of what stands after `--admin`.
fn authority(told: &str) -> anyhow::Result<String> {
    let rest = told.strip_prefix("http://").unwrap_or(told);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let port = rest.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) if !rest.contains(['/', '@']) => Ok(rest.to_owned()),
        _ => bail!("--admin takes http://HOST:PORT, not {told:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_url_names_host_and_port() {
        for told in [
            "http://127.0.0.1:9090",
            "http://127.0.0.1:9090/",
            "127.0.0.1:9090",
        ] {
            assert_eq!(authority(told).expect(told), "127.0.0.1:9090");
        }
        for told in [
            "",
            "http://host",
            "https://host:1",
            "http://a@host:1",
            "host:99999",
        ] {
            assert!(authority(told).is_err(), "{told:?}");
        }
    }
}
