//! The mock answers, paces and remembers as its documentation says.

#![allow(clippy::unwrap_used, reason = "the helpers of a test fail the test")]

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tollgate_loadtest::mock::{BenchAnswers, Mock, MockConfig, Outcome};

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

async fn send(mock: &Mock, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
    let stream = TcpStream::connect(mock.addr()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    sender.send_request(request).await
}

async fn post(mock: &Mock, path: &str, body: &Value) -> hyper::Result<Response<Incoming>> {
    let body = Full::new(Bytes::from(body.to_string()));
    send(
        mock,
        Request::post(path)
            .header("host", "mock")
            .body(body)
            .unwrap(),
    )
    .await
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .to_vec(),
    )
    .unwrap()
}

async fn json_of(response: Response<Incoming>) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

fn data_lines(stream: &str) -> Vec<&str> {
    stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect()
}

#[tokio::test]
async fn chat_reports_the_usage_it_was_told_to() {
    let mock = Mock::start(any_port()).await.unwrap();
    let ask =
        json!({"model": "gpt-4o-mini", "messages": [], "user": "mock-usage-100-20 mock-cached-40"});
    let answer = json_of(post(&mock, "/v1/chat/completions", &ask).await.unwrap()).await;
    assert_eq!(answer["model"], "gpt-4o-mini");
    assert_eq!(answer["usage"]["prompt_tokens"], 100);
    assert_eq!(answer["usage"]["completion_tokens"], 20);
    assert_eq!(
        answer["usage"]["prompt_tokens_details"]["cached_tokens"],
        40
    );
}

#[tokio::test]
async fn unsteered_output_never_exceeds_the_bound_of_the_request() {
    let mock = Mock::start(any_port()).await.unwrap();
    let ask = json!({"model": "gpt-4o-mini", "messages": [], "max_tokens": 7});
    let answer = json_of(post(&mock, "/v1/chat/completions", &ask).await.unwrap()).await;
    assert_eq!(answer["usage"]["completion_tokens"], 7);
}

#[tokio::test]
async fn stream_has_a_usage_chunk_only_when_asked() {
    let mock = Mock::start(any_port()).await.unwrap();
    for (options, expected) in [(json!({}), false), (json!({"include_usage": true}), true)] {
        let ask = json!({"model": "m", "stream": true, "stream_options": options, "user": "mock-chunks-50"});
        let stream = text(post(&mock, "/v1/chat/completions", &ask).await.unwrap()).await;
        let lines = data_lines(&stream);
        assert_eq!(lines.len(), if expected { 54 } else { 53 });
        assert_eq!(lines.last(), Some(&"[DONE]"));
        assert_eq!(stream.contains("prompt_tokens"), expected);
    }
}

#[tokio::test]
async fn responses_and_messages_stream_their_named_events() {
    let mock = Mock::start(any_port()).await.unwrap();
    let ask = json!({"model": "m", "stream": true, "max_tokens": 50});
    let stream = text(post(&mock, "/v1/responses", &ask).await.unwrap()).await;
    assert!(stream.starts_with("event: response.created\n"));
    let last: Value = serde_json::from_str(data_lines(&stream).last().unwrap()).unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["usage"]["output_tokens"]),
        (&json!("response.completed"), &json!(20))
    );
    let stream = text(post(&mock, "/v1/messages", &ask).await.unwrap()).await;
    let names: Vec<_> = stream
        .lines()
        .filter_map(|line| line.strip_prefix("event: "))
        .collect();
    assert_eq!(names.first(), Some(&"message_start"));
    assert_eq!(
        names
            .iter()
            .filter(|name| **name == "content_block_delta")
            .count(),
        4
    );
    assert_eq!(names.last(), Some(&"message_stop"));
}

#[tokio::test]
async fn embeddings_in_base64_are_the_same_numbers() {
    use base64::Engine as _;
    let mock = Mock::start(any_port()).await.unwrap();
    let ask = json!({"model": "m", "input": ["a", "b"], "encoding_format": "base64"});
    let answer = json_of(post(&mock, "/v1/embeddings", &ask).await.unwrap()).await;
    let text = answer["data"][1]["embedding"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap();
    let numbers: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    assert_eq!(numbers, [0.25, 0.5, 1.0]);
}

#[tokio::test]
async fn errors_take_the_shape_of_the_dialect() {
    let mock = Mock::start(any_port()).await.unwrap();
    let path = "/v1/chat/completions?mock=status-429,retry-after-2";
    let answer = post(&mock, path, &json!({})).await.unwrap();
    assert_eq!(
        (answer.status(), &answer.headers()["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"2".parse().unwrap())
    );
    assert_eq!(
        json_of(answer).await["error"]["code"],
        "rate_limit_exceeded"
    );
    let answer = post(&mock, "/v1/messages?mock=status-529", &json!({}))
        .await
        .unwrap();
    assert_eq!(json_of(answer).await["error"]["type"], "overloaded_error");
}

#[tokio::test]
async fn misspelt_word_is_refused() {
    let mock = Mock::start(any_port()).await.unwrap();
    let answer = post(
        &mock,
        "/v1/chat/completions",
        &json!({"user": "mock-hangpu"}),
    )
    .await
    .unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn request_is_remembered_whole() {
    let mock = Mock::start(any_port()).await.unwrap();
    let body = Full::new(Bytes::from(vec![b'x'; 3 << 20]));
    let request = Request::post("/v1/files?a=b")
        .header("authorization", "Bearer sk-canary-1")
        .body(body)
        .unwrap();
    let answer = json_of(send(&mock, request).await.unwrap()).await;
    mock.wait_for(1).await;
    let seen = mock.seen().remove(0);
    assert_eq!(
        (seen.path_and_query.as_str(), seen.body_len, seen.body.len()),
        ("/v1/files?a=b", 3 << 20, 1 << 20)
    );
    assert_eq!(
        seen.header("authorization").as_deref(),
        Some("Bearer sk-canary-1")
    );
    assert_eq!(answer["sha256"], seen.body_sha256);
    assert!(seen.complete && seen.mentions("sk-canary-1"));
    assert_eq!((seen.outcome, mock.connections()), (Outcome::Sent, 1));
}

#[tokio::test]
async fn hang_up_mid_stream_breaks_the_body() {
    let mock = Mock::start(any_port()).await.unwrap();
    let ask = json!({"model": "m", "stream": true, "user": "mock-hangup-after-2"});
    let answer = post(&mock, "/v1/chat/completions", &ask).await.unwrap();
    assert!(answer.into_body().collect().await.is_err());
    assert_eq!(mock.seen()[0].outcome, Outcome::Broken);
    assert!(
        post(
            &mock,
            "/v1/chat/completions",
            &json!({"user": "mock-hangup"})
        )
        .await
        .is_err()
    );
}

#[tokio::test]
async fn plain_answer_can_break_off_after_some_bytes() {
    let mock = Mock::start(any_port()).await.unwrap();
    let answer = post(
        &mock,
        "/v1/chat/completions",
        &json!({"user": "mock-hangup-after-10"}),
    )
    .await
    .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.into_body().collect().await.is_err());
}

#[tokio::test]
async fn held_answers_leave_when_released() {
    let mock = Mock::start(any_port()).await.unwrap();
    let ask = json!({"user": "mock-hold"});
    let (answer, ()) = tokio::join!(post(&mock, "/v1/chat/completions", &ask), async {
        mock.wait_for(1).await;
        assert_eq!(mock.seen()[0].outcome, Outcome::Open);
        mock.release();
    });
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn secrets_can_be_echoed_in_header_body_and_trailer() {
    let mock = Mock::start(any_port()).await.unwrap();
    let path = "/v1/chat/completions?mock=echo-headers,echo-trailer,frame-bytes-1";
    let request = Request::post(path)
        .header("authorization", "Bearer sk-canary-2")
        .header("te", "trailers")
        .body(Full::new(Bytes::from_static(b"{}")))
        .unwrap();
    let answer = send(&mock, request).await.unwrap();
    assert_eq!(
        answer.headers()["x-echo-authorization"],
        "Bearer sk-canary-2"
    );
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("sk-canary-2"));
}

#[tokio::test]
async fn early_answer_does_not_wait_for_the_body() {
    let mock = Mock::start(any_port()).await.unwrap();
    let stream = TcpStream::connect(mock.addr()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let never = http_body_util::StreamBody::new(futures_util::stream::pending::<
        Result<http_body::Frame<Bytes>, std::io::Error>,
    >());
    let request = Request::post("/v1/files?mock=early,status-413")
        .body(never)
        .unwrap();
    assert_eq!(
        sender.send_request(request).await.unwrap().status(),
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

#[tokio::test]
async fn http2_is_spoken_by_prior_knowledge() {
    let mock = Mock::start(any_port()).await.unwrap();
    let stream = TcpStream::connect(mock.addr()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("{}/user?a=b", mock.url()))
        .body(Full::<Bytes>::default())
        .unwrap();
    let answer = json_of(sender.send_request(request).await.unwrap()).await;
    assert_eq!(
        (&answer["login"], &answer["query"]),
        (&json!("mock"), &json!("a=b"))
    );
    assert_eq!(mock.seen()[0].version, http::Version::HTTP_2);
}

#[tokio::test]
async fn dropped_mock_closes_port_and_connections() {
    let mock = Mock::start(any_port()).await.unwrap();
    let addr = mock.addr();
    let stream = TcpStream::connect(addr).await.unwrap();
    post(&mock, "/v1/embeddings", &json!({})).await.unwrap();
    drop(mock);
    stream.readable().await.unwrap();
    assert_eq!(
        stream.try_read(&mut [0]).unwrap_or(0),
        0,
        "end of stream or reset"
    );
    // The listener goes with its task, which ends at the next turn of this one-threaded runtime.
    tokio::task::yield_now().await;
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn bench_answers_have_the_wanted_size_and_events() {
    let mut config = MockConfig::new(any_port());
    config.bench = Some(BenchAnswers::new(1024, 54, std::time::Duration::ZERO));
    let mock = Mock::start_with(config).await.unwrap();
    let plain = text(
        post(&mock, "/v1/chat/completions", &json!({"messages": []}))
            .await
            .unwrap(),
    )
    .await;
    assert!((1000..1100).contains(&plain.len()), "{} bytes", plain.len());
    let body = Bytes::from_static(br#"{"stream":true,"messages":[]}"#);
    let answer = send(
        &mock,
        Request::post("/v1/chat/completions")
            .body(Full::new(body))
            .unwrap(),
    )
    .await
    .unwrap();
    assert_eq!(data_lines(&text(answer).await).len(), 54);
    assert!(mock.seen().is_empty());
}

#[tokio::test]
async fn a_standing_mock_says_what_it_billed_and_keeps_little() {
    let mut config = MockConfig::standing(any_port());
    (config.keep_requests, config.inspected_bytes) = (2, 1024);
    let mock = Mock::start_with(config).await.unwrap();
    let get = |path: &str| Request::get(path).body(Full::default()).unwrap();
    let well = text(send(&mock, get("/healthz")).await.unwrap()).await;
    assert_eq!(well, r#"{"status":"ok"}"#);
    for _ in 0..3 {
        let body = Bytes::from_static(br#"{"model":"gpt-4o-mini","messages":[]}"#);
        let call = Request::post("/v1/chat/completions")
            .header("authorization", "Bearer sk-canary-acme-0123456789");
        let call = call.body(Full::new(body)).unwrap();
        assert_eq!(send(&mock, call).await.unwrap().status(), 200);
    }
    let large = json!({"messages": [{"role": "user", "content": "x".repeat(2_000)}]});
    let refused = post(&mock, "/v1/chat/completions", &large).await.unwrap();
    assert_eq!(refused.status(), 413);
    let account = text(send(&mock, get("/account")).await.unwrap()).await;
    let account: Value = serde_json::from_str(&account).unwrap();
    let sums = json!([{
        "credential": "Bearer sk-canary-acme-…", "answers": 3, "input_tokens": 30, "output_tokens": 60,
    }]);
    assert_eq!(account["credentials"], sums);
    assert_eq!(mock.seen().len(), 2, "only the newest are kept");
}

#[tokio::test]
async fn a_standing_mock_closes_connections_beyond_its_bound() {
    let mut config = MockConfig::standing(any_port());
    config.connections = 2;
    let mock = Mock::start_with(config).await.unwrap();
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(TcpStream::connect(mock.addr()).await.unwrap());
    }
    let third = open.pop().unwrap();
    third.readable().await.unwrap();
    assert_eq!(third.try_read(&mut [0]).unwrap_or(0), 0, "closed at once");
    assert!(open[0].try_read(&mut [0]).is_err(), "the others are open");
}
