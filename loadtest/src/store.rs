//! An object store that speaks as much of the S3 API as copying records takes, over a directory.
//!
//! `PUT` (with `If-None-Match: *`), `GET`, `HEAD` and `GET ?list-type=2`, path-style, one bucket.
//! Signatures are not checked: it is for loopback. It can be told to be down; then connections are
//! cut, open ones included. What it holds lies in the directory under its keys, so that whatever
//! reads a directory of records reads the store. Worst case: a listing is made whole in memory.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, ETAG, IF_NONE_MATCH, LAST_MODIFIED};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// The only bucket there is.
pub const BUCKET: &str = "records";
/// Objects here have one age; nobody asks for it.
const AGE: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

/// A running store. Dropping it closes the port and every connection; the directory stays.
#[derive(Debug)]
pub struct ObjectStore {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    down: watch::Sender<bool>,
    puts: AtomicU64,
    overwritten: AtomicBool,
}

impl ObjectStore {
    /// Listens on loopback; objects go below `dir`.
    ///
    /// # Errors
    /// If the directory cannot be made or no port be bound.
    pub async fn start(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            down: watch::Sender::new(false),
            puts: AtomicU64::new(0),
            overwritten: AtomicBool::new(false),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self {
            addr,
            shared,
            accepting,
        })
    }

    /// `http://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where the objects lie.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Takes the store down, or brings it back.
    pub fn set_down(&self, down: bool) {
        self.shared.down.send_replace(down);
    }

    /// Objects put so far.
    #[must_use]
    pub fn puts(&self) -> u64 {
        self.shared.puts.load(Ordering::Relaxed)
    }

    /// Whether anybody has replaced an object by another.
    #[must_use]
    pub fn was_overwritten(&self) -> bool {
        self.shared.overwritten.load(Ordering::Relaxed)
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(stream, Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut down = shared.down.subscribe();
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { shared.answer(request).await }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // Its errors are gateways that were killed.
        _ended = connection => {}
        _down = down.wait_for(|down| *down) => {}
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let Some(key) = key_of(head.uri.path()) else {
            return Ok(plain(StatusCode::NOT_FOUND));
        };
        if key.is_empty() && head.method == Method::GET {
            return self.list(head.uri.query().unwrap_or_default());
        }
        let Some(path) = self.place(&key) else {
            return Ok(plain(StatusCode::BAD_REQUEST));
        };
        match head.method {
            Method::PUT => {
                let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
                let only_new = head.headers.contains_key(IF_NONE_MATCH);
                self.put(&path, &body, only_new)
            }
            Method::GET | Method::HEAD => match fs::read(&path) {
                Ok(bytes) => Ok(object(&head.method, bytes)),
                Err(_absent) => Ok(plain(StatusCode::NOT_FOUND)),
            },
            _ => Ok(plain(StatusCode::METHOD_NOT_ALLOWED)),
        }
    }

    /// The file of a key; none for one that would lead out of the directory.
    fn place(&self, key: &str) -> Option<PathBuf> {
        let inside = Path::new(key)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        (inside && !key.is_empty()).then(|| self.dir.join(key))
    }

    fn put(&self, path: &Path, body: &[u8], only_new: bool) -> io::Result<Response<Full<Bytes>>> {
        if let Ok(there) = fs::read(path) {
            if only_new {
                return Ok(plain(StatusCode::PRECONDITION_FAILED));
            }
            if there != body {
                self.overwritten.store(true, Ordering::Relaxed);
            }
        }
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let number = self.puts.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.dir.join(format!(".{number}.unfinished"));
        fs::write(&unfinished, body)?;
        fs::rename(&unfinished, path)?;
        let mut response = plain(StatusCode::OK);
        response.headers_mut().insert(ETAG, tag(body)?);
        Ok(response)
    }

    fn list(&self, query: &str) -> io::Result<Response<Full<Bytes>>> {
        let prefix = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("prefix="))
            .map(decoded)
            .unwrap_or_default();
        let mut keys = Vec::new();
        collect(&self.dir, &self.dir, &mut keys)?;
        keys.retain(|(key, _)| key.starts_with(&prefix));
        keys.sort_unstable();
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><Name>{BUCKET}</Name>\
             <KeyCount>{}</KeyCount><IsTruncated>false</IsTruncated>",
            keys.len()
        );
        for (key, bytes) in keys {
            xml.push_str(&format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <ETag>\"0\"</ETag><Size>{bytes}</Size></Contents>"
            ));
        }
        xml.push_str("</ListBucketResult>");
        Ok(Response::new(Full::from(xml)))
    }
}

/// Everything below a directory, by key, with its length.
pub(crate) fn collect(root: &Path, dir: &Path, keys: &mut Vec<(String, u64)>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect(root, &path, keys)?;
        } else if let Ok(key) = path.strip_prefix(root) {
            keys.push((key.to_string_lossy().into_owned(), entry.metadata()?.len()));
        }
    }
    Ok(())
}

/// `/records/audit/acme/…` without the bucket.
fn key_of(path: &str) -> Option<String> {
    let rest = path.strip_prefix('/')?.strip_prefix(BUCKET)?;
    Some(decoded(rest.strip_prefix('/').unwrap_or(rest)))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digits: Option<[u8; 2]> = (byte == b'%')
            .then(|| [rest.next(), rest.next()])
            .and_then(|[high, low]| Some([high?, low?]));
        let value = digits
            .as_ref()
            .and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(value.unwrap_or(byte));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn object(method: &Method, bytes: Vec<u8>) -> Response<Full<Bytes>> {
    let length = bytes.len();
    let tag = tag(&bytes);
    let body = if method == Method::HEAD {
        Full::default()
    } else {
        Full::from(bytes)
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(LAST_MODIFIED, http::HeaderValue::from_static(AGE));
    if let Ok(tag) = tag {
        headers.insert(ETAG, tag);
    }
    response
}

fn tag(bytes: &[u8]) -> io::Result<http::HeaderValue> {
    let digest: String = Sha256::digest(bytes)
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("\"{digest}\"").parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lead_nowhere_but_into_the_directory() {
        let shared = Shared {
            dir: PathBuf::from("/store"),
            down: watch::Sender::new(false),
            puts: AtomicU64::new(0),
            overwritten: AtomicBool::new(false),
        };
        for (path, place) in [
            (
                "/records/audit/a/date%3D2026-01-01/x.jsonl",
                Some("/store/audit/a/date=2026-01-01/x.jsonl"),
            ),
            ("/records/../x", None),
            ("/records/%2e%2e/x", None),
            ("/records//etc/passwd", None),
            ("/records", None),
        ] {
            let key = key_of(path).expect("the bucket");
            assert_eq!(shared.place(&key), place.map(PathBuf::from), "{path}");
        }
        assert_eq!(key_of("/another/x"), None);
    }

    #[test]
    fn an_object_is_put_once_where_only_a_new_one_is_asked_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let shared = Shared {
            dir: dir.path().to_owned(),
            down: watch::Sender::new(false),
            puts: AtomicU64::new(0),
            overwritten: AtomicBool::new(false),
        };
        let path = shared.place("audit/a/x").expect("a place");
        let put = |bytes: &str, only_new| {
            let answer = shared.put(&path, bytes.as_bytes(), only_new);
            answer.expect("writable").status()
        };
        assert_eq!(put("one", true), StatusCode::OK);
        assert_eq!(put("two", true), StatusCode::PRECONDITION_FAILED);
        assert_eq!(fs::read_to_string(&path).expect("readable"), "one");
        assert!(!shared.overwritten.load(Ordering::Relaxed));
        assert_eq!(put("two", false), StatusCode::OK);
        assert!(shared.overwritten.load(Ordering::Relaxed));
    }
}
