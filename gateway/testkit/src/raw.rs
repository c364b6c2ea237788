//! An HTTP/1 client that sends exactly the bytes it is given and reads answers strictly.
//!
//! It decides nothing about what is sent, so that malformed requests can be. Answers are framed by
//! `content-length`, by chunks or by the end of the connection; anything else panics, because the
//! gateway must never send it. Every read has a deadline.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wait::within;

/// What a connection runs over: TCP, or TLS on it.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// One connection.
pub struct Raw {
    stream: Box<dyn Wire>,
    buffer: Vec<u8>,
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header fields as they came.
    pub headers: Vec<(String, String)>,
    /// The body, without its framing.
    pub body: Vec<u8>,
    /// Whether the body ended as its framing says, rather than by a cut connection.
    pub whole: bool,
}

impl Answer {
    /// The value of a header that may come once at most.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let first = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} came twice: {self:?}");
        first
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {:?}", self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Raw {
    /// Opens a connection.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within("connect", TcpStream::connect(address))
            .await
            .unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// Speaks over a connection that is open already.
    pub fn over(stream: impl Wire + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            buffer: Vec::new(),
        }
    }

    /// Sends bytes as they are. A peer that has already closed is not an error: what it answered
    /// is what a test looks at.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let written = within("send", self.stream.write_all(bytes.as_ref())).await;
        drop(written);
    }

    /// Tells the peer that nothing more will be sent.
    pub async fn finish(&mut self) {
        drop(self.stream.shutdown().await);
    }

    /// Everything up to the end of the connection.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Reads until `needle` has come; returns everything up to and with it.
    pub async fn read_until(&mut self, needle: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = find(&self.buffer, needle) {
                return self.buffer.drain(..at + needle.len()).collect();
            }
            assert!(
                self.more().await,
                "the connection ended before {:?}; it had {:?}",
                String::from_utf8_lossy(needle),
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    /// The next answer, or `None` if the connection ends before one.
    pub async fn answer(&mut self) -> Option<Answer> {
        self.answer_to("GET").await
    }

    /// As [`Raw::answer`], for a request with `method`: `HEAD` has no body.
    pub async fn answer_to(&mut self, method: &str) -> Option<Answer> {
        let (status, headers) = self.head().await?;
        let field = |wanted: &str| {
            headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.clone())
        };
        let (length, coding) = (field("content-length"), field("transfer-encoding"));
        assert!(
            length.is_none() || coding.is_none(),
            "both framings at once: {headers:?}"
        );
        let (body, whole) = if method == "HEAD" || matches!(status, 100..200 | 204 | 304) {
            (Vec::new(), true)
        } else if let Some(coding) = coding {
            assert_eq!(coding, "chunked", "the only coding there is");
            self.chunks().await
        } else if let Some(length) = length {
            self.exactly(length.parse().expect("a length")).await
        } else {
            (self.rest().await, true)
        };
        Some(Answer {
            status,
            headers,
            body,
            whole,
        })
    }

    /// The head of the next answer; its body is left to be read.
    pub async fn head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            if !self.more().await {
                assert!(
                    self.buffer.is_empty(),
                    "half an answer: {:?}",
                    String::from_utf8_lossy(&self.buffer)
                );
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let head = String::from_utf8(head).expect("an ASCII head");
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().expect("a status line");
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').expect("a header field");
                (name.to_owned(), value.trim().to_owned())
            })
            .collect();
        Some((status, headers))
    }

    async fn exactly(&mut self, length: usize) -> (Vec<u8>, bool) {
        while self.buffer.len() < length {
            if !self.more().await {
                return (std::mem::take(&mut self.buffer), false);
            }
        }
        (self.buffer.drain(..length).collect(), true)
    }

    async fn chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let line = loop {
                if let Some(at) = find(&self.buffer, b"\r\n") {
                    break self.buffer.drain(..at + 2).collect::<Vec<u8>>();
                }
                if !self.more().await {
                    return (body, false);
                }
            };
            let text = String::from_utf8_lossy(&line);
            let size = usize::from_str_radix(text.trim_end(), 16).expect("a chunk size");
            let (chunk, whole) = self.exactly(size + 2).await;
            body.extend_from_slice(&chunk[..chunk.len().min(size)]);
            if !whole || size == 0 {
                return (body, whole);
            }
        }
    }

    async fn more(&mut self) -> bool {
        let mut piece = vec![0; 64 * 1024];
        let read = within("read", self.stream.read(&mut piece))
            .await
            .unwrap_or(0);
        self.buffer.extend_from_slice(&piece[..read]);
        read > 0
    }
}

/// Where `needle` first stands in `haystack`.
#[must_use]
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// The bytes of a request: `head` lines without the final empty one, then a body whose
/// `content-length` is added.
#[must_use]
pub fn request(line: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{line} HTTP/1.1\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !body.is_empty() {
        bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}
