//! An exporter between an outbox that is made up and a collector that is, over real sockets.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tollgate_core::audit::Behind;
use tollgate_core::budget::StoreError;
use tollgate_core::policy::parse::upstream;
use tollgate_core::record::{Ending, Outcome};
use tollgate_testkit::contract;
use tollgate_testkit::partition::Partitions;
use tollgate_testkit::wait::{until, until_true};

use super::*;
use crate::otlp::Protocol;
use crate::otlp::proto::{ExportRequest, ExportResponse, PartialSuccess, Value};
use crate::otlp::reply::framed;
use crate::shelf::LocalShelf;

/// What waits, in memory.
#[derive(Default)]
struct Waiting(Mutex<Vec<Parcel>>);

impl Outbox for Waiting {
    fn waiting(&self, to: Destination, limit: usize) -> Result<Vec<Parcel>, StoreError> {
        assert_eq!(to, Destination::Collector);
        Ok(self.0.lock().unwrap().iter().take(limit).cloned().collect())
    }

    fn arrived(&self, _to: Destination, names: &[Name]) -> Result<(), StoreError> {
        self.0
            .lock()
            .unwrap()
            .retain(|parcel| !names.contains(&parcel.name));
        Ok(())
    }

    fn behind(&self, _to: Destination) -> Result<Behind, StoreError> {
        Ok(Behind::default())
    }

    fn waits(&self, name: &Name) -> Result<bool, StoreError> {
        Ok(self
            .0
            .lock()
            .unwrap()
            .iter()
            .any(|parcel| parcel.name == *name))
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

/// What the collector answers: HTTP status, gRPC status, headers, message.
type Answer = (u16, u16, Vec<(&'static str, &'static str)>, ExportResponse);
type Answers = Box<dyn Fn(usize, &ExportRequest) -> Answer + Send + Sync>;

/// A collector that remembers what it has taken.
struct Collecting {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<ExportRequest>>>,
    asked: Arc<Mutex<Vec<HeaderMap>>>,
}

impl Collecting {
    async fn start(protocol: Protocol, answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (taken, asked) = (Arc::default(), Arc::default());
        let state = Arc::new((Arc::clone(&taken), Arc::clone(&asked), answers));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                let service = service_fn(move |request| {
                    let state = Arc::clone(&state);
                    async move {
                        let (taken, asked, answers) = &*state;
                        Ok::<_, Infallible>(answer(protocol, request, taken, asked, answers).await)
                    }
                });
                let io = TokioIo::new(stream);
                tokio::spawn(async move {
                    let _ended = match protocol {
                        Protocol::Grpc => {
                            let server =
                                hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                            server.serve_connection(io, service).await
                        }
                        Protocol::Http => {
                            let server = hyper::server::conn::http1::Builder::new();
                            server.serve_connection(io, service).await
                        }
                    };
                });
            }
        });
        Self {
            address,
            taken,
            asked,
        }
    }

    async fn willing(protocol: Protocol) -> Self {
        Self::start(protocol, Box::new(|_, _| OK)).await
    }

    /// How often each record was taken, by the tenant that the resource names.
    fn records(&self) -> BTreeMap<(String, String), usize> {
        let mut records = BTreeMap::new();
        for request in self.taken.lock().unwrap().iter() {
            for (tenant, id) in ids(request) {
                *records.entry((tenant, id)).or_default() += 1;
            }
        }
        records
    }
}

const OK: Answer = (
    200,
    0,
    Vec::new(),
    ExportResponse {
        partial_success: None,
    },
);

fn refusing(http: u16, grpc: u16) -> Answer {
    (http, grpc, Vec::new(), ExportResponse::default())
}

async fn answer(
    protocol: Protocol,
    request: Request<Incoming>,
    taken: &Mutex<Vec<ExportRequest>>,
    asked: &Mutex<Vec<HeaderMap>>,
    answers: &Answers,
) -> Response<BoxBody<Bytes, Infallible>> {
    let path = match protocol {
        Protocol::Grpc => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        Protocol::Http => "/v1/logs",
    };
    assert_eq!(
        (request.method().as_str(), request.uri().path()),
        ("POST", path)
    );
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let message = match protocol {
        Protocol::Grpc => &body[5..],
        Protocol::Http => &body[..],
    };
    let request = ExportRequest::decode(message).unwrap();
    let number = {
        let mut asked = asked.lock().unwrap();
        asked.push(head.headers);
        asked.len()
    };
    let (http, grpc, headers, response) = answers(number, &request);
    let fine = match protocol {
        Protocol::Grpc => grpc == 0,
        Protocol::Http => http == 200,
    };
    if fine {
        taken.lock().unwrap().push(request);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(grpc));
    let mut response = match protocol {
        Protocol::Grpc => Response::new(
            Full::new(Bytes::from(framed(&response)))
                .with_trailers(async move { Some(Ok(trailers)) })
                .boxed(),
        ),
        Protocol::Http => Response::new(Full::new(Bytes::from(response.encode_to_vec())).boxed()),
    };
    if protocol == Protocol::Http {
        *response.status_mut() = StatusCode::from_u16(http).unwrap();
    }
    for (name, value) in headers {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

fn value(attributes: &[crate::otlp::proto::KeyValue], name: &str) -> Option<String> {
    let found = attributes.iter().find(|it| it.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn ids(request: &ExportRequest) -> Vec<(String, String)> {
    let mut ids = Vec::new();
    for resource in &request.resource_logs {
        let tenant = &resource.resource.as_ref().unwrap().attributes;
        let tenant = value(tenant, "tenant.id").expect("a tenant");
        let scopes = resource.scope_logs.iter();
        for record in scopes.flat_map(|scope| &scope.log_records) {
            let id = value(&record.attributes, "tollgate.record.id").expect("an id");
            ids.push((tenant.clone(), id));
        }
    }
    ids
}

/// Partitions with records of two tenants, all of which wait.
struct Scene {
    dir: TempDir,
    waiting: Arc<Waiting>,
    expected: BTreeMap<(String, String), usize>,
}

fn scene(records: u32) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let mut partitions = Partitions::new(dir.path(), "r1");
    let (mut names, mut expected) = (Vec::new(), BTreeMap::new());
    for n in 0..records {
        let tenant = if n % 3 == 0 { "globex" } else { "acme" };
        let mut subject = contract::subject(contract::record_id(n), tenant, "bot");
        subject.elevated = n % 5 == 4;
        let id = subject.id.text().to_owned();
        expected.insert((subject.tenant.to_string(), id), 1);
        let name = partitions.call(&subject, &Ending::new(contract::now(), Outcome::Completed));
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.push(partitions.seal(&contract::name::<tollgate_core::audit::Partition>("acme")));
    let parcels = names.into_iter().map(|name| Parcel {
        name,
        bytes: 1,
        since: contract::now(),
    });
    Scene {
        dir,
        waiting: Arc::new(Waiting(Mutex::new(parcels.collect()))),
        expected,
    }
}

struct Running {
    figures: Arc<Figures>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Scene {
    fn export(&self, address: SocketAddr, protocol: Protocol) -> Running {
        self.export_draining(address, protocol, Duration::from_secs(5))
    }

    fn export_draining(&self, address: SocketAddr, protocol: Protocol, drain: Duration) -> Running {
        let mut server = upstream(&format!("http://{address}")).unwrap();
        server.base_path = "/v1/logs".to_owned();
        let collector = Collector {
            server,
            protocol,
            headers: vec![(
                "x-api-key".parse().unwrap(),
                HeaderValue::from_static("sk-canary-collector"),
            )],
            timeout: Duration::from_secs(10),
        };
        let shelf = Arc::new(LocalShelf::new(self.dir.path()));
        let exporter = Exporter::new(ExporterConfig {
            outbox: self.waiting.clone(),
            shelf,
            collector,
            version: "0.1",
            clock: contract::now,
            drain,
        });
        let exporter = exporter.unwrap();
        let figures = exporter.figures();
        let (stop, stopped) = watch::channel(false);
        Running {
            figures,
            stop,
            task: tokio::spawn(exporter.run(stopped)),
        }
    }

    async fn all_arrived(&self) {
        until_true("everything has arrived", || self.waiting.is_empty()).await;
    }
}

impl Running {
    async fn end(self) -> Arc<Figures> {
        self.stop.send_replace(true);
        self.task.await.unwrap();
        self.figures
    }
}

#[tokio::test]
async fn every_record_arrives_once_under_its_own_tenant_over_either_protocol() {
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let collecting = Collecting::willing(protocol).await;
        let scene = scene(1300);
        let running = scene.export(collecting.address, protocol);
        scene.all_arrived().await;
        let figures = running.end().await;
        assert_eq!(collecting.records(), scene.expected);
        assert_eq!((figures.exported(), figures.rejected()), (1300, 0));
        let requests = collecting.taken.lock().unwrap();
        assert!(
            requests.len() >= 3,
            "requests are bounded: {}",
            requests.len()
        );
        for request in requests.iter() {
            for of in &request.resource_logs {
                assert_eq!(of.schema_url, "https://opentelemetry.io/schemas/1.41.1");
                let attributes = &of.resource.as_ref().unwrap().attributes;
                for (name, expected) in [
                    ("service.name", "tollgate"),
                    ("service.version", "0.1"),
                    ("service.instance.id", "r1"),
                ] {
                    assert_eq!(value(attributes, name).as_deref(), Some(expected));
                }
            }
        }
        let asked = collecting.asked.lock().unwrap();
        assert!(
            asked
                .iter()
                .all(|headers| headers["x-api-key"] == "sk-canary-collector")
        );
    }
}

#[tokio::test]
async fn a_collector_that_is_away_or_busy_costs_only_time() {
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let answers: Answers = Box::new(|number, _| match number {
            1 => refusing(503, 14),
            2 => (
                429,
                14,
                vec![("retry-after", "0")],
                ExportResponse::default(),
            ),
            3 => refusing(401, 16),
            _ => OK,
        });
        let collecting = Collecting::start(protocol, answers).await;
        let scene = scene(10);
        let running = scene.export(collecting.address, protocol);
        scene.all_arrived().await;
        let figures = running.end().await;
        assert_eq!(collecting.records(), scene.expected);
        assert_eq!((figures.failures(), figures.rejected()), (3, 0));
    }
}

#[tokio::test]
async fn one_record_that_is_called_invalid_is_left_out_and_no_other() {
    let poison = contract::record_id(4).text().to_owned();
    let is_poisoned =
        move |request: &ExportRequest| ids(request).iter().any(|(_, id)| *id == poison);
    let answers: Answers = Box::new(move |_, request| {
        if is_poisoned(request) {
            refusing(400, 3)
        } else {
            OK
        }
    });
    let collecting = Collecting::start(Protocol::Grpc, answers).await;
    let mut scene = scene(20);
    let running = scene.export(collecting.address, Protocol::Grpc);
    scene.all_arrived().await;
    let figures = running.end().await;
    let poison = contract::record_id(4).text().to_owned();
    scene.expected.retain(|(_, id), _| *id != poison);
    assert_eq!(collecting.records(), scene.expected);
    assert_eq!((figures.exported(), figures.rejected()), (19, 1));
}

#[tokio::test]
async fn what_a_collector_refuses_in_part_is_counted_and_not_repeated() {
    let answers: Answers = Box::new(|_, _| {
        let partial_success = Some(PartialSuccess {
            rejected: 2,
            error_message: "too old".to_owned(),
        });
        (200, 0, Vec::new(), ExportResponse { partial_success })
    });
    let collecting = Collecting::start(Protocol::Http, answers).await;
    let scene = scene(10);
    let running = scene.export(collecting.address, Protocol::Http);
    scene.all_arrived().await;
    let figures = running.end().await;
    assert_eq!((figures.exported(), figures.rejected()), (8, 2));
    assert_eq!(collecting.taken.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_gateway_that_stops_does_not_wait_long_for_the_collector_and_the_next_one_goes_on() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scene = scene(10);
    let short = Duration::from_millis(100);
    let running = scene.export_draining(nobody.local_addr().unwrap(), Protocol::Grpc, short);
    let (_hanging, _) = nobody.accept().await.unwrap();
    running.end().await;
    assert!(!scene.waiting.is_empty());

    let collecting = Collecting::willing(Protocol::Grpc).await;
    let running = scene.export(collecting.address, Protocol::Grpc);
    let figures = until("records", || {
        let all = scene.waiting.is_empty();
        all.then(|| Arc::clone(&running.figures))
    })
    .await;
    running.end().await;
    assert_eq!(collecting.records(), scene.expected);
    assert_eq!(figures.exported(), 10);
}

#[tokio::test]
async fn what_waits_when_the_gateway_stops_is_handed_over_if_the_collector_takes_it() {
    let collecting = Collecting::willing(Protocol::Http).await;
    let all = scene(1300);
    let running = all.export(collecting.address, Protocol::Http);
    running.end().await;
    assert!(all.waiting.is_empty(), "more than one round, after the end");
    assert_eq!(collecting.records(), all.expected);

    let answers: Answers = Box::new(|_, _| refusing(503, 14));
    let busy = Collecting::start(Protocol::Grpc, answers).await;
    let left = scene(10);
    let hour = Duration::from_secs(3600);
    let running = left.export_draining(busy.address, Protocol::Grpc, hour);
    until_true("it has failed", || running.figures.failures() > 0).await;
    running.end().await;
    assert!(
        !left.waiting.is_empty(),
        "what fails waits for the next start"
    );
}

#[tokio::test]
async fn a_parcel_that_is_gone_or_spoilt_keeps_no_other_waiting() {
    let scene = scene(10);
    let first = scene.waiting.0.lock().unwrap()[0].name.clone();
    std::fs::remove_file(scene.dir.path().join(first.to_string())).unwrap();
    let second = scene.waiting.0.lock().unwrap()[1].name.clone();
    let second = scene.dir.path().join(second.to_string());
    let mut text = std::fs::read_to_string(&second).unwrap();
    text.insert_str(0, "no record\n");
    std::fs::write(&second, text).unwrap();
    let collecting = Collecting::willing(Protocol::Grpc).await;
    let running = scene.export(collecting.address, Protocol::Grpc);
    scene.all_arrived().await;
    let figures = running.end().await;
    assert_eq!(figures.rejected(), 1);
    let taken = collecting.records();
    assert!(!taken.is_empty() && taken.len() < 10);
    assert!(
        taken
            .iter()
            .all(|(id, times)| *times == 1 && scene.expected.contains_key(id))
    );
}
