//! One iperf3 stream over loopback: direct, and through each pair of proxies.

use crate::{
    choice::Choice,
    error::BenchError,
    iperf::{Flow, Iperf, Stream},
    pair::{Pair, System},
    place::Place,
    report::About,
    row::{Metric, Series},
    tell,
};

/// What its page in docs/results says.
pub(crate) const ABOUT: About = About {
    name: "loopback",
    title: "One stream over loopback",
    method: "One unmodified iperf3 TCP stream on loopback addresses, direct and through two \
             proxies of each kind with mutual TLS 1.3 (AES-GCM) between them, all with their own \
             defaults. Client, proxies and server share the cores.",
    drawn: &[THROUGHPUT, CPU],
};

pub(crate) const THROUGHPUT: Metric = Metric("throughput", "Mbit/s");
const CPU: Metric = Metric("cpu of both proxies", "s/GB");

const CASE: &str = "streams=1";
const SYSTEMS: [System; 5] = [
    System::Direct,
    System::Renkei,
    System::Envoy,
    System::Nginx,
    System::Haproxy,
];

/// Takes the measurement.
pub(crate) fn measure(choice: &Choice) -> Result<Series, BenchError> {
    let mut series = Series::new(ABOUT.name);
    if !choice.takes(CASE) {
        return Ok(series);
    }
    let iperf = Iperf::start(Place::Loopback)?;
    let pairs = start(&iperf, Place::Loopback, &choice.systems(&SYSTEMS))?;
    for run in 1..=choice.runs {
        for pair in &pairs {
            let flow = iperf.run(pair, Stream::one(choice.seconds))?;
            push(&mut series, CASE, pair.system, flow);
            tell(&format!(
                "loopback: run {run} of {}, {}: {:.0} Mbit/s",
                choice.runs,
                pair.system.name(),
                flow.megabits_per_second
            ));
        }
    }
    Ok(series)
}

/// Starts and warms a pair of each system.
pub(crate) fn start(
    iperf: &Iperf<'_>,
    place: Place<'_>,
    systems: &[System],
) -> Result<Vec<Pair>, BenchError> {
    systems
        .iter()
        .map(|system| {
            let pair = Pair::start(*system, place, iperf.backend)?;
            iperf.warm(&pair)?;
            Ok(pair)
        })
        .collect()
}

/// Adds what one run gave.
pub(crate) fn push(series: &mut Series, case: &str, system: System, flow: Flow) {
    series.push(case, system.name(), THROUGHPUT, flow.megabits_per_second);
    if let Some(cpu) = flow.cpu_seconds_per_gigabyte {
        series.push(case, system.name(), CPU, cpu);
    }
}
