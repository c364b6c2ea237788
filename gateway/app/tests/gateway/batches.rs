//! Work that is made later is charged when it is started and corrected, once, when it is stated.

mod killed;
mod others;

use serde_json::{Value, json};
use tollgate_core::money::PicoUsd;
use tollgate_testkit::raw::{Answer, Raw};

use crate::harness::{Ask, Gateway, Plan, World, cost, text};

/// Two calls of 1,000 tokens in at half of $2 and 100 out at half of $8 per million.
const USED: &str = "0.0028";

fn usd(text: &str) -> PicoUsd {
    text.parse().expect("an amount")
}

fn deferred_endpoints(plan: &mut Plan) {
    let openai = plan.provider("openai");
    openai.endpoints = openai.endpoints.replace("/v1/files", "/v1/other-files");
    for (method, path, operation) in [
        ("POST", "/v1/files", "batch_input"),
        ("GET", "/v1/files/*/content", "batch_output"),
        ("POST", "/v1/batches", "batch"),
        ("GET", "/v1/batches", "batch_status"),
        ("GET", "/v1/batches/*", "batch_status"),
        ("POST", "/v1/batches/*/cancel", "batch_status"),
        ("GET", "/v1/responses/*", "response_status"),
    ] {
        openai.endpoint(method, path, operation, "");
    }
    let anthropic = plan.provider("anthropic");
    for (method, path, operation) in [
        ("POST", "/v1/messages/batches", "message_batch"),
        ("GET", "/v1/messages/batches/*", "batch_status"),
        (
            "GET",
            "/v1/messages/batches/*/results",
            "message_batch_results",
        ),
    ] {
        anthropic.endpoint(method, path, operation, "");
    }
}

async fn world(change: impl FnOnce(&mut Plan)) -> World {
    World::planned(|plan| {
        deferred_endpoints(plan);
        change(plan);
    })
    .await
}

/// A batch's input: two calls.
fn input(model: &str) -> String {
    ["a", "b"]
        .map(|id| {
            let body = json!({
                "model": model, "max_tokens": 500, "user": "mock-usage-1000-100",
                "messages": [{"role": "user", "content": "Say something."}],
            });
            let url = "/v1/chat/completions";
            json!({"custom_id": id, "method": "POST", "url": url, "body": body}).to_string() + "\n"
        })
        .concat()
}

/// An upload as SDKs make it.
fn upload(content: &str, purpose: &str) -> Ask {
    let form = format!(
        "--xx\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n{purpose}\r\n--xx\r\n\
         Content-Disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n{content}\r\n--xx--\r\n"
    );
    Ask::new("POST", "/openai/v1/files")
        .header("content-type", "multipart/form-data; boundary=xx")
        .body(form)
}

fn start(file: &str) -> Ask {
    Ask::new("POST", "/openai/v1/batches").json(&json!({
        "input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h",
    }))
}

fn get(path: &str) -> Ask {
    Ask::new("GET", path)
}

fn content(file: &str) -> Ask {
    get(&format!("/openai/v1/files/{file}/content"))
}

fn body(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).expect("JSON")
}

fn id(answer: &Answer) -> String {
    text(&body(answer), "id").to_owned()
}

fn request_id(answer: &Answer) -> String {
    answer
        .header("x-tollgate-request-id")
        .expect("an id")
        .to_owned()
}

/// A tenant at a gateway.
struct Client<'g> {
    gateway: &'g Gateway,
    token: String,
}

impl<'g> Client<'g> {
    async fn new(gateway: &'g Gateway, tenant: &str) -> Self {
        let token = gateway.mint(tenant, "a1", "t1").await;
        Self { gateway, token }
    }

    async fn send(&self, ask: Ask) -> Answer {
        ask.bearer(&self.token).send(self.gateway.address).await
    }

    /// Uploads and starts a batch: the start's answer.
    async fn batch(&self) -> Answer {
        let file = id(&self.send(upload(&input("gpt-4.1"), "batch")).await);
        let started = self.send(start(&file)).await;
        assert_eq!(started.status, 200, "{}", started.text());
        started
    }

    /// Asks how a batch stands: the file with its results.
    async fn output_of(&self, batch: &str) -> String {
        let state = self.send(get(&format!("/openai/v1/batches/{batch}"))).await;
        text(&body(&state), "output_file_id").to_owned()
    }
}

/// What a tenant has settled today.
async fn settled(gateway: &Gateway, tenant: &str) -> PicoUsd {
    let budgets = gateway.budgets(tenant).await;
    assert_eq!(text(&budgets[0], "reserved_usd"), "0");
    usd(text(&budgets[0], "settled_usd"))
}

fn sum(records: &[Value]) -> PicoUsd {
    records
        .iter()
        .map(|record| usd(&cost(record)))
        .fold(PicoUsd::ZERO, PicoUsd::saturating_add)
}

#[tokio::test(flavor = "multi_thread")]
async fn case_77_a_batch_is_charged_at_its_bound_and_corrected_once_when_its_results_are_fetched() {
    let world = world(|_| {}).await;
    let acme = Client::new(&world.gateway, "acme").await;
    let started = acme.batch().await;
    let first = world.record_of("acme", &started).await;
    let bound = usd(&cost(&first));
    assert!(bound > usd(USED), "{first:#}");
    assert_eq!(
        text(&first, "tollgate.cost.reserved_usd"),
        bound.to_string()
    );
    assert_eq!(text(&first, "tollgate.usage.source"), "estimated");
    assert_eq!(first["tollgate.notes"], json!(["deferred"]));
    assert_eq!(settled(&world.gateway, "acme").await, bound);

    let output = acme.output_of(&id(&started)).await;
    assert_eq!(settled(&world.gateway, "acme").await, bound);
    let fetched = acme.send(content(&output)).await;
    assert_eq!(fetched.status, 200);
    assert_eq!(fetched.text().lines().count(), 2, "{}", fetched.text());
    let correction = world.record_of("acme", &fetched).await;
    assert_eq!(
        text(&correction, "tollgate.cost.adjusts"),
        request_id(&started)
    );
    assert_eq!(text(&correction, "tollgate.usage.source"), "exact");
    assert_eq!(text(&correction, "gen_ai.response.model"), "gpt-4.1");
    assert_eq!(correction["tollgate.usage"]["input_tokens"], 2_000);
    assert_eq!(correction["tollgate.price.terms"]["processing"], "batch");
    assert_eq!(
        bound.saturating_add(usd(&cost(&correction))),
        usd(USED),
        "both together cost what was used"
    );
    assert_eq!(settled(&world.gateway, "acme").await, usd(USED));

    let again = acme.send(content(&output)).await;
    assert_eq!(again.body, fetched.body);
    assert_eq!(cost(&world.record_of("acme", &again).await), "0");
    assert_eq!(settled(&world.gateway, "acme").await, usd(USED));
}

#[tokio::test(flavor = "multi_thread")]
async fn case_82_of_many_fetches_at_once_one_corrects() {
    let world = world(|_| {}).await;
    let acme = Client::new(&world.gateway, "acme").await;
    let started = acme.batch().await;
    let output = acme.output_of(&id(&started)).await;
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (ask, address) = (content(&output).bearer(&acme.token), world.gateway.address);
            tokio::spawn(async move { ask.send(address).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().status, 200);
    }
    assert_eq!(settled(&world.gateway, "acme").await, usd(USED));
    let records = world.gateway.site.records_when("acme", 23).await;
    assert_eq!(sum(&records), usd(USED));
    let corrections = records
        .iter()
        .filter(|record| record.get("tollgate.cost.adjusts").is_some());
    assert_eq!(corrections.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_cannot_be_bounded_is_refused_before_contact() {
    let world = world(|plan| {
        plan.tenant("globex").caps = String::new();
        plan.tenant("globex").grants = String::new();
        plan.tenant("globex")
            .allow("openai", "models = [\"gpt-4.1\"]\n");
    })
    .await;
    let acme = Client::new(&world.gateway, "acme").await;
    let refused = acme.send(start("file-of-somebody")).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_eq!(
        refused.header("x-tollgate-error"),
        Some("batch_not_bounded")
    );
    // No cap, but only one model: nobody knows which models the file asks for.
    let globex = Client::new(&world.gateway, "globex").await;
    let refused = globex.send(start("file-of-somebody")).await;
    assert_eq!(
        refused.header("x-tollgate-error"),
        Some("batch_not_bounded")
    );
    let refused = globex.send(upload(&input("gpt-4o"), "batch")).await;
    assert_eq!(refused.header("x-tollgate-error"), Some("not_allowed"));
    let malformed = globex.send(upload("{\"custom_id\":1}\n", "batch")).await;
    assert_eq!(malformed.status, 400);
    world.assert_no_contact();
    // An unpriced model may be uploaded; a batch over it may not be started under a cap.
    let file = id(&acme.send(upload(&input("no-such-model"), "batch")).await);
    let refused = acme.send(start(&file)).await;
    assert_eq!(
        refused.header("x-tollgate-error"),
        Some("batch_not_bounded")
    );
    assert_eq!(world.calls().len(), 1, "the upload");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_bound_does_not_fit_under_the_cap_is_refused() {
    let world = world(|plan| {
        plan.tenant("acme").caps = "daily_usd = \"0.004\"\n".to_owned();
    })
    .await;
    let acme = Client::new(&world.gateway, "acme").await;
    let file = id(&acme.send(upload(&input("gpt-4.1"), "batch")).await);
    let refused = acme.send(start(&file)).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert_eq!(
        refused.header("x-tollgate-error"),
        Some("request_exceeds_headroom")
    );
    assert_eq!(world.calls().len(), 1, "the upload");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cap_an_unknown_batch_is_charged_when_its_results_are_fetched() {
    let world = world(|plan| plan.tenant("acme").caps = String::new()).await;
    let elsewhere = upload(&input("gpt-4.1"), "batch");
    let direct = String::from_utf8(elsewhere.bytes())
        .unwrap()
        .replace("/openai/v1", "/v1");
    let mut raw = Raw::connect(world.mock.addr()).await;
    raw.send(direct).await;
    let file = id(&raw.answer().await.expect("an answer"));
    let acme = Client::new(&world.gateway, "acme").await;
    let started = acme.send(start(&file)).await;
    assert_eq!(cost(&world.record_of("acme", &started).await), "0");
    let output = acme.output_of(&id(&started)).await;
    let fetched = acme.send(content(&output)).await;
    assert_eq!(cost(&world.record_of("acme", &fetched).await), USED);
    assert_eq!(settled(&world.gateway, "acme").await, usd(USED));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenant_who_fetches_the_same_file_changes_nothing() {
    let world = world(|_| {}).await;
    let acme = Client::new(&world.gateway, "acme").await;
    let globex = Client::new(&world.gateway, "globex").await;
    let started = acme.batch().await;
    let batch = id(&started);
    let output = acme.output_of(&batch).await;
    let bound = settled(&world.gateway, "acme").await;
    assert_eq!(globex.output_of(&batch).await, output);
    let fetched = globex.send(content(&output)).await;
    assert_eq!(cost(&world.record_of("globex", &fetched).await), "0");
    assert_eq!(settled(&world.gateway, "acme").await, bound);
    assert_eq!(settled(&world.gateway, "globex").await, PicoUsd::ZERO);
    acme.send(content(&output)).await;
    assert_eq!(settled(&world.gateway, "acme").await, usd(USED));
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_break_off_correct_nothing_and_the_next_whole_ones_do() {
    let world = world(|_| {}).await;
    let acme = Client::new(&world.gateway, "acme").await;
    let started = acme.batch().await;
    let output = acme.output_of(&id(&started)).await;
    let bound = settled(&world.gateway, "acme").await;
    let broken = get(&format!(
        "/openai/v1/files/{output}/content?mock=hangup-after-600"
    ));
    let mut raw = Raw::connect(world.gateway.address).await;
    raw.send(broken.bearer(&acme.token).bytes()).await;
    let (status, headers) = raw.head().await.expect("a head");
    assert_eq!(status, 200);
    let id = headers
        .into_iter()
        .find(|(name, _)| name == "x-tollgate-request-id")
        .expect("an id")
        .1;
    let record = world.gateway.site.record("acme", &id).await;
    assert_eq!(text(&record, "tollgate.outcome"), "upstream_failed");
    assert_eq!(cost(&record), "0");
    assert_eq!(settled(&world.gateway, "acme").await, bound);
    acme.send(content(&output)).await;
    assert_eq!(settled(&world.gateway, "acme").await, usd(USED));
}

#[tokio::test(flavor = "multi_thread")]
async fn results_whose_client_hangs_up_are_read_to_their_end() {
    let world = world(|_| {}).await;
    let acme = Client::new(&world.gateway, "acme").await;
    let started = acme.batch().await;
    let output = acme.output_of(&id(&started)).await;
    let slow = get(&format!(
        "/openai/v1/files/{output}/content?mock=hold,frame-bytes-50"
    ));
    let mut raw = Raw::connect(world.gateway.address).await;
    raw.send(slow.bearer(&acme.token).bytes()).await;
    world.mock.wait_for(4).await;
    drop(raw);
    world.gateway.left_alone().await;
    world.mock.release();
    let records = world.gateway.site.records_when("acme", 4).await;
    assert_eq!(sum(&records), usd(USED), "{records:#?}");
    assert_eq!(settled(&world.gateway, "acme").await, usd(USED));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_ends_with_nothing_done_is_given_back_whole() {
    let world = world(|_| {}).await;
    let acme = Client::new(&world.gateway, "acme").await;
    for end in ["failed", "expired", "cancelled"] {
        let file = id(&acme.send(upload(&input("gpt-4.1"), "batch")).await);
        let started = acme
            .send(Ask::new("POST", "/openai/v1/batches").json(&json!({
                "input_file_id": file, "endpoint": "/v1/chat/completions",
                "completion_window": "24h", "metadata": {"end": end},
            })))
            .await;
        let bound = settled(&world.gateway, "acme").await;
        assert!(bound > PicoUsd::ZERO);
        for asked in ["first", "again"] {
            let path = format!("/openai/v1/batches/{}", id(&started));
            let state = acme.send(get(&path)).await;
            assert_eq!(text(&body(&state), "status"), end, "{asked}");
            assert_eq!(settled(&world.gateway, "acme").await, PicoUsd::ZERO);
        }
    }
    let records = world.gateway.site.records_when("acme", 12).await;
    assert_eq!(sum(&records), PicoUsd::ZERO);
}
