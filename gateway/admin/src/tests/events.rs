//! Calls under way, what happens while it happens, who somebody is, and the console's files.

use std::collections::VecDeque;

use axum::response::Response;
use tokio::sync::watch;
use tollgate_core::happening::{
    Audience, CallEnd, Following, Happening, Happenings, News, OpenCall, OpenCalls,
};
use tollgate_core::record::Outcome;

use super::*;
use crate::server::Connection;

/// One call under way of each of two tenants, and news that a test hands out.
#[derive(Default)]
pub(super) struct Stage {
    pub(super) news: Arc<Mutex<VecDeque<News>>>,
    pub(super) is_crowded: std::sync::atomic::AtomicBool,
    pub(super) is_lost: Arc<std::sync::atomic::AtomicBool>,
}

fn open_call(tenant: &str) -> OpenCall {
    OpenCall {
        id: RecordId::new(uuid::Uuid::from_u128(1)),
        started_at: now(),
        tenant: tenant.parse().expect("an id"),
        agent: "bot".parse().expect("an id"),
        task: "t-1".parse().expect("an id"),
        token: "j-1".parse().expect("an id"),
        provider: "openai".parse().ok(),
        model: "<img>\n".trim().parse().ok(),
        stream: true,
        reserved_usd: "0.25".parse().expect("money"),
        status: Some(200),
        answer_bytes: 7,
    }
}

impl Happenings for Stage {
    fn open_calls(&self, audience: &Audience, most: usize) -> OpenCalls {
        let calls = ["acme", "globex"].map(open_call).into_iter();
        let seen = calls.filter(|call| audience.sees(Some(&call.tenant)));
        OpenCalls {
            calls: seen.take(most).collect(),
            left_out: 0,
        }
    }

    fn follow(&self, _audience: Audience) -> Option<Box<dyn Following>> {
        if self.is_crowded.load(std::sync::atomic::Ordering::Relaxed) {
            return None;
        }
        Some(Box::new(Reader(
            Arc::clone(&self.news),
            Arc::clone(&self.is_lost),
        )))
    }
}

struct Reader(
    Arc<Mutex<VecDeque<News>>>,
    Arc<std::sync::atomic::AtomicBool>,
);

impl Following for Reader {
    fn take(&mut self) -> Option<News> {
        if self.1.load(std::sync::atomic::Ordering::Relaxed) {
            return None;
        }
        Some(self.0.lock().expect("lock").pop_front().unwrap_or_default())
    }
}

fn end() -> Happening {
    let OpenCall {
        id,
        tenant,
        agent,
        task,
        provider,
        model,
        ..
    } = open_call("acme");
    Happening::Ended(Box::new(CallEnd {
        id,
        at: now(),
        tenant,
        agent,
        task,
        provider,
        model,
        outcome: Outcome::Revoked,
        status: Some(200),
        code: None,
        cost_usd: "0.125".parse().expect("money"),
        input_tokens: Some(1),
        output_tokens: None,
    }))
}

/// A stream of events on a connection that is there until the answer's sender says stop.
async fn follow(admin: &Arc<Admin>, who: &str, query: &str) -> (watch::Sender<bool>, Response) {
    let (stop, stopped) = watch::channel(false);
    let bearer = format!("Bearer {who}");
    let path = format!("/v1/events{query}");
    let mut asked = request(Method::GET, &path, Some(&bearer), Body::empty());
    asked.extensions_mut().insert(Connection::new(stopped));
    let answer = router(Arc::clone(admin)).oneshot(asked).await;
    (stop, answer.expect("an answer"))
}

/// The next events: each one's name and data.
async fn next(answer: &mut Response) -> Option<Vec<(String, Value)>> {
    let frame = answer.body_mut().frame().await?.expect("a frame");
    let text = String::from_utf8(frame.into_data().expect("data").to_vec()).expect("text");
    assert!(text.ends_with("\n\n"), "{text:?}");
    let events = text.trim_end().split("\n\n").map(|event| {
        let (name, data) = event.split_once("\ndata: ").expect("a name and data");
        assert!(!data.contains('\n'), "{data}");
        let name = name.strip_prefix("event: ").expect("a name");
        (name.to_owned(), serde_json::from_str(data).expect("JSON"))
    });
    Some(events.collect())
}

fn names(events: &[(String, Value)]) -> Vec<&str> {
    events.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_told_as_it_happens_and_figures_every_second() {
    let stage = Arc::new(Stage::default());
    let admin = admin_watching(Arc::new(Known::default()), Arc::clone(&stage));
    let (_stop, mut answer) = follow(&admin, AUDITOR, "").await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let first = next(&mut answer).await.expect("events");
    assert_eq!(names(&first), ["figures", "calls"]);
    let tenants = first[0].1["tenants"].as_array().expect("tenants");
    let tenants: Vec<&Value> = tenants.iter().map(|of| &of["tenant"]).collect();
    assert_eq!(tenants, ["acme"], "no other tenant is its affair");
    let calls = first[1].1["calls"].as_array().expect("calls");
    assert_eq!((calls.len(), &calls[0]["tenant"]), (1, &json!("acme")));
    let began = tokio::time::Instant::now();
    let news = News {
        happenings: vec![end()],
        missed: 3,
    };
    stage.news.lock().expect("lock").push_back(news);
    let second = next(&mut answer).await.expect("events");
    assert_eq!(names(&second), ["missed", "ended"]);
    assert_eq!(second[0].1, json!({"events": 3}));
    assert_eq!(second[1].1["outcome"], "revoked");
    assert!(began.elapsed() < Duration::from_millis(500), "at once");
    let third = next(&mut answer).await.expect("events");
    assert_eq!(names(&third), ["figures", "calls"]);
    assert!(
        began.elapsed() >= Duration::from_millis(900),
        "once a second"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_credential_with_its_place_and_with_the_gateway() {
    async fn last(answer: &mut Response) -> Value {
        let mut last = Vec::new();
        while let Some(events) = next(answer).await {
            last = events;
        }
        let (name, data) = last.pop().expect("an event");
        assert_eq!(name, "closed");
        data["reason"].clone()
    }
    let known = Arc::new(Known::default());
    let stage = Arc::new(Stage::default());
    let admin = admin_watching(Arc::clone(&known) as _, Arc::clone(&stage));
    let (_stop, mut answer) = follow(&admin, AUDITOR, "").await;
    next(&mut answer).await.expect("events");
    known.forget("alice");
    let began = tokio::time::Instant::now();
    assert_eq!(last(&mut answer).await, "credential");
    assert!(began.elapsed() <= Duration::from_secs(2), "within seconds");

    let (_stop, mut answer) = follow(&admin, OPERATOR, "").await;
    next(&mut answer).await.expect("events");
    stage
        .is_lost
        .store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(last(&mut answer).await, "crowded");
    stage
        .is_lost
        .store(false, std::sync::atomic::Ordering::Relaxed);

    let (stop, mut answer) = follow(&admin, OPERATOR, "").await;
    next(&mut answer).await.expect("events");
    stop.send_replace(true);
    assert_eq!(last(&mut answer).await, "stopping");

    stage
        .is_crowded
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let (status, told) = get(&admin, "/v1/events").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(told["code"], "too_many_followers");
}

#[tokio::test]
async fn following_is_one_line_on_record_however_long_it_lasts() {
    let book = Arc::new(Book::default());
    let admin = admin_with(vec![], Known::default(), Arc::clone(&book));
    let (_stop, mut answer) = follow(&admin, AUDITOR, "").await;
    next(&mut answer).await.expect("events");
    next(&mut answer).await.expect("events");
    let lines = book.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].0, "acme", "in its only tenant's partition");
    assert_eq!(lines[0].1["tollgate.admin.action"], "events.follow");
    assert_eq!(lines[0].1["tollgate.outcome"], "done");
}

#[tokio::test]
async fn who_somebody_is_is_told_to_every_role() {
    let admin = admin(vec![]);
    for (who, name, role, tenants) in [
        (OPERATOR, "olga", "operator", Value::Null),
        (AUDITOR, "alice", "auditor", json!(["acme"])),
        (MINTER, "mia", "minter", json!(["acme"])),
    ] {
        let bearer = format!("Bearer {who}");
        let asked = request(Method::GET, "/v1/self", Some(&bearer), Body::empty());
        let (status, told) = send(&admin, asked).await;
        assert_eq!(status, StatusCode::OK, "{told}");
        let said = (&told["name"], &told["role"], &told["tenants"]);
        assert_eq!(said, (&json!(name), &json!(role), &tenants));
    }
}

#[tokio::test]
async fn the_consoles_files_are_open_kept_nowhere_and_may_load_nothing_from_elsewhere() {
    let admin = admin(vec![]);
    for (path, kind) in [
        ("/console", "text/html"),
        ("/console/console.css", "text/css"),
        ("/console/console.js", "text/javascript"),
    ] {
        let asked = request(Method::GET, path, None, Body::empty());
        let answer = router(Arc::clone(&admin)).oneshot(asked).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let header = |name: &str| answer.headers()[name].to_str().expect("text").to_owned();
        assert!(header("content-type").starts_with(kind), "{path}");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
    let (status, _) = get(&admin, "/console/..%2Fopenapi.json").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_browser_that_a_strangers_name_led_here_is_told_nothing() {
    let admin = admin(vec![]);
    for path in ["/metrics", "/console", "/v1/self"] {
        let mut asked = request(Method::GET, path, Some("Bearer x"), Body::empty());
        let headers = asked.headers_mut();
        headers.insert("host", "evil.example:9090".parse().expect("a value"));
        headers.insert("accept-language", "en".parse().expect("a value"));
        let (status, told) = send(&admin, asked).await;
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{path}: {told}");
        assert_eq!(told["code"], "foreign_name");
    }
}
