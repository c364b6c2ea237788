//! A collector of OpenTelemetry's own making, in a process of its own (`tests/sdk/otlp_collector.py`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::text;
use crate::sdk::python;

/// What it has said, by kind.
#[derive(Default)]
pub(super) struct Said {
    /// Log records, as they were decoded.
    pub(super) records: Vec<Value>,
    /// Spans, as they were decoded.
    pub(super) spans: Vec<Value>,
    /// Whole requests: their bytes in base64, and headers.
    pub(super) requests: Vec<Value>,
    /// When it has asked for a pause, in seconds.
    pub(super) busy: Vec<f64>,
}

/// A collector's process. It ends with its input.
pub(super) struct Collecting {
    child: Child,
    protocol: String,
    pub(super) port: u16,
    said: Arc<Mutex<Said>>,
    did: mpsc::Receiver<Value>,
}

impl Collecting {
    pub(super) fn start(protocol: &str) -> Self {
        Self::start_with(protocol, None)
    }

    /// With a certificate and its key, if it is to speak TLS.
    pub(super) fn start_with(protocol: &str, pair: Option<[&Path; 2]>) -> Self {
        let mut child = python("otlp_collector.py", protocol)
            .args(pair.into_iter().flatten())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().expect("it says where it is").unwrap();
        let first: Value = serde_json::from_str(&first).unwrap();
        let port = u16::try_from(first["port"].as_u64().unwrap()).unwrap();
        let said = Arc::new(Mutex::new(Said::default()));
        let into = Arc::clone(&said);
        let (doing, did) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).unwrap();
                let mut said = into.lock().unwrap();
                match text(&line, "kind") {
                    "record" => said.records.push(line),
                    "span" => said.spans.push(line),
                    "request" => said.requests.push(line),
                    "busy" => said.busy.push(line["at"].as_f64().unwrap()),
                    _ => drop(doing.send(line)),
                }
            }
        });
        Self {
            child,
            protocol: protocol.to_owned(),
            port,
            said,
            did,
        }
    }

    /// Lines of `gateway.toml` that send records to it; more of `[records.otlp]` may follow.
    pub(super) fn settings(&self) -> String {
        self.settings_of("records.otlp")
    }

    /// Lines of `gateway.toml` that send spans to it; more of `[traces]` may follow.
    pub(super) fn settings_of_traces(&self) -> String {
        self.settings_of("traces")
    }

    fn settings_of(&self, table: &str) -> String {
        let Self { port, protocol, .. } = self;
        format!(
            "[insecure]\nplain_http_otlp = true\n[{table}]\n\
             endpoint = \"http://127.0.0.1:{port}\"\nprotocol = \"{protocol}\"\n"
        )
    }

    /// Makes it take no connections (`down`) or take them again (`up`), ask for pauses (`busy`) or
    /// take everything (`take`).
    pub(super) fn make(&mut self, what: &str) {
        let stdin = self.child.stdin.as_mut().expect("it listens");
        writeln!(stdin, "{what}").unwrap();
        let did = self.did.recv().expect("it obeys");
        assert_eq!(did["what"], what);
    }

    /// Makes it deaf, or lets it hear again.
    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(super) fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap()
    }

    /// The records it has, under the partitions that their resources name.
    pub(super) fn records(&self) -> BTreeSet<(String, String)> {
        self.by_record().into_keys().collect()
    }

    /// The same with what each says. A record that came twice must have said the
    /// same, and resources name tenants where there are some and nowhere else.
    pub(super) fn by_record(&self) -> BTreeMap<(String, String), Value> {
        let mut records = BTreeMap::new();
        for record in &self.said().records {
            let partition = text(&record["resource"], "tollgate.partition");
            let tenant = record["resource"]["tenant.id"].as_str();
            let expected = (!partition.starts_with('_')).then_some(partition);
            assert_eq!(tenant, expected, "{record:#}");
            let id = text(&record["attributes"], "tollgate.record.id");
            let key = (partition.to_owned(), id.to_owned());
            let known = records.insert(key, record.clone());
            assert!(known.is_none_or(|known| known == *record), "{record:#}");
        }
        records
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        // A process that is stopped does not see its input end.
        let _ended = kill_process(Pid::from_child(&self.child), Signal::CONT);
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}
