//! Which client certificates are whose.

use super::*;
use crate::identity::{CertificateDigest, ClientCertificate};
use crate::time::Timestamp;

fn two(acme: &str, globex: &str) -> Result<Policy, Vec<Mistake>> {
    parse(&[
        openai(),
        file(
            "policies/tenants/acme.toml",
            &format!("[tenant]\nid = \"acme\"\n{acme}"),
        ),
        file(
            "policies/tenants/globex.toml",
            &format!("[tenant]\nid = \"globex\"\n{globex}"),
        ),
    ])
}

fn said(acme: &str, globex: &str) -> String {
    let mistakes = two(acme, globex).expect_err("mistakes");
    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn certificate(names: &[SubjectName]) -> ClientCertificate {
    ClientCertificate {
        digest: CertificateDigest::new([1; 32]),
        names: names.to_vec(),
        not_before: Timestamp::from_seconds(0),
        not_after: Timestamp::from_seconds(1),
    }
}

fn holder(tenant: &str, agent: &str, task: &str) -> Holder {
    Holder {
        tenant: tenant.parse().expect("an id"),
        agent: agent.parse().expect("an id"),
        task: task.parse().expect("an id"),
    }
}

const BOT: &str = "[[certificate]]\nspiffe = \"spiffe://prod.example/bot\"\nagent = \"bot\"\n";

#[test]
fn a_certificate_stands_for_the_agents_that_its_names_are_mapped_to() {
    let globex = r#"
[[certificate]]
dns = "Bot.Globex.example"
agent = "cat"
task = "nightly"
[[certificate]]
dns = "bot-2.globex.example"
agent = "cat"
task = "nightly"
"#;
    let policy = two(BOT, globex).expect("a policy");
    let holders = |names: &[SubjectName]| -> Vec<Holder> {
        let holders = policy.holders(&certificate(names));
        holders
            .into_iter()
            .map(|holder| (**holder).clone())
            .collect()
    };
    let uri = |text: &str| SubjectName::Uri(text.to_owned());
    let dns = |text: &str| SubjectName::Dns(text.to_owned());
    let bot = uri("spiffe://prod.example/bot");
    let (acme, cat) = (
        holder("acme", "bot", "standing"),
        holder("globex", "cat", "nightly"),
    );
    assert_eq!(
        holders(std::slice::from_ref(&bot)),
        std::slice::from_ref(&acme)
    );
    assert_eq!(
        holders(&[dns("bot.globex.example")]),
        std::slice::from_ref(&cat)
    );
    for nobody in [
        uri("spiffe://prod.example/bot/x"),
        uri("spiffe://prod.example"),
        dns("spiffe://prod.example/bot"),
        dns("globex.example"),
        dns("x.bot.globex.example"),
        dns("*.globex.example"),
        uri("bot.globex.example"),
    ] {
        assert_eq!(holders(std::slice::from_ref(&nobody)), [], "{nobody:?}");
    }
    let both = [bot.clone(), dns("bot.globex.example")];
    assert_eq!(holders(&both), [acme, cat.clone()]);
    let same = [dns("bot.globex.example"), dns("bot-2.globex.example")];
    assert_eq!(holders(&same), [cat], "two names of one agent");
    let two_uris = [bot, uri("spiffe://prod.example/other")];
    assert_eq!(holders(&two_uris), [], "an X.509 SVID has one URI");
}

#[test]
fn a_name_belongs_to_one_agent_of_one_tenant() {
    let expected = "tenants/globex.toml:4:10: certificates of `spiffe://prod.example/bot` are already mapped at policies/tenants/acme.toml:4:10";
    let text = said(BOT, BOT);
    assert!(text.contains(expected), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    let cased = "[[certificate]]\ndns = \"a.example\"\nagent = \"a\"\n[[certificate]]\ndns = \"A.Example\"\nagent = \"b\"\n";
    let text = said(cased, "");
    assert!(text.contains("acme.toml:7:7: certificates of `a.example` are already mapped at policies/tenants/acme.toml:4:7"), "{text}");
}

#[test]
fn mappings_that_name_nobody_are_mistakes() {
    let text = said(
        r#"[[certificate]]
agent = "bot"
[[certificate]]
spiffe = "spiffe://prod.example/bot"
dns = "bot.example"
agent = "bot"
[[certificate]]
spiffe = "spiffe://prod.example/*"
agent = "bot"
[[certificate]]
dns = "*.example"
agent = "bot"
[[certificate]]
dns = "bot.example"
[[certificate]]
dns = "cat.example"
agent = "not a name"
cn = "cat"
"#,
        "",
    );
    for expected in [
        "acme.toml:3:1: a certificate is known by `spiffe` or by `dns`; this has neither",
        "acme.toml:5:1: a certificate is known by `spiffe` or by `dns`; this has both",
        "acme.toml:10:10: `spiffe` is \"spiffe://prod.example/*\", but a workload's SPIFFE ID is spiffe://trust-domain/path",
        "acme.toml:13:7: `dns` is \"*.example\", but a DNS name is",
        "acme.toml:15:1: [[certificate]] lacks `agent`",
        "acme.toml:19:9: `agent` is \"not a name\"",
        "has no key `cn`",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert_eq!(text.lines().count(), 7, "{text}");
}
