//! Policy files, sound and mistaken, and what is said of them.

mod certificate;
mod elevated;
mod kinds;
mod issuer;
mod provider;
mod tenant;

use proptest::prelude::*;

use super::*;
use crate::policy::{Dialect, Operation, Place};

const OPENAI: &str = r#"
[provider]
name = "openai"
upstream = "https://API.openai.example/base/"
dialect = "openai"
prices = "openai"

[[endpoint]]
method = "POST"
path = "/v1/chat/completions"
operation = "chat_completions"

[[endpoint]]
methods = ["GET", "DELETE"]
path = "/v1/files/*"
operation = "tool"
price_per_call_usd = "0.01"
elevated = true
"#;

const ACME: &str = r#"
[tenant]
id = "acme"

[caps]
daily_usd = "25.00"
monthly_usd = "400"
task_usd = "2.00"

[limits]
requests_per_minute = 600

[[allow]]
provider = "openai"
models = ["gpt-4o*"]

[credentials]
openai_key = { provider = "openai", default = true }

[agents.support-bot]
daily_usd = "5.00"
"#;

fn file(path: &str, text: &str) -> PolicyFile {
    PolicyFile {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

fn openai() -> PolicyFile {
    file("policies/providers/openai.toml", OPENAI)
}

/// The mistakes of a tenant file beside a sound provider, one a line.
fn tenant_mistakes(text: &str) -> String {
    mistakes(&[openai(), file("policies/tenants/t.toml", text)])
}

fn provider_mistakes(text: &str) -> String {
    mistakes(&[file("policies/providers/p.toml", text)])
}

fn mistakes(files: &[PolicyFile]) -> String {
    let mistakes = parse(files).expect_err("mistakes");
    let lines: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
    lines.join("\n")
}

fn usd(text: &str) -> Option<crate::money::PicoUsd> {
    Some(text.parse().expect("an amount"))
}

#[test]
fn sound_files_become_a_whole_policy() {
    let files = [openai(), file("policies/tenants/acme.toml", ACME)];
    let policy = parse(&files).expect("a policy");

    let provider = &policy.providers["openai"];
    assert_eq!(provider.upstream.host, "api.openai.example");
    assert_eq!((provider.upstream.tls, provider.upstream.port), (true, 443));
    assert_eq!(provider.upstream.base_path, "/base");
    assert!(provider.upstream.http2);
    assert_eq!(provider.dialect, Dialect::OpenAi);
    assert_eq!(provider.endpoints[0].operation, Operation::ChatCompletions);
    assert_eq!(provider.endpoints[1].price_per_call, usd("0.01"));
    assert!(provider.endpoints[1].elevated);
    let bearer = Place::Header {
        name: http::header::AUTHORIZATION,
        prefix: "Bearer ".to_owned(),
    };
    assert_eq!(provider.place.as_ref(), Some(&bearer));

    let tenant = &policy.tenants["acme"];
    assert!(tenant.enabled);
    assert_eq!(tenant.caps.daily, usd("25"));
    assert_eq!(tenant.caps.monthly, usd("400"));
    assert_eq!(tenant.task_cap, usd("2"));
    let rate = tenant.limits.requests.expect("a rate");
    assert_eq!((rate.per_minute.get(), rate.burst.get()), (600, 60));
    assert!(tenant.grants[0].models[0].matches("gpt-4o-mini"));
    let credential = &tenant.credentials["openai_key"];
    assert!(credential.is_default);
    assert_eq!(credential.binding.host, "api.openai.example");
    assert_eq!(credential.binding.place, bearer);
    assert_eq!(tenant.agents["support-bot"].caps.daily, usd("5"));
    assert_eq!(tenant.agents["support-bot"].caps.monthly, None);
}

#[test]
fn the_version_follows_names_and_texts_but_not_the_directory() {
    let version = |files: &[PolicyFile]| parse(files).expect("a policy").version;
    let here = version(&[openai()]);
    assert_eq!(here.len(), 64);
    assert_eq!(
        here,
        version(&[file("/etc/x/providers/openai.toml", OPENAI)])
    );
    assert_ne!(
        here,
        version(&[file("policies/providers/other.toml", OPENAI)])
    );
    let changed = format!("{OPENAI}# one comment more\n");
    assert_ne!(
        here,
        version(&[file("policies/providers/openai.toml", &changed)])
    );
}

#[test]
fn every_mistake_of_a_tenant_file_is_told_with_its_place() {
    let text = r#"[tenant]
id = "Acme"
enable = true

[caps]
daily_usd = 25.00
monthly_usd = "-1"
task_usd = "1e3"

[limits]
requests_per_minute = 0
burst = "x"

[[allow]]
provider = "opnai"
models = ["gpt*4"]

[[allow]]
provider = "openai"
paths = ["/v1/chat/completion", "v1"]
agents = []

[credentials]
Key = { provider = "openai", default = true }
a = { provider = "openai", default = true, methods = ["PUT", "get"] }
b = { provider = "openai", default = true, place = { header = "host" } }
c = { default = "yes" }
d = "sk-canary-d"

[agents."a/b"]
daily_usd = "1"
"#;
    assert_eq!(
        tenant_mistakes(text),
        r#"policies/tenants/t.toml:2:6: `id` is "Acme", but a tenant id must be 1 to 64 of a-z 0-9 - _, starting with a letter or digit
policies/tenants/t.toml:3:1: [tenant] has no key `enable`; did you mean `enabled`?
policies/tenants/t.toml:6:13: `daily_usd` is an amount of money and must stand in quotes: "25.00"
policies/tenants/t.toml:7:15: `monthly_usd` must not be negative, but is "-1"; "0" blocks, and leaving the key out means unlimited
policies/tenants/t.toml:8:12: `task_usd` is "1e3", but an amount of money is decimal US dollars with at most 12 places, such as "25" or "0.50"
policies/tenants/t.toml:11:23: `requests_per_minute` must be a whole number from 1 to 1000000000, not 0
policies/tenants/t.toml:12:9: `burst` must be a whole number from 1 to 1000000000, not a text
policies/tenants/t.toml:15:12: there is no provider `opnai`; did you mean `openai`?
policies/tenants/t.toml:16:11: `models` is "gpt*4", but a name pattern is a name, or the beginning of one followed by `*`, such as gpt-4o*
policies/tenants/t.toml:20:10: /v1/chat/completion fits no endpoint of provider `openai`
policies/tenants/t.toml:20:33: `paths` is "v1", but a path pattern begins with `/`; `*` stands for one whole segment, `**` for all that follow and only at the end, such as /repos/*/issues or /files/**
policies/tenants/t.toml:21:10: `agents` is empty; leave it out to mean all, or remove the table to mean none
policies/tenants/t.toml:24:1: `Key` cannot be used here: a credential name must be 1 to 64 of a-z 0-9 - _, starting with a letter or digit
policies/tenants/t.toml:25:55: no endpoint of provider `openai` takes PUT
policies/tenants/t.toml:25:62: `methods` must be one of GET, HEAD, POST, PUT, PATCH, DELETE, not "get"; did you mean `GET`?
policies/tenants/t.toml:26:38: `a` already is the default credential for `openai`
policies/tenants/t.toml:26:63: `header` is "host", a header that cannot carry a secret
policies/tenants/t.toml:27:5: [credentials.c] lacks `provider`
policies/tenants/t.toml:27:17: `default` must be true or false, not a text
policies/tenants/t.toml:28:5: `credentials.d` must be a table, not a text
policies/tenants/t.toml:30:9: `a/b` cannot be used here: an agent id must be 1 to 128 of A-Z a-z 0-9 - _ . without "..", starting with a letter or digit"#
    );
}

#[test]
fn every_mistake_of_a_provider_file_is_told_with_its_place() {
    let text = r#"[provider]
name = "oauth2"
upstream = "http://user:sk-canary@host"
dialect = "opneai"
place = { query = "key", prefix = "x" }
tls = true

[[endpoint]]
method = "POST"
methods = ["GET"]
path = "/v1/../x"
operation = "tool"

[[endpoint]]
path = "/v1/a"
operation = "free"
price_per_call_usd = "1"

[[endpoints]]
"#;
    assert_eq!(
        provider_mistakes(text),
        r#"policies/providers/p.toml:2:8: `oauth2` is a path of the gateway itself and cannot name a provider
policies/providers/p.toml:3:12: `upstream` is "…@host", but must be a URL such as https://api.example.com: a user name or password does not belong in it
policies/providers/p.toml:4:11: `dialect` must be one of openai, anthropic, gemini, bedrock, cohere, ollama, http, not "opneai"; did you mean `openai`?
policies/providers/p.toml:5:35: `prefix` goes with `header` only
policies/providers/p.toml:6:1: [provider] has no key `tls`
policies/providers/p.toml:10:11: `method` and `methods` are two ways to say the same; use one
policies/providers/p.toml:11:8: `path` is "/v1/../x", but it could never match: the path must not contain dot segments
policies/providers/p.toml:14:1: an endpoint needs `method = "POST"` or `methods = ["GET", "POST"]`
policies/providers/p.toml:17:22: `price_per_call_usd` goes with operation = "tool" only; other operations are free or priced by tokens
policies/providers/p.toml:19:3: the file has no key `endpoints`; did you mean `endpoint`?"#
    );
}

#[test]
fn syntax_errors_and_doubled_keys_are_all_told() {
    let told = tenant_mistakes("[tenant]\nid = \"a\"\nid = \"b\"\nx = \n[caps\n");
    let lines: Vec<&str> = told
        .lines()
        .map(|line| line.split(':').nth(1).expect("a line"))
        .collect();
    assert_eq!(lines, ["3", "4", "5"], "{told}");
    assert!(told.contains("duplicate key"), "{told}");
}

#[test]
fn a_syntax_error_shows_nothing_of_what_stands_there() {
    for text in [
        "[credentials]\nopenai_key = sk-canary-unquoted\n",
        "[credentials]\nopenai_key = \"sk-canary-unclosed\n",
        "sk-canary-alone\n",
        "a = sk-canary-1 sk-canary-2\n",
        "openai_key = { sk-canary-inline }\n",
    ] {
        let told = tenant_mistakes(text);
        assert!(!told.contains("canary"), "{told}");
    }
}

#[test]
fn absurd_files_are_refused_without_harm() {
    let deep = format!("a = {}", "[".repeat(100_000));
    assert!(!tenant_mistakes(&deep).is_empty());
    let long: String = (0..20_000).map(|n| format!("key_{n} = 1\n")).collect();
    assert_eq!(tenant_mistakes(&long).lines().count(), 20_001);
}

#[test]
fn a_name_defined_twice_names_both_places() {
    let again = |path: &str, text: &str| {
        mistakes(&[
            openai(),
            file("policies/tenants/a.toml", ACME),
            file(path, text),
        ])
    };
    assert_eq!(
        again("policies/tenants/b.toml", ACME),
        "policies/tenants/b.toml:3:6: tenant `acme` is already defined at policies/tenants/a.toml:3:6"
    );
    assert_eq!(
        again("policies/providers/x.toml", OPENAI),
        "policies/providers/x.toml:3:8: provider `openai` is already defined at policies/providers/openai.toml:3:8"
    );
}

#[test]
fn a_broken_provider_file_is_not_blamed_on_its_tenants() {
    let acme = || file("policies/tenants/acme.toml", ACME);
    let half = OPENAI.replace("dialect = \"openai\"\n", "");
    let told = mistakes(&[file("policies/providers/openai.toml", &half), acme()]);
    assert_eq!(
        told,
        "policies/providers/openai.toml:2:1: [provider] lacks `dialect`"
    );
    let told = mistakes(&[file("policies/providers/openai.toml", "[provider"), acme()]);
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn a_secret_never_goes_over_plain_http_unasked() {
    let plain = OPENAI.replace("https://", "http://");
    let acme = || file("policies/tenants/acme.toml", ACME);
    assert_eq!(
        mistakes(&[file("policies/providers/openai.toml", &plain), acme()]),
        "policies/tenants/acme.toml:18:14: this secret would go over plain http; give provider `openai` an https:// upstream, or set `insecure = true` there"
    );
    let insecure = plain.replace("[provider]\n", "[provider]\ninsecure = true\n");
    let files = [file("policies/providers/openai.toml", &insecure), acme()];
    let policy = parse(&files).expect("a policy");
    assert_eq!(policy.providers["openai"].upstream.port, 80);
}

#[test]
fn a_keyless_provider_has_no_place_and_no_credentials() {
    let keyless = OPENAI.replace("[provider]\n", "[provider]\nkeyless = true\n");
    let provider = || file("policies/providers/openai.toml", &keyless);
    let policy = parse(&[provider()]).expect("a policy");
    assert_eq!(policy.providers["openai"].place, None);
    assert_eq!(
        mistakes(&[provider(), file("policies/tenants/acme.toml", ACME)]),
        "policies/tenants/acme.toml:18:14: provider `openai` is keyless: no credential is ever sent to it"
    );
}

#[test]
fn upstream_urls_are_read_strictly() {
    let upstream = |url: &str| {
        let text = OPENAI.replace("https://API.openai.example/base/", url);
        parse(&[file("providers/openai.toml", &text)])
            .map(|policy| policy.providers["openai"].upstream.clone())
    };
    for (url, host, port, authority) in [
        ("https://a.example", "a.example", 443, "a.example"),
        (
            "https://a.example:8443/",
            "a.example",
            8443,
            "a.example:8443",
        ),
        ("https://127.0.0.1:443", "127.0.0.1", 443, "127.0.0.1"),
        ("https://[::1]:9", "::1", 9, "[::1]:9"),
    ] {
        let upstream = upstream(url).expect(url);
        assert_eq!(
            (upstream.host.as_str(), upstream.port),
            (host, port),
            "{url}"
        );
        assert_eq!(upstream.authority(), authority, "{url}");
    }
    for bad in [
        "a.example",
        "ftp://a",
        "https://",
        "https://a:0",
        "https://a:99999",
        "https://a:",
        "https://a?b",
        "https://a#b",
        "https://a@b",
        "https://a..b",
        "https://a./",
        "https://[::g]",
        "https://a/../b",
        "https://a//b",
        "https://a b",
    ] {
        assert!(upstream(bad).is_err(), "{bad}");
    }
}

#[test]
fn relative_ca_files_count_from_the_policies_directory() {
    let with =
        |ca: &str| OPENAI.replace("[provider]\n", &format!("[provider]\nca_file = \"{ca}\"\n"));
    for (ca, expected) in [("ca/x.pem", "/etc/p/ca/x.pem"), ("/x.pem", "/x.pem")] {
        let policy = parse(&[file("/etc/p/providers/o.toml", &with(ca))]).expect("a policy");
        let found = policy.providers["openai"].upstream.ca_file.clone();
        assert_eq!(found, Some(expected.into()));
    }
}

#[test]
fn files_elsewhere_are_not_passed_over() {
    for path in [
        "policies/acme.toml",
        "policies/tenant/acme.toml",
        "policies/tenants/acme.tml",
    ] {
        let told = mistakes(&[openai(), file(path, ACME)]);
        assert!(
            told.starts_with(&format!("{path}:1:1: policy files lie in")),
            "{told}"
        );
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*", other in "(?s).{0,200}") {
        let _ = parse(&[file("p/providers/a.toml", &text), file("p/tenants/b.toml", &other)]);
    }

    #[test]
    fn mutilated_files_never_panic(cut in 0_usize..400, insert in "[\\[\\]{}=\"'.,#\\n a-z0-9]{0,6}", drop in 0_usize..12) {
        let mutilate = |text: &str| {
            let at = cut.min(text.len());
            let end = (at + drop).min(text.len());
            format!("{}{insert}{}", &text[..at], &text[end..])
        };
        let _ = parse(&[file("p/providers/a.toml", &mutilate(OPENAI)), file("p/tenants/b.toml", &mutilate(ACME))]);
    }
}
