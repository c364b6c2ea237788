//! A real S3 API on loopback, with object lock, permissions and checked signatures.
//!
//! The server is a process of its own (`tests/sdk/s3_server.py`), whose bucket starts empty. It
//! obeys one command a line; what it says on its standard error stands in the test's output.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tollgate_archive::store::StoreConfig;
use tollgate_core::policy::Retention;

use super::Target;
use crate::harness::text;
use crate::sdk::python;

/// A running server. It ends with its input.
pub(super) struct S3 {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
    url: String,
    key: String,
    secret: String,
}

/// One version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    /// Below the prefix that the gateway was given.
    pub(super) name: String,
    pub(super) version: String,
    pub(super) body: Vec<u8>,
    /// How it is locked, and until when.
    pub(super) lock: Option<(String, String)>,
}

/// What the gateway is to put in front of every name.
const PREFIX: &str = "some/prefix/";

impl S3 {
    /// Starts a server whose bucket knows object lock, or does not.
    pub(super) fn start(lock: bool) -> Self {
        let mode = if lock { "lock" } else { "plain" };
        let mut child = python("s3_server.py", mode)
            .env("NO_PROXY", "*")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = said.next().expect("the server says where it is").unwrap();
        let at: Value = serde_json::from_str(&line).unwrap();
        Self {
            child,
            said,
            url: text(&at, "url").to_owned(),
            key: text(&at, "key").to_owned(),
            secret: text(&at, "secret").to_owned(),
        }
    }

    /// Lines of `gateway.toml` that send records to it; more of `[records.store]` may follow.
    pub(super) fn settings(&self) -> String {
        format!(
            "[insecure]\nplain_http_record_store = true\n[records.store]\n\
             url = \"s3://records/{PREFIX}\"\nregion = \"eu-central-1\"\nendpoint = \"{}\"\n",
            self.url
        )
    }

    /// Variables with which a gateway may write to it.
    pub(super) fn variables(&self) -> [(&'static str, &str); 2] {
        [
            ("AWS_ACCESS_KEY_ID", &self.key),
            ("AWS_SECRET_ACCESS_KEY", &self.secret),
        ]
    }

    /// What nothing may show.
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    /// It, as a courier is told of it.
    pub(super) fn target(&self) -> Target {
        let config = StoreConfig {
            region: Some("eu-central-1".to_owned()),
            endpoint: Some(self.url.clone()),
            plain_http: true,
            ..StoreConfig::new(format!("s3://records/{PREFIX}").parse().unwrap())
        };
        let variables = self.variables();
        Target {
            config,
            variables: variables
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            retention: Arc::new(|_| Retention::default()),
        }
    }

    /// Every version of every object, by name.
    pub(super) fn objects(&mut self) -> Vec<Object> {
        let told = self.ask(&json!({"do": "objects"}));
        let told = told["objects"].as_array().expect("objects").iter();
        let mut objects: Vec<Object> = told
            .map(|object| {
                let key = text(object, "key");
                let name = key.strip_prefix(PREFIX);
                let lock = (!object["mode"].is_null()).then(|| {
                    (
                        text(object, "mode").to_owned(),
                        text(object, "until").to_owned(),
                    )
                });
                Object {
                    name: name.unwrap_or_else(|| panic!("{key}")).to_owned(),
                    version: text(object, "version").to_owned(),
                    body: STANDARD.decode(text(object, "body")).unwrap(),
                    lock,
                }
            })
            .collect();
        objects.sort_by(|a, b| a.name.cmp(&b.name));
        objects
    }

    /// Writes an object's name anew, as somebody who may do everything.
    pub(super) fn overwrite(&mut self, name: &str, text: &str) {
        let key = format!("{PREFIX}{name}");
        let said = self.ask(&json!({"do": "put", "key": key, "text": text}));
        assert_eq!(said, json!({}));
    }

    /// Deletes one version for good, as somebody who may do everything; the error's code if it
    /// fails.
    pub(super) fn delete(&mut self, object: &Object) -> Option<String> {
        let key = format!("{PREFIX}{}", object.name);
        let ask = json!({"do": "delete", "key": key, "version": object.version});
        self.ask(&ask)["error"].as_str().map(str::to_owned)
    }

    /// Reads an object as somebody who may read acme's prefix; the error's code if it fails.
    pub(super) fn read_as_acmes_auditor(&mut self, name: &str) -> Option<String> {
        let ask = json!({"do": "read", "key": format!("{PREFIX}{name}")});
        self.ask(&ask)["error"].as_str().map(str::to_owned)
    }

    /// Takes no connections from now on.
    pub(super) fn down(&mut self) {
        assert_eq!(self.ask(&json!({"do": "down"})), json!({}));
    }

    /// Takes connections again, at the same address, and still has everything.
    pub(super) fn up(&mut self) {
        assert_eq!(self.ask(&json!({"do": "up"})), json!({}));
    }

    fn ask(&mut self, command: &Value) -> Value {
        let stdin = self.child.stdin.as_mut().expect("it listens");
        writeln!(stdin, "{command}").unwrap();
        let line = self.said.next().expect("the server answers").unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}
