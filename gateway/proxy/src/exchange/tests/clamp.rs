//! What a tenant with `[clamp]` has written into its requests, and what it is told.

use tollgate_core::budget::Balance;

use super::*;
use crate::fakes::Intended;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\
    x-tollgate-max-output-tokens: 5\r\n\r\n{}";
const CAPS: &str = "[caps]\ndaily_usd = \"1\"\n";

/// What came of one call.
struct Clamped {
    answer: Answer,
    /// The body the upstream saw; empty if it saw none.
    body: String,
    /// The amounts asked for, one by one.
    reserved: Vec<PicoUsd>,
    intent: Option<Box<Intended>>,
}

/// A call of a tenant with `rules`, whose first reservations find so much `left` under its cap.
async fn call(rules: &str, body: &str, left: &[&str]) -> Clamped {
    let world = World::of_tenant(&format!("{ACME}{CAPS}{rules}"), OK).await;
    let limit: PicoUsd = "1".parse().unwrap();
    let refusals = left.iter().rev().map(|left| {
        let balance = Balance {
            settled: limit.saturating_sub(left.parse().unwrap()),
            reserved: PicoUsd::ZERO,
        };
        (1, limit, balance)
    });
    world.fakes.answers().exhausted = refusals.collect();
    let answer = world.call(CHAT, &[], body.as_bytes()).await;
    let (mut reserved, mut intent) = (Vec::new(), None);
    for asked in world.fakes.asked() {
        match asked {
            Asked::Reserve(_, amount) => reserved.push(amount),
            Asked::Intend(written) => intent = Some(written),
            _ => {}
        }
    }
    let sent = world.sent();
    let body = sent.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    Clamped {
        answer,
        body: body.unwrap_or_default(),
        reserved,
        intent,
    }
}

impl Clamped {
    /// The bound that the client is told, if it is the one that stands in the request and the
    /// record says so.
    fn told(&self) -> Option<u64> {
        let told = self.answer.header("x-tollgate-max-output-tokens");
        let intent = self.intent.as_ref().unwrap();
        let noted = intent
            .subject
            .notes
            .iter()
            .any(|note| note == "output_clamped");
        assert_eq!(noted, told.is_some(), "{:?}", intent.subject.notes);
        assert_eq!(intent.subject.reserved, self.reserved.last().copied());
        assert_eq!(Some(&intent.hold.amount), self.reserved.last());
        told.map(|told| {
            let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
            let names = ["max_tokens", "max_completion_tokens"];
            let bounds: Vec<u64> = names.iter().filter_map(|n| body[n].as_u64()).collect();
            assert_eq!(bounds, [told.parse::<u64>().unwrap()], "{body}");
            bounds[0]
        })
    }
}

fn chat(bound: &str) -> String {
    format!(r#"{{"model":"gpt-4.1",{bound}"messages":[]}}"#)
}

#[tokio::test]
async fn a_bound_that_is_missing_or_above_the_ceiling_is_lowered_to_it() {
    for (rules, bound, told) in [
        (
            "[clamp]\nmax_output_tokens = 50\n",
            r#""max_tokens":9000,"#,
            Some(50),
        ),
        ("[clamp]\nmax_output_tokens = 50\n", "", Some(50)),
        (
            "[clamp]\nmax_output_tokens = 50\n",
            r#""max_tokens":50,"#,
            None,
        ),
        (
            "[clamp]\nmax_output_tokens = 50\n",
            r#""max_tokens":7,"#,
            None,
        ),
        // The model gives 32,768 by itself; a higher bound might be refused.
        ("[clamp]\nmax_output_tokens = 90000\n", "", None),
        ("[clamp]\n", "", None),
        ("", r#""max_tokens":9000,"#, None),
    ] {
        let clamped = call(rules, &chat(bound), &[]).await;
        assert_eq!(clamped.answer.status, 200);
        assert_eq!(clamped.told(), told, "{rules}{bound}");
        if told.is_none() {
            assert_eq!(clamped.body, chat(bound), "byte for byte");
        }
        assert_eq!(clamped.reserved.len(), 1);
    }
}

#[tokio::test]
async fn what_does_not_fit_is_lowered_to_what_does() {
    for rules in ["[clamp]\n", "[clamp]\nmax_output_tokens = 20000\n"] {
        for bound in [r#""max_tokens":9000,"#, ""] {
            // A token out costs 8 millionths; the request some more.
            let clamped = call(rules, &chat(bound), &["0.01"]).await;
            let told = clamped.told().unwrap();
            assert!((1_150..1_250).contains(&told), "{rules}{bound}: {told}");
            let [asked, fits] = clamped.reserved[..] else {
                panic!("asked twice: {:?}", clamped.reserved);
            };
            assert!(asked > fits && fits <= "0.01".parse().unwrap(), "{fits}");
            // Others were faster, twice.
            let clamped = call(rules, &chat(bound), &["0.01", "0.005", "0.0003"]).await;
            assert!(clamped.told().is_some_and(|told| told < 40));
        }
    }
}

#[tokio::test]
async fn what_cannot_be_lowered_is_refused() {
    let bound = r#""max_tokens":9000,"#;
    for (rules, left, tries) in [
        ("", &["0.01"][..], 1),
        ("[clamp]\n", &["0.00001"][..], 1),
        ("[clamp]\n", &["0"][..], 1),
        (
            "[clamp]\n",
            &["0.05", "0.04", "0.03", "0.02", "0.01", "0.005"][..],
            5,
        ),
    ] {
        let clamped = call(rules, &chat(bound), left).await;
        assert_eq!(clamped.answer.status, 429, "{rules}{left:?}");
        assert_eq!(clamped.reserved.len(), tries, "{rules}{left:?}");
        assert_eq!(clamped.body, "", "nothing was sent");
        assert!(clamped.intent.is_none());
    }
}
