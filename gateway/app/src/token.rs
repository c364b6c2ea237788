//! `tollgate token`, `tollgate task`: asks the running gateway for task tokens and ends them.
//!
//! Decides nothing; the gateway does. What a token says about itself is read here without
//! believing it, for display and to name it to the gateway.

pub(crate) mod exchange;

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tollgate_core::identity::{CertificateDigest, MAX_TOKEN_BYTES, is_token};
use tollgate_core::time::Timestamp;

use crate::operator::Operator;
use crate::output;
use exchange::Exchange;

/// What to do with task tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a task token and print it
    Mint(Mint),
    /// Exchange a service account's or identity provider's token for a task token, or renew one
    Exchange(Exchange),
    /// End a token, or all tokens of a task, an agent or a tenant
    Revoke(Revoke),
    /// Tell what a token says and whether it still opens anything
    Inspect(Inspect),
}

/// What to do with tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Declare a task finished: its tokens end, and it gets no new ones
    Complete(Complete),
}

/// Where the gateway is.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The gateway's admin API, if it does not run on this data directory
    #[arg(long, value_name = "URL")]
    pub(crate) admin: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Mint {
    /// Whose token: the tenant's id
    #[arg(long)]
    tenant: String,
    /// Who will use it: the agent's id
    #[arg(long)]
    agent: String,
    /// What for: the task's id
    #[arg(long)]
    task: String,
    /// How long it lives, in seconds; at most 300
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    ttl: u64,
    /// Make it good only together with this client certificate (PEM)
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Whose tokens. Alone: all of the tenant's. Not needed with a whole token
    #[arg(long, required_unless_present = "token")]
    tenant: Option<String>,
    /// This one: the token itself, its id (with --tenant), or - to read it from standard input
    #[arg(long, value_name = "TOKEN", group = "which")]
    token: Option<String>,
    /// All tokens of this task, for good: it gets no new ones
    #[arg(long, group = "which")]
    task: Option<String>,
    /// All tokens of this agent; later ones are good
    #[arg(long, group = "which")]
    agent: Option<String>,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The token, or - to read it from standard input
    token: String,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct Complete {
    /// Whose task: the tenant's id
    #[arg(long)]
    tenant: String,
    /// The task's id
    #[arg(long)]
    task: String,
    #[command(flatten)]
    pub(crate) target: Target,
}

impl TokenCommand {
    /// Does it. `operator` finds the admin API, for what needs it.
    ///
    /// # Errors
    /// If the gateway cannot be reached or says no.
    pub(crate) fn run(
        &self,
        operator: impl FnOnce(Option<&str>) -> anyhow::Result<Operator>,
    ) -> anyhow::Result<()> {
        let operator = |target: &Target| operator(target.admin.as_deref());
        match self {
            Self::Mint(mint) => mint.run(&operator(&mint.target)?),
            Self::Exchange(exchange) => exchange.run(),
            Self::Revoke(revoke) => revoke.run(&operator(&revoke.target)?),
            Self::Inspect(inspect) => inspect.run(&operator(&inspect.target)?),
        }
    }
}

impl TaskCommand {
    /// Where its gateway is.
    pub(crate) fn target(&self) -> &Target {
        let Self::Complete(complete) = self;
        &complete.target
    }

    /// Does it.
    ///
    /// # Errors
    /// As [`TokenCommand::run`].
    pub(crate) fn run(&self, operator: &Operator) -> anyhow::Result<()> {
        let Self::Complete(Complete {
            tenant,
            task,
            target,
        }) = self;
        let what = json!({ "tenant": tenant, "task": task });
        end(operator, "/v1/tasks/complete", &what, target.json)
    }
}

impl Mint {
    fn run(&self, operator: &Operator) -> anyhow::Result<()> {
        let mut asked = json!({
            "tenant": self.tenant,
            "agent": self.agent,
            "task": self.task,
            "ttl_seconds": self.ttl,
        });
        if let Some(file) = &self.certificate {
            asked["certificate_sha256"] = json!(digest_of(file)?.to_string());
        }
        let minted = operator.post("/v1/tokens", &asked)?;
        if self.target.json {
            return output::json(&minted);
        }
        let token = minted["token"].as_str();
        let token = token.context("the gateway answered without a token")?;
        output::data(&format!("{token}\n"))
    }
}

impl Revoke {
    fn run(&self, operator: &Operator) -> anyhow::Result<()> {
        end(
            operator,
            "/v1/tokens/revoke",
            &self.what()?,
            self.target.json,
        )
    }

    fn what(&self) -> anyhow::Result<Value> {
        let tenant = self.tenant.as_deref();
        Ok(match (self.token.as_deref(), &self.task, &self.agent) {
            (Some(token), _, _) => {
                let token = given(token)?;
                if !is_token(&token) {
                    let tenant = tenant.context("a token's id goes with --tenant")?;
                    return Ok(json!({ "kind": "token", "tenant": tenant, "token": token }));
                }
                let claims = claims(&token)?;
                if tenant.is_some_and(|tenant| claims["tenant"] != tenant) {
                    bail!("this is a token of another tenant");
                }
                json!({ "kind": "token", "tenant": claims["tenant"], "token": claims["jti"] })
            }
            (_, Some(task), _) => json!({ "kind": "task", "tenant": tenant, "task": task }),
            (_, _, Some(agent)) => json!({ "kind": "agent", "tenant": tenant, "agent": agent }),
            (None, None, None) => json!({ "kind": "tenant", "tenant": tenant }),
        })
    }
}

impl Inspect {
    fn run(&self, operator: &Operator) -> anyhow::Result<()> {
        let token = given(&self.token)?;
        let told = operator.post("/v1/tokens/introspect", &json!({ "token": token }))?;
        if self.target.json {
            return output::json(&told);
        }
        // An inactive token is described by its own claims, which nobody vouches for.
        let active = told["active"] == true;
        let claims = if active {
            told.clone()
        } else {
            claims(&token).unwrap_or_default()
        };
        let state = match (active, told["reason"].as_str()) {
            (true, _) => "active".to_owned(),
            (false, Some(reason)) => format!("not active: {reason}"),
            (false, None) => "not active".to_owned(),
        };
        let mut rows = vec![vec!["state".to_owned(), state]];
        for (label, claim) in [
            ("tenant", "tenant"),
            ("agent", "sub"),
            ("task", "task"),
            ("token id", "jti"),
        ] {
            if let Some(value) = claims[claim].as_str() {
                rows.push(vec![label.to_owned(), shown(value)]);
            }
        }
        if let Some(digest) = claims["cnf"]["x5t#S256"].as_str() {
            rows.push(vec!["certificate".to_owned(), shown(digest)]);
        }
        for (label, claim) in [("issued at", "iat"), ("expires at", "exp")] {
            if let Some(seconds) = claims[claim].as_i64() {
                rows.push(vec![
                    label.to_owned(),
                    Timestamp::from_seconds(seconds).to_string(),
                ]);
            }
        }
        if !active && rows.len() > 1 {
            output::say("the claims below are the token's own word");
        }
        output::data(&output::table(&rows))
    }
}

/// The digest of the first certificate in a PEM file, which is the bearer's own.
fn digest_of(file: &Path) -> anyhow::Result<CertificateDigest> {
    let certificate = CertificateDer::from_pem_file(file)
        .with_context(|| format!("{} holds no certificate", file.display()))?;
    Ok(CertificateDigest::new(Sha256::digest(&certificate).into()))
}

fn end(operator: &Operator, path: &str, what: &Value, as_json: bool) -> anyhow::Result<()> {
    let told = operator.post(path, what)?;
    if as_json {
        return output::json(&told);
    }
    match told["revoked"].as_u64().unwrap_or(0) {
        0 => output::say("no live token was ended"),
        1 => output::say("1 live token was ended"),
        ended => output::say(&format!("{ended} live tokens were ended")),
    }
    Ok(())
}

/// A token as given: itself, or on standard input.
fn given(token: &str) -> anyhow::Result<String> {
    if token != "-" {
        return Ok(token.to_owned());
    }
    let mut text = String::new();
    let limit = u64::try_from(MAX_TOKEN_BYTES).unwrap_or(u64::MAX);
    std::io::stdin()
        .take(limit)
        .read_to_string(&mut text)
        .context("standard input cannot be read")?;
    Ok(text.trim().to_owned())
}

/// What a token says about itself, believed by nobody.
fn claims(token: &str) -> anyhow::Result<Value> {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let payload = token.split('.').nth(1).context("this is not a token")?;
    let bytes = URL_SAFE_NO_PAD
        .decode(payload)
        .context("this is not a token")?;
    serde_json::from_slice(&bytes).context("this is not a token")
}

/// A stranger's text without what could move a terminal's cursor.
fn shown(text: &str) -> String {
    text.chars().flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revoke(token: &str, tenant: Option<&str>) -> anyhow::Result<Value> {
        let none = Target {
            admin: None,
            json: false,
        };
        Revoke {
            tenant: tenant.map(str::to_owned),
            token: Some(token.to_owned()),
            task: None,
            agent: None,
            target: none,
        }
        .what()
    }

    #[test]
    fn a_whole_token_names_its_tenant_and_id() {
        // {"alg":"EdDSA"} . {"tenant":"acme","jti":"j-1"} . a signature nobody looks at
        let token = "eyJhbGciOiJFZERTQSJ9.eyJ0ZW5hbnQiOiJhY21lIiwianRpIjoiai0xIn0.c2ln";
        let expected = json!({"kind": "token", "tenant": "acme", "token": "j-1"});
        assert_eq!(revoke(token, None).expect("named"), expected);
        assert!(revoke(token, Some("globex")).is_err());
        let by_id = json!({"kind": "token", "tenant": "acme", "token": "j-1"});
        assert_eq!(revoke("j-1", Some("acme")).expect("named"), by_id);
        assert!(revoke("j-1", None).is_err(), "an id alone names no tenant");
    }

    #[test]
    fn a_tokens_own_words_cannot_drive_a_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
    }
}
