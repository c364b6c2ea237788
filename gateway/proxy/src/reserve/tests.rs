//! Which counters a call touches, and what it is told when there is no room.

use http::Method;
use tollgate_core::budget::{Balance, Scope};
use tollgate_core::call::{Ask, Request};
use tollgate_core::handle::{self, Asked as AskedFor};
use tollgate_core::identity::KeySet;
use tollgate_core::money::PicoUsd;
use tollgate_core::route::find;

use super::*;
use crate::ask::Payload;
use crate::authorize::Permit;
use crate::bind::BoundCall;
use crate::fakes::{Asked, Fakes, caller, draft, gateway, head, noon, snapshot};

const UNLIMITED: &str = "";
const CAPPED: &str = r#"
[caps]
daily_usd = "25"
task_usd = "2"

[limits]
requests_per_minute = 60

[agents.bot]
monthly_usd = "5"
requests_per_minute = 6

[models."gpt-4.1*"]
daily_usd = "3"
tokens_per_minute = 90

[models."gpt-5*"]
daily_usd = "4"
concurrent_requests = 7
"#;

const CHAT: (Method, &str) = (Method::POST, "/openai/v1/chat/completions");
const MODELS: (Method, &str) = (Method::GET, "/openai/v1/models");
const PRICED_TOOL: (Method, &str) = (Method::POST, "/openai/v1/files");
const TOOL: (Method, &str) = (Method::DELETE, "/openai/v1/files");
const SMALL: &str = r#"{"model":"gpt-4.1","max_tokens":1000,"messages":[]}"#;

fn usd(text: &str) -> PicoUsd {
    text.parse().unwrap()
}

struct World {
    gw: Arc<Gateway>,
    fakes: Arc<Fakes>,
}

fn world(limits: &str) -> World {
    let tenant = format!(
        "[tenant]\nid = \"acme\"\n[[allow]]\nprovider = \"openai\"\n\
         [credentials]\nkey = {{ provider = \"openai\", default = true }}\n{limits}"
    );
    let (gw, fakes) = gateway(snapshot(&tenant, KeySet::new("tollgate")));
    World { gw, fakes }
}

impl World {
    async fn reserve(&self, to: (Method, &str), body: &str) -> Result<Box<Settlement>, Rejected> {
        self.reserve_at(to, body, noon()).await
    }

    async fn reserve_at(
        &self,
        (method, path): (Method, &str),
        body: &str,
        now: Timestamp,
    ) -> Result<Box<Settlement>, Rejected> {
        let live = self.gw.live.snapshot();
        let head = head(method, path, &[]);
        let route = find(&live.policy, &head.method, head.uri.path()).unwrap();
        let caller = caller();
        let tenant = Arc::clone(&live.policy.tenants[&caller.tenant]);
        let asked = AskedFor {
            method: &head.method,
            path: route.path,
            query: None,
            headers: &head.headers,
        };
        let (agent, provider) = (&caller.agent, &route.provider);
        let bound = handle::bind(&asked, &tenant, agent, provider)
            .and_then(|bound| bound.with_body(&asked, &tenant, agent, provider, &[]))
            .unwrap();
        let operation = route.endpoint.operation;
        let call = Call {
            work: None,
            ask: operation
                .is_metered()
                .then(|| Ask::parse(operation, &Request::json(body.as_bytes())).unwrap()),
            bound: BoundCall {
                permit: Permit {
                    caller,
                    tenant,
                    route,
                },
                bound,
            },
            payload: Payload::Streamed,
        };
        let mut draft = draft(&head);
        let held = reserve(&self.gw, &live, call, &mut draft, now).await?;
        Ok(held.settlement)
    }

    async fn refusal(&self, to: (Method, &str), body: &str) -> Refusal {
        match self.reserve(to, body).await {
            Err(Rejected::Refused(refusal)) => refusal,
            Err(Rejected::Failed(failure)) => panic!("{failure}"),
            Ok(_) => panic!("there is a hold"),
        }
    }

    /// Keys with their limits, and the amount of the one reservation made.
    fn reserved(&self) -> (Vec<String>, PicoUsd) {
        let asked = self.fakes.asked();
        let Some(Asked::Reserve(budgets, amount)) = asked.first() else {
            panic!("the reservation comes first: {asked:?}");
        };
        let keys = budgets.iter().map(|budget| match budget.limit {
            Some(limit) => format!("{} <= {limit}", budget.key),
            None => budget.key.to_string(),
        });
        (keys.collect(), *amount)
    }
}

#[tokio::test]
async fn a_tenant_without_caps_is_counted_by_day_and_month_all_the_same() {
    let world = world(UNLIMITED);
    assert!(world.reserve(CHAT, SMALL).await.is_ok());
    let (keys, amount) = world.reserved();
    let month = "acme/tenant/month:2026-11";
    assert_eq!(keys, [month, "acme/tenant/day:2026-11-23"]);
    assert!(amount >= usd("0.008"), "1,000 tokens out at $8 per million");
}

#[tokio::test]
async fn agents_models_and_tasks_are_counted_where_they_have_caps() {
    let world = world(CAPPED);
    assert!(world.reserve(CHAT, SMALL).await.is_ok());
    assert_eq!(
        world.reserved().0,
        [
            "acme/task=t-1/total <= 2",
            "acme/tenant/month:2026-11",
            "acme/agent=bot/month:2026-11 <= 5",
            "acme/tenant/day:2026-11-23 <= 25",
            "acme/model=gpt-4.1*/day:2026-11-23 <= 3",
        ]
    );
}

#[tokio::test]
async fn what_is_taken_is_the_worst_case_of_each_kind_of_call() {
    let world = world(CAPPED);
    for (to, amount) in [(PRICED_TOOL, usd("0.01")), (MODELS, PicoUsd::ZERO)] {
        assert!(world.reserve(to, "").await.is_ok());
        assert_eq!(world.reserved().1, amount);
    }
}

#[tokio::test]
async fn a_full_cap_is_reached_and_one_with_room_is_exceeded() {
    let world = world(CAPPED);
    for (limit, settled, reserved, is_reached) in [
        ("25", "25", "0", true),
        ("25", "26", "0", true),
        ("0", "0", "0", true),
        ("25", "24.9999", "0", false),
        ("25", "10", "15", false),
    ] {
        let balance = Balance {
            settled: usd(settled),
            reserved: usd(reserved),
        };
        world.fakes.answers().exhausted = vec![(0, usd(limit), balance)];
        let refusal = world.refusal(CHAT, SMALL).await;
        let code = if is_reached {
            "spend_limit_exceeded"
        } else {
            "request_exceeds_headroom"
        };
        assert_eq!(refusal.code(), code, "{settled} + {reserved} of {limit}");
        let asked = world.fakes.asked();
        assert!(
            matches!(&asked[..], [Asked::Reserve(..)]),
            "no rate is taken and nothing settled: {asked:?}"
        );
    }
}

#[tokio::test]
async fn a_call_that_does_not_fit_is_told_what_would_and_when() {
    let world = world(CAPPED);
    let mut told = Vec::new();
    for (place, settled) in [(3, "24.99"), (0, "24.9999"), (3, "24.999999999")] {
        let balance = Balance {
            settled: usd(settled),
            reserved: PicoUsd::ZERO,
        };
        world.fakes.answers().exhausted = vec![(place, usd("25"), balance)];
        let Refusal::ExceedsHeadroom {
            resets_at,
            fitting_output_tokens,
            ..
        } = world.refusal(CHAT, SMALL).await
        else {
            panic!("there is some room");
        };
        told.push((resets_at.map(|at| at.to_string()), fitting_output_tokens));
    }
    // The body's 50 bytes at $2 per million come first; a token out costs $8 per million.
    let midnight = Some("2026-11-24T00:00:00.000000Z".to_owned());
    assert_eq!(told[0].0, midnight);
    assert!(
        told[0]
            .1
            .is_some_and(|tokens| tokens > 1_000 && tokens < 1_250)
    );
    assert_eq!(told[1], (None, None), "a task's cap never resets");
    assert_eq!(told[2], (midnight, None), "not one token fits");
}

#[tokio::test]
async fn a_hold_is_given_back_when_the_rate_refuses() {
    let world = world(CAPPED);
    for empty in [(true, false), (false, true)] {
        world.fakes.answers().empty = empty;
        let refusal = world.refusal(CHAT, SMALL).await;
        assert_eq!(refusal.code(), "rate_limit_exceeded");
        let asked = world.fakes.asked();
        assert!(
            matches!(asked.first(), Some(Asked::Reserve(..)))
                && matches!(asked.last(), Some(Asked::Settle(_, PicoUsd::ZERO))),
            "{asked:?}"
        );
        let buckets: Vec<bool> = asked
            .iter()
            .filter_map(|asked| match asked {
                Asked::Take(key) => Some(key.scope != Scope::Tenant),
                _ => None,
            })
            .collect();
        // The agent's calls, the model's tokens, the tenant's calls.
        let expected: &[bool] = if empty.0 {
            &[true]
        } else {
            &[true, true, false]
        };
        assert_eq!(
            buckets, expected,
            "an agent over its rate costs others none"
        );
    }
}

#[tokio::test]
async fn what_has_no_price_is_refused_only_where_a_cap_could_not_be_kept() {
    let unknown = r#"{"model":"no-such-model","messages":[]}"#;
    let capped = world(CAPPED);
    for (to, body) in [(CHAT, unknown), (TOOL, "")] {
        let refusal = capped.refusal(to, body).await;
        assert_eq!(refusal.code(), "model_not_priced");
        assert_eq!(capped.fakes.asked(), [], "nothing is taken");
    }
    let open = world(UNLIMITED);
    for (to, body) in [(CHAT, unknown), (TOOL, "")] {
        assert!(open.reserve(to, body).await.is_ok());
        assert_eq!(open.reserved().1, PicoUsd::ZERO);
    }
}

#[tokio::test]
async fn without_a_ledger_nothing_goes() {
    let world = world(UNLIMITED);
    world.fakes.answers().ledger_is_down = true;
    for to in [CHAT, MODELS] {
        let rejected = world.reserve(to, SMALL).await.map(drop);
        assert!(matches!(
            rejected,
            Err(Rejected::Failed(Failure::Ledger(_)))
        ));
    }
}

fn taken(asked: &[Asked]) -> Vec<String> {
    let taken = asked.iter().filter_map(|asked| match asked {
        Asked::Take(key) => Some(key.to_string()),
        _ => None,
    });
    taken.collect()
}

#[tokio::test]
async fn limits_of_tokens_concern_calls_of_models_only() {
    let world = world(CAPPED);
    assert!(world.reserve(CHAT, SMALL).await.is_ok());
    let of_model = [
        "acme/agent=bot/requests_per_minute",
        "acme/model=gpt-4.1*/tokens_per_minute",
        "acme/tenant/requests_per_minute",
    ];
    assert_eq!(taken(&world.fakes.asked()), of_model);
    assert!(world.reserve(PRICED_TOOL, "").await.is_ok());
    assert_eq!(
        taken(&world.fakes.asked()),
        [of_model[0], of_model[2]],
        "a tool"
    );
}

/// A cap on a model holds by every name the model goes by.
#[tokio::test]
async fn no_other_name_of_a_model_leads_past_its_cap() {
    let model = |name: &str| format!(r#"{{"model":"{name}","max_tokens":9,"messages":[]}}"#);
    for name in ["gpt-5-mini", "GPT-5-Mini", "our-deployment"] {
        let world = world(CAPPED);
        assert!(world.reserve(CHAT, &model(name)).await.is_ok());
        let asked = world.fakes.asked();
        let Some(Asked::Reserve(budgets, _)) = asked.first() else {
            panic!("{asked:?}");
        };
        let keys: Vec<String> = budgets.iter().map(|b| b.key.to_string()).collect();
        let cap = "acme/model=gpt-5*/day:2026-11-23".to_owned();
        assert!(keys.contains(&cap), "{name}: {keys:?}");
        let limit = "acme/model=gpt-5*/concurrent_requests".to_owned();
        assert!(taken(&asked).contains(&limit), "{name}");
    }
}

#[tokio::test]
async fn a_call_from_before_midnight_is_settled_in_the_window_it_began_in() {
    let world = world(UNLIMITED);
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let (mut settled, mut open) = (Vec::new(), Vec::new());
    for now in ["2028-02-29T23:59:59.999999Z", "2028-03-01T00:00:00Z"] {
        let held = world.reserve_at(PRICED_TOOL, "", at(now)).await;
        open.push(held.ok().unwrap());
        settled.push(world.reserved().0);
    }
    // The clock steps back over midnight: the old window goes on.
    let held = world
        .reserve_at(PRICED_TOOL, "", at("2028-02-29T23:59:58Z"))
        .await;
    assert!(held.is_ok());
    settled.push(world.reserved().0);
    let february = ["acme/tenant/month:2028-02", "acme/tenant/day:2028-02-29"];
    let march = ["acme/tenant/month:2028-03", "acme/tenant/day:2028-03-01"];
    assert_eq!(settled, [february, march, february]);
}

/// A bound that a client is told fits once it is written into the request, which it makes longer.
#[tokio::test]
async fn a_bound_that_is_told_still_fits_when_it_is_written_down() {
    let world = world(CAPPED);
    for open in [
        r#"{"model":"gpt-4.1","messages":[]}"#,
        r#"{"model":"gpt-4.1","messages":[],"max_tokens":30000}"#,
    ] {
        let balance = Balance {
            settled: usd("24.99"),
            reserved: PicoUsd::ZERO,
        };
        world.fakes.answers().exhausted = vec![(3, usd("25"), balance)];
        let refusal = world.refusal(CHAT, open).await;
        let tokens = refusal.fitting_output_tokens().unwrap();
        assert!(tokens > 1_000, "{tokens}");
        world.fakes.asked();
        let bound = format!(
            "{{\n  \"model\": \"gpt-4.1\",\n  \"max_completion_tokens\": {tokens},\n  \"messages\": []\n}}"
        );
        let bound = if open.contains("max_tokens") {
            open.replace("30000", &tokens.to_string())
        } else {
            bound
        };
        assert!(world.reserve(CHAT, &bound).await.is_ok());
        assert!(world.reserved().1 <= usd("0.01"), "{tokens} fit");
    }
}
