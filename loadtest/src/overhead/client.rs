//! The load: closed-loop callers on keep-alive connections, cheap enough not to be what is measured.
//!
//! It checks every answer (status, length or number of events) and gives up at the first wrong one.
//! It speaks just enough HTTP/1.1 for that.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::future;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// No answer takes this long unless something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked, where, and what is right.
#[derive(Debug, Clone)]
pub(super) struct Aim {
    pub(super) addr: SocketAddr,
    /// The request, head and body.
    pub(super) request: Bytes,
    pub(super) expected: Expected,
}

/// What a right answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// Any 200; used once, to learn the length.
    Anything,
    /// A body of this many bytes.
    Bytes(usize),
    /// A stream of this many events, the last of them the end mark.
    Events(usize),
}

/// What all callers have done so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    calls: Cell<u64>,
    latencies: RefCell<Vec<u32>>,
    stop: Cell<bool>,
}

impl Tally {
    pub(super) fn calls(&self) -> u64 {
        self.calls.get()
    }

    /// Latencies in µs since the last time, sorted.
    pub(super) fn take_latencies(&self) -> Vec<u32> {
        let mut latencies = self.latencies.take();
        latencies.sort_unstable();
        latencies
    }

    pub(super) fn stop(&self) {
        self.stop.set(true);
    }
}

/// Calls on `connections` connections until the tally is stopped or `calls` are made.
pub(super) async fn load(
    aim: &Aim,
    connections: usize,
    calls: Option<u64>,
    tally: &Rc<Tally>,
) -> anyhow::Result<()> {
    // Polls only the callers that were woken, so 64 of them cost no more than one.
    let mut callers: FuturesUnordered<_> = (0..connections)
        .map(|_| caller(aim, calls, tally))
        .collect();
    while let Some(done) = callers.next().await {
        done?;
    }
    Ok(())
}

async fn caller(aim: &Aim, calls: Option<u64>, tally: &Tally) -> anyhow::Result<()> {
    let mut line = Line::connect(aim.addr).await?;
    while !tally.stop.get() && calls.is_none_or(|calls| tally.calls.get() < calls) {
        let start = Instant::now();
        line.call(aim).await?;
        tally.calls.set(tally.calls.get() + 1);
        let micros = u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX);
        tally.latencies.borrow_mut().push(micros);
    }
    Ok(())
}

/// Makes one call and tells the length of its answer's body.
pub(super) async fn probe(aim: &Aim) -> anyhow::Result<usize> {
    Line::connect(aim.addr).await?.call(aim).await
}

/// One keep-alive connection.
struct Line {
    stream: TcpStream,
    buffer: BytesMut,
}

#[derive(Debug, Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

impl Line {
    async fn connect(addr: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(addr)
            .await
            .with_context(|| format!("connecting to {addr}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: BytesMut::with_capacity(16 * 1024),
        })
    }

    async fn call(&mut self, aim: &Aim) -> anyhow::Result<usize> {
        self.stream.write_all(&aim.request).await?;
        let (status, framing) = self.head().await?;
        let mut body = BodyCheck::default();
        match framing {
            Framing::Length(length) => self.piece(length, &mut body).await?,
            Framing::Chunked => loop {
                let size = self.chunk_size().await?;
                self.piece(size, &mut body).await?;
                self.line_end().await?;
                if size == 0 {
                    break;
                }
            },
        }
        ensure!(
            status == 200,
            "answer {status} from {}: {}",
            aim.addr,
            String::from_utf8_lossy(&body.tail)
        );
        match aim.expected {
            Expected::Anything => {}
            Expected::Bytes(bytes) => {
                ensure!(body.len == bytes, "{} bytes instead of {bytes}", body.len)
            }
            Expected::Events(events) => {
                ensure!(
                    body.events == events,
                    "{} events instead of {events}",
                    body.events
                );
                ensure!(
                    body.tail.ends_with(b"data: [DONE]\n\n"),
                    "stream ends without its mark"
                );
            }
        }
        Ok(body.len)
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        ensure!(
            self.stream.read_buf(&mut self.buffer).await? > 0,
            "connection closed in the middle of an answer"
        );
        Ok(())
    }

    async fn head(&mut self) -> anyhow::Result<(u16, Framing)> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut headers);
            if let httparse::Status::Complete(length) = response.parse(&self.buffer)? {
                let status = response.code.context("no status")?;
                let framing = framing(response.headers)?;
                self.buffer.advance(length);
                return Ok((status, framing));
            }
            self.more().await?;
        }
    }

    async fn piece(&mut self, mut length: usize, body: &mut BodyCheck) -> anyhow::Result<()> {
        while length > 0 {
            if self.buffer.is_empty() {
                self.more().await?;
            }
            let taken = self.buffer.split_to(length.min(self.buffer.len()));
            length -= taken.len();
            body.see(&taken);
        }
        Ok(())
    }

    async fn chunk_size(&mut self) -> anyhow::Result<usize> {
        loop {
            match httparse::parse_chunk_size(&self.buffer) {
                Ok(httparse::Status::Complete((at, size))) => {
                    self.buffer.advance(at);
                    return usize::try_from(size).context("absurd chunk");
                }
                Ok(httparse::Status::Partial) => self.more().await?,
                Err(_) => bail!("malformed chunk"),
            }
        }
    }

    async fn line_end(&mut self) -> anyhow::Result<()> {
        while self.buffer.len() < 2 {
            self.more().await?;
        }
        ensure!(self.buffer.starts_with(b"\r\n"), "chunk without its end");
        self.buffer.advance(2);
        Ok(())
    }
}

fn framing(headers: &[httparse::Header<'_>]) -> anyhow::Result<Framing> {
    let value = |name: &str| {
        headers
            .iter()
            .find(|h| h.name.eq_ignore_ascii_case(name))
            .map(|h| h.value)
    };
    if value("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close")) {
        bail!("the other side closes its connections");
    }
    if let Some(length) = value("content-length") {
        return Ok(Framing::Length(
            std::str::from_utf8(length)?.trim().parse()?,
        ));
    }
    ensure!(
        value("transfer-encoding").is_some(),
        "an answer without a length"
    );
    Ok(Framing::Chunked)
}

/// Counts bytes and events, whatever the pieces they come in.
#[derive(Debug, Default)]
struct BodyCheck {
    len: usize,
    events: usize,
    newline_before: bool,
    /// The last bytes: the end mark of a stream, or an error's text.
    tail: Vec<u8>,
}

impl BodyCheck {
    fn see(&mut self, piece: &[u8]) {
        self.len += piece.len();
        for at in memchr::memchr_iter(b'\n', piece) {
            let doubled = match at.checked_sub(1) {
                Some(before) => piece.get(before) == Some(&b'\n'),
                None => self.newline_before,
            };
            self.events += usize::from(doubled);
        }
        self.newline_before = piece.last() == Some(&b'\n');
        let keep = 512;
        let last = piece
            .get(piece.len().saturating_sub(keep)..)
            .unwrap_or_default();
        let excess = (self.tail.len() + last.len())
            .saturating_sub(keep)
            .min(self.tail.len());
        self.tail.drain(..excess);
        self.tail.extend_from_slice(last);
    }
}

/// Runs a load for a while and then stops it; an error of either side ends both.
pub(super) async fn with_load<T>(
    aim: &Aim,
    connections: usize,
    watch: impl AsyncFnOnce(&Tally) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let tally = Rc::new(Tally::default());
    let watching = async {
        let seen = watch(&tally).await;
        tally.stop();
        seen
    };
    let ((), seen) = tokio::time::timeout(PATIENCE * 2, async {
        future::try_join(load(aim, connections, None, &tally), watching).await
    })
    .await
    .context("the load does not end")??;
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_across_any_split() {
        let stream = b"data: a\n\ndata: b\n\ndata: [DONE]\n\n";
        for at in 0..stream.len() {
            let mut check = BodyCheck::default();
            check.see(&stream[..at]);
            check.see(&stream[at..]);
            assert_eq!(
                (check.events, check.len),
                (3, stream.len()),
                "split at {at}"
            );
            assert!(check.tail.ends_with(b"[DONE]\n\n"));
        }
    }
}
