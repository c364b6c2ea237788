//! Many callers on one thread: an open loop that does not wait for answers, or a closed one.
//!
//! An open loop sends at its own pace. What finds no free connection waits here, and that wait is
//! part of the latency, which counts from when the call was due. It speaks just enough HTTP/1.1
//! for answers with a length, and judges nothing but their status.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::LocalSet;

/// How long the last answers may take once nothing more is sent.
const LAST_ANSWERS: Duration = Duration::from_secs(60);

/// A call to make, and a number that tells whose it is.
#[derive(Debug, Clone)]
pub(crate) struct Shot {
    pub(crate) request: Bytes,
    pub(crate) of: usize,
}

/// What came of it. A status of 0: no answer at all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) of: usize,
    pub(super) status: u16,
    pub(super) micros: u32,
}

struct Due {
    shot: Shot,
    at: Instant,
}

#[derive(Default)]
struct Waiting {
    due: RefCell<VecDeque<Due>>,
    more: Notify,
    seen: RefCell<Vec<Seen>>,
}

/// Sends `rate` calls a second for `time` over `connections`, and waits for their answers.
pub(super) async fn offer(
    addr: SocketAddr,
    connections: usize,
    rate: f64,
    time: Duration,
    mut next: impl FnMut() -> Shot,
) -> anyhow::Result<Vec<Seen>> {
    let waiting = Rc::new(Waiting::default());
    let local = LocalSet::new();
    let start = Instant::now() + Duration::from_millis(200);
    for _ in 0..connections {
        let line = Line::connect(addr).await?;
        local.spawn_local(work(line, Rc::clone(&waiting)));
    }
    local
        .run_until(async {
            let mut sent = 0_u32;
            while start.elapsed() < time {
                let wanted = start.elapsed().as_secs_f64() * rate;
                while f64::from(sent) < wanted {
                    let at = start + Duration::from_secs_f64(f64::from(sent) / rate);
                    let shot = next();
                    waiting.due.borrow_mut().push_back(Due { shot, at });
                    waiting.more.notify_one();
                    sent += 1;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let sent = usize::try_from(sent)?;
            let last = async {
                while waiting.seen.borrow().len() < sent {
                    // Those that were woken while they were busy look once more.
                    waiting.more.notify_waiters();
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let answered = tokio::time::timeout(LAST_ANSWERS, last).await;
            answered.context("answers are missing a minute after the last call")
        })
        .await?;
    drop(local);
    Ok(waiting.seen.take())
}

async fn work(mut line: Line, waiting: Rc<Waiting>) {
    loop {
        let due = waiting.due.borrow_mut().pop_front();
        let Some(Due { shot, at }) = due else {
            waiting.more.notified().await;
            continue;
        };
        let status = line.call(&shot.request).await.unwrap_or(0);
        waiting.seen.borrow_mut().push(Seen {
            of: shot.of,
            status,
            micros: u32::try_from(at.elapsed().as_micros()).unwrap_or(u32::MAX),
        });
    }
}

/// Makes calls as fast as they are answered, on `connections`; how many were in that time.
pub(super) async fn saturate(
    addr: SocketAddr,
    connections: usize,
    time: Duration,
    shot: &Shot,
) -> anyhow::Result<u64> {
    let calls = Rc::new(RefCell::new(0_u64));
    let local = LocalSet::new();
    let end = Instant::now() + time;
    let callers: Vec<_> = (0..connections)
        .map(|_| {
            let (calls, shot) = (Rc::clone(&calls), shot.clone());
            local.spawn_local(async move {
                let mut line = Line::connect(addr).await?;
                while Instant::now() < end {
                    let status = line.call(&shot.request).await?;
                    ensure!(status == 200, "answer {status}");
                    *calls.borrow_mut() += 1;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    local
        .run_until(async {
            for caller in callers {
                caller.await??;
            }
            anyhow::Ok(())
        })
        .await?;
    Ok(calls.take())
}

/// One keep-alive connection; a new one where the other side has closed it.
struct Line {
    addr: SocketAddr,
    stream: TcpStream,
    buffer: BytesMut,
    closed: bool,
}

impl Line {
    async fn connect(addr: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(addr).await.context("connecting")?;
        stream.set_nodelay(true)?;
        Ok(Self {
            addr,
            stream,
            buffer: BytesMut::with_capacity(4 * 1024),
            closed: false,
        })
    }

    async fn call(&mut self, request: &[u8]) -> anyhow::Result<u16> {
        if self.closed {
            *self = Self::connect(self.addr).await?;
        }
        let answered = self.exchange(request).await;
        self.closed |= answered.is_err();
        answered
    }

    async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<u16> {
        self.stream.write_all(request).await?;
        let (status, length) = loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut headers);
            if let httparse::Status::Complete(head) = response.parse(&self.buffer)? {
                let value = |name: &str| {
                    let mut named = response.headers.iter();
                    let found = named.find(|header| header.name.eq_ignore_ascii_case(name));
                    found.map(|header| header.value)
                };
                self.closed |= value("connection").is_some_and(|value| value == b"close");
                let length = value("content-length").context("an answer without a length")?;
                let length: usize = std::str::from_utf8(length)?.parse()?;
                break (response.code.context("no status")?, head + length);
            }
            self.more().await?;
        };
        while self.buffer.len() < length {
            self.more().await?;
        }
        self.buffer.advance(length);
        Ok(status)
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the connection ended before its answer");
        Ok(())
    }
}

/// The share `percent` of sorted figures, 0 if there are none.
pub(super) fn percentile(sorted: &[u32], percent: f64) -> u32 {
    let last = sorted.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a position in a list that fits into memory"
    )]
    let at = (last as f64 * percent / 100.0).round() as usize;
    sorted.get(at).copied().unwrap_or(0)
}
