//! The demonstration: calls, and what became of them on both sides of the gateway.
//!
//! Each act checks what it shows; one that turns out otherwise is an error, not a nice picture.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tollgate_archive::shelf::LocalShelf;
use tollgate_core::report;
use tollgate_loadtest::mock::Mock;

use super::Interrupt;
use super::client::{Answer, post};
use super::stage::Stage;
use crate::output;
use crate::report::{Asked, Texts};

/// How long records may take from a call to the report, and notices to the log.
const RECORD_DEADLINE: Duration = Duration::from_secs(5);

/// Calls of globex that are tried before its cap must have been reached.
const MOST_CALLS: usize = 10;

/// What all acts need.
struct Cast<'a> {
    gateway: SocketAddr,
    mock: &'a Mock,
    runtime: &'a Runtime,
    interrupt: &'a Interrupt,
    acme: String,
    globex: String,
}

/// Plays all acts.
///
/// # Errors
/// If one turns out otherwise than it should, or was interrupted.
pub(super) fn play(
    stage: &Stage,
    mock: &Mock,
    runtime: &Runtime,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    introduce(stage, mock)?;
    let cast = Cast {
        gateway: stage.gateway,
        mock,
        runtime,
        interrupt,
        acme: stage.mint("acme", "support-bot", "ticket-4711")?,
        globex: stage.mint("globex", "intern-bot", "experiment-1")?,
    };
    cast.one_handle_two_keys()?;
    cast.plain_and_streaming()?;
    cast.one_cap()?;
    notices(stage)?;
    // One call was refused; every other one reached the provider.
    cost(stage, mock.seen().len() + 1)?;
    invite(stage, &cast)
}

fn introduce(stage: &Stage, mock: &Mock) -> anyhow::Result<()> {
    let root = stage.root().display();
    output::data(&format!(
        "\
Tollgate quickstart. Everything here is made up, on loopback, and gone afterwards.

  mock provider   {mock}  speaks OpenAI, Anthropic and Gemini
  gateway         http://{gateway}  agents call here
  admin           http://{admin}  operators call here
  policies, data  {root}

  tenant acme     5.00 USD a day, every model of the three
  tenant globex   0.0005 USD a day, gpt-4o-mini alone
",
        mock = mock.url(),
        gateway = stage.gateway,
        admin = stage.admin,
    ))
}

fn heading(number: u8, text: &str) -> anyhow::Result<()> {
    let rule = "─".repeat(74_usize.saturating_sub(text.chars().count()));
    output::data(&format!("\n── {number}. {text} {rule}\n\n"))
}

impl Cast<'_> {
    /// One call of an agent. What it asks the mock for stands in `user`.
    fn chat(&self, token: &str, handle: Option<&str>, more: &Value) -> anyhow::Result<Answer> {
        let mut body = json!({
            "model": "gpt-4o-mini",
            "max_tokens": 200,
            "messages": [{ "role": "user", "content": "What does a tollgate do?" }],
        });
        if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
            body.extend(more.clone());
        }
        let headers = match handle {
            Some(handle) => vec![
                ("authorization", format!("Bearer {handle}")),
                ("x-tollgate-token", token.to_owned()),
            ],
            None => vec![("authorization", format!("Bearer {token}"))],
        };
        self.send("/openai/v1/chat/completions", &headers, &body)
    }

    fn send(&self, path: &str, headers: &[(&str, String)], body: &Value) -> anyhow::Result<Answer> {
        if self.interrupt.came() {
            bail!("interrupted");
        }
        self.runtime
            .block_on(post(self.gateway, path, headers, body))
    }

    /// The value of a header in the last request the provider got.
    fn last_seen(&self, header: &str) -> anyhow::Result<String> {
        let seen = self.mock.seen();
        let last = seen.last().context("nothing reached the provider")?;
        last.header(header)
            .with_context(|| format!("the provider got no {header}"))
    }

    fn one_handle_two_keys(&self) -> anyhow::Result<()> {
        heading(1, "One handle, two keys")?;
        let handle = "$CRED{openai_key}";
        output::data(&format!(
            "  Both agents send  Authorization: Bearer {handle}  and prove who they are by\n  \
             their task token. Neither has ever seen a key.\n\n"
        ))?;
        let mut keys = Vec::new();
        for (tenant, token) in [("acme", &self.acme), ("globex", &self.globex)] {
            let answer = self.chat(token, Some(handle), &json!({ "user": "mock-usage-12-20" }))?;
            ensure!(answer.status.is_success(), "{tenant}: {}", answer.text);
            let key = self.last_seen("authorization")?;
            let leaked = self.mock.seen().iter().any(|seen| seen.mentions(token));
            ensure!(!leaked, "the task token reached the provider");
            let shown = masked(&key);
            let status = answer.status.as_u16();
            output::data(&format!(
                "  {tenant:<8}{status}   the provider got  {shown}\n"
            ))?;
            keys.push(key);
        }
        ensure!(
            keys.first() != keys.last(),
            "both tenants went out with one key"
        );
        Ok(())
    }

    fn plain_and_streaming(&self) -> anyhow::Result<()> {
        heading(2, "Plain and streaming; OpenAI, Anthropic and Gemini")?;
        let row = |tenant: &str, what: &str, said: &str| {
            output::data(&format!("  {tenant:<8}{what:<30}{said}\n"))
        };
        let plain = self.chat(&self.acme, None, &json!({}))?;
        ensure!(plain.status.is_success(), "{}", plain.text);
        let said = plain.json();
        row(
            "acme",
            "gpt-4o-mini",
            quoted(&said["choices"][0]["message"]["content"]),
        )?;
        for (tenant, token) in [("acme", &self.acme), ("globex", &self.globex)] {
            let more = json!({ "stream": true, "user": "mock-chunks-6 mock-usage-12-20" });
            let answer = self.chat(token, None, &more)?;
            ensure!(answer.status.is_success(), "{}", answer.text);
            let events = answer.events();
            let pieces = events
                .iter()
                .filter_map(|e| e["choices"][0]["delta"]["content"].as_str());
            let text = Value::from(pieces.collect::<String>());
            let what = format!("gpt-4o-mini, {} events", events.len());
            row(tenant, &what, quoted(&text))?;
        }
        let model = "claude-haiku-4-5";
        let body = json!({
            "model": model,
            "max_tokens": 200,
            "messages": [{ "role": "user", "content": "What does a tollgate do?" }],
        });
        let headers = [
            ("x-api-key", self.acme.clone()),
            ("anthropic-version", "2023-06-01".to_owned()),
        ];
        let answer = self.send("/anthropic/v1/messages", &headers, &body)?;
        ensure!(answer.status.is_success(), "{}", answer.text);
        row("acme", model, quoted(&answer.json()["content"][0]["text"]))?;
        let model = "gemini-2.5-flash";
        let body = json!({
            "contents": [{ "parts": [{ "text": "What does a tollgate do?" }] }],
            "generationConfig": { "maxOutputTokens": 200 },
        });
        let headers = [("x-goog-api-key", self.acme.clone())];
        let path = format!("/gemini/v1beta/models/{model}:generateContent");
        let answer = self.send(&path, &headers, &body)?;
        ensure!(answer.status.is_success(), "{}", answer.text);
        let text = &answer.json()["candidates"][0]["content"]["parts"][0]["text"];
        row("acme", model, quoted(text))
    }

    /// Plays until globex is at its cap.
    fn one_cap(&self) -> anyhow::Result<()> {
        heading(
            3,
            "A cap stops one tenant, before the provider is contacted",
        )?;
        let expensive = json!({ "user": "mock-usage-12-200" });
        for number in 1..=MOST_CALLS {
            let reached = self.mock.seen().len();
            let answer = self.chat(&self.globex, None, &expensive)?;
            if answer.status.is_success() {
                let status = answer.status.as_u16();
                output::data(&format!(
                    "  globex  {status}   call {number} at 0.00012 USD\n"
                ))?;
                continue;
            }
            ensure!(answer.status.as_u16() == 429, "{}", answer.text);
            ensure!(
                self.mock.seen().len() == reached,
                "a refused call reached the provider"
            );
            output::data(&refusal(&answer))?;
            let other = self.chat(&self.acme, None, &expensive)?;
            ensure!(other.status.is_success(), "{}", other.text);
            let status = other.status.as_u16();
            output::data(&format!(
                "  acme    {status}   the same call: not concerned\n"
            ))?;
            return Ok(());
        }
        bail!("globex made {MOST_CALLS} calls and is still under its cap")
    }
}

/// A refusal as the client sees it.
fn refusal(answer: &Answer) -> String {
    let mut text = format!(
        "  globex  {}   refused, and nothing reached the provider:\n\n",
        answer.status.as_u16()
    );
    for name in ["x-tollgate-error", "x-should-retry", "retry-after"] {
        let value = answer
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok());
        if let Some(value) = value {
            let _infallible = writeln!(text, "    {name}: {value}");
        }
    }
    let body = serde_json::to_string_pretty(&answer.json()).unwrap_or_default();
    for line in body.lines() {
        let _infallible = writeln!(text, "    {line}");
    }
    text.push('\n');
    text
}

/// Prints what is told of globex' cap, once the refusal has been told, too.
fn notices(stage: &Stage) -> anyhow::Result<()> {
    let deadline = Instant::now() + RECORD_DEADLINE;
    let mut given = stage.notices();
    while !given.iter().any(|notice| notice["percent"] == 100) {
        ensure!(Instant::now() < deadline, "no notice of the cap was given");
        std::thread::sleep(Duration::from_millis(20));
        given = stage.notices();
    }
    let mut text = "\n  Who runs the gateway is told, in log, records and metrics, by webhook if there is one:\n\n".to_owned();
    for notice in given {
        let fact = |name: &str| notice[name].as_str().unwrap_or_default().to_owned();
        let _infallible = writeln!(
            text,
            "    notice at {:>3} %   {}   {} of {} USD spent",
            notice["percent"].as_u64().unwrap_or_default(),
            fact("cap"),
            fact("spent_usd"),
            fact("limit_usd"),
        );
    }
    output::data(&text)
}

/// Prints the cost report once all records have arrived in it.
fn cost(stage: &Stage, calls: usize) -> anyhow::Result<()> {
    heading(
        4,
        "What it cost: exact, per tenant, from the records on disk",
    )?;
    let deadline = Instant::now() + RECORD_DEADLINE;
    loop {
        let asked = Asked::from_texts(&Texts {
            by: Some("tenant,agent,model"),
            ..Texts::default()
        })?;
        let report = asked
            .table(&LocalShelf::new(stage.data()), 1)?
            .into_report()?;
        let total = &report.summary.total;
        let kept = total.calls.saturating_add(total.refusals);
        if kept >= u64::try_from(calls)? {
            let indented: Vec<String> = report::print(&report, report::Form::Table)
                .lines()
                .map(|line| format!("  {line}\n"))
                .collect();
            return output::data(&indented.concat());
        }
        ensure!(
            Instant::now() < deadline,
            "{kept} records of {calls} calls have arrived"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What to paste into a shell.
fn invite(stage: &Stage, cast: &Cast<'_>) -> anyhow::Result<()> {
    heading(5, "Your turn: paste this into another shell")?;
    let program = std::env::current_exe().context("this program cannot find itself")?;
    let (gateway, admin, token) = (stage.gateway, stage.admin, &cast.acme);
    let (program, root) = (program.display(), stage.root().display());
    output::data(&format!(
        "\
export OPENAI_BASE_URL=http://{gateway}/openai/v1
export OPENAI_API_KEY={token}
export ANTHROPIC_BASE_URL=http://{gateway}/anthropic
export ANTHROPIC_API_KEY=$OPENAI_API_KEY
export GOOGLE_GEMINI_BASE_URL=http://{gateway}/gemini
export GEMINI_API_KEY=$OPENAI_API_KEY
export TOLLGATE_POLICIES={root}/policies TOLLGATE_DATA={root}/data

curl $OPENAI_BASE_URL/chat/completions -H \"authorization: Bearer $OPENAI_API_KEY\" \\
  -H content-type:application/json \\
  -d '{{\"model\":\"gpt-4o-mini\",\"max_tokens\":100,\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]}}'

# a task token lives five minutes; the next one:
export OPENAI_API_KEY=$({program} token mint --tenant acme --agent you --task trying)
{program} report

# the console, for a browser; log in with what this prints:
cat $TOLLGATE_DATA/keys/admin.token
#   http://{admin}/console
"
    ))
}

/// The start of a key; the rest is nobody's business, even where it is made up.
fn masked(key: &str) -> String {
    let (scheme, key) = key.split_once(' ').unwrap_or(("", key));
    let shown: String = key.chars().take(key.len().saturating_sub(10)).collect();
    format!("{scheme} {shown}…")
}

fn quoted(text: &Value) -> &str {
    text.as_str().unwrap_or("(no text)")
}
