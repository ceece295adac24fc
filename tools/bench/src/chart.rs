//! Bar charts as SVG: a section for each metric, in it the cases beneath one another, and a bar for
//! each system with its value and its ratios.

use std::fmt::Write as _;

use crate::row::{Metric, Row};

const WIDTH: f64 = 900.0;
/// Where bars begin; the systems' names end before it.
const LEFT: f64 = 96.0;
const BAR: f64 = 18.0;
/// The largest value of a section; the rest of the width holds what is written behind a bar.
const LONGEST: f64 = 540.0;

/// The rows of each of `metrics` as bars.
pub(crate) fn bars(title: &str, metrics: &[Metric], rows: &[Row]) -> String {
    let mut body = String::new();
    let mut y = 30.0;
    for metric in metrics {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.metric == metric.0).collect();
        if !rows.is_empty() {
            y = section(&mut body, y, *metric, &rows);
        }
    }
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="8" y="26" font-size="18">{title}</text>
{body}</svg>
"##,
        height = y + 14.0,
        title = escape(title),
    )
}

/// One metric from `y` downwards; gives where it ends.
fn section(body: &mut String, mut y: f64, metric: Metric, rows: &[&Row]) -> f64 {
    let most = rows.iter().map(|row| row.value).fold(0.0, f64::max);
    let scale = if most > 0.0 { LONGEST / most } else { 0.0 };
    y += 26.0;
    let _ = writeln!(
        body,
        r##"<text x="8" y="{y}" font-size="14" fill="#555555">{name} ({unit}), medians</text>"##,
        name = escape(metric.0),
        unit = metric.1,
    );
    let mut cases: Vec<&str> = Vec::new();
    for row in rows {
        if !cases.contains(&row.case.as_str()) {
            cases.push(&row.case);
        }
    }
    for case in cases {
        y += 26.0;
        let _ = writeln!(
            body,
            r#"<text x="8" y="{y}" font-weight="bold">{}</text>"#,
            escape(case)
        );
        y += 6.0;
        for row in rows.iter().filter(|row| row.case == case) {
            bar(body, y, scale, row);
            y += BAR;
        }
    }
    y + 8.0
}

fn bar(body: &mut String, y: f64, scale: f64, row: &Row) {
    let length = (row.value * scale).max(1.0);
    let ratios: Vec<String> = [("direct", "direct"), ("envoy", "Envoy")]
        .into_iter()
        .filter_map(|(base, name)| {
            let ratio = row.ratio.get(base)?;
            Some(format!("{}x {name}", number(*ratio)))
        })
        .collect();
    let _ = writeln!(
        body,
        r##"<text x="{name_end}" y="{text}" text-anchor="end">{system}</text><rect x="{LEFT}" y="{y}" width="{length:.1}" height="{height}" fill="{colour}"/><text x="{behind:.1}" y="{text}">{value} <tspan fill="#777777" font-size="12">{ratios}</tspan></text>"##,
        name_end = LEFT - 8.0,
        text = y + BAR - 6.0,
        system = row.system,
        height = BAR - 4.0,
        colour = colour(row.system),
        behind = LEFT + length + 6.0,
        value = number(row.value),
        ratios = ratios.join(", "),
    );
}

/// The colour of a system on every page.
fn colour(system: &str) -> &'static str {
    match system {
        "renkei" => "#0b7a75",
        "direct" => "#8a8a8a",
        "envoy" => "#b3479a",
        "nginx" => "#c9a227",
        _ => "#4f6db8",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Three digits that count.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Series;

    #[test]
    fn each_metric_has_its_scale_and_each_bar_its_ratios() {
        let (rate, time) = (Metric("throughput", "Mbit/s"), Metric("time", "s"));
        let mut series = Series::new("wan");
        for (case, direct, renkei) in [("a<b", 50.0, 200.0), ("c", 100.0, 50.0)] {
            series.push(case, "direct", rate, direct);
            series.push(case, "renkei", rate, renkei);
            series.push(case, "renkei", time, 0.5);
            series.push(case, "renkei", Metric("cpu", "s"), 9999.0);
        }
        let svg = bars("t", &[rate, time], &series.finish());
        assert_eq!(svg.matches("<rect x=").count(), 6, "two metrics of three");
        assert_eq!(svg.matches(r#"width="540.0""#).count(), 3);
        assert!(svg.contains(r#"width="135.0""#), "a quarter of the most");
        assert!(svg.contains("4.00x direct") && svg.contains("0.500x direct"));
        assert!(svg.contains("a&lt;b"));
    }
}
