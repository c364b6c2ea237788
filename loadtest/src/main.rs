//! `loadtest`: runs the mock provider.
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

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Mock(args) => mock(args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
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
