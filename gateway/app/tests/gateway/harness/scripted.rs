//! An upstream that answers each request as a test's function says, and keeps what it was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tollgate_testkit::raw::find;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// Request line and headers.
    pub(crate) head: String,
    /// The body.
    pub(crate) body: String,
}

type Answers = dyn Fn(usize, &Heard) -> String + Send + Sync;

/// The upstream. Stops when dropped.
pub(crate) struct Scripted {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    gate: Arc<Semaphore>,
    accepting: JoinHandle<()>,
}

impl Scripted {
    /// Answers the nth request, counted from zero, with what `answers` makes of it.
    pub(crate) async fn start(
        answers: impl Fn(usize, &Heard) -> String + Send + Sync + 'static,
    ) -> Self {
        let scripted = Self::held(answers).await;
        scripted.release();
        scripted
    }

    /// The same, but no answer leaves before [`Scripted::release`].
    pub(crate) async fn held(
        answers: impl Fn(usize, &Heard) -> String + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let gate = Arc::new(Semaphore::new(0));
        let answers: Arc<Answers> = Arc::new(answers);
        let accepting = tokio::spawn({
            let (heard, gate) = (Arc::clone(&heard), Arc::clone(&gate));
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (heard, gate) = (Arc::clone(&heard), Arc::clone(&gate));
                    tokio::spawn(serve(stream, heard, gate, Arc::clone(&answers)));
                }
            }
        });
        Self {
            address,
            heard,
            gate,
            accepting,
        }
    }

    /// Lets all answers go.
    pub(crate) fn release(&self) {
        self.gate.add_permits(1_000_000);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    heard: Arc<Mutex<Vec<Heard>>>,
    gate: Arc<Semaphore>,
    answers: Arc<Answers>,
) {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        let Some(request) = take(&mut bytes) else {
            match stream.read(&mut piece).await {
                Ok(read @ 1..) => bytes.extend_from_slice(&piece[..read]),
                _ => return,
            }
            continue;
        };
        let number = {
            let mut heard = heard.lock().unwrap();
            heard.push(request.clone());
            heard.len() - 1
        };
        let Ok(pass) = gate.acquire().await else {
            return;
        };
        pass.forget();
        let answer = answers(number, &request);
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The first whole request of `bytes`, whose body has a length.
fn take(bytes: &mut Vec<u8>) -> Option<Heard> {
    let end = find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.trim().parse().unwrap());
    if bytes.len() < end + length {
        return None;
    }
    let body = String::from_utf8_lossy(&bytes[end..end + length]).into_owned();
    bytes.drain(..end + length);
    Some(Heard { head, body })
}

/// An answer with a body.
pub(crate) fn answer(status: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// A JSON answer.
pub(crate) fn json_answer(status: &str, body: &serde_json::Value) -> String {
    answer(status, "application/json", &body.to_string())
}
