//! Exchanges a token for a task token at a gateway's token endpoint, as any client would.
//!
//! Holds no key and decides nothing. Tokens come from a file or standard input and never from the
//! command line, which other users of the machine can read. Worst case: the gateway does not
//! answer, and this ends after [`DEADLINE`].

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use hyper::Request;
use serde_json::Value;
use tollgate_core::identity::MAX_EXTERNAL_BYTES;
use tollgate_core::policy::Upstream;
use tollgate_core::policy::parse::upstream;
use tollgate_proxy::body::RequestBody;
use tollgate_proxy::engine::EngineConfig;
use tollgate_proxy::pool::Upstreams;
use zeroize::Zeroizing;

use crate::output;

/// How long an exchange may take in all. The gateway itself may wait 5 s for an issuer's keys.
const DEADLINE: Duration = Duration::from_secs(15);

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

#[derive(Debug, Args)]
pub(crate) struct Exchange {
    /// Where agents reach the gateway, such as http://tollgate:8080
    #[arg(long, value_name = "URL")]
    gateway: String,
    /// The file of the token to exchange or renew, or - to read it from standard input
    #[arg(long, value_name = "FILE")]
    subject_token_file: PathBuf,
    /// The task, if the gateway's policy lets this token name one
    #[arg(long)]
    task: Option<String>,
    /// PEM file of the authorities to trust instead of the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Exchange {
    /// Does it.
    ///
    /// # Errors
    /// If the token cannot be read, or the gateway cannot be reached or says no.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let subject = subject(&self.subject_token_file)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let granted = runtime.block_on(async {
            let endpoint = Endpoint::at(&self.gateway, self.ca_file.clone())?;
            endpoint.exchange(&subject, self.task.as_deref()).await
        })?;
        if self.json {
            return output::json(&granted);
        }
        let token = granted["access_token"].as_str();
        let token = token.context("the gateway answered without a token")?;
        output::data(&format!("{token}\n"))
    }
}

/// The token in a file, or on standard input.
fn subject(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let limit = u64::try_from(MAX_EXTERNAL_BYTES + 2).unwrap_or(u64::MAX);
    if file == Path::new("-") {
        let read = std::io::stdin().take(limit).read_to_string(&mut text);
        read.context("standard input cannot be read")?;
    } else {
        let open = std::fs::File::open(file);
        let read = open.and_then(|open| open.take(limit).read_to_string(&mut text));
        read.with_context(|| format!("{} cannot be read", file.display()))?;
    }
    let token = Zeroizing::new(text.trim().to_owned());
    if token.is_empty() || token.len() > MAX_EXTERNAL_BYTES {
        bail!("{} holds no token", file.display());
    }
    Ok(token)
}

/// A gateway's token endpoint.
pub(crate) struct Endpoint {
    gateway: Upstream,
    upstreams: Upstreams,
}

impl Endpoint {
    /// The endpoint of the gateway at `url`.
    ///
    /// # Errors
    /// If that is no URL of a gateway.
    pub(crate) fn at(url: &str, ca_file: Option<PathBuf>) -> anyhow::Result<Self> {
        let mut gateway = upstream(url)
            .map_err(|wrong| anyhow::anyhow!("--gateway takes http(s)://HOST[:PORT]: {wrong}"))?;
        gateway.ca_file = ca_file;
        let _present = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            gateway,
            upstreams: Upstreams::new(Arc::new(EngineConfig::default())),
        })
    }

    /// Exchanges or renews a token; the gateway's own answer.
    ///
    /// # Errors
    /// If the gateway cannot be reached or says no; then with its own words.
    pub(crate) async fn exchange(
        &self,
        subject: &str,
        task: Option<&str>,
    ) -> anyhow::Result<Value> {
        let exchanged = tokio::time::timeout(DEADLINE, self.post(subject, task)).await;
        exchanged.context("the gateway does not answer")?
    }

    async fn post(&self, subject: &str, task: Option<&str>) -> anyhow::Result<Value> {
        let mut form = Zeroizing::new(String::from(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
             &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt&subject_token=",
        ));
        percent_encode(subject, &mut form);
        if let Some(task) = task {
            form.push_str("&task=");
            percent_encode(task, &mut form);
        }
        let path = format!("{}/oauth2/token", self.gateway.base_path);
        let request = Request::post(path)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(RequestBody::buffered(form.as_bytes().to_vec()))?;
        let answer = self.upstreams.send(&self.gateway, request).await?;
        let status = answer.response.status();
        let body = answer.response.into_body().whole(MAX_ANSWER_BYTES).await;
        let said: Value = serde_json::from_slice(&body.map_err(anyhow::Error::from_boxed)?)
            .with_context(|| format!("the gateway answered {status}, not in JSON"))?;
        if status.is_success() {
            return Ok(said);
        }
        let why = said["error_description"].as_str();
        bail!(
            "the gateway refused: {}",
            why.unwrap_or("it does not say why")
        );
    }
}

/// Appends text as it stands in a form; all but RFC 3986's unreserved characters are escaped.
fn percent_encode(text: &str, form: &mut String) {
    use std::fmt::Write;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            form.push(char::from(byte));
        } else {
            let _infallible = write!(form, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_holds_any_text() {
        let mut form = String::new();
        percent_encode("a.b_c-1~ &=+%é", &mut form);
        assert_eq!(form, "a.b_c-1~%20%26%3D%2B%25%C3%A9");
    }
}
