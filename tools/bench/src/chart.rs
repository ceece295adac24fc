//! A bar chart as SVG: one bar a system, cases beneath one another.

use std::fmt::Write as _;

use crate::{report::number, row::Row};

const WIDTH: f64 = 860.0;
const LABEL: f64 = 110.0;
const BAR: f64 = 18.0;
const LONGEST: f64 = 600.0;

/// The rows of `metric` as bars.
pub(crate) fn bars(title: &str, metric: &str, rows: &[Row]) -> String {
    let mut rows: Vec<&Row> = rows.iter().filter(|row| row.metric == metric).collect();
    rows.sort_by(|left, right| left.case.cmp(&right.case));
    let most = rows
        .iter()
        .map(|row| row.value)
        .fold(f64::MIN_POSITIVE, f64::max);
    let unit = rows.first().map_or("", |row| row.unit);
    let mut body = String::new();
    let mut case = None;
    let mut y = 48.0;
    for row in rows {
        if case != Some(&row.case) {
            case = Some(&row.case);
            y += 24.0;
            let _ = writeln!(
                body,
                r#"<text x="8" y="{y}" font-weight="bold">{}</text>"#,
                escape(&row.case)
            );
            y += 8.0;
        }
        let length = (row.value / most * LONGEST).max(1.0);
        let text = y + BAR - 5.0;
        let _ = writeln!(
            body,
            r#"<text x="{label}" y="{text}" text-anchor="end">{system}</text><rect x="{LABEL}" y="{y}" width="{length:.1}" height="{height}" fill="{colour}"/><text x="{end:.1}" y="{text}">{value}</text>"#,
            label = LABEL - 8.0,
            system = row.system,
            height = BAR - 4.0,
            colour = colour(row.system),
            end = LABEL + length + 6.0,
            value = number(row.value),
        );
        y += BAR;
    }
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="8" y="24" font-size="17">{title}</text>
<text x="8" y="44" fill="#555555">{metric}, {unit}: medians</text>
{body}</svg>
"##,
        height = y + 16.0,
        title = escape(title),
    )
}

fn colour(system: &str) -> &'static str {
    match system {
        "renkei" => "#0b7a75",
        "direct" => "#8a8a8a",
        "envoy" => "#b3479a",
        _ => "#c9a227",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Metric, Series};

    #[test]
    fn the_longest_bar_is_the_largest_value_and_cases_stay_together() {
        let metric = Metric("throughput", "Mbit/s");
        let mut series = Series::new("wan");
        for (case, direct) in [("a<b", 50.0), ("c", 200.0)] {
            series.push(case, "direct", metric, direct);
            series.push(case, "renkei", Metric("cpu", "s"), 9999.0);
        }
        let svg = bars("t", "throughput", &series.finish());
        assert_eq!(svg.matches("<rect x=").count(), 2, "one metric alone");
        assert!(svg.contains(r#"width="600.0""#) && svg.contains(r#"width="150.0""#));
        assert!(svg.contains("a&lt;b"));
    }
}
