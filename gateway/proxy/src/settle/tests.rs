//! Each way a settlement can end, and that it ends once and at the right amount.

use http::{Method, StatusCode};
use tollgate_core::budget::Account;
use tollgate_core::call::Request;
use tollgate_core::identity::KeySet;
use tollgate_core::ids::RecordId;
use tollgate_core::policy::Operation;

use super::*;
use crate::fakes::{Asked, Fakes, caller, draft, gateway, head, noon, prices, snapshot};

const ACME: &str = "[tenant]\nid = \"acme\"\n";

/// What a call may cost, and the price of 10 tokens in and 10 out: 2 and 8 dollars per million.
fn metered(max_tokens: u64) -> Tariff {
    let body = format!(r#"{{"model":"gpt-4.1","max_tokens":{max_tokens},"messages":[]}}"#);
    let ask = Ask::parse(Operation::ChatCompletions, &Request::json(body.as_bytes())).unwrap();
    let prices = prices();
    Tariff::Metered(Box::new(Metering {
        rates: prices.rates("openai", "gpt-4.1", noon()).unwrap(),
        ask,
        prices,
        catalogue: "openai".into(),
        at: noon(),
        default_max_output: 100,
        alias: None,
        unreported: Unreported::Estimate,
    }))
}

fn used() -> Reading {
    Reading {
        metered: Metered::Exact(Usage {
            input_tokens: 10,
            output_tokens: 10,
            ..Usage::default()
        }),
        response_model: Some("gpt-4.1".to_owned()),
        ..Reading::nothing()
    }
}

fn usd(text: &str) -> PicoUsd {
    text.parse().unwrap()
}

async fn held(tariff: Tariff) -> (Box<Settlement>, Arc<Fakes>) {
    let (gateway, fakes) = gateway(snapshot(ACME, KeySet::new("tollgate")));
    let id = RecordId::new(uuid::Uuid::from_u128(1));
    let amount = tariff.worst_case();
    let reserved = gateway
        .stores
        .budgets
        .reserve(id, &Account::default(), amount, noon())
        .await;
    let tollgate_core::budget::Reserved::Held(hold) = reserved.unwrap() else {
        panic!("there is room");
    };
    fakes.asked();
    (Settlement::open(gateway, hold, tariff), fakes)
}

async fn intended(tariff: Tariff) -> (Box<Settlement>, Arc<Fakes>) {
    let (mut settlement, fakes) = held(tariff).await;
    let draft = draft(&head(Method::POST, "/openai/v1/chat/completions", &[]));
    settlement
        .intend(Arc::new(draft.subject(&caller())))
        .await
        .unwrap();
    assert!(matches!(&fakes.asked()[..], [Asked::Intend(_)]));
    (settlement, fakes)
}

/// The amount settled and the ending written, which must be one each and agree.
fn ended(fakes: &Fakes) -> Ending {
    let asked = fakes.asked();
    let [
        Asked::Settle(settled, amount),
        Asked::Conclude(concluded, ending),
    ] = &asked[..]
    else {
        panic!("settled once and concluded once, in this order: {asked:?}");
    };
    assert_eq!(settled, concluded);
    assert_eq!(*amount, ending.cost, "what is charged is what is recorded");
    (**ending).clone()
}

#[tokio::test]
async fn a_call_that_ends_well_is_settled_at_its_exact_cost() {
    let (mut settlement, fakes) = intended(metered(100)).await;
    settlement.answered(200);
    settlement.close(Outcome::Completed, &used());
    let ending = ended(&fakes);
    assert_eq!(ending.cost, usd("0.0001"));
    assert_eq!(ending.usage_source, UsageSource::Exact);
    assert_eq!(ending.status, Some(200));
    assert_eq!(ending.response_model.as_deref(), Some("gpt-4.1"));
}

#[tokio::test]
async fn only_a_success_is_billed() {
    for (status, is_billed) in [
        (200, true),
        (204, true),
        (299, true),
        (301, false),
        (304, false),
        (400, false),
        (429, false),
        (500, false),
    ] {
        for tariff in [metered(100), Tariff::PerCall(usd("0.01"))] {
            let (mut settlement, fakes) = intended(tariff).await;
            settlement.answered(status);
            settlement.close(Outcome::Completed, &used());
            assert_eq!(ended(&fakes).cost > PicoUsd::ZERO, is_billed, "{status}");

            let (mut settlement, fakes) = intended(metered(100)).await;
            settlement.answered(status);
            drop(settlement);
            let cost = ended(&fakes).cost;
            assert_eq!(cost > PicoUsd::ZERO, is_billed, "{status}, dropped");
        }
    }
}

#[tokio::test]
async fn a_call_without_a_bill_is_charged_its_reservation_where_the_tenant_wants_it() {
    let strict = |max_tokens| {
        let mut tariff = metered(max_tokens);
        if let Tariff::Metered(call) = &mut tariff {
            call.unreported = Unreported::Reservation;
        }
        tariff
    };
    let worst = strict(100).worst_case();
    let (mut settlement, fakes) = intended(strict(100)).await;
    settlement.answered(200);
    settlement.close(Outcome::ClientGone, &Reading::nothing());
    let ending = ended(&fakes);
    assert_eq!(
        (ending.cost, ending.usage_source),
        (worst, UsageSource::Estimated)
    );

    let (mut settlement, fakes) = intended(strict(100)).await;
    settlement.answered(200);
    settlement.close(Outcome::Completed, &used());
    assert_eq!(ended(&fakes).cost, usd("0.0001"), "a bill is a bill");

    let (mut settlement, fakes) = intended(strict(100)).await;
    settlement.answered(503);
    settlement.close(Outcome::Completed, &Reading::nothing());
    assert_eq!(
        ended(&fakes).cost,
        PicoUsd::ZERO,
        "and a refusal costs nothing"
    );
}

#[tokio::test]
async fn an_upstream_that_answers_with_the_clients_name_is_priced_as_its_alias() {
    let mut tariff = metered(100);
    if let Tariff::Metered(call) = &mut tariff {
        // Another model of the catalogue, at another price.
        call.alias = Some("gpt-4o-mini".parse().unwrap());
    }
    let (mut settlement, fakes) = intended(tariff).await;
    settlement.answered(200);
    let reading = Reading {
        response_model: Some("gpt-4o-mini".to_owned()),
        ..used()
    };
    settlement.close(Outcome::Completed, &reading);
    assert_eq!(ended(&fakes).cost, usd("0.0001"));
}

#[tokio::test]
async fn an_answer_without_usage_is_estimated_and_never_free_nor_over_the_hold() {
    let worst = metered(100).worst_case();
    let (mut settlement, fakes) = intended(metered(100)).await;
    settlement.answered(200);
    settlement.close(Outcome::ClientGone, &Reading::nothing());
    let ending = ended(&fakes);
    assert_eq!(ending.usage_source, UsageSource::Estimated);
    assert!(ending.cost > PicoUsd::ZERO && ending.cost <= worst);
}

#[tokio::test]
async fn a_failure_costs_nothing_unless_something_may_have_been_sent() {
    let verdict = Verdict {
        status: StatusCode::BAD_GATEWAY,
        code: "upstream_unreachable",
    };
    for sent in [false, true] {
        let (settlement, fakes) = intended(metered(100)).await;
        settlement.fail(Outcome::UpstreamFailed, &verdict, sent);
        let ending = ended(&fakes);
        assert_eq!(ending.cost > PicoUsd::ZERO, sent);
        assert_eq!(ending.status, Some(502));
        assert_eq!(ending.code.as_deref(), Some("upstream_unreachable"));
        assert_eq!(ending.outcome, Outcome::UpstreamFailed);
    }
}

#[tokio::test]
async fn a_withheld_answer_is_billed_if_it_was_a_success() {
    let verdict = Verdict {
        status: StatusCode::BAD_GATEWAY,
        code: "answer_withheld",
    };
    for (status, is_billed) in [(200, true), (503, false)] {
        let (mut settlement, fakes) = intended(metered(100)).await;
        settlement.answered(status);
        settlement.fail(Outcome::UpstreamFailed, &verdict, true);
        let ending = ended(&fakes);
        assert_eq!(ending.cost > PicoUsd::ZERO, is_billed, "{status}");
        assert_eq!(ending.status, Some(502), "what the client got");
    }
}

#[tokio::test]
async fn a_call_dropped_before_its_intent_gives_everything_back_and_leaves_no_outcome() {
    let (settlement, fakes) = held(metered(100)).await;
    drop(settlement);
    let asked = fakes.asked();
    assert!(
        matches!(&asked[..], [Asked::Settle(_, PicoUsd::ZERO)]),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_call_whose_intent_fails_gives_everything_back() {
    let (mut settlement, fakes) = held(metered(100)).await;
    fakes.answers().intent_fails = true;
    let draft = draft(&head(Method::POST, "/openai/v1/chat/completions", &[]));
    let intended = settlement.intend(Arc::new(draft.subject(&caller()))).await;
    assert!(intended.is_err());
    drop(settlement);
    let asked = fakes.asked();
    assert!(
        matches!(
            &asked[..],
            [Asked::Intend(_), Asked::Settle(_, PicoUsd::ZERO)]
        ),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_call_dropped_after_its_intent_is_charged_an_estimate_and_concluded() {
    let (settlement, fakes) = intended(metered(100)).await;
    drop(settlement);
    let ending = ended(&fakes);
    assert_eq!(ending.outcome, Outcome::Interrupted);
    assert_eq!(ending.usage_source, UsageSource::Estimated);
    assert!(ending.cost > PicoUsd::ZERO);
}

#[tokio::test]
async fn tools_are_charged_their_price_and_free_calls_nothing() {
    for (tariff, cost) in [
        (Tariff::PerCall(usd("0.01")), usd("0.01")),
        (Tariff::Unpriced, PicoUsd::ZERO),
        (Tariff::Free, PicoUsd::ZERO),
    ] {
        let (mut settlement, fakes) = intended(tariff).await;
        settlement.answered(200);
        settlement.close(Outcome::Completed, &Reading::nothing());
        let ending = ended(&fakes);
        assert_eq!(ending.cost, cost);
        assert_eq!(ending.usage_source, UsageSource::None);
    }
}

/// What the limits on tokens are told at the end.
fn released(fakes: &Fakes) -> Option<u64> {
    let asked = fakes.asked();
    let mut released = asked.iter().filter_map(|asked| match asked {
        Asked::Release(_, tokens) => Some(*tokens),
        _ => None,
    });
    let first = released.next();
    assert_eq!(
        released.next(),
        None,
        "a pass is given back once: {asked:?}"
    );
    first.unwrap_or_else(|| panic!("a pass is given back on every way: {asked:?}"))
}

fn pass() -> Pass {
    Pass {
        id: RecordId::new(uuid::Uuid::from_u128(1)),
        tenant: "acme".parse().unwrap(),
        tokens: 500,
    }
}

#[tokio::test]
async fn limits_are_given_back_on_every_way_a_call_can_end() {
    let verdict = Verdict {
        status: StatusCode::BAD_GATEWAY,
        code: "upstream_unreachable",
    };
    let unmetered = || {
        let Tariff::Metered(call) = metered(100) else {
            panic!("it is");
        };
        Tariff::Unmetered(Box::new(call.ask))
    };

    let (mut settlement, fakes) = held(metered(100)).await;
    settlement.paced(pass());
    drop(settlement);
    assert_eq!(released(&fakes), Some(0), "never sent");

    let (mut settlement, fakes) = intended(metered(100)).await;
    settlement.paced(pass());
    drop(settlement);
    assert!(released(&fakes) > Some(0), "an estimate");

    for (status, used, tokens) in [
        (200, used(), Some(20)),
        (429, used(), Some(0)),
        (500, Reading::nothing(), Some(0)),
    ] {
        for tariff in [metered(100), unmetered()] {
            let (mut settlement, fakes) = intended(tariff).await;
            settlement.paced(pass());
            settlement.answered(status);
            settlement.close(Outcome::Completed, &used);
            assert_eq!(released(&fakes), tokens, "{status}");
        }
    }

    let (mut settlement, fakes) = intended(unmetered()).await;
    settlement.paced(pass());
    settlement.answered(200);
    settlement.close(Outcome::ClientGone, &Reading::nothing());
    assert_eq!(released(&fakes), None, "nobody knows; the estimate stays");

    for (sent, least) in [(false, Some(0)), (true, Some(1))] {
        let (mut settlement, fakes) = intended(metered(100)).await;
        settlement.paced(pass());
        settlement.fail(Outcome::UpstreamFailed, &verdict, sent);
        let tokens = released(&fakes);
        assert!(tokens >= least && (sent || tokens == Some(0)), "{tokens:?}");
    }
}
