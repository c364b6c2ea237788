//! Cases 1–4, 11–13, 15, 16, 20–22: how a handle is written, and whose it is.

use std::time::Instant;

use crate::harness::{Ask, Dialect, Refused, World, chat, key};

const CHAT: &str = "/openai/v1/chat/completions";

/// A chat call whose token leaves the key slot to `value`.
fn with_key(token: &str, value: &str) -> Ask {
    Ask::new("POST", CHAT)
        .token(token)
        .header("authorization", value)
        .json(&chat())
}

#[tokio::test]
async fn case_01_a_granted_handle_in_its_place_becomes_exactly_one_key() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let answer = world
        .send(&with_key(&token, "Bearer $CRED{openai_key}"))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = world.only_call();
    assert_eq!(
        seen.header_values("authorization"),
        [format!("Bearer {}", key("acme", "openai"))]
    );
    assert!(!seen.mentions(&token), "the token stays here");
    assert!(!seen.mentions("tollgate-token") && !seen.mentions("$CRED"));
}

#[tokio::test]
async fn case_02_both_spellings_resolve_and_near_misses_never_do() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for wrong in [
        "$CRED{openai_key>",
        "$CRED<openai_key}",
        "$CRED[openai_key]",
        "$CRED(openai_key)",
        "$cred{openai_key}",
        "$Cred{openai_key}",
        "$CRED{ openai_key }",
        "$CRED{openai_key }",
        "$CRED{}",
        "$CRED<>",
        "$CRED",
        "$CRED{openai_key",
        "$CREDopenai_key}",
        "$CRED{openai_key}{other}",
        "$$CRED{openai_key}",
        "x$CRED{openai_key}",
        "$CRED{openai_key}x",
        "$CRED {openai_key}",
        "CRED{openai_key}",
        "${CRED{openai_key}}",
        "$CRED{openai/key}",
        "$CRED{-openai_key}",
    ] {
        let answer = world
            .send(&with_key(&token, &format!("Bearer {wrong}")))
            .await;
        let refused = Refused::malformed("bad_handle");
        let record = refused
            .check_recorded(&world.gateway, &answer, Dialect::OpenAi, "acme")
            .await;
        assert_eq!(record["gen_ai.agent.id"], "a1", "{wrong}");
        assert_eq!(record["tollgate.task.id"], "t1", "{wrong}");
    }
    world.assert_no_contact();

    for right in ["$CRED{openai_key}", "$CRED<openai_key>"] {
        let answer = world
            .send(&with_key(&token, &format!("Bearer {right}")))
            .await;
        assert_eq!(answer.status, 200, "{right}: {}", answer.text());
    }
    for seen in world.calls() {
        assert_eq!(
            seen.header_values("authorization"),
            [format!("Bearer {}", key("acme", "openai"))]
        );
    }
}

/// Cases 3 and 4: unknown, not granted to this agent, and another tenant's look the same.
#[tokio::test]
async fn case_03_and_04_unknown_ungranted_and_foreign_credentials_are_told_apart_by_nothing() {
    let world = World::planned(|plan| {
        let acme = plan.tenant("acme");
        acme.credential("vip_key", r#"{ provider = "openai", agents = ["vip"] }"#);
        acme.secret("vip_key", "sk-canary-acme-vip");
        let globex = plan.tenant("globex");
        globex.credential("globex_only", r#"{ provider = "openai" }"#);
        globex.secret("globex_only", "sk-canary-globex-only");
    })
    .await;
    let token = world.token("acme").await;
    let names = ["nobody_has_this", "vip_key", "globex_only"];
    let mut answers = Vec::new();
    let mut times = vec![Vec::new(); names.len()];
    for round in 0..30 {
        for (index, name) in names.iter().enumerate() {
            let started = Instant::now();
            let answer = world
                .send(&with_key(&token, &format!("Bearer $CRED{{{name}}}")))
                .await;
            times[index].push(started.elapsed());
            if round == 0 {
                let refused = Refused::CREDENTIAL_DENIED;
                refused
                    .check_recorded(&world.gateway, &answer, Dialect::OpenAi, "acme")
                    .await;
                let id = answer.header("x-tollgate-request-id").unwrap().to_owned();
                let body = answer.text().replace(&id, "ID");
                let mut headers = answer.headers.clone();
                headers.retain(|(name, _)| !name.ends_with("request-id") && name != "date");
                answers.push((headers, body));
            }
        }
    }
    assert_eq!(
        answers[0], answers[1],
        "unknown and ungranted must look the same"
    );
    assert_eq!(
        answers[0], answers[2],
        "unknown and foreign must look the same"
    );
    let medians: Vec<f64> = times
        .iter_mut()
        .map(|times| {
            times.sort();
            times[times.len() / 2].as_secs_f64()
        })
        .collect();
    let (fast, slow) = medians
        .iter()
        .fold((f64::MAX, 0.0_f64), |(f, s), m| (f.min(*m), s.max(*m)));
    assert!(
        slow < fast * 3.0 + 0.005,
        "the time taken tells them apart: {medians:?}"
    );
    world.assert_no_contact();

    // The same names work for those they belong to.
    let vip = world.gateway.mint("acme", "vip", "t1").await;
    assert_eq!(
        world
            .send(&with_key(&vip, "Bearer $CRED{vip_key}"))
            .await
            .status,
        200
    );
    let globex = world.token("globex").await;
    assert_eq!(
        world
            .send(&with_key(&globex, "Bearer $CRED{globex_only}"))
            .await
            .status,
        200
    );
    let keys: Vec<_> = world
        .calls()
        .iter()
        .flat_map(|seen| seen.header_values("authorization"))
        .collect();
    assert_eq!(
        keys,
        ["Bearer sk-canary-acme-vip", "Bearer sk-canary-globex-only"]
    );
}

#[tokio::test]
async fn case_11_a_handle_split_over_two_lines_or_joined_by_a_comma_is_refused() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let split = Ask::new("POST", CHAT)
        .token(&token)
        .header("authorization", "Bearer $CRED{openai_")
        .header("authorization", "key}")
        .json(&chat());
    let joined = with_key(&token, "Bearer $CRED{openai_,key}");
    let listed = with_key(&token, "Bearer $CRED{openai_key}, Bearer x");
    for ask in [split, joined, listed] {
        let answer = world.send(&ask).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        let refused = Refused::malformed("bad_handle");
        refused
            .check_recorded(&world.gateway, &answer, Dialect::OpenAi, "acme")
            .await;
    }
    world.assert_no_contact();
}

#[tokio::test]
async fn case_12_a_handle_in_two_places_is_refused() {
    let world = World::planned(|plan| {
        let acme = plan.tenant("acme");
        acme.credential("second_key", r#"{ provider = "openai" }"#);
        acme.secret("second_key", "sk-canary-acme-second");
    })
    .await;
    let token = world.token("acme").await;
    let two = |other: &str| with_key(&token, "Bearer $CRED{openai_key}").header("x-api-key", other);
    for ask in [
        two("$CRED{openai_key}"),
        two("$CRED{second_key}"),
        with_key(&token, "Bearer $CRED{openai_key} $CRED{openai_key}"),
        with_key(&token, "Bearer $CRED{openai_key}$CRED{second_key}"),
    ] {
        let answer = world.send(&ask).await;
        let refused = Refused::HANDLE_REPEATED;
        refused
            .check_recorded(&world.gateway, &answer, Dialect::OpenAi, "acme")
            .await;
    }
    world.assert_no_contact();
}

#[tokio::test]
async fn case_13_a_handle_in_a_header_name_the_method_or_the_version_is_malformed() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let head = |line: &str, extra: &str| {
        format!("{line}\r\nhost: tollgate\r\nx-tollgate-token: {token}\r\n{extra}\r\n")
    };
    for request in [
        head("GET /openai/v1/models HTTP/1.1", "$CRED{openai_key}: x\r\n"),
        head(
            "GET /openai/v1/models HTTP/1.1",
            "x-$CRED<openai_key>: x\r\n",
        ),
        head("$CRED{openai_key} /openai/v1/models HTTP/1.1", ""),
        head("GET /openai/v1/models HTTP/$CRED{openai_key}", ""),
        head("GET /openai/v1/models $CRED{openai_key}", ""),
    ] {
        let answer = world.send_raw(&request).await.expect("an answer");
        assert!(
            matches!(answer.status, 400 | 405 | 501 | 505),
            "{request}: {answer:?}"
        );
        assert!(answer.header("x-tollgate-error").is_some(), "{answer:?}");
    }
    world.assert_no_contact();
}

#[tokio::test]
async fn case_15_a_secret_that_reads_like_a_handle_is_sent_as_it_is() {
    let world = World::planned(|plan| {
        let acme = plan.tenant("acme");
        acme.credential("nested", r#"{ provider = "openai" }"#);
        acme.secret("nested", "sk-canary-$CRED{openai_key}");
    })
    .await;
    let token = world.token("acme").await;
    let answer = world.send(&with_key(&token, "Bearer $CRED{nested}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = world.only_call();
    assert_eq!(
        seen.header_values("authorization"),
        ["Bearer sk-canary-$CRED{openai_key}"]
    );
    assert!(
        !seen.mentions(&key("acme", "openai")),
        "the inner name is not looked up"
    );
}

#[tokio::test]
async fn case_16_a_secret_that_cannot_be_sent_is_never_stored_or_never_sent() {
    let world = World::planned(|plan| {
        plan.tenant("acme")
            .credential("odd", r#"{ provider = "openai" }"#);
    })
    .await;
    let token = world.token("acme").await;
    let set = |value: &str| {
        let arguments = ["secret", "set", "--tenant", "acme", "--name", "odd"];
        world.gateway.site.cli(&arguments, value)
    };
    for value in [
        "",
        "\n",
        "sk-canary\r\nx-evil: 1",
        "sk-canary\nx",
        "sk-canary\rx",
        "sk-canary\0x",
        " sk-canary-lead",
        "sk-canary-trail ",
        "sk-canary-\u{fc}",
        "sk-canary\tx\u{7f}",
        "\tsk-canary",
    ] {
        let output = set(value);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !stderr.contains("sk-canary"),
            "the value is not repeated: {stderr}"
        );
        let answer = world.send(&with_key(&token, "Bearer $CRED{odd}")).await;
        assert!(
            answer.status >= 500,
            "{value:?}: {answer:?} {}",
            answer.text()
        );
        assert!(!answer.text().contains("sk-canary"), "{}", answer.text());
        let id = answer.header("x-tollgate-request-id").unwrap();
        let record = world.gateway.site.record("acme", id).await;
        assert_eq!(record["tollgate.cost_usd"], "0", "{record:#}");
    }
    world.assert_no_contact();

    // A long one is either refused as the others are, or sent to its last byte.
    let long = format!("sk-canary-{}", "x".repeat(16 * 1024));
    set(&long);
    let answer = world.send(&with_key(&token, "Bearer $CRED{odd}")).await;
    match answer.status {
        200 => assert_eq!(
            world.only_call().header_values("authorization"),
            [format!("Bearer {long}")]
        ),
        status => {
            assert!(status >= 500, "{answer:?}");
            world.assert_no_contact();
        }
    }
}

#[tokio::test]
async fn case_20_the_agents_own_key_never_goes_along() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let own = "sk-own-1234567890";
    for ask in [
        with_key(&token, &format!("Bearer {own}")),
        with_key(&token, "Bearer $CRED{openai_key}").header("x-api-key", own),
        Ask::new("POST", CHAT)
            .bearer(&token)
            .header("x-api-key", own)
            .json(&chat()),
        Ask::new("POST", CHAT)
            .bearer(&token)
            .header("api-key", own)
            .json(&chat()),
        Ask::new("POST", CHAT)
            .bearer(&token)
            .header("x-goog-api-key", own)
            .json(&chat()),
        Ask::new("POST", &format!("{CHAT}?key={own}"))
            .bearer(&token)
            .json(&chat()),
        Ask::new("POST", CHAT)
            .bearer(&token)
            .header("proxy-authorization", own)
            .json(&chat()),
        Ask::new("POST", CHAT)
            .bearer(&token)
            .header("cookie", own)
            .json(&chat()),
    ] {
        let answer = world.send(&ask).await;
        assert!(
            matches!(answer.status, 200 | 400 | 401 | 403),
            "{}",
            answer.text()
        );
    }
    let calls = world.calls();
    assert!(!calls.is_empty(), "at least the plain ones go through");
    for seen in calls {
        assert_eq!(
            seen.header_values("authorization"),
            [format!("Bearer {}", key("acme", "openai"))]
        );
        assert!(!seen.mentions(own), "{seen:?}");
        assert!(!seen.mentions(&token), "{seen:?}");
    }
}

#[tokio::test]
async fn case_21_what_a_shell_left_of_a_handle_is_explained() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for remnant in ["{openai_key}", "{openai_key", "openai_key}"] {
        let answer = world
            .send(&with_key(&token, &format!("Bearer {remnant}")))
            .await;
        let refused = Refused::malformed("bad_handle");
        refused
            .check_recorded(&world.gateway, &answer, Dialect::OpenAi, "acme")
            .await;
        assert!(
            answer.text().contains("quot"),
            "the hint names quoting: {}",
            answer.text()
        );
    }
    world.assert_no_contact();
}

#[tokio::test]
async fn case_22_other_cases_and_look_alike_letters_are_not_resolved() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for odd in [
        "$CRED{OPENAI_KEY}",
        "$CRED{Openai_key}",
        "\u{ff04}CRED{openai_key}",
        "$\u{ff23}RED{openai_key}",
        "$CRED{\u{43e}penai_key}",
        "$CRED{openai\u{200d}_key}",
        "$CRED\u{ff5b}openai_key\u{ff5d}",
        "$CRED{openai_key\u{301}}",
        "\u{feff}$CRED{openai_key}",
    ] {
        let answer = world
            .send(&with_key(&token, &format!("Bearer {odd}")))
            .await;
        assert!(
            matches!(answer.status, 400 | 403),
            "{odd}: {answer:?} {}",
            answer.text()
        );
        let code = answer.header("x-tollgate-error").unwrap();
        assert!(
            ["bad_handle", "credential_denied", "malformed_request"].contains(&code),
            "{odd}: {code}"
        );
    }
    world.assert_no_contact();
}
