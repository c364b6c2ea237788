//! What a mock that runs for long has billed, and to whom.
//!
//! Added up per credential, so that it shows whose key each call came with. Of a credential all but
//! the last characters are shown, since somebody may try it with a real one. Worst case: more
//! credentials than [`MOST_CREDENTIALS`], and those that come late are added up as one.

use std::collections::BTreeMap;
use std::sync::Mutex;

use http::HeaderValue;
use serde_json::{Map, Value, json};

use super::seen::{Billed, lock};

/// Beyond these many, credentials are no longer told apart.
const MOST_CREDENTIALS: usize = 1_000;
/// How many characters at a credential's end are kept back.
const HIDDEN: usize = 10;
/// What is added up under one name once there are too many.
const OTHERS: &str = "(others)";

/// Sums of one credential.
#[derive(Debug, Default)]
struct Sums {
    answers: u64,
    billed: Billed,
}

/// Sums of all of them.
#[derive(Debug, Default)]
pub(crate) struct Account(Mutex<BTreeMap<String, Sums>>);

impl Account {
    /// Adds what one answer costs to whom the request's headers name.
    pub(crate) fn add(&self, headers: &[(String, HeaderValue)], billed: &Billed) {
        let who = credential(headers);
        let mut all = lock(&self.0);
        let known = all.contains_key(&who) || all.len() < MOST_CREDENTIALS;
        let sums = all
            .entry(if known { who } else { OTHERS.to_owned() })
            .or_default();
        sums.answers += 1;
        let total = &mut sums.billed;
        total.input += billed.input;
        total.cached += billed.cached;
        total.cache_write += billed.cache_write;
        total.output += billed.output;
        total.reasoning += billed.reasoning;
        total.characters += billed.characters;
        total.audio_ms += billed.audio_ms;
        total.searches += billed.searches;
        total.pages += billed.pages;
    }

    /// All sums; counts that are zero are left out.
    pub(crate) fn to_json(&self) -> Value {
        let all = lock(&self.0);
        let rows: Vec<Value> = all.iter().map(|(who, sums)| row(who, sums)).collect();
        json!({ "credentials": rows })
    }
}

fn row(who: &str, sums: &Sums) -> Value {
    let Billed {
        input,
        cached,
        cache_write,
        output,
        reasoning,
        characters,
        audio_ms,
        searches,
        pages,
    } = sums.billed;
    let counts = [
        ("input_tokens", input),
        ("cached_tokens", cached),
        ("cache_write_tokens", cache_write),
        ("output_tokens", output),
        ("reasoning_tokens", reasoning),
        ("characters", characters),
        ("audio_ms", audio_ms),
        ("searches", searches),
        ("pages", pages),
    ];
    let mut row = Map::from_iter([
        ("credential".to_owned(), json!(who)),
        ("answers".to_owned(), json!(sums.answers)),
    ]);
    let counted = counts.into_iter().filter(|(_, count)| *count > 0);
    row.extend(counted.map(|(name, count)| (name.to_owned(), json!(count))));
    Value::Object(row)
}

/// The start of what stands where a key would.
fn credential(headers: &[(String, HeaderValue)]) -> String {
    let places = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];
    let found = headers
        .iter()
        .find(|(name, _)| places.contains(&name.as_str()));
    let Some((_, value)) = found else {
        return "(none)".to_owned();
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    let shown = text.chars().count().saturating_sub(HIDDEN);
    text.chars().take(shown).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_kept_by_credential_and_the_end_of_it_is_not_shown() {
        let account = Account::default();
        let key = |value: &'static str| {
            let value = HeaderValue::from_static(value);
            vec![("authorization".to_owned(), value)]
        };
        let billed = Billed {
            input: 10,
            output: 20,
            ..Billed::default()
        };
        account.add(&key("Bearer sk-canary-acme-0123456789"), &billed);
        account.add(&key("Bearer sk-canary-acme-0123456789"), &billed);
        account.add(&key("short"), &billed);
        account.add(&[], &billed);
        let told = account.to_json();
        let expected = json!({"credentials": [
            {"credential": "(none)", "answers": 1, "input_tokens": 10, "output_tokens": 20},
            {"credential": "Bearer sk-canary-acme-…", "answers": 2, "input_tokens": 20, "output_tokens": 40},
            {"credential": "…", "answers": 1, "input_tokens": 10, "output_tokens": 20},
        ]});
        assert_eq!(told, expected);
    }

    #[test]
    fn credentials_without_end_take_no_memory_without_end() {
        let account = Account::default();
        for n in 0..MOST_CREDENTIALS + 5 {
            let value = format!("Bearer {n:08}----------").parse().unwrap();
            account.add(&[("authorization".to_owned(), value)], &Billed::default());
        }
        let told = account.to_json();
        let rows = told["credentials"].as_array().unwrap();
        assert_eq!(rows.len(), MOST_CREDENTIALS + 1);
        assert_eq!(rows[0]["credential"], OTHERS);
        assert_eq!(rows[0]["answers"], 5);
    }
}
