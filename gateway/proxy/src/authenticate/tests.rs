//! Who is let in, and that a remembered signature opens nothing by itself.

use std::time::Duration;

use http::Method;
use tollgate_core::identity::{
    CertificateDigest, Mint, SubjectName, TokenRequest, new_private_key,
};
use tollgate_core::registry::Registered;

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
        self.bound_token(tenant, None)
    }

    fn bound_token(&self, tenant: &str, certificate: Option<CertificateDigest>) -> String {
        let issued = self.mint.issue(
            TokenRequest {
                tenant: tenant.parse().unwrap(),
                agent: "bot".parse().unwrap(),
                task: "t-1".parse().unwrap(),
                lifetime: Duration::from_secs(300),
                certificate,
            },
            noon(),
            "jti-1".parse().unwrap(),
        );
        issued.unwrap().0
    }

    /// Who is let in with `line` this long after noon, or the reason why nobody is. The refusal
    /// is recorded, as the exchange does it.
    async fn knock(&self, line: &str, later: Duration) -> Result<Arc<Caller>, &'static str> {
        self.knock_with(&[line], None, later).await
    }

    /// The same with these lines, over a connection on which this certificate was shown.
    async fn knock_with(
        &self,
        lines: &[&str],
        shown: Option<&ClientCertificate>,
        later: Duration,
    ) -> Result<Arc<Caller>, &'static str> {
        let head = head(Method::GET, "/openai/v1/models", lines);
        let mut draft = draft(&head);
        let live = self.gw.live.snapshot();
        let now = noon().plus(later);
        match authenticate(&self.gw, &live, &head, shown, &mut draft, now).await {
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

#[tokio::test]
async fn the_caller_is_who_the_token_says_and_nobody_else() {
    let world = world(ACME);
    let bearer = format!("authorization: Bearer {}", world.token("acme"));
    let caller = world.knock(&bearer, Duration::ZERO).await.unwrap();
    assert_eq!(caller.tenant.as_str(), "acme");
    assert_eq!(caller.agent.as_str(), "bot");
    assert_eq!(world.fakes.asked(), [], "nothing is recorded of it yet");
}

#[tokio::test]
async fn a_remembered_token_is_still_asked_for_its_life_and_its_time() {
    let world = world(ACME);
    let bearer = format!("authorization: Bearer {}", world.token("acme"));
    let last = Duration::from_millis(299_999);
    let first = world.knock(&bearer, Duration::ZERO).await.unwrap();
    let second = world.knock(&bearer, last).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second), "the signature is remembered");
    assert_eq!(
        world.knock(&bearer, Duration::from_secs(300)).await,
        Err("token_expired")
    );
    for (liveness, reason) in [
        (Some(Liveness::Revoked), "token_revoked"),
        (Some(Liveness::Unknown), "token_unregistered"),
        (None, "registry_unavailable"),
    ] {
        world.fakes.answers().liveness = liveness;
        assert_eq!(world.knock(&bearer, Duration::ZERO).await, Err(reason));
    }
    world.fakes.answers().liveness = Some(Liveness::Live);
    assert!(world.knock(&bearer, Duration::ZERO).await.is_ok());
}

#[tokio::test]
async fn refusals_are_kept_with_the_tenant_once_it_is_proven_and_with_the_gateway_before() {
    let world = world(ACME);
    let bearer = format!("authorization: Bearer {}", world.token("acme"));
    world.fakes.answers().liveness = Some(Liveness::Revoked);
    assert!(world.knock(&bearer, Duration::ZERO).await.is_err());
    let asked = world.fakes.asked();
    let [Asked::Refuse(record)] = &asked[..] else {
        panic!("one record: {asked:?}");
    };
    assert_eq!(record.subject.tenant.as_str(), "acme");
    assert_eq!(record.ending.reason.as_deref(), Some("token_revoked"));

    assert!(
        world
            .knock(&format!("{bearer}x"), Duration::ZERO)
            .await
            .is_err()
    );
    assert!(
        world
            .knock("x-tenant-id: acme", Duration::ZERO)
            .await
            .is_err()
    );
    let asked = world.fakes.asked();
    assert!(
        matches!(&asked[..], [Asked::TurnAway(_), Asked::TurnAway(_)]),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_tenant_that_is_disabled_or_unknown_is_let_nowhere() {
    let locked = world(LOCKED);
    let bearer = format!("authorization: Bearer {}", locked.token("acme"));
    let unknown = Err("tenant_unknown");
    assert_eq!(locked.knock(&bearer, Duration::ZERO).await, unknown);
    let other = world(ACME);
    let bearer = format!("authorization: Bearer {}", other.token("globex"));
    assert_eq!(other.knock(&bearer, Duration::ZERO).await, unknown);
}

#[tokio::test]
async fn a_call_under_way_ends_if_its_token_is_revoked_or_its_tenant_locked_out() {
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

#[tokio::test]
async fn a_token_among_untrusted_claims_is_not_recorded() {
    let world = world(ACME);
    let token = world.token("acme");
    for value in [token.clone(), format!("tollgate.token=\"{token}\",x=1")] {
        let line = format!("baggage: {value}");
        assert!(world.knock(&line, Duration::ZERO).await.is_err());
        let head = head(Method::GET, "/", &[&line]);
        let subject = draft(&head).subject(&crate::fakes::caller());
        assert_eq!(subject.untrusted, ["baggage: [token]"]);
    }
    let head = head(Method::GET, "/?tenant=globex", &["x-tenant-id: globex"]);
    let subject = draft(&head).subject(&crate::fakes::caller());
    assert_eq!(subject.untrusted, ["x-tenant-id: globex", "tenant=globex"]);
}

const MAPPED: &str = r#"
[tenant]
id = "acme"
[[certificate]]
dns = "bot.example"
agent = "bot"
[[certificate]]
dns = "cat.example"
agent = "cat"
task = "nightly"
"#;

/// A certificate that was issued an hour before noon and ends an hour after.
fn certificate(number: u8, names: &[&str]) -> ClientCertificate {
    let hour = Duration::from_secs(3600);
    ClientCertificate {
        digest: CertificateDigest::new([number; 32]),
        names: names
            .iter()
            .map(|name| SubjectName::dns(name).unwrap())
            .collect(),
        not_before: noon().minus(hour),
        not_after: noon().plus(hour),
    }
}

#[tokio::test]
async fn a_bound_token_is_good_with_its_certificate_and_with_no_other() {
    let world = world(MAPPED);
    let (own, other) = (certificate(1, &[]), certificate(2, &[]));
    let bearer = |token: String| format!("authorization: Bearer {token}");
    let bound = bearer(world.bound_token("acme", Some(own.digest)));
    let free = bearer(world.token("acme"));
    let now = Duration::ZERO;
    let binding = Err("token_binding");
    // In this order, since a remembered signature must not be a remembered certificate.
    for _ in 0..2 {
        let lines = [bound.as_str()];
        let with = |shown| world.knock_with(&lines, shown, now);
        assert!(with(Some(&own)).await.is_ok());
        assert_eq!(with(Some(&other)).await, binding);
        assert_eq!(with(None).await, binding);
    }
    let late = Duration::from_secs(3601);
    let token = world.mint.issue(
        TokenRequest {
            tenant: "acme".parse().unwrap(),
            agent: "bot".parse().unwrap(),
            task: "t-1".parse().unwrap(),
            lifetime: Duration::from_secs(300),
            certificate: None,
        },
        noon().plus(late),
        "jti-2".parse().unwrap(),
    );
    let fresh = bearer(token.unwrap().0);
    let ended = world.knock_with(&[&fresh], Some(&own), late).await;
    assert_eq!(ended, Err("certificate_expired"));
    // One that is not bound may come with any certificate, unless that is somebody else's.
    assert!(world.knock_with(&[&free], Some(&other), now).await.is_ok());
    let bot = certificate(3, &["bot.example"]);
    assert!(world.knock_with(&[&free], Some(&bot), now).await.is_ok());
    for foreign in [
        certificate(4, &["cat.example"]),
        certificate(5, &["cat.example", "unknown.example"]),
    ] {
        let foreign = world.knock_with(&[&free], Some(&foreign), now).await;
        assert_eq!(foreign, binding);
    }
}

#[tokio::test]
async fn a_certificate_alone_is_the_agent_it_is_mapped_to() {
    let world = world(MAPPED);
    let cat = certificate(1, &["cat.example"]);
    let caller = world
        .knock_with(&["x-tenant-id: globex"], Some(&cat), Duration::ZERO)
        .await;
    let caller = caller.unwrap();
    assert_eq!(caller.tenant.as_str(), "acme");
    assert_eq!(caller.agent.as_str(), "cat");
    assert_eq!(caller.task.as_str(), "nightly");
    assert_eq!(caller.certificate, Some(cat.digest));
    let registered = world.fakes.asked();
    let rests_on = Some(cat.not_before);
    assert_eq!(
        registered,
        [Asked::Register(caller.token.clone(), rests_on)]
    );
    // It is registered once, and again when its time is over.
    let last = Duration::from_millis(299_999);
    let again = world.knock_with(&[], Some(&cat), last).await.unwrap();
    assert!(Arc::ptr_eq(&caller, &again));
    assert_eq!(world.fakes.asked(), []);
    let renewed = world
        .knock_with(&[], Some(&cat), Duration::from_secs(300))
        .await;
    let renewed = renewed.unwrap();
    assert_ne!(renewed.token, caller.token);
    assert_eq!(
        world.fakes.asked(),
        [Asked::Register(renewed.token.clone(), rests_on)]
    );
    // Two certificates of one agent stand for themselves.
    let second = certificate(2, &["cat.example"]);
    let second = world
        .knock_with(&[], Some(&second), Duration::ZERO)
        .await
        .unwrap();
    assert_ne!(second.token, renewed.token);
}

#[tokio::test]
async fn certificates_that_name_nobody_or_several_are_let_nowhere() {
    let world = world(MAPPED);
    for nobody in [
        certificate(1, &[]),
        certificate(2, &["dog.example"]),
        certificate(3, &["cat.example", "bot.example"]),
    ] {
        let refused = world.knock_with(&[], Some(&nobody), Duration::ZERO).await;
        assert_eq!(refused, Err("certificate_unmapped"));
    }
    let bot = certificate(4, &["bot.example"]);
    let ended = world
        .knock_with(&[], Some(&bot), Duration::from_secs(3601))
        .await;
    assert_eq!(ended, Err("certificate_expired"));
    let asked = world.fakes.asked();
    assert!(
        asked
            .iter()
            .all(|asked| matches!(asked, Asked::TurnAway(_))),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_bad_token_is_not_made_good_by_a_certificate() {
    let world = world(MAPPED);
    let bot = certificate(1, &["bot.example"]);
    let damaged = format!("{}x", world.token("acme"));
    let bearer = format!("authorization: Bearer {damaged}");
    for (line, reason) in [
        (bearer.as_str(), "token_malformed"),
        (&format!("x-api-key: {damaged}"), "token_malformed"),
        ("x-tollgate-token: nonsense", "token_malformed"),
        ("x-tollgate-token: ", "token_malformed"),
        ("authorization: Bearer  eyJhIjoxfQ.e30.x", "token_malformed"),
    ] {
        let refused = world.knock_with(&[line], Some(&bot), Duration::ZERO).await;
        assert_eq!(refused, Err(reason), "{line}");
    }
    // What is no token is no claim to be anybody.
    for line in ["authorization: Bearer unused", "x-api-key: $CRED{openai}"] {
        let let_in = world.knock_with(&[line], Some(&bot), Duration::ZERO).await;
        assert!(let_in.is_ok(), "{line}");
    }
}

#[tokio::test]
async fn what_ends_tokens_ends_callers_by_certificate() {
    let world = world(MAPPED);
    let bot = certificate(1, &["bot.example"]);
    let knock = async |later: u64| {
        let later = Duration::from_secs(later);
        let knocked = world.knock_with(&[], Some(&bot), later).await;
        knocked.map(|caller| caller.token.clone())
    };
    let first = knock(0).await.unwrap();
    world.fakes.answers().liveness = Some(Liveness::Revoked);
    assert_eq!(knock(1).await, Err("token_revoked"));
    world.fakes.answers().liveness = None;
    assert_eq!(knock(1).await, Err("registry_unavailable"));
    world.fakes.answers().liveness = Some(Liveness::Live);
    assert_eq!(knock(1).await, Ok(first));
    // The registry says that it was issued before its agent was revoked, or its task is over.
    for (number, refused) in [(2, Registered::Revoked), (3, Registered::TaskComplete)] {
        world.fakes.answers().registered = Some(refused);
        let later = certificate(number, &["bot.example"]);
        world.fakes.asked();
        for _ in 0..3 {
            let refused = world.knock_with(&[], Some(&later), Duration::ZERO).await;
            assert_eq!(refused, Err("token_revoked"));
        }
        let asked = world.fakes.asked();
        let registrations = asked.iter().filter(|a| matches!(a, Asked::Register(..)));
        assert_eq!(
            registrations.count(),
            1,
            "the registry is asked once: {asked:?}"
        );
        let digest = Some(later.digest);
        let recorded = asked
            .iter()
            .filter(|a| matches!(a, Asked::Refuse(record) if record.subject.certificate == digest));
        assert_eq!(recorded.count(), 3, "in the tenant's partition: {asked:?}");
    }
    world.fakes.answers().registered = None;
    let late = certificate(4, &["bot.example"]);
    let refused = world.knock_with(&[], Some(&late), Duration::ZERO).await;
    assert_eq!(refused, Err("registry_unavailable"));
    world.fakes.answers().registered = Some(Registered::Live);
    let let_in = world.knock_with(&[], Some(&late), Duration::ZERO).await;
    assert!(let_in.is_ok(), "a failure is not remembered");
    for locked in [
        format!("{MAPPED}[agents.bot]\nenabled = false\n"),
        MAPPED.replace("id = \"acme\"", "id = \"acme\"\nenabled = false"),
    ] {
        let locked = snapshot(&locked, world.mint.keys());
        world.gw.live.replace_policy(Arc::clone(&locked.policy));
        let refused = world.knock_with(&[], Some(&late), Duration::ZERO).await;
        let reason = refused.unwrap_err();
        assert!(
            ["agent_disabled", "tenant_unknown"].contains(&reason),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn one_certificate_on_many_connections_is_registered_once() {
    let world = world(MAPPED);
    let bot = certificate(1, &["bot.example"]);
    let calls = (0..50).map(|_| world.knock_with(&[], Some(&bot), Duration::ZERO));
    let callers = futures_util::future::join_all(calls).await;
    let first = callers[0].clone().unwrap();
    assert!(
        callers
            .iter()
            .all(|c| c.as_ref().unwrap().token == first.token)
    );
    assert_eq!(world.fakes.asked().len(), 1);
}

#[tokio::test]
async fn a_caller_that_the_registry_has_lost_is_registered_again() {
    let world = world(MAPPED);
    let bot = certificate(1, &["bot.example"]);
    let first = world
        .knock_with(&[], Some(&bot), Duration::ZERO)
        .await
        .unwrap();
    world.fakes.answers().liveness = Some(Liveness::Unknown);
    let lost = world.knock_with(&[], Some(&bot), Duration::ZERO).await;
    assert_eq!(lost, Err("token_unregistered"), "and lost again at once");
    world.fakes.answers().liveness = Some(Liveness::Live);
    let second = world
        .knock_with(&[], Some(&bot), Duration::ZERO)
        .await
        .unwrap();
    assert_ne!(first.token, second.token);
}
