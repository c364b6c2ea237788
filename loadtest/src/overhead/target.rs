//! One thing that is measured: a running program, where it listens, and how it is asked.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::Config;
use super::answer::Expected;
use super::client::{self, Aim};
use super::peer::Peer;
use super::phase::Mode;
use super::tollgate::{Program, Tollgate, Variant};
use crate::children::Running;

/// The mock itself.
pub(super) const DIRECT: &str = "direct";
/// How long a program may take until it answers: some need ten seconds of a processor first.
const START_PATIENCE: Duration = Duration::from_secs(240);
/// How often it is tried meanwhile.
const TRY_EVERY: Duration = Duration::from_millis(1);

/// How somebody is asked for a chat completion.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    pub(super) path: String,
    /// What it calls the model.
    #[serde(default = "Call::usual_model")]
    pub(super) model: String,
    #[serde(default)]
    /// `{mock}` in their values is the provider's address.
    headers: BTreeMap<String, String>,
    /// Whether it writes answers anew; then their bytes are not the mock's.
    #[serde(default)]
    pub(super) rewrites: bool,
}

impl Call {
    fn usual_model() -> String {
        "gpt-4o-mini".to_owned()
    }

    /// As the mock, nginx, haproxy and the gateway are asked.
    fn usual() -> Self {
        Self {
            path: "/openai/v1/chat/completions".to_owned(),
            model: Self::usual_model(),
            headers: BTreeMap::new(),
            rewrites: false,
        }
    }

    /// One chat completion, head and body.
    fn request(&self, to: &Asked<'_>, streamed: bool, bytes: usize) -> Bytes {
        let Asked { addr, token, mock } = to;
        let stream = if streamed {
            r#""stream":true,"stream_options":{"include_usage":true},"#
        } else {
            ""
        };
        let start = format!(
            r#"{{{stream}"model":"{}","max_tokens":256,"messages":[{{"role":"user","content":""#,
            self.model
        );
        let end = r#""}]}"#;
        let text_bytes = bytes.saturating_sub(start.len() + end.len());
        let text: String = "Tell me about toll gates. "
            .chars()
            .cycle()
            .take(text_bytes)
            .collect();
        let length = start.len() + text.len() + end.len();
        let headers: String = self
            .headers
            .iter()
            .map(|(name, value)| (name, value.replace("{mock}", &mock.to_string())))
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        Bytes::from(format!(
            "POST {} HTTP/1.1\r\nhost: {addr}\r\nauthorization: Bearer {token}\r\n{headers}\
             content-type: application/json\r\naccept: application/json\r\nuser-agent: loadtest\r\n\
             content-length: {length}\r\n\r\n{start}{text}{end}",
            self.path
        ))
    }
}

/// Bytes of the mock's answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lengths {
    pub(super) plain: usize,
    stream: usize,
}

impl Lengths {
    /// Asks the mock for one of each.
    pub(super) fn learn(
        direct: &Prepared,
        config: &Config,
        runtime: &tokio::runtime::Runtime,
    ) -> anyhow::Result<Self> {
        let token = direct.token("lengths")?;
        let ask = |streamed| {
            let aim = direct.aim(direct.mock, &token, streamed, config, Expected::Anything);
            runtime.block_on(client::probe(&aim))
        };
        Ok(Self {
            plain: ask(false).context("asking the mock")?,
            stream: ask(true).context("asking the mock for a stream")?,
        })
    }

    /// What a stream is that is relayed as it comes.
    pub(super) const fn stream(self, config: &Config) -> Expected {
        Expected::Stream {
            events: config.events,
            bytes: self.stream,
        }
    }
}

/// Who is asked, showing what, in front of whom.
struct Asked<'a> {
    addr: SocketAddr,
    token: &'a str,
    mock: SocketAddr,
}

/// What can be measured, by name.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Direct,
    Tollgate(Variant),
    Peer { peer: Box<Peer>, program: PathBuf },
}

impl Entry {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Direct => DIRECT,
            Self::Tollgate(variant) => variant.name(),
            Self::Peer { peer, .. } => &peer.name,
        }
    }

    pub(super) fn peer(&self) -> Option<&Peer> {
        match self {
            Self::Peer { peer, .. } => Some(peer),
            Self::Direct | Self::Tollgate(_) => None,
        }
    }

    /// Whether it is one of those that a run goes on without: it writes answers anew.
    pub(super) fn may_fail(&self) -> bool {
        self.peer().is_some_and(|peer| peer.call.rewrites)
    }

    /// Makes everything that it needs before it can be started in front of `mock`.
    pub(super) fn prepare(
        &self,
        config: &Config,
        dir: &Path,
        mock: SocketAddr,
    ) -> anyhow::Result<Prepared> {
        let tollgate = match self {
            Self::Tollgate(variant) => {
                let program = Program {
                    path: config.gateway.clone(),
                    log: config.gateway_log.clone(),
                };
                Some(Tollgate::prepare(&program, *variant, dir, mock)?)
            }
            Self::Direct | Self::Peer { .. } => None,
        };
        Ok(Prepared {
            entry: self.clone(),
            dir: dir.to_owned(),
            installed: config.installed.clone(),
            mock,
            tollgate,
        })
    }
}

/// Something that only needs to be started.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) entry: Entry,
    dir: PathBuf,
    installed: PathBuf,
    mock: SocketAddr,
    pub(super) tollgate: Option<Tollgate>,
}

impl Prepared {
    pub(super) fn start(self) -> anyhow::Result<Target> {
        let (running, addr) = self.launch()?;
        Ok(Target {
            prepared: self,
            running,
            addr,
        })
    }

    /// Starts the program once; what was prepared can be started again.
    pub(super) fn launch(&self) -> anyhow::Result<(Option<Running>, SocketAddr)> {
        let (running, addr) = match (&self.entry, &self.tollgate) {
            (Entry::Peer { peer, program }, _) => {
                peer.start(program, &self.installed, &self.dir, self.mock)?
            }
            (_, Some(tollgate)) => tollgate.start(&[])?,
            (_, None) => return Ok((None, self.mock)),
        };
        Ok((Some(running), addr))
    }

    /// What its callers show: a token where there are such, otherwise anything.
    pub(super) fn token(&self, task: &str) -> anyhow::Result<String> {
        match &self.tollgate {
            Some(tollgate) => tollgate.mint(task),
            None => Ok("sk-canary-not-looked-at".to_owned()),
        }
    }

    /// Where and how it is asked.
    pub(super) fn aim(
        &self,
        addr: SocketAddr,
        token: &str,
        streamed: bool,
        config: &Config,
        expected: Expected,
    ) -> Aim {
        let usual = Call::usual();
        let call = self.entry.peer().map_or(&usual, |peer| &peer.call);
        let asked = Asked {
            addr,
            token,
            mock: self.mock,
        };
        Aim {
            addr,
            request: call.request(&asked, streamed, config.request_bytes),
            expected,
        }
    }
}

/// Something that runs.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) prepared: Prepared,
    /// None for the mock, which is not the target's own.
    pub(super) running: Option<Running>,
    pub(super) addr: SocketAddr,
}

impl Target {
    pub(super) fn name(&self) -> &str {
        self.prepared.entry.name()
    }

    /// As many connections as are wanted, or as it bears.
    pub(super) fn connections(&self, wanted: usize) -> usize {
        let most = self.prepared.entry.peer().and_then(|peer| peer.connections);
        most.map_or(wanted, |most| wanted.min(most))
    }

    /// What is asked in a mode, and what is right.
    pub(super) fn aim(&self, mode: Mode, token: &str, config: &Config, lengths: Lengths) -> Aim {
        let rewrites = self.prepared.entry.may_fail();
        let expected = match (mode.is_streamed(), rewrites) {
            (false, false) => Expected::Bytes(lengths.plain),
            // Whoever writes the answer anew may leave out what he does not know.
            (false, true) => Expected::AtLeast(lengths.plain / 2),
            (true, false) => lengths.stream(config),
            // Besides the pieces of text there are role, finish, usage and the end mark.
            (true, true) => Expected::Stamped(config.events.saturating_sub(4)),
        };
        let streamed = mode.is_streamed();
        self.prepared
            .aim(self.addr, token, streamed, config, expected)
    }
}

/// The mock, in a process of its own: this program, called again.
pub(super) fn mock(config: &Config, pause: Duration) -> anyhow::Result<(Running, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["mock", "--bench"]);
    command.args(["--plain-bytes", &config.answer_bytes.to_string()]);
    command.args(["--events", &config.events.to_string()]);
    command.args(["--event-pause-ms", &pause.as_millis().to_string()]);
    let (process, ready) = Running::start_ready("the mock", &mut command)?;
    Ok((process, listening(&ready)?))
}

/// The address in a program's ready line.
pub(super) fn listening(ready: &Value) -> anyhow::Result<SocketAddr> {
    let addr = ready
        .get("listening")
        .and_then(Value::as_str)
        .context("no address in the ready line")?;
    Ok(addr.parse()?)
}

/// Returns once something listens there.
pub(super) fn until_listening(running: &mut Running, addr: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_PATIENCE;
    while TcpStream::connect(addr).is_err() {
        wait_for(running, deadline)?;
    }
    Ok(())
}

/// Returns once it has given a right answer.
pub(super) fn until_answered(
    runtime: &tokio::runtime::Runtime,
    running: &mut Running,
    aim: &Aim,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_PATIENCE;
    // Some listen before they can answer.
    while let Err(wrong) = runtime.block_on(client::probe(aim)) {
        wait_for(running, deadline).map_err(|late| wrong.context(late))?;
    }
    Ok(())
}

fn wait_for(running: &mut Running, deadline: Instant) -> anyhow::Result<()> {
    if running.has_ended() {
        bail!("it has ended; is its configuration accepted?");
    }
    if Instant::now() > deadline {
        bail!("it does not answer");
    }
    std::thread::sleep(TRY_EVERY);
    Ok(())
}
