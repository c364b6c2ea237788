//! Reports about sound, mistaken and suspicious directories.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::*;

fn run(files: &[(&str, &str)]) -> (Report, String) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let report = check_dir(dir.path());
    let text = report.to_string();
    let here = format!("{}/", dir.path().display());
    (report, text.replace(&here, ""))
}

fn check_dir(dir: &Path) -> Report {
    let given = Directories {
        policies: Some(dir.to_owned()),
        data: None,
    };
    check(&given, &BTreeMap::new())
}

const PROVIDER: &str = r#"[provider]
name = "openai"
upstream = "http://127.0.0.1:1"
dialect = "openai"
insecure = true
[[endpoint]]
method = "POST"
path = "/v1/chat/completions"
operation = "chat_completions"
"#;

#[test]
fn every_shipped_policy_file_is_in_order() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let report = check_dir(&shipped);
    assert_eq!(
        report.to_string(),
        "12 providers and 1 tenant are in order\n"
    );
}

#[test]
fn the_examples_copied_to_the_issuers_are_loaded() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let tenant =
        "[tenant]\nid = \"example\"\n[caps]\ndaily_usd = \"1\"\n[[allow]]\nprovider = \"openai\"\n";
    let mut files = vec![
        ("providers/openai.toml".to_owned(), PROVIDER.to_owned()),
        ("tenants/example.toml".to_owned(), tenant.to_owned()),
    ];
    for entry in fs::read_dir(shipped.join("examples/issuers")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        files.push((format!("issuers/{name}"), text));
    }
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let (report, text) = run(&files);
    assert_eq!(report.issuers, 2, "{text}");
    let last = text.lines().last();
    assert_eq!(
        last,
        Some("1 provider, 1 tenant and 2 issuers are in order")
    );
}

#[test]
fn an_example_copied_to_the_providers_is_loaded() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let mut files = vec![(
        "tenants/example.toml".to_owned(),
        "[tenant]\nid = \"a\"\n[caps]\ndaily_usd = \"1\"\n[[allow]]\nprovider = \"ollama\"\n"
            .to_owned(),
    )];
    for entry in fs::read_dir(shipped.join("examples/providers")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        files.push((
            format!("providers/{name}"),
            fs::read_to_string(&path).unwrap(),
        ));
    }
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let (_, text) = run(&files);
    // Servers of one's own have the prices that one gives them.
    assert_eq!(
        text,
        "warning: provider `ollama` has no `prices`: tenants with a spend cap cannot call its models\n\
         warning: provider `vllm` has no `prices`: tenants with a spend cap cannot call its models\n\
         5 providers and 1 tenant are in order\n"
    );
}

#[test]
fn an_alias_that_leads_to_no_price_is_suspicious() {
    let aliases = "[aliases]\nmine = \"gpt-4o-mini\"\nother = \"no-such-model\"\n";
    let unpriced = format!("{PROVIDER}{aliases}");
    let priced = unpriced.replace("[[endpoint]]", "prices = \"openai\"\n[[endpoint]]");
    let (_, text) = run(&[("providers/openai.toml", &priced), ("tenants/.keep", "")]);
    assert!(
        text.contains(
            "provider `openai`: the alias `other` leads to `no-such-model`, which has no price under `openai`"
        ),
        "{text}"
    );
    assert!(!text.contains("`mine`"), "{text}");
    let (_, text) = run(&[("providers/openai.toml", &unpriced), ("tenants/.keep", "")]);
    assert!(
        text.contains("provider `openai`: the alias `mine` is of no use without `prices`"),
        "{text}"
    );
}

#[test]
fn the_shipped_gateway_file_shows_every_default() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/gateway.toml");
    let text = fs::read_to_string(shipped).unwrap();
    let shown = |name: &str| ["# ", ""].map(|hash| format!("\n{hash}{name} = "));
    let uncommented: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if is_setting(setting) => setting,
            _ => line,
        })
        .filter(|line| {
            let optional = [
                "prices_file",
                "[tls]",
                "certificate = ",
                "key = ",
                "client_ca = ",
                "client_certificates = ",
                "[notifications]",
                "webhook = ",
                "secret_file",
                "ca_file",
                "replica = ",
                // Follow from how many files may be open, and how many processors there are.
                "calls_in_flight",
                "threads = ",
            ];
            !optional.iter().any(|key| line.starts_with(key))
        })
        .fold(String::new(), |text, line| text + line + "\n");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("gateway.toml"), &uncommented).unwrap();
    let given = |policies: &Path| Directories {
        policies: Some(policies.to_owned()),
        data: None,
    };
    let mut spelled_out = config::load(&given(dir.path()), &BTreeMap::new()).unwrap();
    let defaults = config::load(&given(Path::new("/nonexistent")), &BTreeMap::new()).unwrap();
    spelled_out.policies_dir.clone_from(&defaults.policies_dir);
    assert_eq!(spelled_out, defaults);
    for line in defaults.to_string().lines() {
        if let Some((key, _)) = line.split_once(" = ") {
            assert!(shown(key).iter().any(|form| text.contains(form)), "{key}");
        }
    }
}

fn is_setting(line: &str) -> bool {
    let key = |key: &str| {
        key.bytes()
            .all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
    };
    line.starts_with('[') || line.split_once(" = ").is_some_and(|(name, _)| key(name))
}

#[test]
fn mistakes_of_all_files_come_together() {
    let (report, text) = run(&[
        ("gateway.toml", "listen = 8080\n"),
        ("providers/openai.toml", PROVIDER),
        (
            "tenants/a.toml",
            "[tenant]\nid = \"a\"\n[caps]\ndaily_usd = 5\n",
        ),
        ("tenants/b.toml", "[tenant]\n"),
    ]);
    assert!(!report.passed());
    assert_eq!(
        text,
        "gateway.toml:1:10: `listen` must be a text in quotes, not 8080\n\
         tenants/a.toml:4:13: `daily_usd` is an amount of money and must stand in quotes: \"5\"\n\
         tenants/b.toml:1:1: [tenant] lacks `id`\n\
         3 mistakes in 3 files; a gateway would not load this\n"
    );
    let json = report.to_json();
    assert_eq!(json["ok"], false);
    assert_eq!(json["mistakes"][1]["line"], 4);
}

#[test]
fn what_is_legal_but_suspicious_is_a_warning() {
    let tenant = r#"[tenant]
id = "a"
[credentials]
one = { provider = "openai", url = "https://elsewhere.test" }
[[elevated]]
provider = "openai"
agents = ["ops"]
[[elevated]]
provider = "openai"
agents = ["deploy"]
"#;
    let capped = r#"[tenant]
id = "b"
[caps]
daily_usd = "9"
monthly_usd = "5"
[[allow]]
provider = "openai"
[agents.x]
daily_usd = "10"
"#;
    let (report, text) = run(&[
        ("providers/openai.toml", PROVIDER),
        ("tenants/a.toml", tenant),
        ("tenants/b.toml", capped),
        ("tenants/notes.txt", ""),
    ]);
    assert!(report.passed());
    assert_eq!(
        text,
        "warning: tenants/notes.txt is passed over: policy files end in .toml\n\
         warning: provider `openai`: keys travel to 127.0.0.1:1 unencrypted (insecure = true)\n\
         warning: provider `openai` has no `prices`: tenants with a spend cap cannot call its models\n\
         warning: tenant `a` has no spend cap\n\
         warning: tenant `a` may call nothing: it has no [[allow]]\n\
         warning: tenant `a`: its [[elevated]] for `openai` lets nobody do anything, since no [[allow]] names `openai`\n\
         warning: tenant `a`: credential `one` cannot be used, since no [[allow]] names `openai`\n\
         warning: tenant `a`: credential `one` is bound to elsewhere.test:443 and cannot be used, since `openai` is at 127.0.0.1:1\n\
         warning: tenant `b`: the daily cap of 9 USD is higher than the monthly one of 5 USD\n\
         warning: tenant `b`: the daily cap of agent `x`, 10 USD, is higher than its tenant's, 9 USD\n\
         warning: tenant `b` may call `openai` but has no credential for it\n\
         1 provider and 2 tenants are in order\n"
    );
}

#[test]
fn a_missing_directory_is_said_plainly() {
    let (report, text) = run(&[("gateway.toml", "")]);
    assert_eq!(report.mistakes.len(), 1);
    assert!(
        text.starts_with("providers:1:1: cannot be read: there is no such directory"),
        "{text}"
    );
}

#[test]
fn headers_of_a_collector_are_looked_at_if_they_are_there() {
    let otlp = "[records.otlp]\nendpoint = \"https://otel.example:4318\"\nprotocol = \"grpc\"\nheaders_file = \"otel.headers\"\nca_file = \"otel.pem\"\n";
    let tenant =
        "[tenant]\nid = \"a\"\n[caps]\ndaily_usd = \"1\"\n[[allow]]\nprovider = \"openai\"\n";
    let mut files = vec![
        ("providers/openai.toml", PROVIDER),
        ("tenants/a.toml", tenant),
        ("gateway.toml", otlp),
    ];
    let (report, text) = run(&files);
    assert!(report.passed(), "{text}");
    for expected in [
        "warning: gateway.toml names otel.pem, which is not there",
        "warning: gateway.toml names otel.headers, which is not there",
        "warning: [records.otlp] protocol is grpc and goes to https://otel.example:4318; collectors usually speak it at port 4317",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    files.push(("otel.headers", "host: sk-canary-otlp\n"));
    let (report, text) = run(&files);
    assert!(!report.passed());
    assert!(text.starts_with("otel.headers:1:1: "), "{text}");
    assert!(!text.contains("sk-canary"), "{text}");
}
