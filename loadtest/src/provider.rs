//! The command that runs the mock provider by itself.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tollgate_loadtest::mock::{BenchAnswers, Mock, MockConfig};

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
