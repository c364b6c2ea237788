use std::path::Path;
use std::time::Duration;

use tollgate_archive::shelf::LocalShelf;
use tollgate_core::record::{Ending, Outcome};
use tollgate_core::usage::Usage;
use tollgate_testkit::contract::{completed, name, now, record_id, subject};
use tollgate_testkit::partition::Partitions;

use super::*;
use crate::report::Texts;

fn page(dir: &Path, texts: &Texts<'_>) -> String {
    let asked = Asked::from_texts(texts).expect("understood");
    let shelf = LocalShelf::new(dir);
    let page = Page::of(&asked, &shelf, "here".to_owned(), now(), 1);
    page.expect("readable").html()
}

/// Calls of `tenant` over so many days, each of another model.
fn write(to: &mut Partitions, tenant: &str, days: u32, models: &[&str]) {
    for day in 0..days {
        for (place, model) in models.iter().enumerate() {
            let id = day * 1_000 + u32::try_from(place).expect("few");
            let mut subject = subject(record_id(id), tenant, "bot");
            subject.started_at = now().minus(Duration::from_secs(86_400) * day);
            subject.request_model = Some(name(model));
            let ending = Ending {
                usage: Some(Usage {
                    input_tokens: 1_000,
                    cached_input_tokens: 200,
                    output_tokens: 50,
                    ..Usage::default()
                }),
                ..completed(1_000_000_000)
            };
            to.call(&subject, &ending);
        }
    }
    let subject = subject(record_id(999_999), tenant, "refused-bot");
    let ending = Ending {
        code: Some("not_allowed".to_owned()),
        reason: Some("model".to_owned()),
        ..Ending::new(now(), Outcome::Refused)
    };
    to.call(&subject, &ending);
}

/// Every tag is closed by its own, as in XML: nothing of a record opened or closed one.
fn is_balanced(html: &str) {
    const VOID: [&str; 2] = ["meta", "br"];
    let mut open: Vec<&str> = Vec::new();
    for piece in html.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').expect("a tag ends");
        let word = tag
            .split([' ', '/'])
            .find(|word| !word.is_empty())
            .unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(word), "in {tag}");
        } else if !tag.starts_with('!') && !tag.ends_with('/') && !VOID.contains(&word) {
            open.push(word);
        }
    }
    assert_eq!(open, Vec::<&str>::new());
}

#[test]
fn a_page_needs_nothing_else_and_allows_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut written = Partitions::new(dir.path(), "r1");
    write(&mut written, "acme", 12, &["gpt-5", "o3"]);
    write(&mut written, "globex", 3, &["gpt-5"]);
    let html = page(dir.path(), &Texts::default());
    is_balanced(&html);
    assert!(html.contains("default-src 'none'; style-src 'sha256-"));
    for outside in [
        "http://", "https://", "<script", "<link", "@import", "src=", "style=",
    ] {
        assert!(!html.contains(outside), "{outside}");
    }
    for shown in [
        "All tenants",
        "Spend by tenant",
        "Refusals by rule",
        "Total",
        "Tokens per day",
        "acme",
        "globex",
    ] {
        assert!(html.contains(shown), "{shown}");
    }
}

#[test]
fn a_tenants_page_shows_nothing_of_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut written = Partitions::new(dir.path(), "r1");
    write(&mut written, "acme", 2, &["gpt-5"]);
    write(&mut written, "globex", 2, &["secret-model-of-globex"]);
    let texts = Texts {
        tenant: Some("acme"),
        ..Texts::default()
    };
    let html = page(dir.path(), &texts);
    assert!(!html.contains("globex") && !html.contains("Spend by tenant"));
    assert!(html.contains("<h1>acme</h1>"));
}

#[test]
fn no_name_becomes_markup() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut written = Partitions::new(dir.path(), "r1");
    let names = [
        "</style><script>alert(1)</script>",
        "\" onload=\"alert(1)",
        "' x='",
        "<!--",
        "&lt;b&gt;",
        "\u{202e}gnp\u{2028}",
        "</title></svg>",
        "a very long name of a model that goes on and on and on and on and on and on and on",
    ];
    write(&mut written, "acme", 2, &names);
    let html = page(dir.path(), &Texts::default());
    is_balanced(&html);
    assert!(!html.contains("<script") && !html.contains("<!--") && !html.contains("\" onload"));
    assert!(!html.contains(['\u{202e}', '\u{2028}']));
    assert!(html.contains("&lt;/style&gt;&lt;script&gt;"));
    assert!(html.contains("&amp;lt;b&amp;gt;"));
}

#[test]
fn a_page_of_any_length_of_time_and_number_of_groups_is_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let none = page(dir.path(), &Texts::default());
    assert!(none.contains("There are no records in this period."));
    is_balanced(&none);
    let mut written = Partitions::new(dir.path(), "r1");
    let models: Vec<String> = (0..30).map(|n| format!("model-{n}")).collect();
    let models: Vec<&str> = models.iter().map(String::as_str).collect();
    write(&mut written, "acme", 3, &models);
    for day in [0, 399, 800] {
        let mut subject = subject(record_id(5_000_000 + day), "acme", "bot");
        subject.started_at = now().minus(Duration::from_secs(86_400) * day);
        written.call(&subject, &completed(5));
    }
    let year = now().minus(Duration::from_secs(86_400) * 399).to_string();
    let hours = now().minus(Duration::from_secs(86_400)).to_string();
    for (from, per) in [
        (None, "per month"),
        (Some(&*year), "per day"),
        (Some(&*hours), "per hour"),
    ] {
        let texts = Texts {
            from,
            top: Some(10),
            by: Some("model"),
            ..Texts::default()
        };
        let html = page(dir.path(), &texts);
        is_balanced(&html);
        assert!(html.contains(&format!("Spend {per} by model")), "{per}");
        assert!(
            html.contains("all others") && html.contains("others</th>"),
            "{per}"
        );
        assert!(html.len() < 1_000_000, "{} bytes", html.len());
    }
}
