//! The page itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tollgate_core::money::PicoUsd;
use tollgate_core::report::{Dimension, Report, Row, Sums, share};

use super::Page;
use super::bars::{self, Bar};
use super::chart::{Caption, OTHERS, stacked};
use super::words::{count, count_tick, dollars, exact, money_tick, named, places, stretch, text};

const STYLE: &str = include_str!("style.css");

/// Fills that can be told apart without their colours, for print.
const PATTERNS: &str = include_str!("patterns.svg");

impl Page {
    /// The whole document.
    pub(crate) fn html(&self) -> String {
        let style = STANDARD.encode(Sha256::digest(STYLE));
        let title = match &self.tenant {
            Some(tenant) => format!("{} \u{2013} cost report", text(tenant)),
            None => "Cost report \u{2013} all tenants".to_owned(),
        };
        let heading = self
            .tenant
            .as_deref()
            .map_or("All tenants".to_owned(), text);
        let body = if self.rows.summary.total == Sums::default() {
            "<p class=\"empty\">There are no records in this period.</p>".to_owned()
        } else {
            self.body()
        };
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta http-equiv=\"content-security-policy\" content=\"default-src 'none'; \
             style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\">\
             <meta name=\"referrer\" content=\"no-referrer\">\
             <title>{title}</title><style>{STYLE}</style></head>\n<body>{PATTERNS}<main>\
             <header><p class=\"kind\">Cost report</p><h1>{heading}</h1>{}</header>\n{body}\n{}\
             </main></body></html>\n",
            self.when(),
            self.origin(),
        )
    }

    fn when(&self) -> String {
        let Some((first, last)) = &self.period else {
            return String::new();
        };
        let name = |bin: &str| stretch(self.bins.dimension, bin);
        let period = if first == last {
            name(first)
        } else {
            format!("{} to {}", name(first), name(last))
        };
        let filtered = match self.conditions {
            0 => "",
            _ => ", only what meets the conditions asked for",
        };
        format!("<p class=\"when\">{period} (UTC){filtered}</p>")
    }

    fn body(&self) -> String {
        [
            self.tiles(),
            self.spend_chart(),
            self.bar_charts(),
            self.token_chart(),
            self.groups(),
            self.refused(),
        ]
        .join("\n")
    }

    fn tiles(&self) -> String {
        let total = &self.rows.summary.total;
        let part = |part: i128, whole: i128| match share(part, whole) {
            Some(share) => format!("{share}\u{202f}%"),
            None => "none".to_owned(),
        };
        let cached = part(total.cached_input_tokens.into(), total.input_tokens.into());
        let estimated = part(total.estimated_cost.as_pico(), total.cost.as_pico());
        let asked = total.asked.as_pico();
        let tiles = [
            (
                "Spend",
                dollars(total.cost.as_pico()),
                format!("exactly ${}", total.cost),
            ),
            ("Calls", count(total.calls), String::new()),
            (
                "Refusals",
                count(total.refusals),
                format!("{} asked", dollars(asked)),
            ),
            (
                "Tokens in",
                count_tick(total.input_tokens.into(), 1),
                format!("{}, {cached} from a cache", count(total.input_tokens)),
            ),
            (
                "Tokens out",
                count_tick(total.output_tokens.into(), 1),
                count(total.output_tokens),
            ),
            (
                "Estimated",
                estimated,
                format!("of spend, {} calls", count(total.estimated)),
            ),
        ];
        let tiles = tiles.map(|(name, figure, note)| {
            format!("<div><dt>{name}</dt><dd>{figure}<small>{note}</small></dd></div>")
        });
        format!("<dl class=\"tiles\">{}</dl>", tiles.concat())
    }

    fn per(&self) -> &'static str {
        match self.bins.dimension {
            Dimension::Hour => "hour",
            Dimension::Month => "month",
            _ => "day",
        }
    }

    fn spend_chart(&self) -> String {
        let title = format!("Spend per {} by {}", self.per(), self.stacked_by);
        let mut names: Vec<String> = self
            .spend
            .0
            .iter()
            .map(|series| named(self.stacked_by, &series.name))
            .collect();
        if self.spend.0.len() > super::SERIES
            && let Some(last) = names.last_mut()
        {
            OTHERS.clone_into(last);
        }
        let caption = Caption {
            id: "spend",
            title: &title,
            unit: "US dollars",
            on_axis: money_tick,
            in_words: dollars,
        };
        let chart = if self.spend.is_empty() {
            "<p class=\"none\">Nothing was spent in this period.</p>".to_owned()
        } else {
            stacked(&self.spend, &self.bins, &caption, &names)
        };
        format!("<figure><figcaption><h2>{title}</h2></figcaption>{chart}</figure>")
    }

    fn token_chart(&self) -> String {
        let title = format!("Tokens per {}", self.per());
        let series = self.tokens.0.iter();
        let names: Vec<String> = series.map(|series| series.name.clone()).collect();
        let caption = Caption {
            id: "tokens",
            title: &title,
            unit: "Tokens",
            on_axis: count_tick,
            in_words: |tokens| count(u64::try_from(tokens).unwrap_or(0)),
        };
        if self.tokens.is_empty() {
            return String::new();
        }
        let chart = stacked(&self.tokens, &self.bins, &caption, &names);
        format!("<figure><figcaption><h2>{title}</h2></figcaption>{chart}</figure>")
    }

    fn bar_charts(&self) -> String {
        let cost = |report: &Report, title: &str| {
            let bars: Vec<Bar> = report
                .rows
                .iter()
                .map(|row| cost_bar(report, row))
                .collect();
            let others = dollars(report.summary.other.cost.as_pico());
            let others = (report.summary.left_out > 0).then_some(others);
            bars::table(title, &bars, others.as_deref())
        };
        let refusal = |row: &Row| {
            let mut values = row.values();
            Bar {
                name: named(Dimension::Reason, values.next().unwrap_or_default()),
                of: String::new(),
                value: row.sums.refusals.into(),
                shown: count(row.sums.refusals),
            }
        };
        let rules: Vec<Bar> = self.rules.rows.iter().map(refusal).collect();
        let left = &self.rules.summary;
        let others = (left.left_out > 0).then(|| count(left.other.refusals));
        let tenants = self.tenants.as_ref();
        let tables = [
            tenants.map(|tenants| cost(tenants, "Spend by tenant")),
            Some(cost(&self.agents, "Spend by agent")),
            Some(cost(&self.models, "Spend by model")),
            Some(bars::table("Refusals by rule", &rules, others.as_deref())),
        ];
        let tables: String = tables.into_iter().flatten().collect();
        format!("<div class=\"pairs\">{tables}</div>")
    }

    fn groups(&self) -> String {
        let report = &self.rows;
        let Report { summary, rows } = report;
        let amounts = rows.iter().map(|row| row.sums.cost);
        let places = places(amounts.chain([summary.total.cost, summary.other.cost]));
        let head = [
            "Calls",
            "Refusals",
            "Tokens in",
            "Cached",
            "Tokens out",
            "Cost, USD",
            "Share, %",
            "Estimated",
        ];
        let cells = |sums: &Sums| {
            let share = share(sums.cost.as_pico(), summary.total.cost.as_pico());
            [
                count(sums.calls),
                count(sums.refusals),
                count(sums.input_tokens),
                count(sums.cached_input_tokens),
                count(sums.output_tokens),
                money(sums.cost, places),
                share.unwrap_or_else(|| "\u{2013}".to_owned()),
                count(sums.estimated),
            ]
        };
        let by: Vec<&str> = summary
            .by
            .iter()
            .map(|dimension| dimension.name())
            .collect();
        let title = match &*by {
            [] => "Everything".to_owned(),
            by => format!("By {}", by.join(", ")),
        };
        table(&title, report, &head, &cells)
    }

    fn refused(&self) -> String {
        let report = &self.refusals;
        let Report { summary, rows } = report;
        if rows.is_empty() {
            return String::new();
        }
        let amounts = rows.iter().map(|row| row.sums.asked);
        let places = places(amounts.chain([summary.total.asked, summary.other.asked]));
        let minute = |at: Option<tollgate_core::time::Timestamp>| {
            let text = at.map(|at| at.to_string()).unwrap_or_default();
            text.get(..16).unwrap_or_default().replace('T', " ")
        };
        let cells = |sums: &Sums| {
            [
                count(sums.refusals),
                money(sums.asked, places),
                minute(sums.first),
                minute(sums.last),
            ]
        };
        let head = ["Refusals", "Asked, USD", "First (UTC)", "Last (UTC)"];
        table("Refusals", report, &head, &cells)
    }

    fn origin(&self) -> String {
        let prices = self.prices.rows.iter();
        let prices = prices
            .map(|row| text(&row.key))
            .filter(|name| !name.is_empty());
        let prices: Vec<String> = prices.collect();
        let prices = if prices.is_empty() {
            "none".to_owned()
        } else {
            prices.join("<br>")
        };
        let total = &self.rows.summary.total;
        let estimated = share(total.estimated_cost.as_pico(), total.cost.as_pico());
        let estimated = estimated.map_or("none".to_owned(), |share| format!("{share} % of spend"));
        let generated = self.generated_at.to_string();
        let generated = generated.get(..19).unwrap_or_default().replace('T', " ");
        format!(
            "<footer><dl><div><dt>Generated</dt><dd>{generated} UTC</dd></div>\
             <div><dt>Source</dt><dd>{}</dd></div>\
             <div><dt>Price versions</dt><dd>{prices}</dd></div>\
             <div><dt>Estimated</dt><dd>{estimated}: calls whose provider did not state what they used</dd></div>\
             </dl><p>Refusals are calls that were not made. What they asked is their worst case, as far as \
             it was known. Corrections of work charged in advance can make a cost negative.</p></footer>",
            text(&self.source)
        )
    }
}

fn cost_bar(report: &Report, row: &Row) -> Bar {
    let mut values = row.values();
    let first = report.summary.by.first().copied();
    let first = first.unwrap_or(Dimension::Tenant);
    Bar {
        name: named(first, values.next().unwrap_or_default()),
        of: values.next().unwrap_or_default().to_owned(),
        value: row.sums.cost.as_pico(),
        shown: dollars(row.sums.cost.as_pico()),
    }
}

fn money(amount: PicoUsd, places: usize) -> String {
    let (cents, finer) = exact(amount, places);
    format!("{cents}<span class=\"finer\">{finer}</span>")
}

/// A table of rows, what is left out and the total.
fn table<const N: usize>(
    title: &str,
    report: &Report,
    head: &[&str; N],
    cells: &dyn Fn(&Sums) -> [String; N],
) -> String {
    let Report { summary, rows } = report;
    let figures = |sums: &Sums| -> String {
        let cells = cells(sums).map(|cell| format!("<td class=\"number\">{cell}</td>"));
        cells.concat()
    };
    let by = summary.by.iter().map(|dimension| {
        let name = dimension.name();
        let (first, rest) = name.split_at(1);
        format!("<th scope=\"col\">{}{rest}</th>", first.to_uppercase())
    });
    let by: String = by.collect();
    let head = head.map(|name| format!("<th scope=\"col\" class=\"number\">{name}</th>"));
    let mut html = format!(
        "<section class=\"table\"><h2>{}</h2><div class=\"scroll\"><table><thead><tr>{by}{}</tr></thead>",
        text(title),
        head.concat()
    );
    let groups = summary.by.len();
    if groups > 0 {
        html.push_str("<tbody>");
        for row in rows {
            let values = row.values().map(|value| match value {
                "" => "<td class=\"none\">\u{2013}</td>".to_owned(),
                value => format!("<td class=\"name\"><div>{}</div></td>", text(value)),
            });
            let values: String = values.collect();
            html.push_str(&format!("<tr>{values}{}</tr>", figures(&row.sums)));
        }
        html.push_str("</tbody>");
    }
    html.push_str("<tfoot>");
    let span = groups.max(1);
    let mut line = |name: &str, sums: &Sums| {
        let name = match groups {
            0 => String::new(),
            _ => format!("<th scope=\"row\" colspan=\"{span}\">{name}</th>"),
        };
        html.push_str(&format!("<tr>{name}{}</tr>", figures(sums)));
    };
    if summary.left_out > 0 {
        line(
            &format!("{} others", count(summary.left_out)),
            &summary.other,
        );
    }
    line("Total", &summary.total);
    html.push_str("</tfoot></table></div></section>");
    html
}
