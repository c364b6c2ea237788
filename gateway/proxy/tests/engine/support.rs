//! A gateway without policy, clients and upstreams that speak raw bytes, and a tap that remembers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tollgate_core::policy::Upstream;
use tollgate_proxy::body::{AnswerBody, RequestBody};
use tollgate_proxy::collect::{CollectError, MemoryBudget, collect, linger};
use tollgate_proxy::engine::EngineConfig;
use tollgate_proxy::farewell::Farewell;
use tollgate_proxy::listener::{ListenerConfig, TlsFiles, listen};
use tollgate_proxy::pool::{UpstreamError, Upstreams};
use tollgate_proxy::relay::{Relay, RelayEnd, Tap, Tapped};
use tollgate_proxy::service::{ConnInfo, Handler};
use tollgate_proxy::tracker::{Arrival, Tracker};

/// Longer than anything here takes; reached only when something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("something hangs")
}

/// What a relay came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) how: RelayEnd,
    pub(crate) seen: Vec<u8>,
}

struct Remember {
    seen: Vec<u8>,
    held_back: Option<Bytes>,
    cut_on: Option<&'static [u8]>,
    live: Arc<Mutex<bool>>,
    ended: mpsc::UnboundedSender<Ended>,
}

impl Tap for Remember {
    fn frame(&mut self, bytes: Bytes) -> Tapped {
        self.seen.extend_from_slice(&bytes);
        if self
            .cut_on
            .is_some_and(|mark| memchr::memmem::find(&self.seen, mark).is_some())
        {
            return Tapped::Cut;
        }
        Tapped::Pass(bytes)
    }

    fn flush(&mut self) -> Option<Bytes> {
        self.held_back.take()
    }

    fn tick(&mut self) -> bool {
        *self.live.lock().unwrap()
    }

    fn end(self: Box<Self>, how: RelayEnd) {
        let _ = self.ended.send(Ended {
            how,
            seen: self.seen,
        });
    }
}

/// What the handler does with a request.
#[derive(Clone, Default)]
pub(crate) struct Plan {
    pub(crate) upstream: Option<Upstream>,
    pub(crate) stream_body: bool,
    pub(crate) upload_idle: Option<Duration>,
    pub(crate) held_back: Option<Bytes>,
    pub(crate) cut_on: Option<&'static [u8]>,
    /// Refuse at once with 413, without reading the body.
    pub(crate) refuse: bool,
}

pub(crate) struct Proxy {
    plan: Plan,
    upstreams: Upstreams,
    budget: MemoryBudget,
    config: Arc<EngineConfig>,
    tracker: Tracker,
    live: Arc<Mutex<bool>>,
    ended: mpsc::UnboundedSender<Ended>,
}

impl Handler for Proxy {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: ConnInfo,
        _arrival: Arrival,
    ) -> Response<AnswerBody> {
        let (head, mut incoming) = request.into_parts();
        if self.plan.refuse {
            linger(&self.tracker, &head.headers, incoming);
            return answer(413, "too much");
        }
        let body = if self.plan.stream_body {
            let idle = self.plan.upload_idle.unwrap_or(PATIENCE);
            RequestBody::streamed(incoming, 1 << 30, idle)
        } else {
            match collect(
                &mut incoming,
                32 << 20,
                &self.budget,
                Duration::from_secs(5),
            )
            .await
            {
                Ok(body) => RequestBody::buffered(body.bytes),
                Err(CollectError::TooLarge) => return answer(413, "too large"),
                Err(CollectError::Timeout) => return answer(408, "too slow"),
                Err(error) => return answer(400, &error.to_string()),
            }
        };
        let Some(upstream) = &self.plan.upstream else {
            assert!(peer.client.ip().is_loopback());
            let said = format!("{} {}", head.method, head.uri);
            return answer(200, &(said + &shown(&peer)));
        };
        let mut outgoing = Request::new(body);
        *outgoing.method_mut() = head.method;
        *outgoing.uri_mut() = head.uri;
        *outgoing.headers_mut() = head.headers;
        match self.upstreams.send(upstream, outgoing).await {
            Ok(answer) => {
                let tap = Remember {
                    seen: Vec::new(),
                    held_back: self.plan.held_back.clone(),
                    cut_on: self.plan.cut_on,
                    live: Arc::clone(&self.live),
                    ended: self.ended.clone(),
                };
                answer.response.map(|incoming| {
                    AnswerBody::Relay(Box::new(Relay::new(
                        incoming,
                        Box::new(tap),
                        self.tracker.clone(),
                        &self.config,
                        tokio::time::Instant::now(),
                    )))
                })
            }
            Err(error) => answer(
                if matches!(error, UpstreamError::Timeout { .. }) {
                    504
                } else {
                    502
                },
                &format!("{error:?}"),
            ),
        }
    }
}

/// The names in the certificate the client has shown, if it has shown one.
fn shown(peer: &ConnInfo) -> String {
    let certificate = peer.certificate.as_ref();
    certificate.map_or_else(String::new, |certificate| {
        let names: Vec<String> = certificate.names.iter().map(ToString::to_string).collect();
        format!(" by {}", names.join(", "))
    })
}

fn answer(status: u16, text: &str) -> Response<AnswerBody> {
    Response::builder()
        .status(status)
        .body(AnswerBody::full(text.to_owned()))
        .unwrap()
}

/// A gateway under test.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) tracker: Tracker,
    pub(crate) ended: mpsc::UnboundedReceiver<Ended>,
    pub(crate) live: Arc<Mutex<bool>>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) farewell: Farewell,
    service: tokio::task::JoinHandle<()>,
}

impl Gateway {
    pub(crate) async fn start(plan: Plan) -> Self {
        Self::with(plan, EngineConfig::default(), None).await
    }

    pub(crate) async fn with(plan: Plan, config: EngineConfig, tls: Option<TlsFiles>) -> Self {
        let config = Arc::new(config);
        let tracker = Tracker::new(config.max_detached);
        let (ended, ends) = mpsc::unbounded_channel();
        let live = Arc::new(Mutex::new(true));
        let proxy = Arc::new(Proxy {
            plan,
            upstreams: Upstreams::new(Arc::clone(&config)),
            budget: MemoryBudget::new(256 << 20),
            config: Arc::clone(&config),
            tracker: tracker.clone(),
            live: Arc::clone(&live),
            ended,
        });
        let where_to = ListenerConfig {
            addresses: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            tls,
        };
        let listening = listen(&where_to, proxy, config, tracker.clone()).unwrap();
        let address = listening.addresses[0];
        let (stop, stopping) = watch::channel(false);
        let farewell = listening.farewell.clone();
        let service = tokio::spawn(listening.serve(stopping));
        Self {
            address,
            tracker,
            ended: ends,
            live,
            stop,
            farewell,
            service,
        }
    }

    pub(crate) async fn connect(&self) -> Client {
        // The listener is bound by a task; until then the port refuses.
        let stream = soon(async {
            loop {
                match TcpStream::connect(self.address).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        stream.set_nodelay(true).unwrap();
        Client(stream)
    }

    /// Sends `request` on a connection of its own; everything that comes back.
    pub(crate) async fn exchange(&self, request: &[u8]) -> String {
        let mut client = self.connect().await;
        client.send(request).await;
        client.rest().await
    }

    pub(crate) async fn ended(&mut self) -> Ended {
        soon(self.ended.recv()).await.unwrap()
    }

    pub(crate) async fn stopped(self) {
        self.stop.send_replace(true);
        soon(self.service).await.unwrap();
    }
}

/// A client, or a connection an upstream has accepted.
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        soon(self.0.write_all(bytes)).await.unwrap();
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> String {
        let mut all = Vec::new();
        let _reset = soon(self.0.read_to_end(&mut all)).await;
        String::from_utf8_lossy(&all).into_owned()
    }

    /// Reads until `mark` has been seen.
    pub(crate) async fn until(&mut self, mark: &str) -> String {
        let mut seen = Vec::new();
        let mut byte = [0_u8; 1];
        while memchr::memmem::find(&seen, mark.as_bytes()).is_none() {
            let read = soon(self.0.read(&mut byte)).await.unwrap();
            assert!(
                read > 0,
                "the connection ended before {mark:?}: {}",
                String::from_utf8_lossy(&seen)
            );
            seen.push(byte[0]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    /// Reads a head and a body of its declared length.
    pub(crate) async fn message(&mut self) -> (String, Vec<u8>) {
        let head = self.until("\r\n\r\n").await;
        let length = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, length)| length.trim().parse().unwrap());
        let mut body = vec![0; length];
        soon(self.0.read_exact(&mut body)).await.unwrap();
        (head, body)
    }
}

/// An upstream that does what its test says, connection by connection.
pub(crate) struct Fake {
    listener: TcpListener,
    pub(crate) upstream: Upstream,
}

impl Fake {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self {
            listener,
            upstream: plain(port),
        }
    }

    pub(crate) async fn accept(&self) -> Client {
        let (stream, _) = soon(self.listener.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client(stream)
    }

    /// Whether somebody is waiting to be accepted.
    pub(crate) async fn untouched(&self) -> bool {
        tokio::time::timeout(Duration::from_millis(50), self.listener.accept())
            .await
            .is_err()
    }
}

pub(crate) fn plain(port: u16) -> Upstream {
    Upstream {
        tls: false,
        host: "127.0.0.1".to_owned(),
        port,
        base_path: String::new(),
        ca_file: None,
        http2: false,
        insecure_plain_http: true,
    }
}

pub(crate) fn to(upstream: &Upstream) -> Plan {
    Plan {
        upstream: Some(upstream.clone()),
        ..Plan::default()
    }
}

/// Something that happens once.
pub(crate) fn signal() -> (oneshot::Sender<()>, oneshot::Receiver<()>) {
    oneshot::channel()
}
