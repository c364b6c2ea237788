//! Whoever is spoken to beyond this machine: name, connection and certificate, and no request.
//!
//! Only where somebody asks for it: a connection is seen by whoever it is made to. Nothing is sent
//! but what TLS sends, hence no secret.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tollgate_core::policy::issuer::KeySource;
use tollgate_core::policy::{Policy, Upstream};

use super::finding::{Area, Finding};
use crate::config::{Settings, VaultSettings};

const AREA: Area = Area("destinations");

/// How long name, connection and handshake may take together.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where, and what for.
pub(super) type Destinations<'a> = BTreeMap<String, (&'a Upstream, Vec<String>)>;

pub(super) fn judge(tried: &[(String, Vec<String>, Result<(), String>)]) -> Vec<Finding> {
    let judge = |(at, what_for, tried): &(String, Vec<String>, Result<(), String>)| {
        let what_for = what_for.join(", ");
        match tried {
            Ok(()) => AREA.ok(format!("{at} ({what_for}) can be reached")),
            Err(why) => AREA.problem(
                format!("{at} ({what_for}) cannot be reached: {why}"),
                "see names (DNS), firewalls and network policies of this machine, and `ca_file` for a certificate that is not trusted",
            ),
        }
    };
    tried.iter().map(judge).collect()
}

/// That nobody was asked.
pub(super) fn not_asked(destinations: &Destinations<'_>) -> Finding {
    let count = destinations.len();
    AREA.ok(format!(
        "{count} beyond this machine, not tried: --contact connects to each and sends nothing"
    ))
}

/// Everybody there is.
pub(super) fn all<'a>(settings: &'a Settings, policy: Option<&'a Policy>) -> Destinations<'a> {
    let mut all = Destinations::new();
    let mut add = |upstream: &'a Upstream, what: String| {
        let (_, what_for) = all
            .entry(upstream.origin())
            .or_insert_with(|| (upstream, Vec::new()));
        what_for.push(what);
    };
    for provider in policy.iter().flat_map(|policy| policy.providers.values()) {
        add(&provider.upstream, provider.name.to_string());
    }
    for issuer in policy.iter().flat_map(|policy| policy.issuers.values()) {
        if let KeySource::Url { at, .. } = &issuer.keys {
            add(at, format!("issuer {}", issuer.name));
        }
    }
    for (table, to) in settings.collectors() {
        add(&to.server, format!("[{table}]"));
    }
    if let Some(webhook) = &settings.webhook {
        add(&webhook.upstream, "[notifications]".to_owned());
    }
    if let VaultSettings::Kv2(vault) = &settings.vault {
        add(&vault.server, "[vault]".to_owned());
    }
    all
}

/// Connects to each.
pub(super) async fn look(
    destinations: Destinations<'_>,
) -> Vec<(String, Vec<String>, Result<(), String>)> {
    let mut tried = Vec::new();
    for (at, (upstream, what_for)) in destinations {
        let reached = tokio::time::timeout(PATIENCE, reach(upstream)).await;
        let reached = reached.unwrap_or_else(|_elapsed| Err("no answer within 5 s".to_owned()));
        tried.push((at, what_for, reached));
    }
    tried
}

async fn reach(to: &Upstream) -> Result<(), String> {
    let stream = TcpStream::connect((to.host.as_str(), to.port)).await;
    let stream = stream.map_err(|error| error.to_string())?;
    if !to.tls {
        return Ok(());
    }
    let roots = roots(to.ca_file.as_deref())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(to.host.clone()).map_err(|error| error.to_string())?;
    let shaken = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await;
    shaken.map(drop).map_err(|error| error.to_string())
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let all = CertificateDer::pem_file_iter(file)
        .map_err(|error| format!("{}: {error}", file.display()))?;
    for certificate in all {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}
