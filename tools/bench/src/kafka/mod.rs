//! A Kafka broker behind each system: what unchanged clients produce, consume, and wait for.

mod broker;
mod client;

use std::time::Duration;

use renkei_testkit::free_address;
use renkei_wan::{Path, Profile, Wan};

use crate::{
    choice::Choice,
    error::BenchError,
    pair::{Backend, Pair, Protocol, System},
    place::Place,
    report::About,
    row::{Metric, Series},
    tell,
};

use self::{
    broker::Broker,
    client::{Action, Client, Done},
};

/// What its page in docs/results says.
pub(crate) const ABOUT: About = About {
    name: "kafka",
    title: "Kafka",
    method: "A broker (one node of Apache Kafka 4.4, records in the page cache) at one side, \
             unmodified clients at the other: over loopback, and across 23 ms in profile 2021. \
             confluent-kafka's producer (acks=1, its own batching) and consumer, records of 1 KiB \
             that do not compress, one partition; buffers=java: with the socket buffers that the \
             Java client asks for by default (128 KiB to send, 32 and 64 KiB to receive). \
             client=sinetstream: SINETStream's writer with consistency AT_LEAST_ONCE, which waits \
             for each record. Every system has a broker of its own, warmed by a run that is not \
             counted. Direct, it advertises its own address; behind Envoy, two TCP proxies with \
             mutual TLS 1.3, it advertises the near Envoy's, as an operator would have to set it; \
             behind Renkei (protocol: kafka) it keeps its own address, and the proxies rewrite it \
             in every response. Cores of broker and client: where they, and not the path, are the \
             limit.",
    drawn: &[PRODUCED, CONSUMED, RECORDS],
};

const PRODUCED: Metric = Metric("produced", "MB/s");
const CONSUMED: Metric = Metric("consumed", "MB/s");
const RECORDS: Metric = Metric("records, one after the other", "1/s");
const PRODUCING: Costs = Costs {
    proxies: Metric("producing, cpu of both proxies", "s/GB"),
    broker: Metric("producing, broker", "cores"),
    client: Metric("producing, client", "cores"),
};
const CONSUMING: Costs = Costs {
    proxies: Metric("consuming, cpu of both proxies", "s/GB"),
    broker: Metric("consuming, broker", "cores"),
    client: Metric("consuming, client", "cores"),
};
const SYSTEMS: [System; 3] = [System::Direct, System::Renkei, System::Envoy];

/// What a client's work cost.
#[derive(Debug, Clone, Copy)]
struct Costs {
    proxies: Metric,
    broker: Metric,
    client: Metric,
}

/// Takes the measurement.
pub(crate) fn measure(choice: &Choice) -> Result<Series, BenchError> {
    let mut series = Series::new(ABOUT.name);
    let loopback = Cases::of("loopback", choice);
    if loopback.any() {
        place(&mut series, &loopback, Place::Loopback, choice)?;
    }
    let far = Cases::of("rtt=23 profile=2021 loss=0", choice);
    if far.any() {
        let wan = Wan::new(Path::new(Duration::from_millis(23)), Profile::Year2021, 1)?;
        place(&mut series, &far, Place::Wan(&wan), choice)?;
    }
    Ok(series)
}

/// A free place for a broker.
fn backend(place: Place<'_>) -> Backend {
    let port = free_address().port();
    let on_side_b = Backend::on_side_b(port);
    Backend {
        outside: match place {
            Place::Loopback => on_side_b.inside,
            Place::Wan(_) => on_side_b.outside,
        },
        protocol: Protocol::Kafka,
        ..on_side_b
    }
}

/// A system with its broker.
#[derive(Debug)]
struct Setup {
    pair: Pair,
    broker: Broker,
}

impl Setup {
    fn start(system: System, place: Place<'_>) -> Result<Self, BenchError> {
        let backend = backend(place);
        let pair = Pair::start(system, place, backend)?;
        // What clients are told to connect to must lead through the system.
        let advertised = match system {
            System::Direct => backend.outside,
            System::Renkei => backend.inside,
            _ => pair.address,
        };
        let broker = Broker::start(place, backend.inside.port(), advertised)?;
        Ok(Self { pair, broker })
    }
}

/// The cases of a place, as far as they are asked for.
#[derive(Debug)]
struct Cases {
    plain: Option<String>,
    java: Option<String>,
    sinetstream: Option<String>,
}

impl Cases {
    fn of(place: &str, choice: &Choice) -> Self {
        let asked = |suffix: &str| {
            let case = format!("{place}{suffix}");
            choice.takes(&case).then_some(case)
        };
        Self {
            plain: asked(""),
            java: asked(" buffers=java"),
            sinetstream: asked(" client=sinetstream"),
        }
    }

    fn any(&self) -> bool {
        self.plain.is_some() || self.java.is_some() || self.sinetstream.is_some()
    }
}

/// All systems at one place, in turns.
fn place(
    series: &mut Series,
    cases: &Cases,
    place: Place<'_>,
    choice: &Choice,
) -> Result<(), BenchError> {
    let setups: Vec<Setup> = choice
        .systems(&SYSTEMS)
        .into_iter()
        .map(|system| Setup::start(system, place))
        .collect::<Result<_, _>>()?;
    let client = Client::new(place, choice.seconds)?;
    let mut warming = Series::new(ABOUT.name);
    for run in 0..=choice.runs {
        let series = if run == 0 { &mut warming } else { &mut *series };
        for Setup { pair, broker } in &setups {
            let told = one(series, cases, &client, pair, broker)?;
            let name = pair.system.name();
            tell(&match run {
                0 => format!("kafka: warm-up, {name}: {told}"),
                _ => format!("kafka: run {run} of {}, {name}: {told}", choice.runs),
            });
        }
    }
    Ok(())
}

/// All cases of a system; gives a line about them.
fn one(
    series: &mut Series,
    cases: &Cases,
    client: &Client<'_>,
    pair: &Pair,
    broker: &Broker,
) -> Result<String, BenchError> {
    let system = pair.system.name();
    let mut told = Vec::new();
    let mut push = |case: &str, rate: Metric, costs: Costs, done: Done| {
        series.push(case, system, rate, done.megabytes_per_second());
        told.push(format!(
            "{} {:.1} MB/s",
            rate.0,
            done.megabytes_per_second()
        ));
        series.push(case, system, costs.broker, done.broker_cores());
        series.push(case, system, costs.client, done.client_cores());
        if pair.has_proxies() {
            series.push(
                case,
                system,
                costs.proxies,
                done.proxy_seconds_per_gigabyte(),
            );
        }
    };
    if cases.plain.is_some() || cases.java.is_some() {
        // What the plain producer leaves is what both consumers read.
        let done = client.run(Action::Produce, "plain", false, pair, broker)?;
        if let Some(case) = &cases.plain {
            push(case, PRODUCED, PRODUCING, done);
            let done = client.run(Action::Consume, "plain", false, pair, broker)?;
            push(case, CONSUMED, CONSUMING, done);
        }
    }
    if let Some(case) = &cases.java {
        let done = client.run(Action::Consume, "plain", true, pair, broker)?;
        push(case, CONSUMED, CONSUMING, done);
        let done = client.run(Action::Produce, "java", true, pair, broker)?;
        push(case, PRODUCED, PRODUCING, done);
    }
    if let Some(case) = &cases.sinetstream {
        let done = client.run(Action::Sinetstream, "sinetstream", false, pair, broker)?;
        series.push(case, system, RECORDS, done.records_per_second());
        told.push(format!("{:.0} records/s", done.records_per_second()));
    }
    Ok(told.join(", "))
}
