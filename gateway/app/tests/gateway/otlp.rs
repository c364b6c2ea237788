//! Records at a collector that speaks OTLP by the published messages, over gRPC's own server and
//! over HTTP: what the exporter sends is what others understand.

mod collecting;
mod gateways;
mod settings;
mod spans;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderValue;
use rustix::process::Signal;
use serde_json::json;
use tokio::sync::watch;
use tollgate_archive::otlp::{Collector, Exporter, ExporterConfig, Protocol};
use tollgate_archive::shelf::LocalShelf;
use tollgate_core::audit::{Behind, Destination, Name, Outbox, Parcel};
use tollgate_core::budget::StoreError;
use tollgate_core::policy::parse::upstream;
use tollgate_testkit::contract;
use tollgate_testkit::partition::Partitions;
use tollgate_testkit::wait::until_true;

use collecting::Collecting;

/// What waits, in memory.
#[derive(Default)]
struct Waiting(Mutex<Vec<Parcel>>);

impl Outbox for Waiting {
    fn waiting(&self, _to: Destination, limit: usize) -> Result<Vec<Parcel>, StoreError> {
        Ok(self.0.lock().unwrap().iter().take(limit).cloned().collect())
    }

    fn arrived(&self, _to: Destination, names: &[Name]) -> Result<(), StoreError> {
        let mut waiting = self.0.lock().unwrap();
        waiting.retain(|parcel| !names.contains(&parcel.name));
        Ok(())
    }

    fn behind(&self, _to: Destination) -> Result<Behind, StoreError> {
        Ok(Behind::default())
    }

    fn waits(&self, name: &Name) -> Result<bool, StoreError> {
        let waiting = self.0.lock().unwrap();
        Ok(waiting.iter().any(|parcel| parcel.name == *name))
    }
}

fn exporter(dir: &std::path::Path, waiting: &Arc<Waiting>, protocol: &str, port: u16) -> Exporter {
    let mut server = upstream(&format!("http://127.0.0.1:{port}")).unwrap();
    server.base_path = "/v1/logs".to_owned();
    let key = HeaderValue::from_static("sk-canary-otlp-77f1");
    let collector = Collector {
        server,
        protocol: match protocol {
            "grpc" => Protocol::Grpc,
            _ => Protocol::Http,
        },
        headers: vec![("x-api-key".parse().unwrap(), key)],
        timeout: Duration::from_secs(2),
    };
    let shelf = Arc::new(LocalShelf::new(dir));
    Exporter::new(ExporterConfig {
        outbox: waiting.clone(),
        shelf,
        collector,
        version: "0.1",
        clock: contract::now,
        drain: Duration::from_secs(5),
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_understands_each_record_under_its_tenant_and_may_be_away_meanwhile() {
    for protocol in ["grpc", "http"] {
        let collecting = Collecting::start(protocol);
        collecting.signal(Signal::STOP);
        let dir = tempfile::tempdir().unwrap();
        let mut partitions = Partitions::new(dir.path(), "r1");
        let (mut names, mut expected) = (Vec::new(), BTreeSet::new());
        for n in 0..700 {
            let tenant = ["acme", "globex"][n as usize % 2];
            let mut subject = contract::subject(contract::record_id(n), tenant, "bot");
            subject.elevated = n % 50 == 7;
            subject.trace = Some(contract::name("4bf92f3577b34da6a3ce929d0e0e4736"));
            subject.span = Some(contract::name("00f067aa0ba902b7"));
            let refused = n % 3 == 0;
            let ending = if refused {
                contract::refused()
            } else {
                contract::completed(77)
            };
            let name = partitions.call(&subject, &ending);
            if !names.contains(&name) {
                names.push(name);
            }
            expected.insert((tenant.to_owned(), subject.id.text().to_owned()));
        }
        let since = contract::now();
        let parcels = names.into_iter().map(|name| Parcel {
            name,
            bytes: 1,
            since,
        });
        let waiting = Arc::new(Waiting(Mutex::new(parcels.collect())));
        let exporter = exporter(dir.path(), &waiting, protocol, collecting.port);
        let figures = exporter.figures();
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(exporter.run(stopped));
        until_true("a request has failed", || figures.failures() > 0).await;
        collecting.signal(Signal::CONT);
        until_true("the collector has them all", || {
            collecting.records().len() == 700
        })
        .await;
        until_true("nothing waits", || waiting.0.lock().unwrap().is_empty()).await;
        stop.send_replace(true);
        task.await.unwrap();
        assert_eq!(collecting.records(), expected, "each under its own tenant");
        let taken = &collecting.said().records;
        let refused = taken.iter().find(|record| record["severity"] == "WARN");
        let refused = refused.unwrap();
        assert_eq!(refused["attributes"]["error.type"], "spend_limit_exceeded");
        let call = taken
            .iter()
            .find(|record| record["severity"] == "INFO")
            .unwrap();
        for (at, value) in [
            ("/severity_number", json!(9)),
            ("/event", json!("tollgate.call")),
            ("/schema", json!("https://opentelemetry.io/schemas/1.41.1")),
            ("/trace", json!("4bf92f3577b34da6a3ce929d0e0e4736")),
            ("/span", json!("00f067aa0ba902b7")),
            ("/key", json!("sk-canary-otlp-77f1")),
            ("/time", json!(1_795_000_000_000_000_000_u64)),
            ("/resource/service.name", json!("tollgate")),
            ("/resource/service.instance.id", json!("r1")),
            ("/attributes/gen_ai.operation.name", json!("chat")),
            ("/attributes/gen_ai.usage.input_tokens", json!(12)),
            ("/attributes/gen_ai.usage.output_tokens", json!(34)),
            ("/attributes/tollgate.cost_pico_usd", json!(77)),
            ("/attributes/http.response.status_code", json!(200)),
        ] {
            assert_eq!(call.pointer(at), Some(&value), "{at}: {call:#}");
        }
    }
}
