//! Prints settings as a `gateway.toml` that gives the same settings again.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::{Fsync, InsecureSettings, Layout, Settings, WhenFull};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listen: Vec<String> = self.listen.iter().map(|a| format!("\"{a}\"")).collect();
        writeln!(f, "listen = [{}]", listen.join(", "))?;
        writeln!(f, "admin_listen = \"{}\"", self.admin_listen)?;
        let names: Vec<String> = self.admin_names.iter().map(|name| escaped(name)).collect();
        writeln!(f, "admin_names = [{}]", names.join(", "))?;
        writeln!(f, "clear_text_http2 = {}", self.clear_text_http2)?;
        writeln!(f, "data_dir = {}", quoted(&self.data_dir))?;
        if let Some(threads) = self.threads {
            writeln!(f, "threads = {threads}")?;
        }
        writeln!(f, "unready_seconds = {}", self.unready.as_secs())?;
        writeln!(f, "drain_seconds = {}", self.drain.as_secs())?;
        if let Some(file) = &self.prices_file {
            writeln!(f, "prices_file = {}", quoted(file))?;
        }
        if let Some(tls) = &self.tls {
            writeln!(f, "\n[tls]\ncertificate = {}", quoted(&tls.certificate))?;
            writeln!(f, "key = {}", quoted(&tls.key))?;
            if let Some(clients) = &tls.clients {
                let wanted = if clients.required {
                    "required"
                } else {
                    "optional"
                };
                writeln!(f, "client_ca = {}", quoted(&clients.file))?;
                writeln!(f, "client_certificates = \"{wanted}\"")?;
            }
        }
        self.print_tokens_and_records(f)?;
        write!(f, "{}", self.metrics)?;
        self.print_limits(f)?;
        self.print_deadlines(f)?;
        if let Some(webhook) = &self.webhook {
            writeln!(f, "\n[notifications]\nwebhook = {}", escaped(&webhook.url))?;
            writeln!(f, "secret_file = {}", quoted(&webhook.secret_file))?;
            if let Some(file) = &webhook.upstream.ca_file {
                writeln!(f, "ca_file = {}", quoted(file))?;
            }
        }
        if let Some(traces) = &self.traces {
            write!(f, "{traces}")?;
        }
        write!(f, "{}", self.vault)?;
        if let Some(fleet) = &self.fleet {
            write!(f, "{fleet}")?;
        }
        let InsecureSettings {
            admin_beyond_loopback,
            plain_http_webhook,
            plain_http_vault,
            plain_http_record_store,
            plain_http_otlp,
            plain_redis,
            environment_vault,
        } = self.insecure;
        writeln!(
            f,
            "\n[insecure]\nadmin_beyond_loopback = {admin_beyond_loopback}"
        )?;
        writeln!(f, "plain_http_webhook = {plain_http_webhook}")?;
        writeln!(f, "plain_http_vault = {plain_http_vault}")?;
        writeln!(f, "plain_http_record_store = {plain_http_record_store}")?;
        writeln!(f, "plain_http_otlp = {plain_http_otlp}")?;
        writeln!(f, "plain_redis = {plain_redis}")?;
        writeln!(f, "environment_vault = {environment_vault}")
    }
}

impl Settings {
    /// The settings as JSON, in the shape of `gateway.toml`.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        toml::from_str(&self.to_string()).unwrap_or_default()
    }

    fn print_tokens_and_records(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n[tokens]\nissuer = {}", escaped(&self.tokens.issuer))?;
        writeln!(f, "audience = {}", escaped(&self.tokens.audience))?;
        writeln!(
            f,
            "clock_skew_seconds = {}",
            self.tokens.clock_skew.as_secs()
        )?;
        writeln!(f, "\n[records]")?;
        if let Some(replica) = &self.records.replica {
            writeln!(f, "replica = \"{replica}\"")?;
        }
        match self.records.fsync {
            Fsync::Always => writeln!(f, "fsync = \"always\"")?,
            Fsync::Interval(interval) => {
                writeln!(f, "fsync = \"interval\"")?;
                writeln!(f, "fsync_interval_ms = {}", interval.as_millis())?;
            }
        }
        let layout = match self.records.layout {
            Layout::Segments => "segments",
            Layout::Objects => "objects",
        };
        writeln!(f, "layout = \"{layout}\"")?;
        let seconds = self.records.segment_age.as_secs();
        writeln!(f, "segment_seconds = {seconds}")?;
        let waiting = self.records.max_waiting_bytes / MIB;
        writeln!(f, "max_waiting_mib = {waiting}")?;
        let when_full = match self.records.when_full {
            WhenFull::Refuse => "refuse",
            WhenFull::Admit => "admit",
        };
        writeln!(f, "when_full = \"{when_full}\"")?;
        if let Some(store) = &self.store {
            write!(f, "{store}")?;
        }
        match &self.otlp {
            Some(otlp) => write!(f, "\n[records.otlp]\n{otlp}"),
            None => Ok(()),
        }
    }

    fn print_limits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = &self.limits;
        let kib = |bytes: usize| bytes as u64 / KIB;
        writeln!(f, "\n[limits]")?;
        if let Some(calls) = limits.calls_in_flight {
            writeln!(f, "calls_in_flight = {calls}")?;
        }
        writeln!(f, "lag_ms = {}", limits.lag.as_millis())?;
        for (key, value) in [
            ("connections", limits.connections as u64),
            (
                "streams_per_connection",
                limits.streams_per_connection.into(),
            ),
            ("head_kib", kib(limits.head_bytes)),
            ("target_kib", kib(limits.target_bytes)),
            ("inspected_body_mib", limits.inspected_body_bytes / MIB),
            ("streamed_body_mib", limits.streamed_body_bytes / MIB),
            ("body_memory_mib", limits.body_memory_bytes / MIB),
            ("hang_up_mib", limits.hang_up_bytes / MIB),
            (
                "idle_connections_per_upstream",
                limits.idle_connections_per_upstream as u64,
            ),
        ] {
            writeln!(f, "{key} = {value}")?;
        }
        Ok(())
    }

    fn print_deadlines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deadlines = &self.deadlines;
        writeln!(f, "\n[deadlines]")?;
        for (key, value) in [
            ("head_seconds", deadlines.head),
            ("body_seconds", deadlines.body),
            ("client_idle_seconds", deadlines.client_idle),
            ("connect_seconds", deadlines.connect),
            ("tls_seconds", deadlines.tls),
            ("first_byte_seconds", deadlines.first_byte),
            ("answer_idle_seconds", deadlines.answer_idle),
            ("hang_up_seconds", deadlines.hang_up),
            ("upstream_idle_seconds", deadlines.upstream_idle),
        ] {
            writeln!(f, "{key} = {}", Duration::as_secs(&value))?;
        }
        Ok(())
    }
}

pub(super) fn quoted(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

/// A text as a TOML string. JSON's escapes are a subset of TOML's.
pub(super) fn escaped(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
