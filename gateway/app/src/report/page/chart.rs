//! A chart of stacked columns over time, as SVG.
//!
//! Whole numbers throughout, in tenths of a pixel. What is below zero, where corrections outweigh
//! costs, is drawn as nothing; tables have it. Worst case: a value too small for a tenth of a
//! pixel is not seen, and still has its words.

use super::series::{Bins, Trend};
use super::words::{stretch, text, tick};

/// The picture and its margins, in pixels.
const WIDTH: i128 = 960;
const HEIGHT: i128 = 300;
const LEFT: i128 = 64;
const RIGHT: i128 = 12;
const TOP: i128 = 14;
const BOTTOM: i128 = 44;

/// Lines across, and words below, at most.
const LINES: i128 = 4;
const WORDS: usize = 10;

/// Columns of so little width touch each other.
const THIN: i128 = 40;

/// What a chart says about itself.
pub(super) struct Caption<'c> {
    /// Tells it from other charts of the page.
    pub(super) id: &'c str,
    pub(super) title: &'c str,
    /// What stands on the axis: `US dollars`.
    pub(super) unit: &'c str,
    /// How a value is written on the axis, by itself and with the distance to the next.
    pub(super) on_axis: fn(i128, i128) -> String,
    /// How a value is written beside its name.
    pub(super) in_words: fn(i128) -> String,
}

/// The chart and its legend.
pub(super) fn stacked(
    trend: &Trend,
    bins: &Bins,
    caption: &Caption<'_>,
    names: &[String],
) -> String {
    let sum = |place: usize| -> i128 {
        trend
            .0
            .iter()
            .map(|series| series.values[place].max(0))
            .sum()
    };
    let most = (0..bins.names.len()).map(sum).max().unwrap_or(0).max(1);
    let step = step(most);
    let top = (most + step - 1) / step * step;
    let Caption {
        id, title, unit, ..
    } = caption;
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-labelledby=\"{id}-title {id}-desc\"><title id=\"{id}-title\">{}</title>\
         <desc id=\"{id}-desc\">{}</desc>",
        text(title),
        text(&described(trend, bins, caption, names)),
    );
    let y = |value: i128| {
        (TOP + (HEIGHT - TOP - BOTTOM)) * 10 - value * (HEIGHT - TOP - BOTTOM) * 10 / top
    };
    for line in 0..=top / step {
        let value = line * step;
        let at = px(y(value));
        let class = if value == 0 { "axis" } else { "grid" };
        svg.push_str(&format!(
            "<line class=\"{class}\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at}\" y2=\"{at}\"/>\
             <text class=\"tick\" text-anchor=\"end\" x=\"{}\" y=\"{}\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8,
            px(y(value) + 40),
            (caption.on_axis)(value, step),
        ));
    }
    columns(&mut svg, trend, bins, caption, names, &y);
    words(&mut svg, bins);
    svg.push_str("</svg>");
    format!(
        "<p class=\"unit\">{}</p><div class=\"scroll\">{svg}</div>{}",
        text(unit),
        legend(names)
    )
}

/// Where the column of a stretch begins, in tenths of a pixel.
fn x(place: usize, of: usize) -> i128 {
    let (place, of) = (place as i128, (of as i128).max(1));
    LEFT * 10 + place * (WIDTH - LEFT - RIGHT) * 10 / of
}

fn columns(
    svg: &mut String,
    trend: &Trend,
    bins: &Bins,
    caption: &Caption<'_>,
    names: &[String],
    y: &dyn Fn(i128) -> i128,
) {
    let of = bins.names.len();
    for (place, bin) in bins.names.iter().enumerate() {
        let (start, end) = (x(place, of), x(place + 1, of));
        let slot = end - start;
        // Few columns are not made into walls.
        let gap = if slot < THIN {
            0
        } else {
            (slot / 4).max((slot - 480) / 2)
        };
        let (start, width) = (start + gap / 2, (slot - gap).max(8));
        let mut below = 0;
        for (number, (series, name)) in trend.0.iter().zip(names).enumerate() {
            let value = series.values[place].max(0);
            if value == 0 {
                continue;
            }
            let (bottom, top) = (y(below), y(below + value));
            below += value;
            svg.push_str(&format!(
                "<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}: {} {}</title></rect>",
                class(number, name),
                px(start),
                px(top),
                px(width),
                px(bottom - top),
                stretch(bins.dimension, bin),
                text(name),
                (caption.in_words)(value),
            ));
        }
    }
}

fn words(svg: &mut String, bins: &Bins) {
    let of = bins.names.len();
    let every = of.div_ceil(WORDS).max(1);
    let mut before = None;
    for (place, bin) in bins.names.iter().enumerate().step_by(every) {
        let (first, second) = tick(bins.dimension, bin, before);
        before = Some(bin.as_str());
        let middle = px((x(place, of) + x(place + 1, of)) / 2);
        let below = HEIGHT - BOTTOM;
        svg.push_str(&format!(
            "<text class=\"tick\" text-anchor=\"middle\" x=\"{middle}\" y=\"{}\">{first}</text>",
            below + 18
        ));
        if !second.is_empty() {
            svg.push_str(&format!(
                "<text class=\"tick\" text-anchor=\"middle\" x=\"{middle}\" y=\"{}\">{second}</text>",
                below + 34
            ));
        }
    }
}

fn legend(names: &[String]) -> String {
    let items = names.iter().enumerate().map(|(number, name)| {
        format!(
            "<li><svg class=\"key\" viewBox=\"0 0 12 12\" aria-hidden=\"true\"><rect class=\"{}\" \
             width=\"12\" height=\"12\"/></svg><span>{}</span></li>",
            class(number, name),
            text(name)
        )
    });
    format!("<ul class=\"legend\">{}</ul>", items.collect::<String>())
}

/// The colour of a series. What is left over is grey.
fn class(number: usize, name: &str) -> String {
    if name == OTHERS {
        "s0".to_owned()
    } else {
        format!("s{}", number + 1)
    }
}

/// How the series of all that has no series of its own is called.
pub(super) const OTHERS: &str = "all others";

fn described(trend: &Trend, bins: &Bins, caption: &Caption<'_>, names: &[String]) -> String {
    let ends = bins.names.first().zip(bins.names.last());
    let ends = ends.map_or_else(String::new, |(first, last)| {
        let name = |bin: &str| stretch(bins.dimension, bin);
        format!("From {} to {}: ", name(first), name(last))
    });
    let sums = trend.0.iter().zip(names).map(|(series, name)| {
        let sum: i128 = series.values.iter().sum();
        format!("{name} {}", (caption.in_words)(sum))
    });
    format!("{ends}{}.", sums.collect::<Vec<_>>().join(", "))
}

/// The distance of lines: 1, 2 or 5 of some power of ten, so that there are few of them.
fn step(most: i128) -> i128 {
    let wanted = (most + LINES - 1) / LINES;
    let mut power = 1;
    loop {
        for factor in [1, 2, 5] {
            if factor * power >= wanted {
                return factor * power;
            }
        }
        power *= 10;
    }
}

/// Tenths of a pixel as pixels.
pub(super) fn px(tenths: i128) -> String {
    match (tenths / 10, tenths % 10) {
        (whole, 0) => whole.to_string(),
        (whole, part) => format!("{whole}.{part}"),
    }
}
