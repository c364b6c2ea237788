//! A place and the environment's credentials to a client of the store.
//!
//! Of the environment, only what says who asks is used. Where to, and whether without TLS, is
//! said by the settings alone. Worst case: none; nothing is sent here.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::client::{Connector, Signature};
use super::place::Bucket;
use super::{Cause, Objects, Place, StoreConfig};

/// A store cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum NoStore {
    /// The certificates to believe cannot be read or used.
    #[error("the certificates for the record store cannot be used")]
    Trust(#[source] Cause),
    /// Something is missing or contradicts itself.
    #[error("the record store cannot be set up")]
    Setup(#[source] Cause),
}

impl From<object_store::Error> for NoStore {
    fn from(error: object_store::Error) -> Self {
        Self::Setup(error.into())
    }
}

/// Where S3 is when nobody says.
const USUAL_REGION: &str = "us-east-1";

/// The store of objects at a place that is none of directories.
///
/// # Errors
/// [`NoStore`].
pub(crate) fn objects(
    config: &StoreConfig,
    variables: &[(String, String)],
) -> Result<Objects, NoStore> {
    let connector = Connector::new(config.ca_file.as_deref())?;
    let (store, bucket): (Arc<dyn ObjectStore>, _) = match &config.place {
        Place::S3(bucket) => (s3(bucket, config, variables, connector)?, bucket),
        Place::Google(bucket) => (google(bucket, variables, connector)?, bucket),
        Place::Azure(bucket) => (azure(bucket, variables, connector)?, bucket),
        Place::Directory(_) => {
            return Err(NoStore::Setup("a directory is no store of objects".into()));
        }
    };
    let prefix = Path::parse(&bucket.prefix);
    let prefix = prefix.map_err(|error| NoStore::Setup(error.into()))?;
    Ok(Objects { store, prefix })
}

/// What the environment says, as far as the store's builder knows it.
fn known<K: FromStr>(variables: &[(String, String)]) -> impl Iterator<Item = (K, &String)> {
    variables
        .iter()
        .filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value)))
}

fn s3(
    bucket: &Bucket,
    config: &StoreConfig,
    variables: &[(String, String)],
    connector: Connector,
) -> Result<Arc<dyn ObjectStore>, NoStore> {
    use AmazonS3ConfigKey as Key;
    let mut builder = AmazonS3Builder::new();
    for (key, value) in known::<Key>(variables) {
        let says_who = matches!(
            key,
            Key::AccessKeyId
                | Key::SecretAccessKey
                | Key::Token
                | Key::DefaultRegion
                | Key::Region
                | Key::ContainerCredentialsRelativeUri
                | Key::ContainerCredentialsFullUri
                | Key::ContainerAuthorizationTokenFile
                | Key::WebIdentityTokenFile
                | Key::RoleArn
                | Key::RoleSessionName
        );
        if says_who {
            builder = builder.with_config(key, value);
        }
    }
    let region = config.region.clone();
    let region = region
        .or_else(|| builder.get_config_value(&Key::Region))
        .unwrap_or_else(|| USUAL_REGION.to_owned());
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let signature = Arc::clone(&connector.signature);
    let store = builder
        .with_bucket_name(&bucket.name)
        .with_region(&region)
        // S3 demands a checksum for objects that are locked, and notices with it what broke on
        // the way of all others.
        .with_checksum_algorithm(Checksum::SHA256)
        .with_client_options(options(config.plain_http))
        .with_retry(retry())
        .with_http_connector(connector)
        .build()?;
    let credentials = Arc::clone(store.credentials());
    let set = signature.set(Signature {
        credentials,
        region,
    });
    set.map_err(|_twice| NoStore::Setup("a client is set up twice".into()))?;
    Ok(Arc::new(store))
}

fn google(
    bucket: &Bucket,
    variables: &[(String, String)],
    connector: Connector,
) -> Result<Arc<dyn ObjectStore>, NoStore> {
    use GoogleConfigKey as Key;
    let mut builder = GoogleCloudStorageBuilder::new();
    for (key, value) in known::<Key>(variables) {
        let says_who = matches!(
            key,
            Key::ServiceAccount | Key::ServiceAccountKey | Key::ApplicationCredentials
        );
        if says_who {
            builder = builder.with_config(key, value);
        }
    }
    let store = builder
        .with_bucket_name(&bucket.name)
        .with_client_options(options(false))
        .with_retry(retry())
        .with_http_connector(connector)
        .build()?;
    Ok(Arc::new(store))
}

fn azure(
    container: &Bucket,
    variables: &[(String, String)],
    connector: Connector,
) -> Result<Arc<dyn ObjectStore>, NoStore> {
    use AzureConfigKey as Key;
    let mut builder = MicrosoftAzureBuilder::new();
    for (key, value) in known::<Key>(variables) {
        let says_who = matches!(
            key,
            Key::AccountName
                | Key::AccessKey
                | Key::ClientId
                | Key::ClientSecret
                | Key::AuthorityId
                | Key::SasKey
                | Key::ObjectId
                | Key::MsiResourceId
                | Key::FederatedTokenFile
        );
        if says_who {
            builder = builder.with_config(key, value);
        }
    }
    let store = builder
        .with_container_name(&container.name)
        .with_client_options(options(false))
        .with_retry(retry())
        .with_http_connector(connector)
        .build()?;
    Ok(Arc::new(store))
}

fn options(plain_http: bool) -> ClientOptions {
    ClientOptions::new().with_allow_http(plain_http)
}

/// Few and soon: whoever asks for something tries again by itself, and later.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
            base: 2.0,
        },
        max_retries: 2,
        retry_timeout: Duration::from_secs(10),
    }
}
