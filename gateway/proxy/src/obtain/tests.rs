//! What is kept of a stored value, and when it goes.

use super::*;

fn fetched(version: u32, value: &str) -> SecretVersion {
    SecretVersion::new(Secret::new(value.into()), version)
}

#[test]
fn what_was_made_of_a_value_goes_when_another_has_its_version() {
    let slot = Slot::default();
    let now = Instant::now();
    let keep = |value: &SecretVersion| {
        slot.state().sees(value);
        slot.state().token = Some(Token {
            value: fetched(value.version, "at"),
            renew_at: now + DEADLINE,
            until: now + DEADLINE,
        });
    };
    let is_kept = |value: &SecretVersion| {
        slot.state().sees(value);
        slot.token(value.version, now).is_some()
    };
    keep(&fetched(1, "one"));
    assert!(is_kept(&fetched(1, "one")));
    assert!(!is_kept(&fetched(1, "another")));
    keep(&fetched(1, "another"));
    assert!(!is_kept(&fetched(1, "one")));
    keep(&fetched(1, "one"));
    assert!(!is_kept(&fetched(2, "one")), "its version is another");
}
