use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::usage::plain::Body;

const CHUNK: &str = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m",
    "service_tier":null,"choices":[{"index":0,"delta":{"content":"a\nb"},"logprobs":null,
    "finish_reason":"stop"}],"usage":{"prompt_tokens":1},"obfuscation":"abc"}"#;

#[test]
fn the_usual_is_read_at_a_glance() {
    let (said, places) = Said::at_a_glance(CHUNK.as_bytes(), Lists::Count).expect("usual");
    assert!(CHUNK[places.choices].starts_with("[{\"index\":0,"));
    assert_eq!(&CHUNK[places.padding], "\"abc\"");
    assert_eq!(Some(said), Said::with_care(CHUNK.as_bytes()));
    assert!(Said::at_a_glance(CHUNK.as_bytes(), Lists::Skip).is_some());
}

#[test]
fn a_chunk_is_recognised_by_what_stands_around_its_choices_and_padding() {
    let (_, places) = Said::at_a_glance(CHUNK.as_bytes(), Lists::Count).expect("usual");
    let mut alike = Alike::default();
    assert_eq!(alike.choices_of(CHUNK.as_bytes()), None);
    alike.note(CHUNK.as_bytes(), places);
    for (from, to, text) in [
        ("a\\nb", "a\\nb", Some(3)),
        ("a\\nb", "\u{e9}", Some(2)),
        ("a\\nb", "a\"}}],\"choices\":[{\"delta\":{\"a\":\"", None),
        ("\"stop\"}]", "null}],\"choices\":[]", None),
        ("\"m\"", "\"n\"", None),
        ("null,\"choices", "\"flex\",\"choices", None),
        (":1}", ":2}", None),
        ("\"abc\"", "\"\"", Some(3)),
        ("\"abc\"", "\"\",\"a\":\"\"", None),
        ("\"abc\"", "{}", None),
        (",\"obfuscation\":\"abc\"", "", None),
    ] {
        let chunk = CHUNK.replace(from, to);
        let choices = alike.choices_of(chunk.as_bytes());
        assert_eq!(choices.map(|it| it.text.0), text, "{chunk}");
    }
    let places = Places {
        choices: 2..4,
        padding: 0..0,
    };
    alike.note(&[b' '; 5_000], places);
    assert_eq!(alike.choices_of(&[b' '; 5_000]), None);
}

/// Chunks that a chat reads one after another, each by itself or recognised by the one before.
fn heard(chunks: &[String], recognises: bool) -> Reading {
    let mut chat = Box::new(Chat::new(Operation::ChatCompletions));
    for chunk in chunks {
        if !recognises {
            chat.alike.forget();
        }
        tally::Tally::event(&mut *chat, chunk.as_bytes());
    }
    tally::Tally::finish(chat)
}

const NAMES: [&str; 15] = [
    "model",
    "service_tier",
    "choices",
    "usage",
    "x_groq",
    "id",
    "finish_reason",
    "delta",
    "content",
    "role",
    "logprobs",
    "tool_calls",
    "arguments",
    "obfuscation",
    "mod\\u0065l",
];

/// Values that are usual, and some that are not: escapes, halves of pairs, numbers out of range.
fn leaf() -> impl Strategy<Value = String> {
    select(
        &[
            "null",
            "true",
            "0",
            "-1.5",
            "1e999",
            "\"stop\"",
            "\"\"",
            "\"a\\n\\u00e9\\\"\"",
            "\"\\ud83d\"",
            "\"\\ud83d\\ude00\"",
            "\"\u{1}\"",
            "\"\u{e9}\"",
            "01",
            "\"]}\"",
        ][..],
    )
    .prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = String> {
    leaf().prop_recursive(5, 24, 4, |inner| {
        let member = (select(&NAMES[..]), inner.clone())
            .prop_map(|(name, value)| format!("\"{name}\":{value}"));
        prop_oneof![
            proptest::collection::vec(inner, 0..3)
                .prop_map(|list| format!("[{}]", list.join(", "))),
            proptest::collection::vec(member, 0..4)
                .prop_map(|members| format!("{{ {} }}", members.join(","))),
        ]
    })
}

/// Chunks, often with a list of choices.
fn chunk() -> impl Strategy<Value = String> {
    let choices = value().prop_map(|choice| format!("[{choice}]"));
    let member = prop_oneof![(select(&NAMES[..]), value()), (Just("choices"), choices),];
    let member = member.prop_map(|(name, value)| format!("\"{name}\":{value}"));
    proptest::collection::vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(",")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_glance_says_what_care_says(chunk in chunk()) {
        let bytes = chunk.as_bytes();
        if let Some((said, _)) = Said::at_a_glance(bytes, Lists::Count) {
            prop_assert_eq!(Some(said), Said::with_care(bytes), "{}", chunk);
        }
    }

    #[test]
    fn chunks_that_are_recognised_say_what_they_say_by_themselves(
        before in select(&["{", "{\"model\":\"m\",", "{\"id\":0 , "][..]),
        behind in select(&[
            "}",
            ",\"model\":\"n\"}",
            " , \"usage\":null,\"obfuscation\":\"PAD\"}",
            ",\"obfuscation\": \"PAD\",\"model\":\"n\" }",
            "]",
        ][..]),
        chunks in proptest::collection::vec((any::<bool>(), value(), chunk()), 1..5),
    ) {
        let chunks: Vec<String> = chunks
            .into_iter()
            .enumerate()
            .map(|(nth, (inside, choice, chunk))| match inside {
                true => format!("{before}\"choices\": [{choice}]{behind}")
                    .replace("PAD", &"x".repeat(nth)),
                false => chunk,
            })
            .collect();
        prop_assert_eq!(heard(&chunks, true), heard(&chunks, false), "{:?}", chunks);
    }

    #[test]
    fn a_glance_at_a_plain_answer_says_what_care_says_of_what_is_kept(chunk in chunk()) {
        if let Some((said, _)) = Said::at_a_glance(chunk.as_bytes(), Lists::Skip) {
            let mut body = Body::new(1_000_000, true);
            body.feed(chunk.as_bytes());
            let kept = body.into_kept().expect("little is kept");
            let careful = Said::with_care(&kept).expect("JSON, as the whole is");
            let careful = Said { choices: Choices::default(), ..careful };
            prop_assert_eq!(said, careful, "{}", chunk);
        }
    }
}
