use super::*;

fn baseline(figures: &[(&str, &str, f64)]) -> Baseline {
    let mut all: BTreeMap<String, Figures> = BTreeMap::new();
    for (name, figure, count) in figures {
        let of_name = all.entry((*name).to_owned()).or_default();
        of_name.insert((*figure).to_owned(), *count);
    }
    Baseline::of("call", all)
}

/// Five hundredths or two; what is called `chance` is not judged.
fn tolerance(figure: &str) -> Option<Tolerance> {
    let tolerance = Tolerance {
        percent: 5.0,
        count: 2.0,
    };
    (figure != "chance").then_some(tolerance)
}

fn compared(now: &[(&str, &str, f64)], before: &[(&str, &str, f64)]) -> (bool, String) {
    let comparison = baseline(now).against(&baseline(before), tolerance);
    let verdict = comparison.text.lines().filter(|line| {
        line.starts_with("dearer")
            || line.starts_with("cheaper")
            || line.starts_with("nothing")
            || line.starts_with("not comparable")
    });
    (comparison.holds, verdict.collect::<Vec<_>>().join("\n"))
}

#[test]
fn what_is_within_its_tolerance_holds() {
    for (now, before) in [(105.0, 100.0), (12.0, 10.0), (95.0, 100.0), (0.0, 0.0)] {
        let (holds, said) = compared(&[("plain", "sends", now)], &[("plain", "sends", before)]);
        assert!(holds, "{now} after {before}");
        assert_eq!(said, "nothing has become dearer", "{now} after {before}");
    }
}

#[test]
fn what_is_dearer_by_more_does_not_hold_and_is_named() {
    for (now, before) in [(105.1, 100.0), (12.1, 10.0), (2.1, 0.0)] {
        let (holds, said) = compared(&[("plain", "sends", now)], &[("plain", "sends", before)]);
        assert!(!holds, "{now} after {before}");
        let expected =
            "dearer, or not in the baseline: plain (sends). If that is worth it: make renew-cost";
        assert_eq!(said, expected, "{now} after {before}");
    }
}

#[test]
fn what_is_much_cheaper_holds_and_asks_to_be_renewed() {
    let (holds, said) = compared(&[("plain", "sends", 90.0)], &[("plain", "sends", 100.0)]);
    assert!(holds);
    let expected = "nothing has become dearer\n\
                    cheaper: plain (sends). That it may stay so: make renew-cost";
    assert_eq!(said, expected);
}

#[test]
fn what_has_no_tolerance_is_shown_and_not_judged() {
    let now = baseline(&[("plain", "chance", 70.0)]);
    let before = baseline(&[("plain", "chance", 7.0)]);
    let comparison = now.against(&before, tolerance);
    assert!(comparison.holds);
    let row = comparison.text.lines().nth(1).unwrap();
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row, ["plain", "chance", "70", "7", "+900.0", "-"]);
}

#[test]
fn a_figure_that_is_absent_is_none_of_it() {
    let some = [("plain", "sends", 3.0), ("plain", "reads", 10.0)];
    let few = [("plain", "reads", 10.0)];
    assert!(!compared(&some, &few).0);
    assert_eq!(
        compared(&few, &some),
        (
            true,
            "nothing has become dearer\ncheaper: plain (sends). That it may stay so: make renew-cost"
                .to_owned()
        )
    );
}

#[test]
fn something_new_and_something_gone_must_be_agreed_on() {
    let (old, new) = ([("old", "sends", 1.0)], [("new", "sends", 1.0)]);
    let (holds, said) = compared(&new, &old);
    assert!(!holds);
    assert!(said.contains("new, old"), "{said}");
}

#[test]
fn figures_of_another_compiler_are_shown_and_not_judged() {
    let now = baseline(&[("plain", "sends", 100.0)]);
    let mut before = baseline(&[("plain", "sends", 1.0)]);
    "rustc 0.1".clone_into(&mut before.made_by.rustc);
    let comparison = now.against(&before, tolerance);
    assert!(comparison.holds);
    let said = "not comparable: the baseline is of rustc 0.1 on";
    assert!(comparison.text.contains(said), "{}", comparison.text);
    assert!(!comparison.text.contains("dearer"), "{}", comparison.text);
}

#[test]
fn what_is_written_is_read_again() {
    let written = baseline(&[
        ("plain", "instructions", 6_252.0),
        ("plain", "sends", 2.01),
        ("stream", "sends", 16.0),
    ]);
    let text = written.text();
    assert!(text.ends_with(
        "[call.plain]\ninstructions = 6252\nsends = 2.01\n\n[call.stream]\nsends = 16\n"
    ));
    assert_eq!(Baseline::parse("call", &text).unwrap(), written);
    assert!(Baseline::parse("decision", &text).is_err());
}
