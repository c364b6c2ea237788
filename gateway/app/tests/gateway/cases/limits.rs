//! Cases 59, 60: nothing is unbounded, and nobody's slowness costs others anything.

use std::time::Instant;

use tollgate_testkit::raw::Raw;

use crate::harness::{Ask, World, chat};

const CHAT: &str = "/openai/v1/chat/completions";
const MODELS: &str = "/openai/v1/models";

#[tokio::test]
async fn case_59_oversized_heads_are_refused_and_memory_stays_flat() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let head = format!("GET {MODELS} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\n");
    let before = world.gateway.peak_memory();
    for _ in 0..20 {
        for (what, request, statuses) in [
            (
                "headers of 64 KiB",
                format!("{head}x: {}\r\n\r\n", "x".repeat(64 * 1024)),
                [431, 400],
            ),
            (
                "1000 lines",
                format!("{head}{}\r\n", "x: y\r\n".repeat(1000)),
                [431, 400],
            ),
            (
                "a value of 1 MiB",
                format!("{head}x: {}\r\n\r\n", "x".repeat(1 << 20)),
                [431, 400],
            ),
            (
                "a target of 64 KiB",
                format!(
                    "GET {MODELS}?{} HTTP/1.1\r\nhost: t\r\n\r\n",
                    "x".repeat(64 * 1024)
                ),
                [414, 431],
            ),
            (
                "a method of 64 KiB",
                format!("{} / HTTP/1.1\r\n\r\n", "X".repeat(64 * 1024)),
                [400, 414],
            ),
        ] {
            let answer = world.send_raw(&request).await.expect("an answer");
            assert!(statuses.contains(&answer.status), "{what}: {answer:?}");
        }
    }
    let grown = world.gateway.peak_memory() - before;
    assert!(grown < 24 << 20, "{grown} bytes more");
    world.assert_no_contact();
}

#[tokio::test]
async fn case_59_slow_heads_and_bodies_are_ended() {
    let world = World::planned(|plan| {
        plan.gateway
            .push_str("[deadlines]\nhead_seconds = 1\nbody_seconds = 1\nclient_idle_seconds = 1\n");
    })
    .await;
    let token = world.token("acme").await;
    let started = Instant::now();

    let mut silent = Raw::connect(world.gateway.address).await;
    let mut half = Raw::connect(world.gateway.address).await;
    half.send(format!(
        "GET {MODELS} HTTP/1.1\r\nhost: t\r\nauthorization: Bea"
    ))
    .await;
    let mut preface = Raw::connect(world.gateway.address).await;
    preface.send("PRI * HTTP/2").await;
    let mut body = Raw::connect(world.gateway.address).await;
    body.send(format!(
        "POST {CHAT} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\ncontent-length: 1000\r\n\r\n{{\"model\""
    ))
    .await;
    // Dripping does not help.
    let mut dripping = Raw::connect(world.gateway.address).await;
    let drip = async {
        dripping.send(format!("GET {MODELS} HTTP/1.1\r\n")).await;
        for _ in 0..600 {
            dripping.send("x: y\r\n").await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            if started.elapsed().as_secs() >= 5 {
                break;
            }
        }
        dripping.answer().await
    };
    let (drip, (), half, body, _) = tokio::join!(
        drip,
        async {
            drop(silent.rest().await);
        },
        async { half.answer().await },
        async { body.answer().await },
        async { preface.rest().await },
    );
    assert_eq!(half.map(|answer| answer.status), Some(408));
    assert_eq!(body.map(|answer| answer.status), Some(408));
    assert!(drip.is_none_or(|answer| matches!(answer.status, 408 | 431)));
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    world.assert_no_contact();
    let ask = Ask::new("GET", MODELS).bearer(&token);
    assert_eq!(
        world.send(&ask).await.status,
        200,
        "others are served all the while"
    );
}

#[tokio::test]
async fn case_59_connections_beyond_the_limit_do_not_displace_others() {
    let world = World::planned(|plan| {
        plan.gateway
            .push_str("[limits]\nconnections = 20\n[deadlines]\nhead_seconds = 2\n");
    })
    .await;
    let token = world.token("acme").await;
    let mut kept = Raw::connect(world.gateway.address).await;
    let ask = Ask::new("GET", MODELS).bearer(&token);
    assert_eq!(ask.send_on(&mut kept).await.status, 200);
    let mut crowd = Vec::new();
    for _ in 0..60 {
        crowd.push(Raw::connect(world.gateway.address).await);
    }
    assert_eq!(
        ask.send_on(&mut kept).await.status,
        200,
        "who is inside stays inside"
    );
    drop(crowd);
    tollgate_testkit::wait::until_true("there is room again", || {
        std::net::TcpStream::connect(world.gateway.address).is_ok()
    })
    .await;
    let (status, _) = world.gateway.admin_get("/livez").await;
    assert_eq!(status, 200, "operators have a door of their own");
}

#[tokio::test]
async fn case_60_a_refused_request_that_waits_to_send_its_body_gets_the_refusal() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for (path, auth, status) in [
        (CHAT, "x".to_owned(), 401),
        ("/openai/v1/nowhere", token.clone(), 403),
        ("/openai/v1/files/../x", token.clone(), 400),
    ] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {auth}\r\nexpect: 100-continue\r\ncontent-length: 100000\r\n\r\n"
        );
        let answer = world
            .send_raw(&head)
            .await
            .expect("an answer without a body having been sent");
        assert_eq!(
            answer.status,
            status,
            "{path}: no 100 before it: {}",
            answer.text()
        );
    }
    world.assert_no_contact();
    let reserved = &world.gateway.budgets("acme").await[0]["reserved_usd"];
    assert_eq!(reserved, "0");

    // One that is not refused is told to go on, and served.
    let body = chat().to_string();
    let mut raw = Raw::connect(world.gateway.address).await;
    raw.send(format!(
        "POST {CHAT} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    ))
    .await;
    assert_eq!(raw.answer().await.expect("leave to go on").status, 100);
    raw.send(body).await;
    assert_eq!(raw.answer().await.expect("an answer").status, 200);
}

#[tokio::test]
async fn case_60_a_client_that_never_sends_its_body_reserves_nothing() {
    let world =
        World::planned(|plan| plan.gateway.push_str("[deadlines]\nbody_seconds = 1\n")).await;
    let token = world.token("acme").await;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\nexpect: 100-continue\r\ncontent-length: 1000\r\n\r\n"
    );
    let mut raw = Raw::connect(world.gateway.address).await;
    raw.send(head).await;
    assert_eq!(raw.answer().await.expect("leave to go on").status, 100);
    let reserved = &world.gateway.budgets("acme").await[0]["reserved_usd"];
    assert_eq!(
        reserved, "0",
        "nothing is reserved before the body is there"
    );
    assert_eq!(raw.answer().await.expect("an end").status, 408);
    world.assert_no_contact();
}
