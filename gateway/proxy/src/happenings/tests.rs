//! What is shown to whom, from a call's way in to its end.

use tollgate_core::identity::KeySet;
use tollgate_core::usage::Reading;

use super::*;
use crate::fakes::{caller, draft, gateway, head, noon, snapshot};
use crate::settle::{Settlement, Tariff};
use http::Method;
use tollgate_core::ids::RecordId;

const ACME: &str = "[tenant]\nid = \"acme\"\n";

fn of(tenant: &str) -> Audience {
    Audience::Tenants([tenant.parse().expect("an id")].into())
}

fn subject() -> Subject {
    let head = head(Method::POST, "/openai/v1/chat?key=secret", &[]);
    draft(&head).subject(&caller())
}

fn refusal() -> Ending {
    Ending {
        status: Some(429),
        code: Some("spend_limit_exceeded".to_owned()),
        reason: Some("spend_limit_exceeded".to_owned()),
        limit: Some("acme/tenant/day:2026-11-23".to_owned()),
        ..Ending::new(noon(), Outcome::Refused)
    }
}

fn stranger() -> Stranger {
    Stranger {
        id: RecordId::new(uuid::Uuid::from_u128(9)),
        at: noon(),
        client: "127.0.0.1".to_owned(),
        code: "invalid_api_key".to_owned(),
        reason: "token_missing".to_owned(),
        status: 401,
    }
}

fn codes(following: &mut Box<dyn Following>) -> Vec<String> {
    let news = following.take().expect("the place is kept");
    let code = |happening: &Happening| match happening {
        Happening::TurnedAway(of) => of.code.clone(),
        Happening::Ended(of) => of.outcome.as_str().to_owned(),
    };
    news.happenings.iter().map(code).collect()
}

#[tokio::test]
async fn a_call_is_shown_to_its_tenant_and_to_operators_until_it_is_settled() {
    let (gateway, _fakes) = gateway(snapshot(ACME, KeySet::new("tollgate")));
    let scene = Arc::clone(&gateway.scene);
    let mut watching = scene.follow(of("acme")).expect("a place");
    let no_caps = tollgate_core::budget::Account::default();
    let reserved = gateway.stores.budgets.reserve(
        RecordId::new(uuid::Uuid::from_u128(1)),
        &no_caps,
        "0.25".parse().expect("money"),
        noon(),
    );
    let tollgate_core::budget::Reserved::Held(hold) = reserved.await.expect("a store") else {
        panic!("there is room");
    };
    let mut settlement = Settlement::open(gateway, hold, Tariff::Free);
    assert_eq!(
        scene.open_calls(&Audience::Operators, 9),
        OpenCalls::default()
    );
    settlement
        .intend(Arc::new(subject()))
        .await
        .expect("written");
    let open = scene.open_calls(&of("acme"), 9);
    let [call] = &open.calls[..] else {
        panic!("one call: {open:?}");
    };
    assert_eq!((call.status, call.answer_bytes), (None, 0));
    assert_eq!(call.reserved_usd.to_string(), "0.25");
    settlement.answered(200);
    settlement.passed(7);
    settlement.passed(5);
    let open = scene.open_calls(&Audience::Operators, 9);
    assert_eq!(
        (open.calls[0].status, open.calls[0].answer_bytes),
        (Some(200), 12)
    );
    assert_eq!(scene.open_calls(&of("globex"), 9), OpenCalls::default());
    let none = scene.open_calls(&Audience::Operators, 0);
    assert_eq!((none.calls.len(), none.left_out), (0, 1));
    settlement.close(Outcome::Revoked, &Reading::nothing());
    assert_eq!(
        scene.open_calls(&Audience::Operators, 9),
        OpenCalls::default()
    );
    assert_eq!(codes(&mut watching), ["revoked"]);
}

#[tokio::test]
async fn each_hears_of_its_own_tenants_and_only_operators_of_strangers() {
    let scene = Scene::default();
    scene.turned_away(&subject(), &refusal());
    let mut all = scene.follow(Audience::Operators).expect("a place");
    let mut own = scene.follow(of("acme")).expect("a place");
    let mut other = scene.follow(of("globex")).expect("a place");
    scene.turned_away(&subject(), &refusal());
    scene.stranger(&stranger());
    let quick = Ending::new(noon(), Outcome::Completed);
    scene.ended(&subject(), &quick);
    let refused = "spend_limit_exceeded";
    assert_eq!(codes(&mut all), [refused, "invalid_api_key"]);
    assert_eq!(codes(&mut own), [refused]);
    assert_eq!(codes(&mut other), [""; 0]);
    let slow = Ending::new(noon().plus(LONG), Outcome::Completed);
    scene.ended(&subject(), &slow);
    assert_eq!(codes(&mut own), ["completed"]);
}

#[tokio::test]
async fn a_path_is_shown_without_its_query_and_not_at_any_length() {
    let scene = Scene::default();
    let mut watching = scene.follow(of("acme")).expect("a place");
    let long = Subject {
        path: "/é".repeat(1_000).into(),
        ..subject()
    };
    scene.turned_away(&subject(), &refusal());
    scene.turned_away(&long, &refusal());
    let news = watching.take().expect("news");
    let paths = news.happenings.iter().map(|happening| match happening {
        Happening::TurnedAway(of) => of.path.clone().expect("a path"),
        Happening::Ended(_) => panic!("nothing has ended"),
    });
    let paths: Vec<String> = paths.collect();
    assert_eq!(paths[0], "/openai/v1/chat");
    assert_eq!(paths[1].chars().count(), PATH_CHARACTERS);
}

#[tokio::test(start_paused = true)]
async fn who_reads_slowly_is_told_how_much_it_missed_and_who_does_not_loses_its_place() {
    let scene = Scene::default();
    let mut slow = scene.follow(Audience::Operators).expect("a place");
    for _ in 0..MOST_WAITING + 3 {
        scene.stranger(&stranger());
    }
    let news = slow.take().expect("news");
    assert_eq!((news.happenings.len(), news.missed), (MOST_WAITING, 3));
    assert_eq!(slow.take(), Some(News::default()));

    let others: Vec<_> = (1..MOST_WATCHING)
        .map(|_| scene.follow(Audience::Operators).expect("a place"))
        .collect();
    assert!(
        scene.follow(Audience::Operators).is_none(),
        "all are looking"
    );
    tokio::time::advance(ABSENT).await;
    let mut looking = others;
    for one in &mut looking {
        assert!(one.take().is_some());
    }
    let _newcomer = scene.follow(Audience::Operators).expect("a place");
    assert_eq!(slow.take(), None, "it was given away");
    drop(looking.pop());
    assert!(scene.follow(Audience::Operators).is_some(), "one has left");
}
