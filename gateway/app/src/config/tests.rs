//! Settings from text, environment and flags.

use std::collections::BTreeMap;

use super::*;

impl Vars for BTreeMap<&str, &str> {
    fn var(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| (*value).to_owned())
    }
}

pub(super) fn settings(
    text: &str,
    vars: &[(&'static str, &'static str)],
) -> Result<Settings, String> {
    let vars: BTreeMap<&str, &str> = vars.iter().copied().collect();
    read::settings("p/gateway.toml", text, &Directories::default(), &vars).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
        lines.join("\n")
    })
}

#[test]
fn an_empty_file_gives_every_default() {
    let settings = settings("", &[]).expect("settings");
    assert_eq!(settings.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(settings.admin_listen, "127.0.0.1:9090".parse().unwrap());
    assert_eq!(settings.data_dir, Path::new("./data"));
    assert_eq!(settings.policies_dir, Path::new("./policies"));
    assert_eq!(settings.tokens.issuer, "tollgate");
    assert_eq!(
        settings.records.fsync,
        Fsync::Interval(Duration::from_millis(50))
    );
    assert_eq!(settings.limits.inspected_body_bytes, 64 << 20);
    assert_eq!(settings.insecure, InsecureSettings::default());
}

#[test]
fn effective_settings_read_back_as_they_print() {
    let text = r#"
listen = ["[::]:8443", "127.0.0.1:0"]
admin_listen = "0.0.0.0:9090"
admin_names = ["tollgate.example.com"]
data_dir = "/var/lib/tollgate \"x\""
threads = 3
unready_seconds = 15
drain_seconds = 0
prices_file = "/etc/prices.json"
clear_text_http2 = false
[tls]
certificate = "/tls/tls.crt"
key = "/tls/tls.key"
client_ca = "/tls/agents.pem"
client_certificates = "required"
[tokens]
issuer = "https://tollgate.example"
audience = "agents"
clock_skew_seconds = 0
[records]
replica = "eu-1"
fsync = "always"
layout = "objects"
segment_seconds = 5
max_waiting_mib = 1
when_full = "admit"
[metrics]
tenants = 0
open = "nothing"
[limits]
connections = 7
[deadlines]
first_byte_seconds = 9
[vault]
backend = "kv2"
address = "https://vault.example:8200"
ca_file = "/ca.pem"
namespace = "team/"
auth = "approle"
role_id_file = "/approle/{scope}/role"
secret_id_file = "/approle/{scope}/secret"
[insecure]
admin_beyond_loopback = true
"#;
    let mounted = "[vault]\nbackend = \"mounted\"\n";
    let development = "[vault]\nbackend = \"environment\"\n[insecure]\nenvironment_vault = true\n";
    for text in ["", text, mounted, development] {
        let once = settings(text, &[]).expect("settings");
        assert_eq!(settings(&once.to_string(), &[]), Ok(once.clone()));
        assert!(once.to_json()["limits"]["head_kib"].is_u64());
    }
}

#[test]
fn command_line_wins_over_environment_and_environment_over_file() {
    let text = "listen = \"127.0.0.1:1\"\ndata_dir = \"file\"\n";
    let vars: BTreeMap<&str, &str> = [
        ("TOLLGATE_LISTEN", "127.0.0.1:2, [::1]:3"),
        ("TOLLGATE_ADMIN_LISTEN", "127.0.0.1:4"),
        ("TOLLGATE_DATA", "env"),
        ("TOLLGATE_POLICIES", "policies-env"),
    ]
    .into();
    let read = |given: &Directories| read::settings("f", text, given, &vars).expect("settings");

    let by_env = read(&Directories::default());
    let expected: [SocketAddr; 2] = ["127.0.0.1:2".parse().unwrap(), "[::1]:3".parse().unwrap()];
    assert_eq!(by_env.listen, expected);
    assert_eq!(by_env.admin_listen.port(), 4);
    assert_eq!(by_env.data_dir, Path::new("env"));
    assert_eq!(by_env.policies_dir, Path::new("policies-env"));

    let by_flag = read(&Directories {
        policies: Some("policies-flag".into()),
        data: Some("flag".into()),
    });
    assert_eq!(by_flag.data_dir, Path::new("flag"));
    assert_eq!(by_flag.policies_dir, Path::new("policies-flag"));
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let text = r#"listen = "8080"
admin_listen = "0.0.0.0:9090"
admin_names = ["a.example:9090"]
data = "x"
drain_seconds = -1
threads = 0
[tls]
certificate = "c.pem"
[records]
fsync = "sometimes"
replica = "EU"
[limits]
inspected_body_mib = 600
head_kib = "64"
[insecure]
admin_beyond_loopbak = true
"#;
    assert_eq!(
        settings(text, &[("TOLLGATE_LISTEN", "everywhere")]).unwrap_err(),
        r#"p/gateway.toml:1:10: `listen` must be an address with a port, such as 127.0.0.1:8080 or [::]:8080
p/gateway.toml:2:16: the admin listener speaks plain HTTP and 0.0.0.0:9090 can be reached from other machines; listen on 127.0.0.1, or set `admin_beyond_loopback = true` in [insecure]
p/gateway.toml:3:16: `admin_names` must be names of hosts without a port, such as ["tollgate.example.com"]
p/gateway.toml:4:1: the file has no key `data`; did you mean `data_dir`?
p/gateway.toml:5:17: `drain_seconds` must be a whole number from 0 to 86400, not -1
p/gateway.toml:6:11: `threads` must be a whole number from 1 to 1024, not 0
p/gateway.toml:7:1: [tls] lacks `key`
p/gateway.toml:10:9: `fsync` must be one of always, interval, not "sometimes"
p/gateway.toml:11:11: `replica` is "EU", but a replica id must be 1 to 32 of a-z 0-9 - _, starting with a letter or digit
p/gateway.toml:12:1: `body_memory_mib` must hold at least one body of `inspected_body_mib`
p/gateway.toml:14:12: `head_kib` must be a whole number from 8 to 1024, not a text
p/gateway.toml:16:1: [insecure] has no key `admin_beyond_loopbak`; did you mean `admin_beyond_loopback`?
$TOLLGATE_LISTEN:1:1: is "everywhere", but must be an address with a port, such as 127.0.0.1:8080 or [::]:8080"#
    );
}

#[test]
fn files_named_in_it_lie_beside_it() {
    let text = "prices_file = \"prices.json\"\n[tls]\ncertificate = \"tls/a.crt\"\nkey = \"/k\"\n";
    let settings = settings(text, &[("TOLLGATE_POLICIES", "/etc/p")]).expect("settings");
    assert_eq!(settings.prices_file, Some("/etc/p/prices.json".into()));
    let tls = settings.tls.expect("tls");
    assert_eq!(tls.certificate, Path::new("/etc/p/tls/a.crt"));
    assert_eq!(tls.key, Path::new("/k"));
    assert_eq!(tls.clients, None, "clients are not asked");
}

#[test]
fn clients_are_asked_for_a_certificate_if_it_is_said_who_signs_them() {
    let settings = |lines: &str| {
        let text = format!("[tls]\ncertificate = \"c\"\nkey = \"k\"\n{lines}");
        settings(&text, &[("TOLLGATE_POLICIES", "/etc/p")])
    };
    let ca = "client_ca = \"ca/agents.pem\"\n";
    for (more, required) in [
        ("", false),
        ("client_certificates = \"optional\"\n", false),
        ("client_certificates = \"required\"\n", true),
    ] {
        let tls = settings(&format!("{ca}{more}")).expect("settings").tls;
        let clients = tls.expect("tls").clients.expect("clients");
        assert_eq!(clients.file, Path::new("/etc/p/ca/agents.pem"));
        assert_eq!(clients.required, required, "{more}");
    }
    assert_eq!(
        settings("client_certificates = \"required\"\n").unwrap_err(),
        "p/gateway.toml:4:23: `client_certificates` goes with `client_ca`, the file of the authorities that sign them"
    );
    let said = settings(&format!("{ca}client_certificates = true\n")).unwrap_err();
    assert!(
        said.contains("5:23: `client_certificates` must be a text"),
        "{said}"
    );
}

#[test]
fn a_missing_gateway_file_is_no_mistake_but_an_unreadable_one_is() {
    let dir = tempfile::tempdir().unwrap();
    let given = Directories {
        policies: Some(dir.path().to_owned()),
        data: None,
    };
    assert!(load(&given, &BTreeMap::new()).is_ok());
    std::fs::create_dir(dir.path().join("gateway.toml")).unwrap();
    let mistakes = load(&given, &BTreeMap::new()).unwrap_err();
    assert!(mistakes[0].message.starts_with("the file cannot be read"));
}

#[test]
fn what_is_wrong_with_a_vault_is_told() {
    let told = |text: &str| settings(&format!("[vault]\n{text}"), &[]).unwrap_err();
    for (text, expected) in [
        (
            "backend = \"environment\"",
            "set `environment_vault = true` in [insecure]",
        ),
        ("backend = \"files\"", "must be one of age, mounted, kv2"),
        (
            "directory = \"/secrets\"",
            "`directory` goes with backend = \"mounted\" only",
        ),
        (
            "backend = \"mounted\"\naddress = \"https://v\"",
            "`address` goes with backend = \"kv2\" only",
        ),
        (
            "backend = \"kv2\"\nauth = \"kubernetes\"",
            "[vault] lacks `address`",
        ),
        (
            "backend = \"kv2\"\naddress = \"http://v\"\nauth = \"kubernetes\"",
            "set `plain_http_vault = true` in [insecure]",
        ),
        (
            "backend = \"kv2\"\naddress = \"https://v\"\nauth = \"token\"\ntoken_file = \"t\"",
            "`token_file` must hold {scope}",
        ),
        (
            "backend = \"kv2\"\naddress = \"https://v\"\nauth = \"kubernetes\"\nrole = \"tollgate\"",
            "`role` must hold {scope}",
        ),
        (
            "backend = \"kv2\"\naddress = \"https://v\"\nauth = \"kubernetes\"\ntoken_file = \"{scope}\"",
            "`token_file` goes with auth = \"token\" only",
        ),
        (
            "backend = \"kv2\"\naddress = \"https://v\"\nauth = \"kubernetes\"\npath = \"x/{name}\"",
            "`path` must be a path such as tollgate/{scope}/{name}, with a /",
        ),
        (
            "backend = \"kv2\"\naddress = \"https://v\"\nauth = \"kubernetes\"\npath = \"../{scope}/{name}\"",
            "`path` must be a path such as tollgate/{scope}/{name}, with a /",
        ),
        (
            "backend = \"kv2\"\naddress = \"https://v\"\nauth = \"kubernetes\"\npath = \"tollgate/{scope}-{name}\"",
            "`path` must be a path such as tollgate/{scope}/{name}, with a /",
        ),
        (
            "backend = \"kv2\"\naddress = \"https://v\"\nauth = \"kubernetes\"\ncache_ms = 5000",
            "`cache_ms` must be a whole number from 50 to 1000",
        ),
    ] {
        let told = told(text);
        assert!(told.contains(expected), "{text}: {told}");
        assert_eq!(told.lines().count(), 1, "{text}: {told}");
    }
}
