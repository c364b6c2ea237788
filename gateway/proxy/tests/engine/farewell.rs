//! Clients are sent to other connections, and whoever has just come is served all the same.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::{Fake, Gateway, soon, to};

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: gateway\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

#[tokio::test]
async fn an_http1_answer_says_that_it_is_the_last_one_only_after_a_farewell() {
    let fake = Fake::new().await;
    let gateway = Gateway::start(to(&fake.upstream)).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    upstream.message().await;
    upstream.send(ANSWER).await;
    let before = client.until("hello").await;
    assert!(!before.contains("connection: close"), "{before}");
    gateway.farewell.say();
    client.send(ASK).await;
    upstream.message().await;
    upstream.send(ANSWER).await;
    let last = soon(client.rest()).await;
    assert!(last.contains("connection: close\r\n"), "{last}");
    assert!(
        last.ends_with("hello"),
        "it is answered all the same: {last}"
    );
    gateway.farewell.unsay();
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    upstream.message().await;
    upstream.send(ANSWER).await;
    let after = client.until("hello").await;
    assert!(!after.contains("connection: close"), "{after}");
}

#[tokio::test]
async fn an_http2_connection_takes_its_leave_after_the_calls_that_are_under_way() {
    let fake = Fake::new().await;
    let gateway = Gateway::start(to(&fake.upstream)).await;
    let stream = gateway.connect().await.0;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let get = http::Request::get("http://gateway/");
    let answer = sender.send_request(get.body(Full::<Bytes>::default()).unwrap());
    let answer = tokio::spawn(answer);
    let mut upstream = fake.accept().await;
    upstream.message().await;
    gateway.farewell.say();
    upstream.send(ANSWER).await;
    let answer = soon(answer).await.unwrap().unwrap();
    let body = soon(answer.into_body().collect()).await.unwrap().to_bytes();
    assert_eq!(&body[..], b"hello");
    soon(connection).await.unwrap().expect("it ends in order");
}

#[tokio::test]
async fn whoever_has_just_connected_when_the_server_stops_is_answered() {
    let fake = Fake::new().await;
    let gateway = Gateway::start(to(&fake.upstream)).await;
    let mut client = gateway.connect().await;
    soon(async {
        while gateway.tracker.arriving() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    client.send(ASK).await;
    gateway.stop.send_replace(true);
    let mut upstream = fake.accept().await;
    upstream.message().await;
    upstream.send(ANSWER).await;
    let answer = client.until("hello").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    soon(client.rest()).await;
    assert_eq!(gateway.tracker.arriving(), 0);
}
