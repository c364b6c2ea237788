//! A real OpenID Connect provider, whose token a real SDK calls with once it is exchanged.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use serde_json::Value;
use tollgate_testkit::wait::eventually;

use super::{node, run, text};
use crate::harness::{Ask, World};

/// A provider's process, and what it has said. It ends with its input.
struct Provider {
    child: Child,
    said: Value,
}

impl Provider {
    fn start() -> Self {
        let mut child = node("oidc_provider.mjs", "serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines
            .map(Result::unwrap)
            .find(|line| line.starts_with('{'))
            .expect("the provider says where it is");
        let said = serde_json::from_str(&line).unwrap();
        Self { child, said }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_node_calls_with_an_exchanged_token_of_a_real_provider() {
    let provider = tokio::task::spawn_blocking(Provider::start).await.unwrap();
    let told = |name| text(&provider.said, name);
    let issuer = format!(
        "[issuer]\nname = \"oidc\"\niss = \"{}\"\naudience = \"tollgate\"\nalgorithms = [\"RS256\"]\n\
         jwks_url = \"{}\"\nmax_age_seconds = 3600\n\
         [[map]]\nwhen = {{ \"/client_id\" = \"support-bot\", \"/scope\" = \"agents\" }}\n\
         tenant = \"acme\"\nagent = {{ claim = \"/sub\" }}\ntask_may_be_requested = true\n",
        told("issuer"),
        told("jwks")
    );
    let file = "issuers/oidc.toml".to_owned();
    let world = World::planned(|plan| drop(plan.files.insert(file, issuer))).await;
    let form = format!(
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={}&task=ticket-1\
         &subject_token_type=urn:ietf:params:oauth:token-type:access_token",
        told("token")
    );
    let ask = Ask::new("POST", "/oauth2/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    let answer = world.send(&ask).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let token = text(&answer, "access_token");
    run(node("openai_node.mjs", "plain"), &world, token).await;
    eventually("the calls are recorded", async || {
        !world.gateway.site.records("acme").is_empty()
    })
    .await;
    for record in world.gateway.site.records("acme") {
        assert_eq!(text(&record, "tollgate.task.id"), "ticket-1", "{record:#}");
        assert_eq!(
            text(&record, "gen_ai.agent.id"),
            "support-bot",
            "{record:#}"
        );
    }
}
