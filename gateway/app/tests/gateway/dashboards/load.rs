//! A bit of everything that a gateway can be asked: what fills its dashboards.

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_testkit::raw::Raw;

use crate::harness::{Ask, Gateway, Plan, chat};

const CHAT: &str = "/openai/v1/chat/completions";
const RELEASES: &str = "/github/repos/acme/releases";

/// What tenants may do in it.
pub(super) fn plan(plan: &mut Plan) {
    let acme = plan.tenant("acme");
    acme.caps = "daily_usd = \"100\"\nmonthly_usd = \"1000\"\n".to_owned();
    acme.more = "\n[[elevated]]\nprovider = \"github\"\nmethods = [\"POST\"]\npaths = [\"/repos/*/releases\"]\nagents = [\"deploy-*\"]\n".to_owned();
    let globex = plan.tenant("globex");
    globex.caps = "daily_usd = \"0.000001\"\n".to_owned();
    globex.limits = "requests_per_minute = 600\n".to_owned();
}

/// One tenant's agents before one gateway.
pub(super) struct Load<'g> {
    gateway: &'g Gateway,
    good: String,
    poor: String,
    deploy: String,
}

impl<'g> Load<'g> {
    pub(super) async fn on(gateway: &'g Gateway) -> Self {
        Self {
            good: gateway.mint("acme", "a1", "t1").await,
            poor: gateway.mint("globex", "a1", "t1").await,
            deploy: gateway.mint("acme", "deploy-eu", "t1").await,
            gateway,
        }
    }

    /// Calls, streams, refusals, claims, echoes, elevated actions, and a revocation.
    pub(super) async fn round(&self) {
        let chat = |query: &str| Ask::new("POST", &format!("{CHAT}{query}")).json(&chat());
        let releases = || Ask::new("POST", RELEASES).json(&json!({}));
        let broken = Ask::new("GET", "/github/user").header("x-mock", "hangup");
        let busy = Ask::new("GET", "/github/user").header("x-mock", "status-503");
        for (ask, expected) in [
            (chat("").bearer(&self.good), 200),
            (
                chat("").bearer(&self.good).header("x-tenant-id", "globex"),
                200,
            ),
            (chat("?mock=echo-headers").bearer(&self.good), 200),
            (chat("").bearer(&self.poor), 429),
            (chat(""), 401),
            (chat("").bearer("eyJhbGciOiJub25lIn0.e30."), 401),
            (
                Ask::new("DELETE", "/openai/v1/nowhere").bearer(&self.good),
                403,
            ),
            (releases().bearer(&self.deploy), 200),
            (releases().bearer(&self.good), 403),
            (busy.bearer(&self.good), 503),
            (broken.bearer(&self.good), 502),
        ] {
            let answer = ask.send(self.gateway.address).await;
            assert_eq!(answer.status, expected, "{}", answer.text());
        }
        self.revoked_stream().await;
    }

    /// A stream that ends because its task does.
    async fn revoked_stream(&self) {
        let token = self.gateway.mint("acme", "a1", "ending").await;
        let mut body: Value = chat();
        body["stream"] = json!(true);
        let ask = Ask::new("POST", &format!("{CHAT}?mock=hold-after-3,chunks-20"));
        let mut raw = Raw::connect(self.gateway.address).await;
        raw.send(ask.bearer(&token).json(&body).bytes()).await;
        assert_eq!(raw.head().await.expect("a head").0, 200);
        let agent = json!({"kind": "token", "tenant": "acme", "token": id(&token)});
        self.gateway.revoke(&agent).await;
        let rest = tokio::time::timeout(Duration::from_secs(30), raw.rest());
        assert!(rest.await.is_ok(), "a revoked stream ends");
        let (status, _) = self.gateway.admin_get("/v1/tenants").await;
        assert_eq!(status, 401);
    }
}

/// The `jti` of a token.
fn id(token: &str) -> String {
    use base64::Engine as _;
    let claims = token.split('.').nth(1).expect("claims");
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims);
    let claims: Value = serde_json::from_slice(&claims.expect("base64")).expect("JSON");
    claims["jti"].as_str().expect("an id").to_owned()
}
