//! The load: callers on keep-alive connections, cheap enough not to be what is measured.
//!
//! Either each calls again as soon as it is answered, or calls become due at a fixed rate (`pace.rs`).
//! It checks every answer and gives up at the first wrong one. It speaks just enough HTTP/1.1 for that.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::future;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::answer::{Expected, Seen};
use crate::stamp;

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

/// What all callers have done so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    calls: Cell<u64>,
    times: RefCell<Times>,
    stop: Cell<bool>,
}

/// What was timed, in microseconds.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// Of whole calls.
    pub(super) calls: Vec<u32>,
    /// From the request to the first of an answer's body.
    pub(super) firsts: Vec<u32>,
    /// From the mock to the load, of each stamped event.
    pub(super) events: Vec<u32>,
}

impl Tally {
    pub(super) fn calls(&self) -> u64 {
        self.calls.get()
    }

    /// What was timed since the last time.
    pub(super) fn take_times(&self) -> Times {
        self.times.take()
    }

    pub(super) fn stop(&self) {
        self.stop.set(true);
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.get()
    }

    /// Counts an answer to a call that was due at `start`.
    pub(super) fn count(&self, start: u64, seen: &Seen) {
        let since = |now: u64| u32::try_from(now.saturating_sub(start)).unwrap_or(u32::MAX);
        self.calls.set(self.calls.get() + 1);
        let mut times = self.times.borrow_mut();
        times.calls.push(since(stamp::micros()));
        times.firsts.extend(seen.first().map(since));
        times.events.extend_from_slice(seen.delays());
    }
}

/// Calls on `connections` connections until the tally is stopped or `calls` are made.
pub(super) async fn load(
    aim: &Aim,
    connections: usize,
    calls: Option<u64>,
    tally: &Rc<Tally>,
) -> anyhow::Result<()> {
    all((0..connections).map(|_| caller(aim, calls, tally))).await
}

/// Runs callers until all have ended or one has failed.
pub(super) async fn all(
    callers: impl Iterator<Item = impl Future<Output = anyhow::Result<()>>>,
) -> anyhow::Result<()> {
    // Polls only the callers that were woken, so 64 of them cost no more than one.
    let mut callers: FuturesUnordered<_> = callers.collect();
    while let Some(done) = callers.next().await {
        done?;
    }
    Ok(())
}

async fn caller(aim: &Aim, calls: Option<u64>, tally: &Tally) -> anyhow::Result<()> {
    let mut line = Line::connect(aim.addr).await?;
    while !tally.stopped() && calls.is_none_or(|calls| tally.calls() < calls) {
        let start = stamp::micros();
        let seen = line.call(aim).await?;
        tally.count(start, &seen);
    }
    Ok(())
}

/// Makes one call and tells the length of its answer's body.
pub(super) async fn probe(aim: &Aim) -> anyhow::Result<usize> {
    Ok(Line::connect(aim.addr).await?.call(aim).await?.len())
}

/// One keep-alive connection.
pub(super) struct Line {
    stream: TcpStream,
    buffer: BytesMut,
    /// When the buffer last grew.
    read_at: u64,
}

#[derive(Debug, Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

impl Line {
    pub(super) async fn connect(addr: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(addr)
            .await
            .with_context(|| format!("connecting to {addr}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: BytesMut::with_capacity(16 * 1024),
            read_at: 0,
        })
    }

    /// Makes a call and reads its answer to the end.
    pub(super) async fn call(&mut self, aim: &Aim) -> anyhow::Result<Seen> {
        self.call_telling(aim, || ()).await
    }

    /// The same, and says when the first of the body of a right answer is there.
    pub(super) async fn call_telling(
        &mut self,
        aim: &Aim,
        begun: impl FnOnce(),
    ) -> anyhow::Result<Seen> {
        self.stream.write_all(&aim.request).await?;
        let (status, framing) = self.head().await?;
        let mut seen = Seen::default();
        if self.buffer.is_empty() && !matches!(framing, Framing::Length(0)) {
            self.more().await?;
        }
        if status == 200 {
            begun();
        }
        match framing {
            Framing::Length(length) => self.piece(length, &mut seen).await?,
            Framing::Chunked => loop {
                let size = self.chunk_size().await?;
                self.piece(size, &mut seen).await?;
                self.line_end().await?;
                if size == 0 {
                    break;
                }
            },
        }
        seen.must_be(status, aim.expected)
            .with_context(|| format!("from {}", aim.addr))?;
        Ok(seen)
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "connection closed in the middle of an answer");
        self.read_at = stamp::micros();
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

    async fn piece(&mut self, mut length: usize, seen: &mut Seen) -> anyhow::Result<()> {
        while length > 0 {
            if self.buffer.is_empty() {
                self.more().await?;
            }
            let taken = self.buffer.split_to(length.min(self.buffer.len()));
            length -= taken.len();
            seen.see(&taken, self.read_at);
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
    let ((), seen) = within_patience(async {
        future::try_join(load(aim, connections, None, &tally), watching).await
    })
    .await?;
    Ok(seen)
}

/// Fails if a load does not end in any time that makes sense.
pub(super) async fn within_patience<T>(
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE * 2, work)
        .await
        .context("the load does not end")?
}
