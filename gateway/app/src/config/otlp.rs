//! `[records.otlp]`: the OpenTelemetry collector that records go to; spans go to one that is read
//! in the same way (`traces`).
//!
//! What each request carries besides, keys of the collector above all, is no setting: it lies in a
//! file of its own (`headers`). The endpoint does not tell how one speaks to it, so the settings do.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tollgate_archive::otlp::Protocol;
use tollgate_core::policy::Upstream;
use tollgate_core::policy::parse::upstream;
use tollgate_core::policy::reader::{self, Section};

use super::InsecureSettings;
use super::print::{escaped, quoted};
use super::read::path;

/// Where something goes by OTLP, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OtlpSettings {
    /// The collector. Over HTTP, its `base_path` is the whole path.
    pub(crate) server: Upstream,
    /// How one speaks to it.
    pub(crate) protocol: Protocol,
    /// How long one request may take.
    pub(crate) timeout: Duration,
    /// The file of what each request carries besides.
    pub(crate) headers_file: Option<PathBuf>,
}

const PROTOCOLS: &[(&str, Protocol)] = &[("grpc", Protocol::Grpc), ("http", Protocol::Http)];

/// Where collectors take logs over HTTP.
pub(super) const LOGS: &str = "/v1/logs";

/// As exporters of OpenTelemetry do.
const USUAL_SECONDS: u64 = 10;
/// Whoever needs longer is not there.
const MAX_SECONDS: u64 = 300;

impl OtlpSettings {
    /// Reads the table; over HTTP, `usual_path` is the endpoint's if it has none. What is wrong with
    /// it is noted.
    pub(super) fn read(
        section: &Section<'_>,
        dir: &Path,
        insecure: InsecureSettings,
        usual_path: &str,
    ) -> Option<Self> {
        let endpoint = section.required("endpoint", reader::text);
        let protocol = section.required("protocol", reader::one_of(PROTOCOLS));
        let seconds = section.optional("timeout_seconds", reader::integer(1..=MAX_SECONDS));
        let ca_file = section.optional("ca_file", path);
        let headers_file = section.optional("headers_file", path);
        let at = section.at("endpoint");
        let mut server = upstream(&endpoint?)
            .map_err(|wrong| {
                section.mistake(at, format!("`endpoint` is no URL to send to: {wrong}"));
            })
            .ok()?;
        if !server.tls && !insecure.plain_http_otlp {
            section.mistake(
                at,
                "what is sent could be read on the way: give an https:// URL, or set `plain_http_otlp = true` in [insecure]",
            );
        }
        if !server.tls && section.has("ca_file") {
            let why = "an http:// `endpoint` has no certificate to check";
            section.mistake(section.at("ca_file"), why);
        }
        let protocol = protocol?;
        match protocol {
            Protocol::Grpc if !server.base_path.is_empty() => {
                let why = "`endpoint` has a path, but gRPC has one of its own: give scheme, host and port, or protocol = \"http\"";
                section.mistake(at, why);
            }
            Protocol::Http if server.base_path.is_empty() => {
                usual_path.clone_into(&mut server.base_path)
            }
            Protocol::Grpc | Protocol::Http => {}
        }
        server.ca_file = ca_file.map(|file| dir.join(file));
        Some(Self {
            server,
            protocol,
            timeout: Duration::from_secs(seconds.unwrap_or(USUAL_SECONDS)),
            headers_file: headers_file.map(|file| dir.join(file)),
        })
    }

    /// The URL that it goes to; gRPC's own path is not part of it.
    pub(crate) fn endpoint(&self) -> String {
        format!("{}{}", self.server.origin(), self.server.base_path)
    }

    /// The protocol as settings name it.
    pub(crate) fn protocol_name(&self) -> &'static str {
        let found = PROTOCOLS.iter().find(|(_, named)| *named == self.protocol);
        found.map_or("", |(name, _)| name)
    }
}

/// The lines of its table, without the head.
impl fmt::Display for OtlpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = escaped(&self.endpoint());
        writeln!(f, "endpoint = {endpoint}")?;
        writeln!(f, "protocol = \"{}\"", self.protocol_name())?;
        writeln!(f, "timeout_seconds = {}", self.timeout.as_secs())?;
        for (key, file) in [
            ("ca_file", &self.server.ca_file),
            ("headers_file", &self.headers_file),
        ] {
            if let Some(file) = file {
                writeln!(f, "{key} = {}", quoted(file))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::settings;

    #[test]
    fn a_collector_reads_back_as_it_prints() {
        for (text, endpoint) in [
            (
                "[records.otlp]\nendpoint = \"https://Collector:4317/\"\nprotocol = \"grpc\"\n",
                "https://collector:4317",
            ),
            (
                "[records.otlp]\nendpoint = \"https://collector\"\nprotocol = \"http\"\nca_file = \"/ca.pem\"\nheaders_file = \"/run/headers\"\ntimeout_seconds = 3\n",
                "https://collector/v1/logs",
            ),
            (
                "[records.otlp]\nendpoint = \"http://[::1]:4318/otlp/v1/logs\"\nprotocol = \"http\"\n[insecure]\nplain_http_otlp = true\n",
                "http://[::1]:4318/otlp/v1/logs",
            ),
        ] {
            let once = settings(text, &[]).expect("settings");
            let otlp = once.otlp.as_ref().expect("a collector");
            assert_eq!(otlp.endpoint(), endpoint);
            assert_eq!(settings(&once.to_string(), &[]).as_ref(), Ok(&once));
        }
        assert_eq!(settings("[records]\n", &[]).expect("settings").otlp, None);
    }

    #[test]
    fn every_mistake_about_a_collector_is_told_at_once() {
        const TABLE: &str = "[records.otlp]\nprotocol = \"grpc\"\nendpoint = ";
        for (text, expected) in [
            (
                "[records.otlp]\n".to_owned(),
                &[
                    "1:1: [records.otlp] lacks `endpoint`",
                    "1:1: [records.otlp] lacks `protocol`",
                ][..],
            ),
            (
                format!(
                    "{TABLE}\"http://collector/v1/logs\"\nca_file = \"x\"\ntimeout_seconds = 0\nheaders = 1\n"
                ),
                &[
                    "3:12: `endpoint` has a path, but gRPC has one of its own",
                    "3:12: what is sent could be read on the way",
                    "4:11: an http:// `endpoint` has no certificate",
                    "5:19: `timeout_seconds` must be",
                    "6:1: [records.otlp] has no key `headers`",
                ],
            ),
            (
                format!("{TABLE}\"https://me:sk-canary-otlp@collector\"\n"),
                &["3:12: `endpoint` is no URL to send to: a user name or password"],
            ),
            (
                format!("{TABLE}\"https://collector?token=sk-canary-otlp\"\n"),
                &["3:12: `endpoint` is no URL to send to: a query"],
            ),
            (
                format!("{TABLE}\"collector:4317\"\n").replace("grpc", "udp"),
                &[
                    "2:12: `protocol` must be one of grpc, http, not \"udp\"",
                    "3:12: `endpoint` is no URL to send to: it must begin with https://",
                ],
            ),
        ] {
            let told = settings(&text, &[]).expect_err("mistakes");
            for expected in expected {
                assert!(told.contains(expected), "{expected}: {told}");
            }
            assert_eq!(told.lines().count(), expected.len(), "{told}");
            assert!(!told.contains("sk-canary"), "{told}");
        }
    }
}
