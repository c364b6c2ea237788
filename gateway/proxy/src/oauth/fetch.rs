//! Fetches an issuer's key set, from a file or over HTTP.
//!
//! Bounded in size and time; redirects are not followed, and a set comes from where the policy
//! says and from nowhere else. Knows nothing of when to fetch. Worst case: the issuer does not
//! answer, and a fetch ends after [`DEADLINE`].

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use tollgate_core::identity::{InvalidJwks, Jwks};
use tollgate_core::policy::Upstream;
use zeroize::Zeroizing;

use crate::body::RequestBody;
use crate::gateway::Gateway;
use crate::pool::UpstreamError;

/// How long a fetch may take in all.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

/// The longest key set that is read, in bytes. Large providers' have 20 KiB.
const MAX_BYTES: usize = 256 * 1024;

/// The longest token that a file to ask with may hold, in bytes.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    #[error("{0}")]
    Upstream(#[from] UpstreamError),
    #[error("no answer in time")]
    Deadline,
    #[error("the answer is {0}, not 200")]
    Status(StatusCode),
    #[error("the answer broke off or is over {MAX_BYTES} bytes")]
    Body,
    #[error(transparent)]
    Invalid(#[from] InvalidJwks),
    #[error("{}: {error}", .file.display())]
    File {
        file: PathBuf,
        error: std::io::Error,
    },
    #[error("{}: holds no token that a header can carry", .file.display())]
    Token { file: PathBuf },
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
    #[error("they could not be fetched a moment ago, and are asked for again in some seconds")]
    Pausing,
}

/// The keys at a URL.
pub(super) async fn from_url(
    gw: &Gateway,
    at: &Upstream,
    bearer_token_file: Option<&Path>,
) -> Result<Jwks, KeysError> {
    let fetched = tokio::time::timeout(DEADLINE, exchange(gw, at, bearer_token_file)).await;
    fetched.map_err(|_elapsed| KeysError::Deadline)?
}

async fn exchange(
    gw: &Gateway,
    at: &Upstream,
    bearer_token_file: Option<&Path>,
) -> Result<Jwks, KeysError> {
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(at.base_path.as_str())
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(ACCEPT_ENCODING, "identity")
        .header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")));
    if let Some(file) = bearer_token_file {
        request = request.header(AUTHORIZATION, bearer(file.to_owned()).await?);
    }
    let answer = gw
        .upstreams
        .send(at, request.body(RequestBody::Empty)?)
        .await?;
    let status = answer.response.status();
    if status != StatusCode::OK {
        return Err(KeysError::Status(status));
    }
    let body = answer.response.into_body().whole(MAX_BYTES).await;
    Ok(Jwks::parse(&body.map_err(|_cut| KeysError::Body)?)?)
}

/// The token in a file, as it is now: Kubernetes writes a new one every hour.
async fn bearer(file: PathBuf) -> Result<HeaderValue, KeysError> {
    let read = blocking(move || {
        let limited = std::fs::File::open(&file).map(|open| open.take(MAX_TOKEN_BYTES));
        let mut token = Zeroizing::new(String::new());
        match limited.and_then(|mut limited| limited.read_to_string(&mut token)) {
            Ok(_) => Ok((file, token)),
            Err(error) => Err(KeysError::File { file, error }),
        }
    });
    let (file, token) = read.await?;
    let value = Zeroizing::new(format!("Bearer {}", token.trim()));
    let mut value =
        HeaderValue::try_from(value.as_str()).map_err(|_bad| KeysError::Token { file })?;
    value.set_sensitive(true);
    Ok(value)
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Print {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The present state of a file.
pub(super) async fn print(file: &Path) -> Option<Print> {
    let file = file.to_owned();
    let of = blocking(move || Ok(std::fs::metadata(&file).ok()))
        .await
        .ok()??;
    Some(Print {
        device: of.dev(),
        inode: of.ino(),
        bytes: of.len(),
        modified: (of.mtime(), of.mtime_nsec()),
        changed: (of.ctime(), of.ctime_nsec()),
    })
}

/// The keys in a file.
pub(super) async fn from_file(file: &Path) -> Result<Jwks, KeysError> {
    let file = file.to_owned();
    let text = blocking(move || {
        let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
        let mut text = Vec::new();
        let open = std::fs::File::open(&file);
        match open.and_then(|open| open.take(limit.saturating_add(1)).read_to_end(&mut text)) {
            Ok(_) if text.len() > MAX_BYTES => Err(KeysError::Body),
            Ok(_) => Ok(text),
            Err(error) => Err(KeysError::File { file, error }),
        }
    });
    Ok(Jwks::parse(&text.await?)?)
}

/// Runs what may wait for a disk beside the calls.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeysError> + Send + 'static,
) -> Result<T, KeysError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or(Err(KeysError::Deadline))
}
