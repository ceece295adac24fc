//! Measured values, their medians, and their ratios to the systems that everything is compared to.

use std::collections::BTreeMap;

use serde::Serialize;

/// What other systems are compared to.
const BASES: [&str; 2] = ["direct", "envoy"];

/// One case, system and metric: what `--output json` lists.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) bench: &'static str,
    pub(crate) case: String,
    pub(crate) system: &'static str,
    pub(crate) metric: &'static str,
    pub(crate) unit: &'static str,
    /// The median of the runs.
    pub(crate) value: f64,
    pub(crate) runs: Vec<f64>,
    /// The value divided by that of another system.
    pub(crate) ratio: BTreeMap<&'static str, f64>,
}

/// A metric and its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Metric(pub(crate) &'static str, pub(crate) &'static str);

/// The values of a bench in the order in which they were first seen.
#[derive(Debug)]
pub(crate) struct Series {
    rows: Vec<Row>,
    bench: &'static str,
}

impl Series {
    pub(crate) fn new(bench: &'static str) -> Self {
        Self {
            rows: Vec::new(),
            bench,
        }
    }

    /// Adds the value of one run.
    pub(crate) fn push(&mut self, case: &str, system: &'static str, metric: Metric, value: f64) {
        let same =
            |row: &&mut Row| row.case == case && row.system == system && row.metric == metric.0;
        if let Some(row) = self.rows.iter_mut().find(same) {
            row.runs.push(value);
            return;
        }
        self.rows.push(Row {
            bench: self.bench,
            case: case.to_owned(),
            system,
            metric: metric.0,
            unit: metric.1,
            value: 0.0,
            runs: vec![value],
            ratio: BTreeMap::new(),
        });
    }

    /// The rows with medians and ratios, cases together.
    pub(crate) fn finish(mut self) -> Vec<Row> {
        for row in &mut self.rows {
            row.value = median(&row.runs);
        }
        let values: Vec<(String, &str, &str, f64)> = self
            .rows
            .iter()
            .map(|row| (row.case.clone(), row.metric, row.system, row.value))
            .collect();
        for row in &mut self.rows {
            for base in BASES.into_iter().filter(|base| *base != row.system) {
                let found = values.iter().find(|(case, metric, system, _)| {
                    *case == row.case && *metric == row.metric && *system == base
                });
                if let Some((.., value)) = found
                    && *value > 0.0
                {
                    row.ratio.insert(base, row.value / value);
                }
            }
        }
        self.rows
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    if sorted.len() % 2 == 1 {
        at(middle)
    } else {
        f64::midpoint(at(middle.saturating_sub(1)), at(middle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_medians_and_ratios_within_their_case() {
        let metric = Metric("throughput", "Mbit/s");
        let mut series = Series::new("wan");
        for (direct, envoy, renkei) in [(10.0, 8.0, 100.0), (12.0, 6.0, 90.0), (11.0, 9.0, 80.0)] {
            series.push("rtt=16", "direct", metric, direct);
            series.push("rtt=16", "envoy", metric, envoy);
            series.push("rtt=16", "renkei", metric, renkei);
        }
        series.push("rtt=23", "direct", metric, 1.0);
        let rows = series.finish();
        assert_eq!(rows.len(), 4);
        let renkei = &rows[2];
        assert_eq!((renkei.value, renkei.runs.len()), (90.0, 3));
        assert_eq!(renkei.ratio["direct"], 90.0 / 11.0);
        assert_eq!(renkei.ratio["envoy"], 90.0 / 8.0);
        assert!(rows[3].ratio.is_empty(), "no Envoy in that case");
        let json = serde_json::to_value(renkei).expect("JSON");
        assert_eq!(json["unit"], "Mbit/s");
        assert_eq!(json["runs"].as_array().map(Vec::len), Some(3));
    }
}
