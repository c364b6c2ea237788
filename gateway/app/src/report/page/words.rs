//! Text and numbers as a page shows them.
//!
//! Money is exact in tables and rounded in charts. Whatever came from a record passes through
//! [`text`]. Worst case: none.

use tollgate_core::money::{PICO_PER_USD, PicoUsd};
use tollgate_core::report::{Dimension, shown};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Places after the point of the smallest amount.
const PLACES: usize = 12;

/// Text that is no markup, and has nothing in it that is not seen.
pub(super) fn text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in shown(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// `1,234,567`
pub(super) fn count(number: u64) -> String {
    grouped(&number.to_string())
}

fn grouped(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many places after the point the most exact of these amounts needs, two at least.
pub(super) fn places(amounts: impl Iterator<Item = PicoUsd>) -> usize {
    let needed = |amount: PicoUsd| {
        let text = amount.to_string();
        text.split_once('.').map_or(0, |(_, places)| places.len())
    };
    amounts.map(needed).max().unwrap_or(0).max(2)
}

/// An exact amount, its cents apart from what is finer: `1,234.56` and `0789`.
pub(super) fn exact(amount: PicoUsd, places: usize) -> (String, String) {
    let text = amount.to_string();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("\u{2212}", digits),
        None => ("", text.as_str()),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = format!("{fraction:0<places$}");
    let (cents, finer) = fraction.split_at(2);
    let amount = format!("{sign}{}.{cents}", grouped(whole));
    (amount, finer.to_owned())
}

/// An amount rounded to what a person reads: `$1,234.56`, below a dollar two digits that count.
pub(super) fn dollars(pico: i128) -> String {
    let size = pico.abs();
    let mut places = 2;
    let mut smallest = PICO_PER_USD / 10;
    while size > 0 && size < smallest && places < PLACES {
        places += 1;
        smallest /= 10;
    }
    rounded(pico, places)
}

/// An amount with so many places after the point, rounded half up.
pub(super) fn rounded(pico: i128, places: usize) -> String {
    let unit = (places..PLACES).fold(1_i128, |unit, _| unit * 10);
    let units = (pico.abs() + unit / 2) / unit;
    let per_dollar = PICO_PER_USD / unit;
    let whole = grouped(&(units / per_dollar).to_string());
    let sign = if pico < 0 && units > 0 {
        "\u{2212}"
    } else {
        ""
    };
    if places == 0 {
        return format!("{sign}${whole}");
    }
    format!("{sign}${whole}.{:0places$}", units % per_dollar)
}

/// How a value on an axis of money is written, so that neighbours differ.
pub(super) fn money_tick(pico: i128, step: i128) -> String {
    let mut places = 0;
    let mut unit = PICO_PER_USD;
    while step % unit != 0 && places < PLACES {
        places += 1;
        unit /= 10;
    }
    if pico == 0 {
        return "$0".to_owned();
    }
    rounded(pico, if places == 1 { 2 } else { places })
}

/// A count rounded to what a person reads: `1.5M`.
pub(super) fn count_tick(number: i128, _step: i128) -> String {
    for (size, letter) in [
        (1_000_000_000_000, "T"),
        (1_000_000_000, "B"),
        (1_000_000, "M"),
        (1_000, "k"),
    ] {
        if number >= size {
            let tenths = (number * 10 + size / 2) / size;
            return match tenths % 10 {
                0 => format!("{}{letter}", grouped(&(tenths / 10).to_string())),
                tenth => format!("{}.{tenth}{letter}", grouped(&(tenths / 10).to_string())),
            };
        }
    }
    number.to_string()
}

/// A stretch of time in words: `Nov 3, 2026`, `Nov 3, 2026 07:00`, `Nov 2026`.
pub(super) fn stretch(dimension: Dimension, name: &str) -> String {
    let year = name.get(..4).unwrap_or_default();
    let month = name.get(5..7).and_then(|month| month.parse::<usize>().ok());
    let month = month.and_then(|month| MONTHS.get(month.wrapping_sub(1)));
    let month = month.copied().unwrap_or_default();
    let day = name.get(8..10).unwrap_or_default().trim_start_matches('0');
    match dimension {
        Dimension::Month => format!("{month} {year}"),
        Dimension::Hour => {
            let hour = name.get(11..16).unwrap_or_default();
            format!("{month} {day}, {year} {hour}")
        }
        _ => format!("{month} {day}, {year}"),
    }
}

/// The same under an axis: the year where it is new, the day where hours cross into it.
pub(super) fn tick(dimension: Dimension, name: &str, before: Option<&str>) -> (String, String) {
    let whole = stretch(dimension, name);
    let same =
        |length: usize| before.is_some_and(|before| before.get(..length) == name.get(..length));
    match dimension {
        Dimension::Hour => {
            let (day, hour) = whole.rsplit_once(' ').unwrap_or((&whole, ""));
            let day = if same(10) { "" } else { day };
            (hour.to_owned(), day.to_owned())
        }
        Dimension::Month => {
            let (month, year) = whole.split_once(' ').unwrap_or((&whole, ""));
            (month.to_owned(), if same(4) { "" } else { year }.to_owned())
        }
        _ => {
            let (day, year) = whole.split_once(", ").unwrap_or((&whole, ""));
            (day.to_owned(), if same(4) { "" } else { year }.to_owned())
        }
    }
}

/// What a value that is not there is called.
pub(super) fn named(dimension: Dimension, value: &str) -> String {
    if value.is_empty() {
        format!("(no {dimension})")
    } else {
        value.to_owned()
    }
}
