//! Bars beside their names: a table whose middle column is drawn.
//!
//! Worst case: a name longer than its column is cut by the browser, and whole in its title.

use super::chart::px;
use super::words::text;

/// One bar.
pub(super) struct Bar {
    pub(super) name: String,
    /// What stands under the name in smaller letters: whose agent it is.
    pub(super) of: String,
    pub(super) value: i128,
    /// The value as a person reads it.
    pub(super) shown: String,
}

/// The drawn width, in pixels of the picture's own.
const WIDTH: i128 = 200;

/// A table of bars, longest first as given; what all others come to stands last, without a bar.
pub(super) fn table(title: &str, bars: &[Bar], others: Option<&str>) -> String {
    let most = bars.iter().map(|bar| bar.value).max().unwrap_or(0).max(1);
    let mut html = format!(
        "<section class=\"bars\"><h3>{title}</h3>",
        title = text(title)
    );
    if bars.is_empty() {
        html.push_str("<p class=\"none\">None in this period.</p></section>");
        return html;
    }
    html.push_str("<table>");
    for bar in bars {
        let width = px(bar.value.max(0) * WIDTH * 10 / most);
        let name = text(&bar.name);
        let of = match text(&bar.of) {
            of if of.is_empty() => of,
            of => format!("<small>{of}</small>"),
        };
        html.push_str(&format!(
            "<tr><th scope=\"row\" title=\"{name}\"><span>{name}</span>{of}</th><td class=\"bar\">\
             <svg viewBox=\"0 0 {WIDTH} 14\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
             <rect class=\"s1\" width=\"{width}\" height=\"14\"/></svg></td>\
             <td class=\"number\">{}</td></tr>",
            text(&bar.shown)
        ));
    }
    if let Some(others) = others {
        html.push_str(&format!(
            "<tr class=\"others\"><th scope=\"row\" colspan=\"2\">all others</th>\
             <td class=\"number\">{}</td></tr>",
            text(others)
        ));
    }
    html.push_str("</table></section>");
    html
}
