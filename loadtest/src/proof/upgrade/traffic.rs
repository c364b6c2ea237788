//! Streams and plain calls that go on until they are told to end, and what became of them.
//!
//! A client does what every SDK does: a kept connection that it finds closed before it sends anything is
//! replaced, and one that is closed after it has sent, before any byte of an answer, is replaced and the
//! call is sent again. Each is counted apart. A call fails if it has no good answer then.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use tokio::task::JoinSet;

use super::super::Findings;
use super::super::caller::connect;
use super::{UpgradeConfig, millis};

/// No answer takes so long unless something is broken.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two plain calls of one caller: each calls some twenty times a second.
const CALL_PAUSE: Duration = Duration::from_millis(50);
/// Streams begin one after the other in this time, which is as long as each of them takes: as many
/// end at any time as begin.
const STREAM_TIME: Duration = Duration::from_secs(10);
/// A stream gives an event a second.
const STREAM: &str = "mock-usage-20-40 mock-chunks-10 mock-chunk-delay-1000";
const PLAIN: &str = "mock-usage-20-40";
/// A stream ends with this if it is whole.
const DONE: &[u8] = b"data: [DONE]";

/// All of the traffic.
pub(super) struct Traffic {
    told: Arc<Told>,
    running: JoinSet<()>,
}

/// What is known in the end.
#[derive(Default)]
struct Told {
    over: AtomicBool,
    open: AtomicU64,
    calls: AtomicU64,
    streams: AtomicU64,
    failed: AtomicU64,
    cut: AtomicU64,
    replaced: AtomicU64,
    reconnects: AtomicU64,
    longest_ms: AtomicU64,
}

/// One client with its connection.
struct Client {
    told: Arc<Told>,
    to: SocketAddr,
    headers: Arc<Vec<(String, String)>>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

enum Outcome {
    /// The connection was closed, and nothing has been sent.
    Unsent,
    /// Something may have been sent, and not a byte of an answer has come.
    Unanswered,
    Good,
    Bad(String),
    /// The answer began well and broke off.
    Cut,
}

impl Traffic {
    /// Begins with all of it.
    pub(super) fn start(
        config: &UpgradeConfig,
        to: SocketAddr,
        headers: Vec<(String, String)>,
    ) -> Self {
        let told = Arc::new(Told::default());
        let headers = Arc::new(headers);
        let mut running = JoinSet::new();
        for number in 0..config.streams + config.callers {
            let client = Client {
                told: Arc::clone(&told),
                to,
                headers: Arc::clone(&headers),
                sender: None,
            };
            if number < config.streams {
                let share = u32::try_from(number).unwrap_or(u32::MAX);
                let all = u32::try_from(config.streams).unwrap_or(u32::MAX);
                let begins = STREAM_TIME.saturating_mul(share) / all.max(1);
                running.spawn(client.stream(number, begins));
            } else {
                running.spawn(client.call(number));
            }
        }
        Self { told, running }
    }

    /// The longest that a plain call has taken since this was asked last, in milliseconds.
    pub(super) fn longest_wait(&self) -> u64 {
        self.told.longest_ms.swap(0, Ordering::Relaxed)
    }

    /// Returns once nearly all streams are open: some have just ended, and begin again.
    pub(super) async fn is_full(&self, config: &UpgradeConfig) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        while self.told.open.load(Ordering::Relaxed) < config.streams / 100 * 98 {
            ensure!(Instant::now() < until, "the streams do not open");
            ensure!(
                self.told.failed.load(Ordering::Relaxed) == 0,
                "calls fail before anything is changed"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Lets everything come to its end.
    pub(super) async fn end(mut self, found: &mut Findings) -> anyhow::Result<()> {
        self.told.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.running.join_next().await {
            ended.context("a client panicked")?;
        }
        let told = &self.told;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        found.note(
            "calls",
            "plain calls, on kept connections",
            count(&told.calls),
        );
        found.note("streams", "streams of ten seconds", count(&told.streams));
        let failed = i128::from(count(&told.failed));
        found.must_be_zero(
            "failed_calls",
            "calls and streams without a good answer",
            failed,
        );
        let cut = i128::from(count(&told.cut));
        found.must_be_zero("cut_streams", "streams that broke off", cut);
        found.note(
            "replaced_connections",
            "kept connections that were found closed before anything was sent over them",
            count(&told.replaced),
        );
        found.note(
            "reconnects",
            "calls sent again, since a kept connection was closed before any byte of an answer",
            count(&told.reconnects),
        );
        Ok(())
    }
}

impl Client {
    async fn stream(mut self, number: u64, begins: Duration) {
        tokio::time::sleep(begins).await;
        let mut serial = 0;
        while !self.told.over.load(Ordering::Relaxed) {
            let label = format!("stream-{number}-{serial}");
            serial += 1;
            self.told.streams.fetch_add(1, Ordering::Relaxed);
            self.make(&label, &body(STREAM, true)).await;
        }
    }

    async fn call(mut self, number: u64) {
        let mut serial = 0;
        while !self.told.over.load(Ordering::Relaxed) {
            let label = format!("call-{number}-{serial}");
            serial += 1;
            self.told.calls.fetch_add(1, Ordering::Relaxed);
            let start = Instant::now();
            self.make(&label, &body(PLAIN, false)).await;
            let took = millis(start.elapsed());
            self.told.longest_ms.fetch_max(took, Ordering::Relaxed);
            tokio::time::sleep(CALL_PAUSE).await;
        }
    }

    async fn make(&mut self, label: &str, body: &str) {
        let outcome = tokio::time::timeout(PATIENCE, self.exchange(label, body)).await;
        let failed = match outcome {
            Ok(Outcome::Good) => return,
            Ok(Outcome::Unsent | Outcome::Unanswered) => "a fresh connection was closed".to_owned(),
            Ok(Outcome::Cut) => {
                self.told.cut.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Ok(Outcome::Bad(why)) => why,
            Err(_elapsed) => "no answer in a minute".to_owned(),
        };
        // The first few tell what is wrong; thousands would tell no more.
        if self.told.failed.fetch_add(1, Ordering::Relaxed) < 5 {
            eprintln_failure(label, &failed);
        }
    }

    async fn exchange(&mut self, label: &str, body: &str) -> Outcome {
        if let Some(kept) = self.sender.take() {
            match self.send(kept, label, body).await {
                Outcome::Unsent => self.told.replaced.fetch_add(1, Ordering::Relaxed),
                Outcome::Unanswered => self.told.reconnects.fetch_add(1, Ordering::Relaxed),
                outcome => return outcome,
            };
        }
        match connect(self.to).await {
            Ok(fresh) => self.send(fresh, &format!("{label}-fresh"), body).await,
            Err(error) => Outcome::Bad(format!("{error:#}")),
        }
    }

    async fn send(
        &mut self,
        mut over: SendRequest<Full<Bytes>>,
        label: &str,
        body: &str,
    ) -> Outcome {
        if over.ready().await.is_err() {
            return Outcome::Unsent;
        }
        let mut request = Request::post("/openai/v1/chat/completions")
            .header("host", self.to.to_string())
            .header("content-type", "application/json")
            .header("x-user-id", label);
        for (name, value) in self.headers.iter() {
            request = request.header(name, value);
        }
        let request = match request.body(Full::from(body.to_owned())) {
            Ok(request) => request,
            Err(error) => return Outcome::Bad(error.to_string()),
        };
        let (head, mut answer) = match over.try_send_request(request).await {
            Ok(answer) => answer.into_parts(),
            Err(mut failed) => {
                return match failed.take_message() {
                    Some(_unsent) => Outcome::Unsent,
                    None => Outcome::Unanswered,
                };
            }
        };
        let streams = body.contains("\"stream\":true");
        if streams {
            self.told.open.fetch_add(1, Ordering::Relaxed);
        }
        let mut last = Vec::new();
        let mut cut = false;
        while let Some(frame) = answer.frame().await {
            match frame {
                Ok(frame) => {
                    if let Some(bytes) = frame.data_ref() {
                        last = bytes.to_vec();
                    }
                }
                Err(_) => cut = true,
            }
        }
        if streams {
            self.told.open.fetch_sub(1, Ordering::Relaxed);
        }
        if head.status != StatusCode::OK {
            let said = String::from_utf8_lossy(&last);
            return Outcome::Bad(format!("{}: {said}", head.status));
        }
        let whole = !streams || memchr::memmem::find(&last, DONE).is_some();
        if cut || !whole {
            return Outcome::Cut;
        }
        let closes = head.headers.get("connection");
        if closes.is_none_or(|closes| closes != "close") {
            self.sender = Some(over);
        }
        Outcome::Good
    }
}

fn body(words: &str, stream: bool) -> String {
    serde_json::json!({"model": "gpt-4o-mini", "max_completion_tokens": 64, "user": words,
        "stream": stream, "messages": [{"role": "user", "content": "hello there"}]})
    .to_string()
}

fn eprintln_failure(label: &str, why: &str) {
    use std::io::Write as _;
    // Talk; whether anybody hears it changes nothing.
    let _unheard = writeln!(std::io::stderr(), "{label}: {why}");
}
