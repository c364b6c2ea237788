//! `loadtest`: runs the mock provider, measures what the gateway costs.
//!
//! Data goes to stdout, talk to stderr. Everything stays on loopback unless told otherwise.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tollgate_loadtest::mock::{BenchAnswers, Mock, MockConfig};
use tollgate_loadtest::overhead;

/// Load tools for Tollgate.
#[derive(Debug, Parser)]
#[command(name = "loadtest")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the mock provider until interrupted; prints one line of JSON once it listens.
    Mock(MockArgs),
    /// Measure what the gateway costs per call, beside nginx in the same run.
    ///
    /// Prints a table on stderr. Exit code 1 if an answer was wrong or, with --enforce, if the ratio is above the bar.
    Overhead(OverheadArgs),
}

#[derive(Debug, Args)]
struct MockArgs {
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
    /// Size of the prepared plain answer.
    #[arg(long, default_value_t = 1024)]
    plain_bytes: usize,
    /// Events of the prepared stream.
    #[arg(long, default_value_t = 54)]
    events: usize,
    /// Pause before each of them, in milliseconds.
    #[arg(long, default_value_t = 0)]
    event_pause_ms: u64,
}

#[derive(Debug, Args)]
struct OverheadArgs {
    /// The gateway's program.
    #[arg(long, default_value = "target/release/tollgate")]
    gateway: PathBuf,
    /// The program of nginx.
    #[arg(long, default_value = "nginx")]
    nginx: PathBuf,
    /// Where to make the temporary directory; the gateway's data lie in it.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Leave that directory behind, with the gateway's data and callgrind's profiles.
    #[arg(long)]
    keep: bool,
    /// File for what the gateway says on stderr.
    #[arg(long)]
    gateway_log: Option<PathBuf>,
    /// Rounds, each with every target.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of each target in each round, for plain calls and again for streams.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Connections with plain calls.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Connections with streams.
    #[arg(long, default_value_t = 32)]
    stream_connections: usize,
    /// Events of each stream.
    #[arg(long, default_value_t = 54)]
    events: usize,
    /// The mock's pause before each event, in milliseconds.
    #[arg(long, default_value_t = 1)]
    event_pause_ms: u64,
    /// Do not count instructions, allocations and system calls.
    #[arg(long)]
    no_profile: bool,
    /// The ratio of CPU to nginx that is still good enough.
    #[arg(long, default_value_t = 1.8)]
    bar: f64,
    /// Exit with 1 if the ratio is above the bar.
    #[arg(long)]
    enforce: bool,
    /// Print every sample as a line of JSON, and the summary as the last one.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Mock(args) => run_mock(args),
        Command::Overhead(args) => overhead(args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn overhead(args: OverheadArgs) -> anyhow::Result<ExitCode> {
    let config = overhead::Config {
        gateway: args.gateway,
        nginx: args.nginx,
        dir: args.dir,
        keep: args.keep,
        gateway_log: args.gateway_log,
        rounds: args.rounds,
        time: Duration::from_secs(args.seconds),
        connections: args.connections,
        stream_connections: args.stream_connections,
        request_bytes: 2048,
        answer_bytes: 1024,
        events: args.events,
        event_pause: Duration::from_millis(args.event_pause_ms),
        profile: !args.no_profile,
        bar: args.bar,
    };
    let within_bar = overhead::run(&config, args.json)?;
    Ok(if args.enforce && !within_bar {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn run_mock(args: MockArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(mock(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn mock(args: MockArgs) -> anyhow::Result<()> {
    let mut config = MockConfig::new(args.listen);
    if let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) {
        config.tls = Some(Arc::new(tls(cert, key)?));
    }
    if args.bench {
        let pause = Duration::from_millis(args.event_pause_ms);
        config.bench = Some(BenchAnswers::new(args.plain_bytes, args.events, pause));
    }
    let mock = Mock::start_with(config)
        .await
        .with_context(|| format!("listening on {}", args.listen))?;
    writeln!(
        io::stdout(),
        "{}",
        serde_json::json!({"listening": mock.addr().to_string()})
    )?;
    tokio::signal::ctrl_c().await?;
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
