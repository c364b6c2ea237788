//! The text of `gateway.toml` and the environment, read into [`Settings`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tollgate_core::policy::Mistake;
use tollgate_core::policy::parse::upstream;
use tollgate_core::policy::reader::{self, Read, Section, Source};
use toml::de::DeValue;

use super::fleet::FleetSettings;
use super::otlp::LOGS;
use super::{
    ClientAuthority, DeadlineSettings, Directories, Fsync, InsecureSettings, Layout, LimitSettings,
    MetricsSettings, OtlpSettings, RecordSettings, Settings, StoreSettings, TlsFiles,
    TokenSettings, TracesSettings, Vars, VaultSettings, WebhookSettings, WhenFull, policies_dir,
};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// No deadline is longer than a day: a longer one is a typing error.
const DAY_SECONDS: u64 = 86_400;
/// No machine has more processors for one process.
const MOST_THREADS: u64 = 1_024;

/// Settings from the text of `file`, the environment and the given directories.
pub(super) fn settings(
    file: &str,
    text: &str,
    given: &Directories,
    vars: &dyn Vars,
) -> Result<Settings, Vec<Mistake>> {
    let policies_dir = policies_dir(given, vars);
    let source = Source::new(file, text);
    let mut environment = Environment {
        vars,
        mistakes: Vec::new(),
    };
    let settings = source.read(|root| read(root, policies_dir, given, &mut environment));
    let mut mistakes = source.into_mistakes();
    mistakes.append(&mut environment.mistakes);
    match settings {
        Some(settings) if mistakes.is_empty() => Ok(settings),
        _ => Err(mistakes),
    }
}

fn read(
    root: &Section<'_>,
    policies_dir: PathBuf,
    given: &Directories,
    environment: &mut Environment<'_>,
) -> Settings {
    let listen = root.optional("listen", addresses);
    let listen = environment
        .read("TOLLGATE_LISTEN", parse_addresses)
        .or(listen)
        .unwrap_or_else(|| vec![SocketAddr::from(([127, 0, 0, 1], 8080))]);
    let admin = root.optional("admin_listen", reader::parsed::<SocketAddr>);
    let admin_at = root.at("admin_listen");
    let admin_listen = environment
        .read("TOLLGATE_ADMIN_LISTEN", |text| {
            text.parse()
                .map_err(|_not_an_address: std::net::AddrParseError| ADDRESS_FORM.to_owned())
        })
        .or(admin)
        .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9090)));
    let data_dir = read_data_dir(root, given, environment);
    let beside = |file: PathBuf| policies_dir.join(file);
    let prices_file = root.optional("prices_file", path).map(beside);
    let tls = root
        .table("tls", |tls| read_tls(tls, &policies_dir))
        .flatten();
    let clear_text_http2 = root
        .optional("clear_text_http2", reader::boolean)
        .unwrap_or(true);
    let threads = root.optional("threads", reader::integer(1..=MOST_THREADS));
    let unready = seconds(root, "unready_seconds", 0, 0);
    let drain = seconds(root, "drain_seconds", 0, 30);
    let insecure = root.table("insecure", read_insecure).unwrap_or_default();
    judge_admin_listen(root, admin_at, admin_listen, insecure);
    let admin_names = root.list("admin_names", host_name).into_iter();
    let notify = |section: &Section<'_>| read_webhook(section, &policies_dir, insecure);
    let webhook = root.table("notifications", notify).flatten();
    let fleet = read_fleet(root, &policies_dir, insecure);
    let vault = |section: &Section<'_>| VaultSettings::read(section, &policies_dir, insecure);
    let vault = root.table("vault", vault).unwrap_or_default();
    let tokens = with_defaults(root, "tokens", read_tokens);
    let (records, store, otlp) = with_defaults(root, "records", |section| {
        let (store, otlp) = read_destinations(section, &policies_dir, &data_dir, insecure);
        (read_records(section), store, otlp)
    });
    let traces = read_traces(root, &policies_dir, insecure);
    let metrics = with_defaults(root, "metrics", MetricsSettings::read);
    let limits = with_defaults(root, "limits", read_limits);
    let deadlines = with_defaults(root, "deadlines", read_deadlines);
    Settings {
        policies_dir,
        data_dir,
        listen,
        tls,
        clear_text_http2,
        admin_listen,
        admin_names: admin_names.map(|(name, _)| name).collect(),
        threads: threads.map(size),
        unready,
        drain,
        prices_file,
        tokens,
        records,
        store,
        otlp,
        traces,
        metrics,
        limits,
        deadlines,
        vault,
        insecure,
        webhook,
        fleet,
    }
}

fn read_data_dir(
    root: &Section<'_>,
    given: &Directories,
    environment: &Environment<'_>,
) -> PathBuf {
    let data_dir = root.optional("data_dir", path);
    given
        .data
        .clone()
        .or_else(|| environment.vars.var("TOLLGATE_DATA").map(PathBuf::from))
        .or(data_dir)
        .unwrap_or_else(|| Path::new("./data").to_owned())
}

fn read_fleet(
    root: &Section<'_>,
    policies_dir: &Path,
    insecure: InsecureSettings,
) -> Option<FleetSettings> {
    let read = |section: &Section<'_>| FleetSettings::read(section, policies_dir, insecure);
    root.table("fleet", read).flatten()
}

fn read_traces(
    root: &Section<'_>,
    policies_dir: &Path,
    insecure: InsecureSettings,
) -> Option<TracesSettings> {
    let read = |section: &Section<'_>| TracesSettings::read(section, policies_dir, insecure);
    root.table("traces", read).flatten()
}

/// Notes an admin listener that others can reach, unless that is allowed.
fn judge_admin_listen(
    root: &Section<'_>,
    at: usize,
    listen: SocketAddr,
    insecure: InsecureSettings,
) {
    if !listen.ip().is_loopback() && !insecure.admin_beyond_loopback {
        root.mistake(
            at,
            format!("the admin listener speaks plain HTTP and {listen} can be reached from other machines; listen on 127.0.0.1, or set `admin_beyond_loopback = true` in [insecure]"),
        );
    }
}

/// A table that may be left out: then an empty one is read, which gives every default.
fn with_defaults<T>(root: &Section<'_>, key: &str, read: impl Fn(&Section<'_>) -> T) -> T {
    root.table(key, &read).unwrap_or_else(|| root.absent(&read))
}

fn read_tls(section: &Section<'_>, policies_dir: &Path) -> Option<TlsFiles> {
    let certificate = section.required("certificate", path);
    let key = section.required("key", path);
    let client_ca = section.optional("client_ca", path);
    let wanted = section.optional(
        "client_certificates",
        reader::one_of(&[("optional", false), ("required", true)]),
    );
    if section.has("client_certificates") && !section.has("client_ca") {
        section.mistake(
            section.at("client_certificates"),
            "`client_certificates` goes with `client_ca`, the file of the authorities that sign them",
        );
    }
    Some(TlsFiles {
        certificate: policies_dir.join(certificate?),
        key: policies_dir.join(key?),
        clients: client_ca.map(|file| ClientAuthority {
            file: policies_dir.join(file),
            required: wanted.unwrap_or(false),
        }),
    })
}

fn read_insecure(section: &Section<'_>) -> InsecureSettings {
    let switch = |key| section.optional(key, reader::boolean).unwrap_or(false);
    InsecureSettings {
        admin_beyond_loopback: switch("admin_beyond_loopback"),
        plain_http_webhook: switch("plain_http_webhook"),
        plain_http_vault: switch("plain_http_vault"),
        plain_http_record_store: switch("plain_http_record_store"),
        plain_http_otlp: switch("plain_http_otlp"),
        plain_redis: switch("plain_redis"),
        environment_vault: switch("environment_vault"),
    }
}

fn read_webhook(
    section: &Section<'_>,
    policies_dir: &Path,
    insecure: InsecureSettings,
) -> Option<WebhookSettings> {
    let url = section.required("webhook", reader::text);
    let secret_file = section.required("secret_file", path);
    let ca_file = section.optional("ca_file", path);
    let (url, secret_file) = (url?, secret_file?);
    let at = section.at("webhook");
    let mut upstream = upstream(&url)
        .map_err(|wrong| section.mistake(at, format!("`webhook` is no URL to send to: {wrong}")))
        .ok()?;
    if !upstream.tls && !insecure.plain_http_webhook {
        section.mistake(
            at,
            "`webhook` must begin with https://, or set `plain_http_webhook = true` in [insecure]",
        );
    }
    upstream.ca_file = ca_file.map(|file| policies_dir.join(file));
    Some(WebhookSettings {
        url,
        upstream,
        secret_file: policies_dir.join(secret_file),
    })
}

fn read_tokens(section: &Section<'_>) -> TokenSettings {
    let name = |key| {
        section
            .optional(key, claim)
            .unwrap_or_else(|| "tollgate".to_owned())
    };
    let skew = section
        .optional("clock_skew_seconds", reader::integer(0..=30))
        .unwrap_or(5);
    TokenSettings {
        issuer: name("issuer"),
        audience: name("audience"),
        clock_skew: Duration::from_secs(skew),
    }
}

fn read_records(section: &Section<'_>) -> RecordSettings {
    let always = section.optional(
        "fsync",
        reader::one_of(&[("always", true), ("interval", false)]),
    );
    let interval = section.optional("fsync_interval_ms", reader::integer(1..=10_000));
    if always == Some(true) && section.has("fsync_interval_ms") {
        section.mistake(
            section.at("fsync_interval_ms"),
            "`fsync_interval_ms` goes with fsync = \"interval\" only",
        );
    }
    let layout = section.optional(
        "layout",
        reader::one_of(&[("segments", Layout::Segments), ("objects", Layout::Objects)]),
    );
    let max_waiting = section.optional("max_waiting_mib", reader::integer(1..=16_777_216));
    let when_full = section.optional(
        "when_full",
        reader::one_of(&[("refuse", WhenFull::Refuse), ("admit", WhenFull::Admit)]),
    );
    RecordSettings {
        replica: section.optional("replica", reader::parsed),
        fsync: if always == Some(true) {
            Fsync::Always
        } else {
            Fsync::Interval(Duration::from_millis(interval.unwrap_or(50)))
        },
        layout: layout.unwrap_or(Layout::Segments),
        segment_age: seconds(section, "segment_seconds", 1, 60),
        max_waiting_bytes: max_waiting.unwrap_or(10_240) * MIB,
        when_full: when_full.unwrap_or(WhenFull::Refuse),
    }
}

/// Who gets records beside the data directory.
fn read_destinations(
    records: &Section<'_>,
    policies_dir: &Path,
    data_dir: &Path,
    insecure: InsecureSettings,
) -> (Option<StoreSettings>, Option<OtlpSettings>) {
    let store = records.table("store", |store| {
        StoreSettings::read(store, policies_dir, data_dir, insecure)
    });
    let otlp = records.table("otlp", |otlp| {
        OtlpSettings::read(otlp, policies_dir, insecure, LOGS)
    });
    (store.flatten(), otlp.flatten())
}

fn read_limits(section: &Section<'_>) -> LimitSettings {
    let number = |key, least: u64, most: u64, usual: u64| {
        section
            .optional(key, reader::integer(least..=most))
            .unwrap_or(usual)
    };
    let calls = section.optional("calls_in_flight", reader::integer(1..=10_000_000));
    let limits = LimitSettings {
        calls_in_flight: calls.map(size),
        lag: Duration::from_millis(number("lag_ms", 0, 60_000, 100)),
        connections: size(number("connections", 1, 1_000_000, 10_000)),
        streams_per_connection: u32::try_from(number("streams_per_connection", 1, 1_000, 128))
            .unwrap_or(128),
        head_bytes: size(number("head_kib", 8, 1_024, 64) * KIB),
        target_bytes: size(number("target_kib", 1, 64, 16) * KIB),
        inspected_body_bytes: number("inspected_body_mib", 1, 1_024, 64) * MIB,
        streamed_body_bytes: number("streamed_body_mib", 1, 1_048_576, 1_024) * MIB,
        body_memory_bytes: number("body_memory_mib", 1, 1_048_576, 512) * MIB,
        hang_up_bytes: number("hang_up_mib", 0, 1_024, 8) * MIB,
        idle_connections_per_upstream: size(number(
            "idle_connections_per_upstream",
            0,
            10_000,
            128,
        )),
    };
    if limits.body_memory_bytes < limits.inspected_body_bytes {
        section.mistake(
            section.at("body_memory_mib"),
            "`body_memory_mib` must hold at least one body of `inspected_body_mib`",
        );
    }
    limits
}

fn read_deadlines(section: &Section<'_>) -> DeadlineSettings {
    DeadlineSettings {
        head: seconds(section, "head_seconds", 1, 15),
        body: seconds(section, "body_seconds", 1, 60),
        client_idle: seconds(section, "client_idle_seconds", 1, 75),
        connect: seconds(section, "connect_seconds", 1, 5),
        tls: seconds(section, "tls_seconds", 1, 10),
        first_byte: seconds(section, "first_byte_seconds", 1, 600),
        answer_idle: seconds(section, "answer_idle_seconds", 1, 300),
        hang_up: seconds(section, "hang_up_seconds", 0, 15),
        upstream_idle: seconds(section, "upstream_idle_seconds", 1, 60),
    }
}

fn seconds(section: &Section<'_>, key: &str, least: u64, usual: u64) -> Duration {
    let read = section.optional(key, reader::integer(least..=DAY_SECONDS));
    Duration::from_secs(read.unwrap_or(usual))
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

pub(super) fn path(value: &DeValue<'_>) -> Read<PathBuf> {
    let text = reader::text(value)?;
    if text.is_empty() || text.contains('\0') {
        return Err("must be a path, and is empty or holds a NUL".to_owned());
    }
    Ok(PathBuf::from(text))
}

/// The value of `iss` or `aud`: any short printable text.
fn claim(value: &DeValue<'_>) -> Read<String> {
    let text = reader::text(value)?;
    if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        return Err("must be 1 to 256 characters without control characters".to_owned());
    }
    Ok(text)
}

const ADDRESS_FORM: &str = "must be an address with a port, such as 127.0.0.1:8080 or [::]:8080";

fn addresses(value: &DeValue<'_>) -> Read<Vec<SocketAddr>> {
    match value.as_array() {
        None => reader::text(value).and_then(|text| parse_addresses(&text)),
        Some(list) => {
            let texts: Read<Vec<String>> = list
                .iter()
                .map(|item| reader::text(item.get_ref()))
                .collect();
            parse_addresses(&texts?.join(","))
        }
    }
}

/// A name in DNS as browsers send it, without a port.
fn host_name(value: &DeValue<'_>) -> Read<String> {
    let name = reader::text(value)?.to_ascii_lowercase();
    let is_label = |label: &str| {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(is_allowed)
    };
    if name.split('.').all(is_label) {
        return Ok(name);
    }
    Err("must be names of hosts without a port, such as [\"tollgate.example.com\"]".to_owned())
}

fn parse_addresses(text: &str) -> Read<Vec<SocketAddr>> {
    text.split(',')
        .map(|address| {
            address
                .trim()
                .parse()
                .map_err(|_not_an_address: std::net::AddrParseError| ADDRESS_FORM.to_owned())
        })
        .collect()
}

/// The environment, and the mistakes found in it.
struct Environment<'v> {
    vars: &'v dyn Vars,
    mistakes: Vec<Mistake>,
}

impl Environment<'_> {
    fn read<T>(&mut self, name: &str, parse: impl Fn(&str) -> Read<T>) -> Option<T> {
        let text = self.vars.var(name)?;
        parse(&text)
            .map_err(|wrong| {
                self.mistakes.push(Mistake {
                    file: format!("${name}"),
                    line: 1,
                    column: 1,
                    message: format!("is \"{}\", but {wrong}", reader::shown(&text)),
                });
            })
            .ok()
    }
}
