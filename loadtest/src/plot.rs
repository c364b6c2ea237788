//! Lines and points on two axes, as SVG.
//!
//! One text that stands in an HTML page or as a file of its own: its colours are in it, for light
//! and for dark. It knows nothing of what is plotted. What has no place on an axis (not a number;
//! zero on a logarithmic one) leaves a gap in its line. Worst case: more than six series share colours.

mod axis;

pub use axis::{Axis, Scale, Unit};

use axis::Ruler;

/// The picture and its margins, in pixels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 68.0;
const RIGHT: f64 = 24.0;
const BOTTOM: f64 = 50.0;
/// Height of the title, and of a row of the legend.
const TITLE: f64 = 30.0;
const ROW: f64 = 20.0;
/// Room above the plot for the label of the upright axis.
const LABEL: f64 = 26.0;
/// Width of a letter of the legend, about.
const LETTER: f64 = 6.6;
/// Colours there are.
const COLOURS: usize = 6;
/// A line with more points than these has no dots.
const MOST_DOTS: usize = 40;

const STYLE: &str = include_str!("plot/style.css");

/// A picture of some series over common axes.
#[derive(Debug, Clone)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// The axis along the bottom.
    pub x: Axis,
    /// The upright axis.
    pub y: Axis,
    /// The lines, in the order of the legend.
    pub series: Vec<Series>,
}

/// One line.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points, in the order in which they are joined.
    pub points: Vec<(f64, f64)>,
    /// Whether it is a dashed line, without dots: for what is expected rather than measured.
    pub dashed: bool,
}

impl Series {
    /// A line of what was measured.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        let name = name.into();
        Self {
            name,
            points,
            dashed: false,
        }
    }

    /// The same as a dashed line.
    #[must_use]
    pub fn dashed(self) -> Self {
        Self {
            dashed: true,
            ..self
        }
    }
}

/// Where the axes are in the picture.
struct Frame {
    x: Ruler,
    y: Ruler,
    top: f64,
    height: f64,
}

impl Frame {
    fn x(&self, value: f64) -> Option<f64> {
        let place = self.x.place(value)?;
        Some(LEFT + place * (WIDTH - LEFT - RIGHT))
    }

    fn y(&self, value: f64) -> Option<f64> {
        let place = self.y.place(value)?;
        Some(self.bottom() - place * (self.bottom() - self.top))
    }

    fn bottom(&self) -> f64 {
        self.height - BOTTOM
    }
}

impl Plot {
    /// The picture: an `<svg>` element that needs nothing from outside.
    pub fn svg(&self) -> String {
        let (legend, rows) = self.legend();
        let above = TITLE + rows * ROW;
        let points = || self.series.iter().flat_map(|series| &series.points);
        let frame = Frame {
            x: self.x.ruler(points().map(|point| point.0)),
            y: self.y.ruler(points().map(|point| point.1)),
            top: above + LABEL,
            height: HEIGHT + rows * ROW,
        };
        let height = frame.height;
        let title = text(&self.title);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" viewBox=\"0 0 {WIDTH} {height}\" \
             role=\"img\"><title>{title}</title><desc>{}</desc><style>{STYLE}</style>\
             <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\
             <text class=\"title\" x=\"12\" y=\"22\">{title}</text>{legend}",
            text(&self.described()),
        );
        self.axes(&mut svg, &frame);
        for (number, series) in self.series.iter().enumerate() {
            curve(&mut svg, &frame, series, colour(number));
        }
        svg.push_str("</svg>");
        svg
    }

    /// The legend, and how many rows it takes. One line needs none: the title names it.
    fn legend(&self) -> (String, f64) {
        if self.series.len() < 2 {
            return (String::new(), 0.0);
        }
        let mut svg = String::new();
        let (mut x, mut row) = (12.0, 0.0);
        for (number, series) in self.series.iter().enumerate() {
            let letters = u32::try_from(series.name.chars().count()).unwrap_or(u32::MAX);
            let width = 28.0 + f64::from(letters) * LETTER + 20.0;
            if x > 12.0 && x + width > WIDTH {
                (x, row) = (12.0, row + 1.0);
            }
            let y = TITLE + row * ROW + 12.0;
            svg.push_str(&format!(
                "<path class=\"{}\" d=\"M{x:.1} {:.1}h20\"/><text class=\"name\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
                class(series, colour(number)),
                y - 4.0,
                x + 27.0,
                text(&series.name),
            ));
            x += width;
        }
        (svg, row + 1.0)
    }

    fn axes(&self, svg: &mut String, frame: &Frame) {
        let (right, bottom) = (WIDTH - RIGHT, frame.bottom());
        for &tick in &frame.y.ticks {
            let Some(y) = frame.y(tick) else { continue };
            svg.push_str(&format!(
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>\
                 <text class=\"tick\" text-anchor=\"end\" x=\"{}\" y=\"{:.1}\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                frame.y.words(tick),
            ));
        }
        for &tick in &frame.x.ticks {
            let Some(x) = frame.x(tick) else { continue };
            svg.push_str(&format!(
                "<path class=\"grid\" d=\"M{x:.1} {bottom}v5\"/>\
                 <text class=\"tick\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{}\">{}</text>",
                bottom + 19.0,
                frame.x.words(tick),
            ));
        }
        svg.push_str(&format!(
            "<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/>\
             <text class=\"label\" x=\"12\" y=\"{}\">{}</text>\
             <text class=\"label\" text-anchor=\"end\" x=\"{right}\" y=\"{}\">{}</text>",
            frame.top - 12.0,
            text(&self.y.label),
            bottom + 38.0,
            text(&self.x.label),
        ));
    }

    /// For those who do not see it.
    fn described(&self) -> String {
        let lines = self.series.iter().map(|series| {
            let read = |(x, y): &(f64, f64)| {
                format!("{} at {}", self.y.unit.words(*y), self.x.unit.words(*x))
            };
            let ends = series.points.first().zip(series.points.last());
            let ends = ends.map_or_else(
                || "nothing".to_owned(),
                |(first, last)| format!("from {} to {}", read(first), read(last)),
            );
            format!("{}: {ends}", series.name)
        });
        let lines: Vec<String> = lines.collect();
        format!(
            "{} over {}. {}.",
            self.y.label,
            self.x.label,
            lines.join("; ")
        )
    }
}

fn curve(svg: &mut String, frame: &Frame, series: &Series, colour: usize) {
    let mut path = String::new();
    let mut dots = String::new();
    let mut joined = false;
    for &(x, y) in &series.points {
        let Some((at_x, at_y)) = frame.x(x).zip(frame.y(y)) else {
            joined = false;
            continue;
        };
        let step = if joined { 'L' } else { 'M' };
        path.push_str(&format!("{step}{at_x:.1} {at_y:.1}"));
        joined = true;
        dots.push_str(&format!(
            "<circle class=\"dot s{colour}\" cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"3.5\"><title>{}: {} at {}</title></circle>",
            text(&series.name),
            frame.y.words(y),
            frame.x.words(x),
        ));
    }
    svg.push_str(&format!(
        "<path class=\"{}\" d=\"{path}\"/>",
        class(series, colour)
    ));
    if series.points.len() <= MOST_DOTS && !series.dashed {
        svg.push_str(&dots);
    }
}

fn colour(number: usize) -> usize {
    number % COLOURS + 1
}

fn class(series: &Series, colour: usize) -> String {
    let dashed = if series.dashed { " dashed" } else { "" };
    format!("curve s{colour}{dashed}")
}

/// Text as it stands in SVG and HTML.
pub(crate) fn text(raw: &str) -> String {
    raw.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(scale: Scale, series: Vec<Series>) -> String {
        let x = Axis::new("tenants", scale, Unit::Count);
        let y = Axis::new("memory", Scale::Linear, Unit::Bytes);
        let title = "Memory & <tenants>".to_owned();
        Plot {
            title,
            x,
            y,
            series,
        }
        .svg()
    }

    #[test]
    fn a_point_without_a_place_leaves_a_gap() {
        let points = vec![(1.0, 1.0), (10.0, f64::NAN), (100.0, 2.0), (0.0, 3.0)];
        let svg = plot(Scale::Log, vec![Series::new("a", points)]);
        let path = svg.split("class=\"curve s1\" d=\"").nth(1).unwrap();
        let path = path.split('"').next().unwrap();
        assert_eq!(
            (path.matches('M').count(), path.matches('L').count()),
            (2, 0),
            "{path}"
        );
        assert_eq!(svg.matches("<circle").count(), 2);
    }

    #[test]
    fn a_legend_is_drawn_for_two_lines_and_an_expectation_is_dashed() {
        let line = || Series::new("R&D", vec![(1.0, 1.0), (2.0, 4.0)]);
        let one = plot(Scale::Linear, vec![line()]);
        assert!(!one.contains("class=\"name\""));
        let two = plot(Scale::Linear, vec![line(), line().dashed()]);
        assert_eq!(two.matches("class=\"name\"").count(), 2);
        assert_eq!(
            two.matches("curve s2 dashed").count(),
            2,
            "in the legend and as the line"
        );
        assert_eq!(
            two.matches("<circle").count(),
            2,
            "only what was measured has dots"
        );
    }

    #[test]
    fn names_cannot_leave_their_element_and_nothing_is_fetched() {
        let svg = plot(
            Scale::Linear,
            vec![Series::new("<script>", vec![(1.0, 1.0)])],
        );
        assert!(!svg.contains("<script"));
        assert!(svg.contains("Memory &amp; &lt;tenants&gt;"));
        let rest = svg.replace("http://www.w3.org/2000/svg", "");
        assert!(!rest.contains("http") && !rest.contains("url("));
    }

    #[test]
    fn no_series_at_all_is_still_a_picture() {
        let svg = plot(Scale::Log, Vec::new());
        assert!(svg.ends_with("</svg>") && !svg.contains("NaN"));
    }
}
