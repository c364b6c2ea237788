//! Client certificates instead of tokens, and beside them.
//!
//! Two tenants, each with an agent that has a certificate of one authority. What a certificate
//! says decides; what a client says of certificates does not.

mod curl;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tollgate_testkit::authority::Authority;
use tollgate_testkit::raw::{Answer, Raw};
use tollgate_testkit::wait::{until_true, within};

use crate::harness::{Ask, Dialect, Refused, World, chat, key, outcome, text};

const CHAT: &str = "/openai/v1/chat/completions";
const HOUR: Duration = Duration::from_secs(3600);
const ACME_BOT: &str = "spiffe://prod.example/ns/acme/sa/support-bot";
const GLOBEX_BOT: &str = "bot.globex.example";

/// A certificate and its key, as PEM.
type Pair = (String, String);

/// A gateway that takes certificates of one authority.
struct Bench {
    world: World,
    authority: Authority,
    directory: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let authority = Authority::new();
        let directory = tempfile::tempdir().unwrap();
        let (certificate, private_key) = authority.pair("localhost");
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("tls.crt"), certificate).unwrap();
        std::fs::write(path("tls.key"), private_key).unwrap();
        std::fs::write(path("ca.pem"), authority.pem()).unwrap();
        let world = World::planned(|plan| {
            // A session is resumed by the thread that has begun it.
            plan.gateway.push_str("threads = 1\n");
            plan.gateway.push_str(&format!(
                "[tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n",
                path("tls.crt"),
                path("tls.key"),
                path("ca.pem"),
            ));
            plan.tenant("acme").more.push_str(&format!(
                "[[certificate]]\nspiffe = \"{ACME_BOT}\"\nagent = \"support-bot\"\n"
            ));
            plan.tenant("globex").more.push_str(&format!(
                "[[certificate]]\ndns = \"{GLOBEX_BOT}\"\nagent = \"bot\"\ntask = \"nightly\"\n"
            ));
        })
        .await;
        Self {
            world,
            authority,
            directory,
        }
    }

    fn pair(&self, names: &[&str]) -> Pair {
        let now = SystemTime::now();
        self.authority.client_pair(names, now - HOUR, now + HOUR)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn client(&self, pair: Option<&Pair>) -> Arc<ClientConfig> {
        let protocols = &["http/1.1"];
        Arc::new(match pair {
            Some(pair) => self.authority.client_with(protocols, pair),
            None => self.authority.client(protocols),
        })
    }

    async fn connect(&self, pair: Option<&Pair>) -> Raw {
        self.connect_as(self.client(pair)).await.0
    }

    /// A connection, and how its handshake went.
    async fn connect_as(&self, client: Arc<ClientConfig>) -> (Raw, HandshakeKind) {
        let tcp = TcpStream::connect(self.world.gateway.address)
            .await
            .unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connecting = TlsConnector::from(client).connect(name, tcp);
        let stream = within("handshake", connecting).await.unwrap();
        let kind = stream.get_ref().1.handshake_kind().unwrap();
        (Raw::over(stream), kind)
    }

    async fn send(&self, pair: Option<&Pair>, ask: &Ask) -> Answer {
        let mut raw = self.connect(pair).await;
        ask.send_on(&mut raw).await
    }

    /// An answer's refusal as recorded for `tenant`, checked, and the reason for it.
    async fn reason(&self, answer: &Answer, tenant: &str) -> String {
        let refused = Refused::UNAUTHENTICATED;
        let gateway = &self.world.gateway;
        let record = refused
            .check_recorded(gateway, answer, Dialect::OpenAi, tenant)
            .await;
        text(&record, "tollgate.refusal.reason").to_owned()
    }

    /// A token bound to this certificate, through the command line.
    fn bound_token(&self, tenant: &str, agent: &str, pair: &Pair) -> String {
        let file = self.file("bound.pem", &pair.0).display().to_string();
        let mint = [
            "token",
            "mint",
            "--tenant",
            tenant,
            "--agent",
            agent,
            "--task",
            "t1",
            "--certificate",
            &file,
        ];
        let token = self.world.gateway.site.cli_ok(&mint, "");
        token.trim().to_owned()
    }
}

fn localhost(method: &str, target: &str) -> Ask {
    Ask::new(method, target).host("localhost")
}

fn models() -> Ask {
    localhost("GET", "/openai/v1/models")
}

#[tokio::test]
async fn each_certificate_calls_as_its_own_tenant_with_that_tenants_key() {
    let bench = Bench::new().await;
    let acme = bench.pair(&[ACME_BOT]);
    let globex = bench.pair(&[GLOBEX_BOT]);
    let mut ids = Vec::new();
    for (pair, tenant, agent, task) in [
        (&acme, "acme", "support-bot", "standing"),
        (&globex, "globex", "bot", "nightly"),
        (&acme, "acme", "support-bot", "standing"),
    ] {
        // As SDKs do, that cannot be without a key.
        let ask = localhost("POST", CHAT)
            .header("authorization", "Bearer unused")
            .json(&chat());
        let answer = bench.send(Some(pair), &ask).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let seen = bench.world.calls().pop().unwrap();
        let expected = format!("Bearer {}", key(tenant, "openai"));
        assert_eq!(seen.header("authorization"), Some(expected));
        let record = bench.world.record_of(tenant, &answer).await;
        assert_eq!(text(&record, "tenant.id"), tenant);
        assert_eq!(text(&record, "gen_ai.agent.id"), agent);
        assert_eq!(text(&record, "tollgate.task.id"), task);
        assert!(
            record["tollgate.certificate.sha256"].is_string(),
            "{record:#}"
        );
        ids.push(text(&record, "tollgate.token.id").to_owned());
    }
    assert_eq!(ids[0], ids[2], "one certificate is one caller");
    assert_ne!(ids[0], ids[1]);
    // A handle is resolved as with a token, and another tenant's is denied.
    let handle = models().header("authorization", "Bearer $CRED{openai_key}");
    assert_eq!(bench.send(Some(&acme), &handle).await.status, 200);
    let unknown = models().header("authorization", "Bearer $CRED{theirs}");
    let answer = bench.send(Some(&acme), &unknown).await;
    Refused::CREDENTIAL_DENIED.check(&answer, Dialect::OpenAi);
}

#[tokio::test]
async fn case_24_neither_token_nor_a_certificate_that_names_one_agent_is_nobody() {
    let bench = Bench::new().await;
    let none = bench.send(None, &models()).await;
    assert_eq!(bench.reason(&none, "_gateway").await, "token_missing");
    for names in [
        &[][..],
        &["spiffe://prod.example/ns/acme/sa/other"],
        &["other.globex.example"],
        // The names of two agents, and two URIs, one of which would be mapped.
        &[ACME_BOT, GLOBEX_BOT],
        &[ACME_BOT, "spiffe://prod.example/ns/acme/sa/other"],
    ] {
        let pair = bench.pair(names);
        let answer = bench.send(Some(&pair), &models()).await;
        let reason = bench.reason(&answer, "_gateway").await;
        assert_eq!(reason, "certificate_unmapped", "{names:?}");
    }
    // A token that does not hold is not made good by a certificate that would.
    let acme = bench.pair(&[ACME_BOT]);
    let damaged = format!("{}x", bench.world.token("acme").await);
    let answer = bench.send(Some(&acme), &models().bearer(&damaged)).await;
    Refused::UNAUTHENTICATED.check(&answer, Dialect::OpenAi);
    bench.world.assert_no_contact();
}

#[tokio::test]
async fn case_33_a_bound_token_opens_nothing_over_another_certificate_or_none() {
    let bench = Bench::new().await;
    let own = bench.pair(&[ACME_BOT]);
    let token = bench.bound_token("acme", "support-bot", &own);
    let ask = models().bearer(&token);
    for stolen_by in [
        None,
        // The same agent on another pod, somebody without a role, and another tenant's agent.
        Some(bench.pair(&[ACME_BOT])),
        Some(bench.pair(&["nobody.example"])),
        Some(bench.pair(&[GLOBEX_BOT])),
    ] {
        let answer = bench.send(stolen_by.as_ref(), &ask).await;
        assert_eq!(bench.reason(&answer, "acme").await, "token_binding");
    }
    bench.world.assert_no_contact();
    assert_eq!(bench.send(Some(&own), &ask).await.status, 200);
    // What was remembered of the token is not who brought it.
    let replayed = bench.send(None, &ask).await;
    assert_eq!(bench.reason(&replayed, "acme").await, "token_binding");
    bench.world.only_call();
    let shown = json!({ "token": token });
    let (_, told) = bench
        .world
        .gateway
        .admin_post("/v1/tokens/introspect", &shown)
        .await;
    assert!(told["cnf"]["x5t#S256"].is_string(), "{told}");
}

#[tokio::test]
async fn case_33_a_token_of_one_agent_does_not_go_with_the_certificate_of_another() {
    let bench = Bench::new().await;
    let acme = bench.pair(&[ACME_BOT]);
    for (tenant, agent) in [("globex", "bot"), ("acme", "other-bot")] {
        let token = bench.world.gateway.mint(tenant, agent, "t1").await;
        let answer = bench.send(Some(&acme), &models().bearer(&token)).await;
        assert_eq!(bench.reason(&answer, tenant).await, "token_binding");
    }
    bench.world.assert_no_contact();
    let token = bench.world.gateway.mint("acme", "support-bot", "t7").await;
    let answer = bench.send(Some(&acme), &models().bearer(&token)).await;
    assert_eq!(answer.status, 200);
    let record = bench.world.record_of("acme", &answer).await;
    assert_eq!(text(&record, "tollgate.task.id"), "t7", "the token's task");
}

#[tokio::test]
async fn case_23_headers_that_speak_of_certificates_gain_nothing() {
    let bench = Bench::new().await;
    let globex = bench.pair(&[GLOBEX_BOT]);
    let claims = |ask: Ask| {
        ask.header(
            "x-forwarded-client-cert",
            &format!("By=x;Hash=0;URI={ACME_BOT}"),
        )
        .header("x-spiffe-id", ACME_BOT)
        .header("x-client-cert", "MIIB")
        .header("x-ssl-client-s-dn", "CN=support-bot")
        .header("x-tenant-id", "acme")
    };
    let nobody = bench.send(None, &claims(models())).await;
    assert_eq!(bench.reason(&nobody, "_gateway").await, "token_missing");
    bench.world.assert_no_contact();
    let answer = bench.send(Some(&globex), &claims(models())).await;
    assert_eq!(answer.status, 200);
    let record = bench.world.record_of("globex", &answer).await;
    let untrusted = record["tollgate.untrusted"].to_string();
    for claimed in ["x-forwarded-client-cert: By=x", "x-spiffe-id: spiffe"] {
        assert!(untrusted.contains(claimed), "{record:#}");
    }
    let seen = bench.world.only_call();
    let expected = format!("Bearer {}", key("globex", "openai"));
    assert_eq!(seen.header("authorization"), Some(expected));
}

#[tokio::test]
async fn case_31_a_revoked_agent_loses_its_certificate_and_its_stream_until_it_gets_a_newer_one() {
    let bench = Bench::new().await;
    let own = bench.pair(&[ACME_BOT]);
    let bystander = bench.pair(&[GLOBEX_BOT]);
    let (mut stream, id) = open_stream(&bench, &own).await;
    let (mut other, _) = open_stream(&bench, &bystander).await;
    let mut kept = bench.connect(Some(&own)).await;
    assert_eq!(models().send_on(&mut kept).await.status, 200);

    let what = json!({"kind": "agent", "tenant": "acme", "agent": "support-bot"});
    let revoked = Instant::now();
    bench.world.gateway.revoke(&what).await;
    let calls = bench.world.calls().len();
    let refused = models().send_on(&mut kept).await;
    assert!(revoked.elapsed() < Duration::from_secs(1));
    assert_eq!(bench.reason(&refused, "acme").await, "token_revoked");
    within("the stream ends", stream.rest()).await;
    assert!(revoked.elapsed() < Duration::from_secs(5));
    let record = bench.world.gateway.site.record("acme", &id).await;
    assert_eq!(outcome(&record), "revoked", "{record:#}");
    // Nor on a new connection, nor with another certificate from before.
    for before in [own, bench.pair(&[ACME_BOT])] {
        let refused = bench.send(Some(&before), &models()).await;
        assert_eq!(bench.reason(&refused, "acme").await, "token_revoked");
    }
    assert_eq!(bench.world.calls().len(), calls, "nothing went out");
    bench.world.mock.release();
    other.read_until(b"0\r\n\r\n").await;

    // `notBefore` has whole seconds.
    until_true("a second has passed", || revoked.elapsed().as_secs() > 0).await;
    let now = SystemTime::now();
    let newer = bench.authority.client_pair(&[ACME_BOT], now, now + HOUR);
    assert_eq!(bench.send(Some(&newer), &models()).await.status, 200);
}

#[tokio::test]
async fn an_agent_disabled_by_a_reload_is_locked_out_with_its_certificate_and_its_tokens() {
    let bench = Bench::new().await;
    let gateway = &bench.world.gateway;
    let own = bench.pair(&[ACME_BOT]);
    let token = gateway.mint("acme", "support-bot", "t1").await;
    let (mut stream, id) = open_stream(&bench, &own).await;
    let file = gateway.site.policies().join("tenants/acme.toml");
    let before = std::fs::read_to_string(file).unwrap();
    let disabled = format!("{before}\n[agents.support-bot]\nenabled = false\n");
    gateway.site.write_policy("tenants/acme.toml", &disabled);
    within("the stream ends", stream.rest()).await;
    let record = gateway.site.record("acme", &id).await;
    assert_eq!(outcome(&record), "revoked", "{record:#}");
    let calls = bench.world.calls().len();
    for (pair, ask) in [
        (Some(&own), models()),
        (None, models().bearer(&token)),
        (Some(&own), models().bearer(&token)),
    ] {
        let refused = bench.send(pair, &ask).await;
        let reason = bench.reason(&refused, "acme").await;
        assert_eq!(
            reason, "agent_disabled",
            "its auditor sees who was kept out"
        );
    }
    assert_eq!(bench.world.calls().len(), calls, "nothing went out");
    let asked = json!({"tenant": "acme", "agent": "support-bot", "task": "t2"});
    let (status, said) = gateway.admin_post("/v1/tokens", &asked).await;
    assert_eq!(
        (status, &said["code"]),
        (403, &json!("agent_disabled")),
        "{said}"
    );
    // The others of its tenant go on.
    let other = gateway.mint("acme", "other-bot", "t1").await;
    assert_eq!(bench.send(None, &models().bearer(&other)).await.status, 200);
}

#[tokio::test]
async fn a_completed_task_is_over_for_certificates_that_stand_for_it() {
    let bench = Bench::new().await;
    let own = bench.pair(&[GLOBEX_BOT]);
    assert_eq!(bench.send(Some(&own), &models()).await.status, 200);
    let what = json!({"kind": "task", "tenant": "globex", "task": "nightly"});
    bench.world.gateway.revoke(&what).await;
    for pair in [own, bench.pair(&[GLOBEX_BOT])] {
        let refused = bench.send(Some(&pair), &models()).await;
        assert_eq!(bench.reason(&refused, "globex").await, "token_revoked");
    }
    bench.world.only_call();
}

/// An open stream whose provider waits, and the id of its record.
async fn open_stream(bench: &Bench, pair: &Pair) -> (Raw, String) {
    let mut body: Value = chat();
    body["stream"] = json!(true);
    let ask = localhost("POST", &format!("{CHAT}?mock=hold-after-3,chunks-20")).json(&body);
    let mut raw = bench.connect(Some(pair)).await;
    raw.send(ask.bytes()).await;
    let (status, headers) = raw.head().await.expect("a head");
    assert_eq!(status, 200);
    raw.read_until(b"\n\n").await;
    let mut headers = headers.into_iter();
    let id = headers.find(|(name, _)| name == "x-tollgate-request-id");
    (raw, id.unwrap().1)
}

#[tokio::test]
async fn a_resumed_session_is_still_its_certificates_and_ends_with_its_agent() {
    let bench = Bench::new().await;
    let pair = bench.pair(&[ACME_BOT]);
    let bound = bench.bound_token("acme", "support-bot", &pair);
    let client = bench.client(Some(&pair));
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (mut raw, met) = bench.connect_as(Arc::clone(&client)).await;
        assert_eq!(met, kind);
        assert_eq!(models().send_on(&mut raw).await.status, 200, "{kind:?}");
        let ask = models().bearer(&bound);
        assert_eq!(ask.send_on(&mut raw).await.status, 200, "{kind:?}");
    }
    let what = json!({"kind": "agent", "tenant": "acme", "agent": "support-bot"});
    bench.world.gateway.revoke(&what).await;
    let (mut raw, met) = bench.connect_as(client).await;
    assert_eq!(met, HandshakeKind::Resumed);
    let refused = models().send_on(&mut raw).await;
    assert_eq!(bench.reason(&refused, "acme").await, "token_revoked");
}
