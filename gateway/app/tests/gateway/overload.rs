//! Calls beyond what there is room for are turned away early, in their dialect and on record, and
//! no tenant takes the room of all.

use tokio::task::JoinHandle;
use tollgate_testkit::raw::{Answer, Raw};
use tollgate_testkit::wait::eventually;

use crate::harness::{Ask, Dialect, Refused, World, chat, message, text};

const CHAT: &str = "/openai/v1/chat/completions";

/// No more than eight calls at one time, of which one tenant alone gets seven.
async fn world() -> World {
    World::planned(|plan| plan.gateway.push_str("[limits]\ncalls_in_flight = 8\n")).await
}

/// Calls that wait for the provider until the mock is released.
fn held(world: &World, token: &str, calls: usize) -> Vec<JoinHandle<Answer>> {
    let ask = Ask::new("POST", &format!("{CHAT}?mock=hold"));
    let ask = ask.bearer(token).json(&chat());
    let send = |_| {
        let (ask, address) = (ask.clone(), world.gateway.address);
        tokio::spawn(async move { ask.send(address).await })
    };
    (0..calls).map(send).collect()
}

#[tokio::test]
async fn one_tenant_cannot_take_the_room_of_all_and_what_finds_none_is_503_in_each_dialect() {
    let world = world().await;
    let (greedy, modest) = (world.token("acme").await, world.token("globex").await);
    let mut waiting = held(&world, &greedy, 7);
    world.mock.wait_for(7).await;
    for (dialect, ask) in [
        (Dialect::OpenAi, Ask::new("POST", CHAT).json(&chat())),
        (
            Dialect::Anthropic,
            Ask::new("POST", "/anthropic/v1/messages").json(&message()),
        ),
        (Dialect::Problem, Ask::new("GET", "/github/user")),
    ] {
        let answer = world.send(&ask.bearer(&greedy)).await;
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.header("x-should-retry"), None, "it may come back");
        let record = Refused::OVERLOADED
            .check_recorded(&world.gateway, &answer, dialect, "acme")
            .await;
        assert_eq!(text(&record, "tollgate.refusal.reason"), "tenant_share");
    }
    waiting.append(&mut held(&world, &modest, 1));
    world.mock.wait_for(8).await;
    let answer = world
        .send(&Ask::new("POST", CHAT).bearer(&modest).json(&chat()))
        .await;
    let record = Refused::OVERLOADED
        .check_recorded(&world.gateway, &answer, Dialect::OpenAi, "globex")
        .await;
    assert_eq!(text(&record, "tollgate.refusal.reason"), "calls_in_flight");
    assert_eq!(
        world.calls().len(),
        8,
        "nothing of it has reached the provider"
    );
    for (label, count) in [("tenant_share", 3), ("calls_in_flight", 1)] {
        let name = format!("tollgate_overloads_total{{bound=\"{label}\"}}");
        assert_eq!(world.gateway.metric(&name).await, count);
    }
    world.mock.release();
    for call in waiting {
        assert_eq!(call.await.unwrap().status, 200);
    }
    let again = Ask::new("POST", CHAT).bearer(&greedy).json(&chat());
    eventually("there is room again", async || {
        world.send(&again).await.status == 200
    })
    .await;
    for tenant in ["acme", "globex"] {
        let reserved = &world.gateway.budgets(tenant).await[0]["reserved_usd"];
        assert_eq!(reserved, "0", "{tenant}");
    }
}

#[tokio::test]
async fn who_finds_no_room_is_told_so_before_its_body_is_read() {
    let world = world().await;
    let token = world.token("acme").await;
    let waiting = held(&world, &token, 7);
    world.mock.wait_for(7).await;
    let mut raw = Raw::connect(world.gateway.address).await;
    raw.send(format!(
        "POST {CHAT} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\nexpect: 100-continue\r\ncontent-length: 1000000\r\n\r\n"
    ))
    .await;
    let answer = raw.answer().await.expect("an answer without a body");
    Refused::OVERLOADED.check(&answer, Dialect::OpenAi);
    assert_eq!(world.calls().len(), 7);
    world.mock.release();
    for call in waiting {
        assert_eq!(call.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn who_finds_no_room_may_come_again_on_the_same_connection() {
    let world = world().await;
    let token = world.token("acme").await;
    let waiting = held(&world, &token, 7);
    world.mock.wait_for(7).await;
    let ask = Ask::new("POST", CHAT).bearer(&token).json(&chat());
    let mut raw = Raw::connect(world.gateway.address).await;
    for _ in 0..3 {
        let answer = ask.send_on(&mut raw).await;
        Refused::OVERLOADED.check(&answer, Dialect::OpenAi);
        assert_eq!(answer.header("connection"), None);
    }
    world.mock.release();
    for call in waiting {
        assert_eq!(call.await.unwrap().status, 200);
    }
    eventually("there is room again", async || {
        ask.send_on(&mut raw).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_call_whose_client_has_left_gives_its_place_back_once_it_is_settled() {
    let world = world().await;
    let token = world.token("acme").await;
    let waiting = held(&world, &token, 7);
    world.mock.wait_for(7).await;
    for call in waiting {
        call.abort();
    }
    world.mock.release();
    let ask = Ask::new("POST", CHAT).bearer(&token).json(&chat());
    for _ in 0..20 {
        eventually("there is room again", async || {
            world.send(&ask).await.status == 200
        })
        .await;
    }
}
