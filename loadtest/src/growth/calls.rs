//! The calls: closed loops on kept connections, or streams that stay open.
//!
//! What is answered must be a 200; a stream's events are counted by their blank lines. What it costs
//! itself is no part of what is measured, so it need not be quick.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use tokio::task::JoinSet;

use crate::proof::caller::connect;

/// How long a stream may take to its first event, or a call to its end, under valgrind too.
const PATIENCE: Duration = Duration::from_secs(300);

/// Neighbours are far apart, and it divides no usual number of tokens.
const STRIDE: usize = 7_919;

/// What is asked, where, and on whose behalf.
#[derive(Debug, Clone)]
pub(super) struct Aim {
    pub(super) addr: SocketAddr,
    pub(super) path: String,
    pub(super) tokens: Arc<Vec<String>>,
    pub(super) body: Bytes,
}

/// When to end.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    /// After so many calls.
    Calls(u64),
    /// After so much time; a call that has begun is made to its end.
    Time(Duration),
}

/// Makes calls on `connections`, with all tokens in an order without a pattern; how many there were.
pub(super) async fn make(aim: &Aim, connections: usize, until: Until) -> anyhow::Result<u64> {
    let begun = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..connections {
        callers.spawn(caller(aim.clone(), until, Arc::clone(&begun)));
    }
    let mut made = 0;
    while let Some(done) = callers.join_next().await {
        made += done??;
    }
    Ok(made)
}

async fn caller(aim: Aim, until: Until, begun: Arc<AtomicU64>) -> anyhow::Result<u64> {
    let (start, mut made) = (Instant::now(), 0);
    let mut sender = connect(aim.addr).await?;
    loop {
        let number = begun.fetch_add(1, Ordering::Relaxed);
        let over = match until {
            Until::Calls(calls) => number >= calls,
            Until::Time(time) => start.elapsed() >= time,
        };
        if over {
            return Ok(made);
        }
        let whole = async {
            let body = ask(&mut sender, &aim, usize::try_from(number)?).await?;
            read(body, None).await
        };
        let read = tokio::time::timeout(PATIENCE, whole).await;
        read.context("no answer in five minutes")??;
        made += 1;
    }
}

/// Sends a call and returns its answer's body, if it is a 200.
async fn ask(
    sender: &mut SendRequest<Full<Bytes>>,
    aim: &Aim,
    number: usize,
) -> anyhow::Result<Incoming> {
    let place = number.wrapping_mul(STRIDE) % aim.tokens.len().max(1);
    let token = aim.tokens.get(place).context("there is no token")?;
    let request = Request::post(&aim.path)
        .header("host", "tollgate")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Full::new(aim.body.clone()))?;
    sender.ready().await?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    if head.status != 200 {
        let text = body.collect().await?.to_bytes();
        anyhow::bail!("{}: {}", head.status, String::from_utf8_lossy(&text));
    }
    Ok(body)
}

/// Reads to the end; counts events as they come.
async fn read(mut body: Incoming, events: Option<&AtomicU64>) -> anyhow::Result<()> {
    let mut newline_before = false;
    while let Some(frame) = body.frame().await {
        let frame = frame.context("an answer broke off")?;
        let (Some(events), Some(data)) = (events, frame.data_ref()) else {
            continue;
        };
        for at in memchr::memchr_iter(b'\n', data) {
            let doubled = match at.checked_sub(1) {
                Some(before) => data.get(before) == Some(&b'\n'),
                None => newline_before,
            };
            events.fetch_add(u64::from(doubled), Ordering::Relaxed);
        }
        newline_before = data.last() == Some(&b'\n');
    }
    Ok(())
}

/// Streams that are open until this is dropped.
pub(super) struct Open {
    _readers: JoinSet<anyhow::Result<()>>,
    events: Arc<AtomicU64>,
}

impl Open {
    /// Opens so many; returns once as many events have come.
    pub(super) async fn streams(aim: &Aim, streams: usize) -> anyhow::Result<Self> {
        let events = Arc::new(AtomicU64::new(0));
        let mut readers = JoinSet::new();
        for number in 0..streams {
            let mut sender = connect(aim.addr).await?;
            let body = tokio::time::timeout(PATIENCE, ask(&mut sender, aim, number)).await;
            let body = body.context("a stream does not begin")??;
            let events = Arc::clone(&events);
            readers.spawn(async move {
                let read = read(body, Some(&events)).await;
                drop(sender);
                read
            });
        }
        let open = Self {
            _readers: readers,
            events,
        };
        open.until(streams as u64).await?;
        Ok(open)
    }

    /// Events of all of them so far.
    pub(super) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Returns once so many events have come.
    pub(super) async fn until(&self, events: u64) -> anyhow::Result<()> {
        let start = Instant::now();
        while self.events() < events {
            ensure!(start.elapsed() < PATIENCE, "events do not come");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}
