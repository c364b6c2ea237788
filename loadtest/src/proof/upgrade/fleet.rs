//! Several gateways, each with stores of its own, behind haproxy.
//!
//! A token is known where it was minted, so every call bears one token for each gateway, and what stands
//! in front of a gateway leaves the right one. With shared stores there is one token, and no such thing.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;
use tempfile::TempDir;

use super::super::rig::Rig;
use super::{TENANT, UpgradeConfig, start};
use crate::children::Running;

/// How long the balancer may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// The gateways, and where their balancer listens.
pub(super) struct Fleet {
    pub(super) rigs: Vec<Rig>,
    pub(super) addr: SocketAddr,
    /// What every call bears.
    pub(super) headers: Vec<(String, String)>,
    _balancer: Running,
    _directory: TempDir,
}

impl Fleet {
    pub(super) async fn start(config: &UpgradeConfig) -> anyhow::Result<Self> {
        let (mut rigs, mut headers) = (Vec::new(), Vec::new());
        for number in 0..config.gateways {
            let rig = start(config).await?;
            let token = rig.mint(TENANT, "agent").await?;
            headers.push((format!("x-token-{number}"), token));
            rigs.push(rig);
        }
        let directory = tempfile::Builder::new()
            .prefix("tollgate-balancer-")
            .tempdir()?;
        let addr = free()?;
        let file = directory.path().join("haproxy.cfg");
        std::fs::write(&file, configuration(addr, &rigs)?)?;
        let mut command = Command::new(&config.haproxy);
        command.arg("-db").arg("-f").arg(&file);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let balancer = Running::start("haproxy", &mut command)?;
        let until = Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(addr).await.is_err() {
            ensure!(Instant::now() < until, "haproxy does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self {
            rigs,
            addr,
            headers,
            _balancer: balancer,
            _directory: directory,
        })
    }
}

/// What a balancer in front of Tollgate has to do: ask `/readyz` often, and send nothing more to
/// whoever is not ready. It repeats no request.
fn configuration(addr: SocketAddr, rigs: &[Rig]) -> anyhow::Result<String> {
    let mut text = String::from(
        "global
    maxconn 8000
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout check 5s
    timeout client 120s
    timeout server 120s
    retries 0
",
    );
    write!(
        text,
        "frontend agents
    bind {addr}
    default_backend gateways
backend gateways
    balance roundrobin
    option httpchk GET /readyz
    http-check expect status 200
"
    )?;
    let mut inner = String::new();
    for (number, rig) in rigs.iter().enumerate() {
        let (hop, check) = (free()?, rig.admin.port());
        writeln!(
            text,
            "    server gateway{number} {hop} check addr 127.0.0.1 port {check} inter 500ms fall 2 rise 2"
        )?;
        write!(
            inner,
            "listen hop{number}
    bind {hop}
    http-request set-header authorization \"Bearer %[req.hdr(x-token-{number})]\"
    http-request del-header x-token- -m beg
    server gateway{number} {}
",
            rig.addr
        )?;
    }
    Ok(text + &inner)
}

/// An address where nobody listens.
fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
