//! What a TLS handshake tells about a client, kept beside its connection.
//!
//! The name that was asked for, and the certificate that was shown, read once for all requests to
//! come. Decides nothing about either. A certificate ends the connection with itself: clients that
//! renew theirs come back with the new one, instead of being refused on the old connection.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::listeners::TlsAccept;
use pingora_core::protocols::Stream;
use pingora_core::protocols::tls::TlsRef;
use rustls::pki_types::UnixTime;
use tollgate_core::identity::ClientCertificate;

use crate::client_certificate::{Unreadable, read};
use crate::server_name::ServerName;

/// Keeps what there is to know when the handshake is complete.
pub(crate) struct Remember;

/// What is known of a connection over TLS; of one in clear text, nothing.
#[derive(Clone, Default)]
pub(crate) struct Handshake {
    pub(crate) server_name: Option<ServerName>,
    certificate: Option<Result<Shown, Unreadable>>,
}

#[derive(Clone)]
struct Shown {
    certificate: Arc<ClientCertificate>,
    /// How long it was good for when the handshake was complete.
    remaining: Duration,
}

#[async_trait]
impl TlsAccept for Remember {
    async fn handshake_complete_callback(
        &self,
        ssl: &TlsRef,
    ) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(Arc::new(Handshake {
            server_name: ssl.server_name().map(ServerName::new),
            certificate: ssl.peer_certificate_der().map(show),
        }))
    }
}

fn show(der: &[u8]) -> Result<Shown, Unreadable> {
    let certificate = read(der)?;
    // The clock by which the handshake has judged the certificate.
    let now = UnixTime::now().as_secs();
    let end = u64::try_from(certificate.not_after.as_seconds()).unwrap_or(0);
    Ok(Shown {
        certificate: Arc::new(certificate),
        remaining: Duration::from_secs(end.saturating_sub(now)),
    })
}

impl Handshake {
    /// What was kept of this connection's handshake.
    pub(crate) fn of(stream: &Stream) -> Self {
        stream
            .get_ssl_digest()
            .and_then(|digest| digest.extension.get::<Self>().cloned())
            .unwrap_or_default()
    }

    /// The certificate the client has shown, if it has shown one.
    ///
    /// # Errors
    /// If it cannot be read: then nothing is known of the client, and it is not served.
    pub(crate) fn certificate(&self) -> Result<Option<Arc<ClientCertificate>>, Unreadable> {
        match &self.certificate {
            None => Ok(None),
            Some(Ok(shown)) => Ok(Some(Arc::clone(&shown.certificate))),
            Some(Err(unreadable)) => Err(*unreadable),
        }
    }

    /// Returns in the certificate's last second; never, if there is none.
    pub(crate) async fn ending(&self) {
        match &self.certificate {
            Some(Ok(shown)) => tokio::time::sleep(shown.remaining).await,
            _ => std::future::pending().await,
        }
    }
}
