use std::borrow::Cow;

use proptest::collection::vec;
use proptest::prelude::*;
use serde::Serialize;
use tollgate_core::budget::{BudgetKey, Hold};
use tollgate_core::call::Terms;
use tollgate_core::identity::CertificateDigest;
use tollgate_core::money::PicoUsd;
use tollgate_core::record::{Ending, Outcome, Subject, UsageSource};
use tollgate_core::shared_str::SharedStr;
use tollgate_core::time::Timestamp;
use tollgate_core::usage::Usage;
use tollgate_testkit::contract::{name, record_id};

use super::super::{Entry, ReadHead, Written, checked, read, split_at_tab, write_line};

/// What a call can be made of. A bit of `given` decides for each field whether it is there.
#[derive(Debug, Clone)]
struct Drawn {
    texts: Vec<String>,
    names: Vec<String>,
    numbers: Vec<u64>,
    money: Vec<i128>,
    given: u32,
    choice: usize,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let text = prop_oneof![
        "[ -~]{0,40}",
        ".{0,20}",
        "[\\x00-\\x1f\"\\\\/\\x7f]{0,8}",
        "gpt-4o"
    ];
    let money = prop_oneof![any::<i128>(), -10_i128..10, 0_i128..1 << 70];
    let number = prop_oneof![Just(0_u64), any::<u64>(), 0_u64..5_000];
    let parts = (
        vec(text, 12),
        vec("[a-z0-9][a-z0-9_-]{0,20}", 6),
        vec(number, 24),
        vec(money, 4),
        any::<u32>(),
        0_usize..28,
    );
    parts.prop_map(|(texts, names, numbers, money, given, choice)| Drawn {
        texts,
        names,
        numbers,
        money,
        given,
        choice,
    })
}

impl Drawn {
    fn given(&self, bit: u32) -> bool {
        self.given >> bit & 1 == 1
    }

    fn text(&self, place: usize, bit: u32) -> Option<String> {
        self.given(bit).then(|| self.texts[place].clone())
    }

    fn money(&self, place: usize) -> PicoUsd {
        PicoUsd::new(self.money[place])
    }

    fn time(&self, place: usize) -> Timestamp {
        Timestamp::from_micros(self.numbers[place].cast_signed() % 4_000_000_000_000_000)
    }

    fn subject(&self) -> Subject {
        Subject {
            id: record_id(self.given),
            started_at: self.time(0),
            tenant: name(&self.names[0]),
            agent: name(&self.names[1]),
            task: name(&self.names[2]),
            token: name(&self.names[3]),
            certificate: self
                .given(30)
                .then(|| CertificateDigest::new([self.given.to_le_bytes()[0]; 32])),
            provider: self.given(0).then(|| name(&self.names[4])),
            operation: self.text(0, 1).map(Cow::Owned),
            request_model: self.text(1, 2).and_then(|model| model.parse().ok()),
            method: Cow::Owned(self.texts[2].clone()),
            path: SharedStr::from(&*self.texts[3]),
            upstream: self.text(4, 3).map(SharedStr::from),
            credential: self.given(4).then(|| name(&self.names[5])),
            credential_version: self.given(5).then_some(self.given),
            price_version: self.text(5, 6).map(SharedStr::from),
            price_provider: self.text(6, 7).map(SharedStr::from),
            reserved: self.given(8).then(|| self.money(0)),
            elevated: self.given(9),
            trace: self
                .given(31)
                .then(|| name(&format!("{:032x}", self.given.max(1)))),
            span: self
                .given(29)
                .then(|| name(&format!("{:016x}", self.given.max(1)))),
            untrusted: self.text(7, 10).into_iter().collect(),
            notes: self.text(8, 11).into_iter().map(Cow::Owned).collect(),
        }
    }

    fn usage(&self, shift: usize) -> Usage {
        let number = |place: usize| self.numbers[(place + shift) % self.numbers.len()];
        Usage {
            input_tokens: number(0),
            cached_input_tokens: number(1),
            cache_write_tokens: number(2),
            cache_write_1h_tokens: number(3),
            output_tokens: number(4),
            reasoning_tokens: number(5),
            input_audio_tokens: number(6),
            cached_audio_tokens: number(7),
            output_audio_tokens: number(8),
            input_image_tokens: number(9),
            cached_image_tokens: number(10),
            output_image_tokens: number(11),
            input_video_tokens: number(12),
            tool_input_tokens: number(13),
            web_searches: number(14),
            file_searches: number(15),
            search_units: number(16),
            pages: number(17),
            audio_ms: number(18),
            characters: number(19),
        }
    }

    fn ending(&self) -> Ending {
        let outcomes = [
            Outcome::Completed,
            Outcome::ClientGone,
            Outcome::UpstreamFailed,
            Outcome::Revoked,
            Outcome::Refused,
            Outcome::Failed,
            Outcome::Interrupted,
        ];
        let sources = [
            UsageSource::Exact,
            UsageSource::Estimated,
            UsageSource::Interrupted,
            UsageSource::None,
        ];
        let usage = if self.given(12) {
            self.usage(0)
        } else {
            Usage::default()
        };
        let elsewhere = self.text(9, 13).map(|model| (model, self.usage(5)));
        let terms = Terms {
            service_tier: self.text(10, 14),
            processing: self.text(11, 15),
            ..Terms::default()
        };
        Ending {
            ended_at: self.time(1),
            outcome: outcomes[self.choice % 7],
            status: self.given(16).then_some(200),
            code: self.text(0, 17),
            reason: self.text(1, 18),
            limit: self.text(2, 19),
            response_model: self.text(3, 20),
            usage_source: sources[self.choice % 4],
            usage: self.given(21).then_some(usage),
            elsewhere: elsewhere.into_iter().collect(),
            terms,
            reported_cost: self.given(22).then(|| self.money(1)),
            cost: self.money(2),
            adjusts: self.given(23).then(|| record_id(7)),
            first_byte_us: self.given(24).then_some(self.numbers[2]),
            secret_scrubbed: self.given(25),
        }
    }

    fn keys(&self) -> Vec<BudgetKey> {
        let model = format!("acme/model={}/total", self.texts[4]);
        let keys = ["acme/tenant/day:2026-11-18", "acme/agent=bot/month:2026-11"];
        let keys = keys
            .into_iter()
            .chain([model.as_str(), "acme/task=t/total"]);
        // A text that is no model's name makes no key.
        keys.filter_map(|key| key.parse().ok()).collect()
    }
}

fn written(entry: &Written<'_>) -> String {
    let mut line = Vec::new();
    write_line(&mut line, entry).expect("it is JSON");
    let body = line.strip_suffix(b"\n").and_then(checked).expect("good");
    String::from_utf8(body.to_owned()).expect("JSON is UTF-8")
}

fn by_serde(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("it is JSON")
}

fn place_by_hand(subject: &Subject) -> String {
    let Subject {
        id, tenant, agent, ..
    } = subject;
    let at = subject.started_at.as_micros();
    let elevated = if subject.elevated {
        r#","elevated":true"#
    } else {
        ""
    };
    format!(r#"{{"id":"{id}","at":{at},"tenant":"{tenant}","agent":"{agent}"{elevated}}}"#)
}

proptest! {
    #[test]
    fn lines_are_byte_for_byte_what_serde_makes_of_the_same_values(drawn in drawn()) {
        let (subject, ending) = (drawn.subject(), drawn.ending());
        let (subject_json, ending_json) = (by_serde(&subject), by_serde(&ending));
        let place = place_by_hand(&subject);

        let (keys, amount) = (drawn.keys(), drawn.money(3));
        let texts: Vec<String> = keys.iter().map(BudgetKey::to_string).collect();
        let keys_json = by_serde(&texts.join(" "));
        let hold = Hold { id: subject.id, keys: keys.into(), amount };
        let pico = amount.as_pico();
        prop_assert_eq!(
            written(&Written::Intent { subject: &subject, hold: &hold }),
            format!("{{\"intent\":[{place},{{\"keys\":{keys_json},\"pico\":{pico}}}]}}\t{subject_json}")
        );

        let (id, pico, at) = (subject.id, ending.cost.as_pico(), ending.ended_at.as_micros());
        prop_assert_eq!(
            written(&Written::Outcome { id, ending: &ending }),
            format!("{{\"outcome\":[\"{id}\",{{\"pico\":{pico},\"at\":{at}}}]}}\t{ending_json}")
        );
        prop_assert_eq!(
            written(&Written::Refused { subject: &subject, ending: &ending }),
            format!("{{\"refused\":{place}}}\t{subject_json}\t{ending_json}")
        );
    }
}

/// Where the head of a line is read without `serde`, both make the same of it; where it is not,
/// `serde` can read it.
fn is_read_alike(line: &str) -> bool {
    let body = line.as_bytes();
    let (head, part) = split_at_tab(body);
    match serde_json::from_slice(head) {
        Ok(ReadHead::Intent(place, taken)) => {
            read::intent(body).is_none_or(|read| read == (place, taken, part))
        }
        Ok(ReadHead::Outcome(id, cost)) => {
            read::outcome(body).is_none_or(|read| read == (id, cost, part))
        }
        Ok(_) => read::intent(body).is_none() && read::outcome(body).is_none(),
        Err(_) => false,
    }
}

proptest! {
    #[test]
    fn heads_are_read_alike_with_and_without_serde(drawn in drawn(), cut in 0_usize..400) {
        let (subject, ending) = (drawn.subject(), drawn.ending());
        let hold = Hold { id: subject.id, keys: drawn.keys().into(), amount: drawn.money(3) };
        let intent = written(&Written::Intent { subject: &subject, hold: &hold });
        let outcome = written(&Written::Outcome { id: subject.id, ending: &ending });
        let refused = written(&Written::Refused { subject: &subject, ending: &ending });
        for line in [&intent, &outcome, &refused] {
            prop_assert!(is_read_alike(line), "{line}");
            let (head, _) = split_at_tab(line.as_bytes());
            let cut = &head[..cut.min(head.len())];
            prop_assert!(read::intent(cut).is_none() && read::outcome(cut).is_none());
        }
    }
}

#[test]
fn an_intent_whose_head_is_no_json_is_read_in_neither_way() {
    let subject = tollgate_testkit::contract::subject(record_id(1), "acme", "bot");
    let hold = Hold {
        id: subject.id,
        keys: vec![name("acme/tenant/day:2026-11-18")].into(),
        amount: PicoUsd::new(1_500_000),
    };
    let line = written(&Written::Intent {
        subject: &subject,
        hold: &hold,
    });
    for (part, bad) in [
        (r#""pico":1500000}"#, r#""pico":}"#),
        (r#""pico":1500000}"#, r#""pico":-}"#),
        (r#""pico":1500000}"#, r#""pico":1500000 0}"#),
        (r#""tenant":"acme""#, "\"tenant\":\"ac\tme\""),
        (r#""agent":"bot""#, r#""agent":"bot"#),
        (r#""id":"01"#, r#""id":"0g"#),
        ("}]}\t", "}]\t"),
    ] {
        let bad = line.replacen(part, bad, 1);
        assert_ne!(bad, line, "{part}");
        assert!(Entry::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn an_ordinary_call_needs_no_serde_and_a_quote_in_a_pattern_does() {
    let subject = tollgate_testkit::contract::subject(record_id(1), "acme", "bot");
    for (pattern, plain) in [("gpt-4o*", true), ("od\"d\\", false)] {
        let key = format!("acme/model={pattern}/total");
        let hold = Hold {
            id: subject.id,
            keys: vec![name(&key), name("acme/tenant/day:2026-11-18")].into(),
            amount: PicoUsd::new(1_500_000),
        };
        let line = written(&Written::Intent {
            subject: &subject,
            hold: &hold,
        });
        assert_eq!(read::intent(line.as_bytes()).is_some(), plain, "{line}");
        let Ok(Entry::Intent { taken, .. }) = Entry::parse(line.as_bytes()) else {
            panic!("it was an intent: {line}");
        };
        let keys: Vec<&str> = taken.keys.split_ascii_whitespace().collect();
        assert_eq!(keys, [key.as_str(), "acme/tenant/day:2026-11-18"]);
    }
    let ending = tollgate_testkit::contract::refused();
    let line = written(&Written::Outcome {
        id: subject.id,
        ending: &ending,
    });
    assert!(read::outcome(line.as_bytes()).is_some(), "{line}");
}
