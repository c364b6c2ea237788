use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const USUAL: &str = r#"{"prompt_tokens":500,"completion_tokens":60,"total_tokens":560,
    "prompt_tokens_details":{"cached_tokens":7,"audio_tokens":0},
    "completion_tokens_details":{"reasoning_tokens":9,"accepted_prediction_tokens":0}}"#;

#[test]
fn the_usual_is_read_at_a_glance() {
    let stated = Stated::at_a_glance(USUAL).expect("usual");
    assert_eq!(stated, Stated::with_care(USUAL));
    assert_eq!(
        (stated.input, stated.cached),
        (Count(Some(500)), Count(Some(7)))
    );
}

/// Names that mean something, and some that do not.
const NAMES: [&str; 24] = [
    "prompt_tokens",
    "input_tokens",
    "completion_tokens",
    "output_tokens",
    "total_tokens",
    "prompt_tokens_details",
    "input_tokens_details",
    "input_token_details",
    "completion_tokens_details",
    "output_tokens_details",
    "prompt_cache_hit_tokens",
    "prompt_cache_miss_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "audio_tokens",
    "video_tokens",
    "cached_tokens_details",
    "server_side_tool_usage_details",
    "seconds",
    "cost",
    "is_byok",
    "cost_in_usd_ticks",
    "other_tokens",
    "other",
];

const VALUES: [&str; 16] = [
    "0",
    "7",
    "500",
    "null",
    "-1",
    "1.0",
    "1.5",
    "1e3",
    "\"7\"",
    "true",
    "[1,2]",
    "{}",
    "9007199254740991",
    "9007199254740992",
    "99999999999999999999",
    "{\"total_cost\":0.5}",
];

fn object(value: impl Strategy<Value = String>, most: usize) -> impl Strategy<Value = String> {
    let member =
        (select(&NAMES[..]), value).prop_map(|(name, value)| format!("\"{name}\":{value}"));
    proptest::collection::vec(member, 0..most)
        .prop_map(|members| format!("{{{}}}", members.join(",")))
}

/// Usage as providers state it, and as liars do.
fn usage() -> impl Strategy<Value = String> {
    let plain = || select(&VALUES[..4]).prop_map(str::to_owned);
    let any_value = || select(&VALUES[..]).prop_map(str::to_owned);
    let value = prop_oneof![
        8 => plain(),
        2 => object(plain(), 4),
        1 => any_value(),
        1 => object(any_value(), 4),
    ];
    object(value, 7)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_glance_says_what_care_says(usage in usage()) {
        if let Some(stated) = Stated::at_a_glance(&usage) {
            prop_assert_eq!(stated, Stated::with_care(&usage), "{}", usage);
        }
    }
}
