//! Who is let in, and that a remembered signature opens nothing by itself.

use std::time::Duration;

use http::Method;
use tollgate_core::identity::{Mint, TokenRequest, new_private_key};

use super::*;
use crate::fakes::{Asked, Fakes, draft, gateway, head, noon, snapshot};
use crate::record::keep_rejected;
use tollgate_core::policy::Dialect;

use crate::respond::Verdict;

const ACME: &str = "[tenant]\nid = \"acme\"\n";
const LOCKED: &str = "[tenant]\nid = \"acme\"\nenabled = false\n";

struct World {
    gw: Arc<Gateway>,
    fakes: Arc<Fakes>,
    mint: Mint,
}

fn world(tenant: &str) -> World {
    let pem = new_private_key(&[7; 32]);
    let mint = Mint::from_pem(&pem, "issuer", "tollgate").unwrap();
    let (gw, fakes) = gateway(snapshot(tenant, mint.keys()));
    World { gw, fakes, mint }
}

impl World {
    fn token(&self, tenant: &str) -> String {
        let issued = self.mint.issue(
            TokenRequest {
                tenant: tenant.parse().unwrap(),
                agent: "bot".parse().unwrap(),
                task: "t-1".parse().unwrap(),
                lifetime: Duration::from_secs(300),
                certificate: None,
            },
            noon(),
            "jti-1".parse().unwrap(),
        );
        issued.unwrap().0
    }

    /// Who is let in with `line` this long after noon, or the reason why nobody is. The refusal
    /// is recorded, as the exchange does it.
    fn knock(&self, line: &str, later: Duration) -> Result<Arc<Caller>, &'static str> {
        let head = head(Method::GET, "/openai/v1/models", &[line]);
        let mut draft = draft(&head);
        let live = self.gw.live.snapshot();
        match authenticate(&self.gw, &live, &head, &mut draft, noon().plus(later)) {
            Ok(identified) => Ok(identified.caller),
            Err(rejected) => {
                keep_rejected(
                    &self.gw,
                    &draft,
                    &rejected,
                    &Verdict::of(&rejected, Dialect::OpenAi),
                );
                Err(match rejected {
                    Rejected::Refused(refusal) => refusal.reason(),
                    Rejected::Failed(failure) => failure.code(),
                })
            }
        }
    }
}

#[test]
fn the_caller_is_who_the_token_says_and_nobody_else() {
    let world = world(ACME);
    let bearer = format!("authorization: Bearer {}", world.token("acme"));
    let caller = world.knock(&bearer, Duration::ZERO).unwrap();
    assert_eq!(caller.tenant.as_str(), "acme");
    assert_eq!(caller.agent.as_str(), "bot");
    assert_eq!(world.fakes.asked(), [], "nothing is recorded of it yet");
}

#[test]
fn a_remembered_token_is_still_asked_for_its_life_and_its_time() {
    let world = world(ACME);
    let bearer = format!("authorization: Bearer {}", world.token("acme"));
    let last = Duration::from_millis(299_999);
    let first = world.knock(&bearer, Duration::ZERO).unwrap();
    let second = world.knock(&bearer, last).unwrap();
    assert!(Arc::ptr_eq(&first, &second), "the signature is remembered");
    assert_eq!(
        world.knock(&bearer, Duration::from_secs(300)),
        Err("token_expired")
    );
    for (liveness, reason) in [
        (Some(Liveness::Revoked), "token_revoked"),
        (Some(Liveness::Unknown), "token_unregistered"),
        (None, "registry_unavailable"),
    ] {
        world.fakes.answers().liveness = liveness;
        assert_eq!(world.knock(&bearer, Duration::ZERO), Err(reason));
    }
    world.fakes.answers().liveness = Some(Liveness::Live);
    assert!(world.knock(&bearer, Duration::ZERO).is_ok());
}

#[test]
fn refusals_are_kept_with_the_tenant_once_it_is_proven_and_with_the_gateway_before() {
    let world = world(ACME);
    let bearer = format!("authorization: Bearer {}", world.token("acme"));
    world.fakes.answers().liveness = Some(Liveness::Revoked);
    assert!(world.knock(&bearer, Duration::ZERO).is_err());
    let asked = world.fakes.asked();
    let [Asked::Refuse(record)] = &asked[..] else {
        panic!("one record: {asked:?}");
    };
    assert_eq!(record.subject.tenant.as_str(), "acme");
    assert_eq!(record.ending.reason.as_deref(), Some("token_revoked"));

    assert!(world.knock(&format!("{bearer}x"), Duration::ZERO).is_err());
    assert!(world.knock("x-tenant-id: acme", Duration::ZERO).is_err());
    let asked = world.fakes.asked();
    assert!(
        matches!(&asked[..], [Asked::TurnAway(_), Asked::TurnAway(_)]),
        "{asked:?}"
    );
}

#[test]
fn a_tenant_that_is_disabled_or_unknown_is_let_nowhere() {
    let locked = world(LOCKED);
    let bearer = format!("authorization: Bearer {}", locked.token("acme"));
    let unknown = Err("tenant_unknown");
    assert_eq!(locked.knock(&bearer, Duration::ZERO), unknown);
    let other = world(ACME);
    let bearer = format!("authorization: Bearer {}", other.token("globex"));
    assert_eq!(other.knock(&bearer, Duration::ZERO), unknown);
}

#[test]
fn a_call_under_way_ends_if_its_token_is_revoked_or_its_tenant_locked_out() {
    let world = world(ACME);
    let caller = Caller {
        expires_at: noon(),
        ..(*crate::fakes::caller()).clone()
    };
    // Its time is over all along, which alone ends nothing.
    for (liveness, ends) in [
        (Some(Liveness::Live), false),
        (Some(Liveness::Revoked), true),
        (Some(Liveness::Unknown), false),
        (None, false),
    ] {
        world.fakes.answers().liveness = liveness;
        assert_eq!(is_cut_off(&world.gw, &caller), ends, "{liveness:?}");
        let goes_on = liveness == Some(Liveness::Live);
        assert_eq!(
            recheck(&world.gw, &caller).is_ok(),
            goes_on,
            "before contact, in doubt no"
        );
    }
    world.fakes.answers().liveness = Some(Liveness::Live);
    let locked = snapshot(LOCKED, world.mint.keys());
    world.gw.live.replace_policy(Arc::clone(&locked.policy));
    assert!(is_cut_off(&world.gw, &caller));
}

#[test]
fn a_token_among_untrusted_claims_is_not_recorded() {
    let world = world(ACME);
    let token = world.token("acme");
    for value in [token.clone(), format!("tollgate.token=\"{token}\",x=1")] {
        let line = format!("baggage: {value}");
        assert!(world.knock(&line, Duration::ZERO).is_err());
        let head = head(Method::GET, "/", &[&line]);
        let subject = draft(&head).subject(&crate::fakes::caller());
        assert_eq!(subject.untrusted, ["baggage: [token]"]);
    }
    let head = head(Method::GET, "/?tenant=globex", &["x-tenant-id: globex"]);
    let subject = draft(&head).subject(&crate::fakes::caller());
    assert_eq!(subject.untrusted, ["x-tenant-id: globex", "tenant=globex"]);
}
