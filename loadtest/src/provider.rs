//! The command that runs the mock provider by itself.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tollgate_loadtest::mock::{BenchAnswers, Mock, MockConfig};

/// How long a standing mock may take to say that it lives.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct MockArgs {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// PEM file of the certificate chain; turns TLS on.
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file of the private key.
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Prepared answers, no steering, no record: for measuring.
    #[arg(long)]
    bench: bool,
    /// For a long life: memory and connections are bounded, and GET /healthz says that it lives, GET /account what
    /// it has billed to which credential.
    #[arg(long, conflicts_with = "bench")]
    standing: bool,
    /// Ask the standing mock at this address whether it lives; exit code 0 if it does.
    #[arg(long, value_name = "IP:PORT")]
    probe: Option<SocketAddr>,
    /// Size of the prepared plain answer.
    #[arg(long, default_value_t = 1024)]
    plain_bytes: usize,
    /// Events of the prepared stream.
    #[arg(long, default_value_t = 54)]
    events: usize,
    /// Pause before each of them, in milliseconds.
    #[arg(long, default_value_t = 0)]
    event_pause_ms: u64,
    /// Pause before each plain answer, in milliseconds.
    #[arg(long, default_value_t = 0)]
    answer_pause_ms: u64,
}

/// Runs until interrupted.
///
/// # Errors
/// If it cannot listen.
pub(super) fn run(args: MockArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match args.probe {
        Some(address) => runtime.block_on(async {
            let asked = tokio::time::timeout(PROBE_DEADLINE, probe(address)).await;
            asked.with_context(|| format!("the mock at {address} does not answer"))?
        })?,
        None => runtime.block_on(mock(args))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Succeeds if a standing mock answers there.
async fn probe(address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("no mock answers at {address}"))?;
    let asked = format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(asked.as_bytes()).await?;
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await?;
    ensure!(
        &answer == b"HTTP/1.1 200 OK",
        "the mock at {address} is not well"
    );
    Ok(())
}

async fn mock(args: MockArgs) -> anyhow::Result<()> {
    let mut config = if args.standing {
        MockConfig::standing(args.listen)
    } else {
        MockConfig::new(args.listen)
    };
    if let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) {
        config.tls = Some(Arc::new(tls(cert, key)?));
    }
    if args.bench {
        let pause = Duration::from_millis(args.event_pause_ms);
        let answers = BenchAnswers::new(args.plain_bytes, args.events, pause);
        config.bench = Some(answers.slow(Duration::from_millis(args.answer_pause_ms)));
    }
    let mock = Mock::start_with(config)
        .await
        .with_context(|| format!("listening on {}", args.listen))?;
    writeln!(
        io::stdout(),
        "{}",
        serde_json::json!({"listening": mock.addr().to_string()})
    )?;
    // As the first process of a container it would not even be ended by a signal it does not expect.
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _terminated = terminate.recv() => {}
    }
    Ok(())
}

fn tls(cert: &Path, key: &Path) -> anyhow::Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("reading {}", cert.display()))?;
    let key =
        PrivateKeyDer::from_pem_file(key).with_context(|| format!("reading {}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
