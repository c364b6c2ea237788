//! A gateway behind TLS, for clients that give their token to nothing else.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tollgate_testkit::authority::Authority;

use crate::harness::{Plan, World};

const NAME: &str = "localhost";

/// The gateway's certificate, and who vouches for it.
pub(super) struct Tls {
    authority: Authority,
    directory: TempDir,
}

impl Tls {
    pub(super) fn new() -> Self {
        let tls = Self {
            authority: Authority::new(),
            directory: tempfile::tempdir().unwrap(),
        };
        let (certificate, private_key) = tls.authority.pair(NAME);
        std::fs::write(tls.path("tls.crt"), certificate).unwrap();
        std::fs::write(tls.path("tls.key"), private_key).unwrap();
        std::fs::write(tls.path("ca.crt"), tls.authority.pem()).unwrap();
        tls
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Lets the gateway speak TLS.
    pub(super) fn arrange(&self, plan: &mut Plan) {
        let (certificate, key) = (self.path("tls.crt"), self.path("tls.key"));
        plan.gateway.push_str(&format!(
            "[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
            certificate.display(),
            key.display()
        ));
    }

    /// Where clients find it, and what makes those of AWS trust it.
    pub(super) fn url(&self, world: &World, command: &mut Command) -> String {
        command.env("AWS_CA_BUNDLE", self.path("ca.crt"));
        format!("https://{NAME}:{}", world.gateway.address.port())
    }

    /// A connection of our own to it.
    pub(super) async fn connect(&self, world: &World) -> TlsStream<TcpStream> {
        let connector = TlsConnector::from(Arc::new(self.authority.client(&["http/1.1"])));
        let tcp = TcpStream::connect(world.gateway.address).await.unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        connector.connect(name, tcp).await.unwrap()
    }
}
