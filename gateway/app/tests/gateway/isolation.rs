//! Two tenants, one handle, many connections shared: nobody ever bears the other's key.

use serde_json::{Value, json};
use tollgate_testkit::raw::Raw;

use crate::harness::{Ask, World, body_text, chat, key, message};

const CONNECTIONS: usize = 10;
const CALLS_EACH: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn case_04_a_thousand_interleaved_calls_each_bear_their_own_tenants_key() {
    let world = World::new().await;
    let acme = world.token("acme").await;
    let globex = world.token("globex").await;
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|client| {
            let (acme, globex) = (acme.clone(), globex.clone());
            let address = world.gateway.address;
            tokio::spawn(async move {
                let mut raw = Raw::connect(address).await;
                for number in 0..CALLS_EACH {
                    let (tenant, token) = if (client + number) % 2 == 0 {
                        ("acme", &acme)
                    } else {
                        ("globex", &globex)
                    };
                    let answer = call(tenant, token, client, number).send_on(&mut raw).await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }

    let calls = world.calls();
    assert_eq!(calls.len(), CONNECTIONS * CALLS_EACH);
    assert!(
        world.mock.connections() <= 100,
        "connections to the provider are shared"
    );
    for seen in &calls {
        let body: Value = serde_json::from_str(&body_text(seen)).unwrap();
        let name = |field: &Value| {
            field
                .as_str()
                .map(|text| text.split(' ').next().unwrap().to_owned())
        };
        let tenant = name(&body["user"])
            .or(name(&body["metadata"]["user_id"]))
            .unwrap();
        let (header, provider) = match &seen.path_and_query[..] {
            "/v1/messages" => ("x-api-key", "anthropic"),
            _ => ("authorization", "openai"),
        };
        let values = seen.header_values(header);
        assert_eq!(values.len(), 1, "{seen:?}");
        assert!(
            values[0].ends_with(&key(&tenant, provider)),
            "{tenant}: {seen:?}"
        );
        let other = if tenant == "acme" { "globex" } else { "acme" };
        assert!(!seen.mentions(&format!("sk-canary-{other}")), "{seen:?}");
    }
    for tenant in ["acme", "globex"] {
        let half = CONNECTIONS * CALLS_EACH / 2;
        let records = world.gateway.site.records_when(tenant, half).await;
        assert_eq!(records.len(), half);
        assert!(records.iter().all(|record| record["tenant.id"] == tenant));
    }
}

/// A call of `tenant` whose body says whose it is; the same handle for both tenants.
fn call(tenant: &str, token: &str, client: usize, number: usize) -> Ask {
    let who = format!("{tenant} {client}-{number}");
    match number % 4 {
        0 => {
            let mut body = message();
            body["metadata"] = json!({"user_id": who});
            Ask::new("POST", "/anthropic/v1/messages")
                .token(token)
                .header("x-api-key", "$CRED{anthropic_key}")
                .json(&body)
        }
        kind => {
            let mut body = chat();
            body["user"] = json!(who);
            body["stream"] = json!(kind == 2);
            let ask = Ask::new("POST", "/openai/v1/chat/completions");
            let ask = if kind == 3 {
                ask.bearer(token)
            } else {
                ask.token(token)
                    .header("authorization", "Bearer $CRED{openai_key}")
            };
            ask.json(&body)
        }
    }
}
