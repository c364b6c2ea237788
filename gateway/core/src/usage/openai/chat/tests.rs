use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::usage::plain::Body;

const CHUNK: &str = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m",
    "service_tier":null,"choices":[{"index":0,"delta":{"content":"a\nb"},"logprobs":null,
    "finish_reason":"stop"}],"usage":{"prompt_tokens":1}}"#;

#[test]
fn the_usual_is_read_at_a_glance() {
    let said = Said::at_a_glance(CHUNK.as_bytes(), Lists::Count).expect("usual");
    assert_eq!(Some(said), Said::with_care(CHUNK.as_bytes()));
    assert!(Said::at_a_glance(CHUNK.as_bytes(), Lists::Skip).is_some());
}

const NAMES: [&str; 14] = [
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
        if let Some(said) = Said::at_a_glance(bytes, Lists::Count) {
            prop_assert_eq!(Some(said), Said::with_care(bytes), "{}", chunk);
        }
    }

    #[test]
    fn a_glance_at_a_plain_answer_says_what_care_says_of_what_is_kept(chunk in chunk()) {
        if let Some(said) = Said::at_a_glance(chunk.as_bytes(), Lists::Skip) {
            let mut body = Body::new(1_000_000, true);
            body.feed(chunk.as_bytes());
            let kept = body.into_kept().expect("little is kept");
            let careful = Said::with_care(&kept).expect("JSON, as the whole is");
            let careful = Said { choices: Choices::default(), ..careful };
            prop_assert_eq!(said, careful, "{}", chunk);
        }
    }
}
