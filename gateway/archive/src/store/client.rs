//! The HTTP client below the stores, and what it adds to a request on its way: S3's object lock.
//!
//! The library has no words for object lock, and S3 wants every header of its own signed. So a
//! request that is to lock its object gets the headers last, and is signed anew over them.
//! Proxies of the environment are not used, redirects not followed. Worst case: a store that does
//! not know the headers stores the object without a lock and says nothing.

use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderValue;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpResponse, HttpService,
};
use object_store::{ClientOptions, Error};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tollgate_core::policy::ObjectLock;

use super::{Lock, NoStore};

/// How long a store may take to let itself be connected to.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a store may say nothing while it has a request: an object of 64 MiB on a slow line.
const SILENCE: Duration = Duration::from_secs(120);
/// How long an unused connection is kept: less than the servers of S3 keep theirs.
const IDLE: Duration = Duration::from_secs(15);

/// What goes with a request that puts an object.
#[derive(Debug, Clone)]
pub(super) struct Errand {
    /// How the object is to be held.
    pub(super) lock: Option<Lock>,
    /// The status of the last answer, for whoever sent it.
    pub(super) status: Arc<AtomicU16>,
}

/// With what requests to S3 are signed.
#[derive(Debug)]
pub(super) struct Signature {
    pub(super) credentials: AwsCredentialProvider,
    pub(super) region: String,
}

/// Makes clients of the one kind there is.
#[derive(Debug)]
pub(super) struct Connector {
    tls: ClientConfig,
    /// Known once the store is made, which needs the connector first.
    pub(super) signature: Arc<OnceLock<Signature>>,
}

impl Connector {
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, NoStore> {
        let trust = |error: Box<dyn std::error::Error + Send + Sync>| NoStore::Trust(error);
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(file) = ca_file {
            let certificates = CertificateDer::pem_file_iter(file).map_err(|e| trust(e.into()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| trust(error.into()))?;
                roots
                    .add(certificate)
                    .map_err(|error| trust(error.into()))?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| trust(error.into()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls,
            signature: Arc::default(),
        })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let plain_http = options.get_config_value(&ClientConfigKey::AllowHttp);
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .https_only(plain_http.as_deref() != Some("true"))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(|error| failed(error.into()))?;
        Ok(HttpClient::new(Client {
            client,
            signature: Arc::clone(&self.signature),
        }))
    }
}

fn failed(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Generic {
        store: "records",
        source,
    }
}

#[derive(Debug)]
struct Client<C> {
    client: C,
    signature: Arc<OnceLock<Signature>>,
}

#[async_trait]
impl<C: HttpService> HttpService for Client<C> {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let errand = request.extensions().get::<Errand>().cloned();
        let Some(errand) = errand else {
            return self.client.call(request).await;
        };
        errand.status.store(0, Ordering::Relaxed);
        if let Some(lock) = errand.lock {
            let locked = self.lock(&mut request, lock).await;
            locked.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        }
        let answer = self.client.call(request).await?;
        errand
            .status
            .store(answer.status().as_u16(), Ordering::Relaxed);
        Ok(answer)
    }
}

impl<C> Client<C> {
    async fn lock(&self, request: &mut HttpRequest, lock: Lock) -> object_store::Result<()> {
        let signature = self.signature.get();
        let signature = signature.ok_or_else(|| failed("only S3 can lock objects".into()))?;
        let until = format!("{}T00:00:00Z", lock.until);
        let until = HeaderValue::try_from(until).map_err(|error| failed(error.into()))?;
        let mode = HeaderValue::from_static(match lock.mode {
            ObjectLock::Compliance => "COMPLIANCE",
            ObjectLock::Governance => "GOVERNANCE",
        });
        let headers = request.headers_mut();
        headers.insert("x-amz-object-lock-mode", mode);
        headers.insert("x-amz-object-lock-retain-until-date", until);
        // Nothing is locked without a checksum, and not every store looks for the checksum itself.
        let algorithm = HeaderValue::from_static("SHA256");
        headers.insert("x-amz-sdk-checksum-algorithm", algorithm);
        // The library has hashed the body for its own signature already.
        let digest = headers.get("x-amz-content-sha256").and_then(from_hex);
        let credential = signature.credentials.get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &signature.region)
            .try_authorize(request, digest.as_deref())
    }
}

fn from_hex(value: &HeaderValue) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = value.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests;
