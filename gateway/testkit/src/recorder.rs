//! An upstream that keeps every byte of every connection and answers as it is told.
//!
//! It does not parse: what arrived is what a test compares. It answers once per request head (an
//! empty line), so bodies that hold an empty line need a mock instead. "No contact" means that
//! [`Recorder::connections`] is still zero.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::raw::find;

#[derive(Default)]
struct Tape {
    connections: usize,
    handshakes: usize,
    bytes: Vec<u8>,
}

/// The upstream. Stops when dropped.
pub struct Recorder {
    address: SocketAddr,
    tape: Arc<Mutex<Tape>>,
    accepting: JoinHandle<()>,
}

impl Recorder {
    /// Listens in clear and answers every request with `answer`.
    pub async fn start(answer: impl Into<Vec<u8>>) -> Self {
        Self::listen(answer.into(), None).await
    }

    /// Listens with TLS.
    pub async fn start_tls(answer: impl Into<Vec<u8>>, tls: Arc<rustls::ServerConfig>) -> Self {
        Self::listen(answer.into(), Some(TlsAcceptor::from(tls))).await
    }

    async fn listen(answer: Vec<u8>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tape = Arc::new(Mutex::new(Tape::default()));
        let answer = Arc::new(answer);
        let accepting = tokio::spawn({
            let tape = Arc::clone(&tape);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tape.lock().unwrap().connections += 1;
                    let (tape, answer, tls) = (Arc::clone(&tape), Arc::clone(&answer), tls.clone());
                    tokio::spawn(async move {
                        match tls {
                            None => serve(stream, &tape, &answer).await,
                            Some(tls) => {
                                if let Ok(stream) = tls.accept(stream).await {
                                    tape.lock().unwrap().handshakes += 1;
                                    serve(stream, &tape, &answer).await;
                                }
                            }
                        }
                    });
                }
            }
        });
        Self {
            address,
            tape,
            accepting,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections have been opened.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.tape.lock().unwrap().connections
    }

    /// How many TLS handshakes have been completed.
    #[must_use]
    pub fn handshakes(&self) -> usize {
        self.tape.lock().unwrap().handshakes
    }

    /// Every byte received so far, after TLS where that is spoken.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.tape.lock().unwrap().bytes.clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, tape: &Mutex<Tape>, answer: &[u8]) {
    let mut unanswered = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        tape.lock().unwrap().bytes.extend_from_slice(&piece[..read]);
        unanswered.extend_from_slice(&piece[..read]);
        while let Some(end) = find(&unanswered, b"\r\n\r\n") {
            unanswered.drain(..end + 4);
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}
