//! Cases 31 and 32: a revocation reaches whatever is open, within its bounds, and nothing else;
//! and it survives what the process does not.
//!
//! There are no tunnels and no upgraded connections to end: CONNECT and upgrades are refused
//! (`destinations.rs`, `headers.rs`).

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tollgate_loadtest::proof::{self, Common, RevokeConfig, What};
use tollgate_testkit::raw::Raw;
use tollgate_testkit::wait::{eventually, within};

use crate::harness::{
    Ask, Dialect, Plan, Refused, Site, TenantPlan, World, chat, outcome, start_mock,
};

const CHAT: &str = "/openai/v1/chat/completions";
/// How long anything that is open may outlive a revocation.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);

fn kinds(token: &str) -> [Value; 4] {
    let jti = &tollgate_testkit::forge::open(token).1["jti"];
    [
        json!({"kind": "token", "tenant": "acme", "token": jti}),
        json!({"kind": "agent", "tenant": "acme", "agent": "a1"}),
        json!({"kind": "tenant", "tenant": "acme"}),
        json!({"kind": "task", "tenant": "acme", "task": "t1"}),
    ]
}

/// A connection over HTTP/2, on which calls of several tokens may be open.
struct Shared(SendRequest<Full<Bytes>>);

impl Shared {
    async fn with(world: &World) -> Self {
        let stream = TcpStream::connect(world.gateway.address).await.unwrap();
        let (client, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(async move { drop(connection.await) });
        Self(client)
    }

    async fn stream(&mut self, token: &str) -> Response<Incoming> {
        let mut body = chat();
        body["stream"] = json!(true);
        let request = Request::post(format!("http://tollgate{CHAT}?mock=hold-after-3,chunks-20"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        self.0.ready().await.unwrap();
        within("an answer's head", self.0.send_request(request))
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn case_31_on_an_open_http_2_connection_only_the_revoked_streams_end() {
    let world = World::new().await;
    for number in 0..4 {
        let token = world.token("acme").await;
        let other = world.token("globex").await;
        let mut shared = Shared::with(&world).await;
        let mut cut = shared.stream(&token).await;
        let mut spared = shared.stream(&other).await;
        for answer in [&mut cut, &mut spared] {
            assert_eq!(answer.status(), StatusCode::OK);
            within("an event", answer.body_mut().frame())
                .await
                .expect("a frame")
                .unwrap();
        }
        let what = &kinds(&token)[number];
        let revoked = Instant::now();
        world.gateway.revoke(what).await;
        assert_eq!(
            shared.stream(&token).await.status(),
            StatusCode::UNAUTHORIZED
        );
        assert!(revoked.elapsed() < Duration::from_secs(1), "{what}");
        let ended = within("the stream ends", cut.into_body().collect()).await;
        assert!(ended.is_err(), "{what}: it must not look whole");
        assert!(
            revoked.elapsed() < CLOSED_WITHIN,
            "{what}: {:?}",
            revoked.elapsed()
        );
        world.mock.release();
        let rest = spared.into_body().collect();
        let rest = within("the other stream ends", rest).await.unwrap();
        let rest = String::from_utf8(rest.to_bytes().to_vec()).unwrap();
        assert!(rest.contains("data: [DONE]"), "{what}: it came whole");
        world.mock.close_gate();
    }
}

#[tokio::test]
async fn case_31_a_call_that_waits_for_its_first_byte_waits_no_longer() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for (number, what) in kinds(&token).into_iter().enumerate() {
        let token = world.token("acme").await;
        let jti = &tollgate_testkit::forge::open(&token).1["jti"];
        let what = if what["kind"] == "token" {
            json!({"kind": "token", "tenant": "acme", "token": jti})
        } else {
            what
        };
        let ask = Ask::new("POST", &format!("{CHAT}?mock=hold"))
            .bearer(&token)
            .json(&chat());
        let mut raw = Raw::connect(world.gateway.address).await;
        raw.send(ask.bytes()).await;
        within("the call has arrived", world.mock.wait_for(number + 1)).await;
        let revoked = Instant::now();
        world.gateway.revoke(&what).await;
        let answer = within("an answer", raw.answer()).await.expect("one");
        assert!(
            revoked.elapsed() < CLOSED_WITHIN,
            "{what}: {:?}",
            revoked.elapsed()
        );
        Refused::UNAUTHENTICATED.check(&answer, Dialect::OpenAi);
        let record = world.record_of("acme", &answer).await;
        assert_eq!(outcome(&record), "revoked", "{what}: {record:#}");
        assert_ne!(
            record["tollgate.cost_usd"], "0",
            "it has been asked, and may be billed: {record:#}"
        );
    }
}

#[tokio::test]
async fn case_31_a_tenant_or_agent_disabled_by_policy_loses_its_open_streams_too() {
    let whole = TenantPlan::new("acme").text("acme");
    let without_tenant = whole.replacen("id = \"acme\"", "id = \"acme\"\nenabled = false", 1);
    let without_agent = format!("{whole}\n[agents.a1]\nenabled = false\n");
    for (who, text) in [("tenant", without_tenant), ("agent", without_agent)] {
        let world = World::new().await;
        let token = world.token("acme").await;
        let other = world.token("globex").await;
        let mut shared = Shared::with(&world).await;
        let cut = shared.stream(&token).await;
        let spared = shared.stream(&other).await;
        let mut kept = Raw::connect(world.gateway.address).await;
        let ask = Ask::new("GET", "/openai/v1/models").bearer(&token);
        assert_eq!(ask.send_on(&mut kept).await.status, 200);

        world.gateway.site.write_policy("tenants/acme.toml", &text);
        // On the connection that was kept: nothing is remembered of an earlier yes.
        eventually("it is locked out", async || {
            ask.send_on(&mut kept).await.status == 401
        })
        .await;
        let locked_out = Instant::now();
        let ended = within("the stream ends", cut.into_body().collect()).await;
        assert!(ended.is_err(), "{who}");
        assert!(locked_out.elapsed() < CLOSED_WITHIN, "{who}");
        world.mock.release();
        let rest = within("the other stream ends", spared.into_body().collect()).await;
        assert!(rest.is_ok(), "{who}");
    }
}

#[tokio::test]
async fn case_32_after_a_crash_the_first_call_accepted_knows_every_revocation() {
    let mock = start_mock().await;
    let site = Site::new();
    Plan::at(mock.addr()).write(&site);
    let mut gateway = site.serve().await;
    let live = gateway.mint("globex", "a1", "t1").await;
    let mut revoked = Vec::new();
    for number in 0..4 {
        let token = gateway.mint("acme", "a1", "t1").await;
        gateway.revoke(&kinds(&token)[number]).await;
        revoked.push(token);
    }
    // Right after the last answer: what it said must be on the disk.
    gateway.kill();
    let gateway = site.serve().await;
    for token in &revoked {
        let ask = Ask::new("GET", "/openai/v1/models").bearer(token);
        let answer = ask.send(gateway.address).await;
        Refused::UNAUTHENTICATED.check(&answer, Dialect::OpenAi);
    }
    assert_eq!(mock.connections(), 0, "nothing reached the provider");
    let ask = Ask::new("GET", "/openai/v1/models").bearer(&live);
    assert_eq!(ask.send(gateway.address).await.status, 200);
}

/// A table that cannot be read opens nothing: the gateway does not even start.
#[tokio::test]
async fn case_32_a_registry_that_cannot_be_read_means_no_gateway() {
    let world = World::new().await;
    let site = world.gateway.site.clone();
    drop(world);
    let databases = named(&site.data(), "state.db");
    assert!(!databases.is_empty(), "where the registry lies");
    for database in &databases {
        std::fs::write(
            database,
            "this is no database, and long enough to be looked at",
        )
        .unwrap();
    }
    let output = site.cli(&["serve"], "");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"", "it never says that it is ready");
}

/// A revocation that cannot be written is said to have failed, and yet opens nothing here; a token
/// that cannot be registered is not given out.
#[tokio::test]
async fn case_32_a_registry_that_cannot_be_written_gives_out_no_token() {
    let world = World::on_small_disk().await;
    let token = world.token("acme").await;
    let ask = Ask::new("GET", "/openai/v1/models").bearer(&token);
    assert_eq!(world.send(&ask).await.status, 200);
    world.gateway.fill_disk();
    let asked = json!({"tenant": "acme", "agent": "a1", "task": "t1"});
    let (status, said) = world.gateway.admin_post("/v1/tokens", &asked).await;
    assert_eq!(status, 503, "{said}");
    assert!(said.get("token").is_none(), "{said}");
    let what = json!({"kind": "tenant", "tenant": "acme"});
    let (status, said) = world.gateway.admin_post("/v1/tokens/revoke", &what).await;
    assert_eq!(status, 503, "{said}");
    let answer = world.send(&ask).await;
    assert!(matches!(answer.status, 401 | 503), "{}", answer.status);
    world.gateway.empty_disk();
}

#[tokio::test]
async fn a_tenant_that_is_revoked_loses_40_streams_less_those_of_others() {
    let config = RevokeConfig {
        common: Common {
            gateway: env!("CARGO_BIN_EXE_tollgate").into(),
            seed: 1,
            gateway_log: None,
        },
        streams: 40,
        what: vec![What::Tenant],
    };
    for (_, found) in Box::pin(proof::revoke(&config)).await.unwrap() {
        assert_eq!(found.figure("revoked_streams"), 10);
        assert!(found.hold(), "{}", found.table());
    }
}

/// Every file below `directory` whose name begins so: a database, and its log.
fn named(directory: &Path, begin: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(named(&path, begin));
        } else if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with(begin)
        {
            found.push(path);
        }
    }
    found
}
