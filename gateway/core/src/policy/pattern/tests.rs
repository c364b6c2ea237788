//! Which paths and names fit which patterns, and how patterns relate to one another.

use proptest::prelude::*;

use super::*;

fn path(text: &str) -> PathPattern {
    text.parse().expect(text)
}

#[test]
fn a_path_fits_segment_by_segment() {
    for (pattern, fits, does_not) in [
        (
            "/v1/models",
            vec!["/v1/models"],
            vec![
                "/v1/models/",
                "/v1/models/x",
                "/v1",
                "/v1/Models",
                "v1/models",
            ],
        ),
        (
            "/v1/models/*",
            vec!["/v1/models/gpt-4o"],
            vec!["/v1/models", "/v1/models/", "/v1/models/a/b"],
        ),
        (
            "/v1/**",
            vec!["/v1/a", "/v1/a/b/c"],
            vec!["/v1", "/v1/", "/v1/a/", "/v1/a//b", "/v2/a"],
        ),
        ("/dir/", vec!["/dir/"], vec!["/dir", "/dir//", "/dir/x"]),
        ("/**", vec!["/a", "/a/b"], vec!["/", ""]),
        (
            "/model/{model}/converse",
            vec![
                "/model/a/converse",
                "/model/anthropic.claude-v1:0/converse",
                "/model/a%3A0/converse",
            ],
            vec![
                "/model//converse",
                "/model/a/b/converse",
                "/model/a/Converse",
            ],
        ),
        (
            "/models/{model}:generateContent",
            vec![
                "/models/gemini-2.5-pro:generateContent",
                "/models/a@1:generateContent",
            ],
            vec![
                "/models/:generateContent",
                "/models/a",
                "/models/a:generatecontent",
                "/models/a:generateContent/",
                "/models/a:generateContent:generateContent",
                "/models/a:countTokens:generateContent",
                "/models/a%3AcountTokens:generateContent",
                "/models/a%3acountTokens:generateContent",
                "/models/a%3AgenerateContent",
                "/models/a:streamGenerateContent",
            ],
        ),
    ] {
        for good in fits {
            assert!(path(pattern).matches(good), "{pattern} {good}");
        }
        for bad in does_not {
            assert!(!path(pattern).matches(bad), "{pattern} {bad}");
        }
        assert_eq!(path(pattern).to_string(), pattern);
    }
}

#[test]
fn literals_are_more_specific_than_stars() {
    for (first, second) in [
        ("/a/b", "/a/*"),
        ("/a/*", "/a/**"),
        ("/a/b", "/**"),
        ("/a/*", "/*/b"),
        ("/a/*/c", "/a/**"),
        ("/a/b:x", "/a/{model}:x"),
        ("/a/{model}:x", "/a/{model}"),
        ("/a/{model}:x", "/a/*"),
        ("/a/{model}", "/a/**"),
    ] {
        assert_eq!(
            path(first).by_specificity(&path(second)),
            Ordering::Less,
            "{first} {second}"
        );
    }
}

#[test]
fn covering_and_overlapping_are_told_apart() {
    for (a, b, covers, overlaps) in [
        ("/a/b", "/a/b", true, true),
        ("/a/*", "/a/b", true, true),
        ("/a/b", "/a/*", false, true),
        ("/a/**", "/a/*/c", true, true),
        ("/a/**", "/a", false, false),
        ("/a/*", "/*/b", false, true),
        ("/a/*", "/a/b/c", false, false),
        ("/a/*", "/a/**", false, true),
        ("/a/*", "/a/", false, false),
        ("/a/**", "/a/b/", false, false),
        ("/a/*", "/a/{model}:x", true, true),
        ("/a/*", "/a/{model}", true, true),
        ("/a/{model}", "/a/*", true, true),
        ("/a/{model}:x", "/a/b:x", true, true),
        ("/a/{model}:x", "/a/b:c:x", false, false),
        ("/a/{model}:x", "/a/{model}:y", false, false),
        ("/a/{model}:x", "/a/b", false, false),
    ] {
        assert_eq!(path(a).covers(&path(b)), covers, "{a} covers {b}");
        assert_eq!(path(a).overlaps(&path(b)), overlaps, "{a} overlaps {b}");
        assert_eq!(path(b).overlaps(&path(a)), overlaps, "{b} overlaps {a}");
    }
}

#[test]
fn patterns_that_promise_too_much_are_refused() {
    for bad in [
        "",
        "v1",
        "/a*",
        "/**/b",
        "/***",
        "//a",
        "/a/../b",
        "/%61",
        "/a;b",
        "/a?b",
        "/ü",
        "/{model}x",
        "/x{model}",
        "/{model}:",
        "/{model}:a:b",
        "/{model}:*",
        "/{model}:%61",
        "/{model}/{model}",
        "/{name}",
        "/{model",
        "/{model}*",
    ] {
        assert!(bad.parse::<PathPattern>().is_err(), "{bad:?}");
    }
    for bad in ["", "*a", "a*b", "a**", "a b", "a\n"] {
        assert_eq!(
            bad.parse::<NamePattern>(),
            Err(InvalidPattern::Name),
            "{bad:?}"
        );
    }
    let pattern: NamePattern = "gpt-4o*".parse().expect("a pattern");
    assert!(pattern.matches("gpt-4o") && pattern.matches("gpt-4o-mini"));
    assert!(!pattern.matches("gpt-4") && !pattern.matches("xgpt-4o"));
}

#[test]
fn the_model_is_read_where_the_pattern_has_it() {
    for (pattern, fitting, model) in [
        (
            "/model/{model}/converse",
            "/model/a%3A0/converse",
            Some("a%3A0"),
        ),
        ("/v1/{model}:run", "/v1/gemini:run", Some("gemini")),
        ("/v1/models/*", "/v1/models/a", None),
    ] {
        assert!(path(pattern).matches(fitting), "{pattern}");
        assert_eq!(path(pattern).model(fitting), model, "{pattern}");
        assert_eq!(path(pattern).to_string(), pattern);
    }
}

/// Every path of up to four of these segments.
fn small_paths() -> Vec<String> {
    let names = ["", "a", "b", "a:x", "b:x", "b:y", "b:z"];
    let mut paths = vec![String::new()];
    let mut all = Vec::new();
    for _segment in 0..4 {
        paths = paths
            .iter()
            .flat_map(|path| names.map(|name| format!("{path}/{name}")))
            .collect();
        all.extend(paths.iter().cloned());
    }
    all
}

fn some_pattern() -> impl Strategy<Value = PathPattern> {
    let segments = [
        "",
        "a",
        "a:x",
        "*",
        "{model}",
        "{model}:x",
        "{model}:y",
        "**",
    ];
    prop::collection::vec(prop::sample::select(segments.to_vec()), 1..4)
        .prop_filter_map("no pattern", |parts| {
            format!("/{}", parts.join("/")).parse().ok()
        })
}

proptest! {
    /// What is said of two patterns is what trying every small path shows.
    #[test]
    fn covering_and_overlapping_hold_for_the_paths_that_fit(a in some_pattern(), b in some_pattern()) {
        let (mut covered, mut shared) = (true, false);
        for path in small_paths() {
            let (fits_a, fits_b) = (a.matches(&path), b.matches(&path));
            covered &= fits_a || !fits_b;
            shared |= fits_a && fits_b;
        }
        prop_assert_eq!(a.covers(&b), covered, "{} covers {}", a, b);
        prop_assert_eq!(a.overlaps(&b), shared, "{} overlaps {}", a, b);
    }

    /// Of two patterns that fit one path, of which only one covers the other, the narrow one wins.
    #[test]
    fn the_narrower_of_two_patterns_is_the_more_specific(a in some_pattern(), b in some_pattern()) {
        if a.covers(&b) && !b.covers(&a) {
            prop_assert_eq!(b.by_specificity(&a), Ordering::Less, "{} before {}", b, a);
        }
    }
}

#[test]
fn what_is_watched_is_seen_in_every_spelling_that_a_server_may_take_for_it() {
    for (pattern, path, alike) in [
        ("/v1/files/*", "/v1/files/f1", true),
        ("/v1/files/*", "/v1/files/f1/", true),
        ("/v1/files/*", "/V1/Files/f1", true),
        ("/v1/files/*", "/v1/files/f1/x", false),
        ("/v1/files/*", "/v1/files", false),
        ("/v1/files/*", "/v1/files/", false),
        ("/admin/@me", "/admin/%40me", true),
        ("/admin/@me", "/admin/%40ME/", true),
        ("/admin/@me", "/admin/@you", false),
        ("/repos/**", "/repos/a/b/", true),
        ("/repos/**", "/repos", false),
        ("/a/", "/a", true),
        ("/", "/", true),
        ("/m/{model}:tune", "/m/gpt%3Atune", true),
        ("/m/{model}:tune", "/m/gpt:Tune", true),
        ("/m/{model}:tune", "/m/gpt:read", false),
    ] {
        let parsed: PathPattern = pattern.parse().expect(pattern);
        assert_eq!(parsed.resembles(path), alike, "{pattern} {path}");
    }
}

proptest! {
    #[test]
    fn what_fits_a_pattern_also_resembles_it(
        pattern in "(/(a|B|%40|\\*|\\{model\\}:go)){1,3}(/\\*\\*)?",
        path in "(/(a|B|%40|x:go|y)){1,4}",
    ) {
        let parsed: Result<PathPattern, _> = pattern.parse();
        if let Ok(parsed) = parsed {
            prop_assert!(!parsed.matches(&path) || parsed.resembles(&path));
        }
    }
}
