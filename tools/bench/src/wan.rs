//! Streams across an emulated WAN, one proxy of each pair at either side: the paper's table 2, and
//! the same with loss.

use std::time::Duration;

use renkei_wan::{Path, Profile, Wan};

use crate::{
    choice::Choice,
    error::BenchError,
    flows,
    iperf::{Iperf, Stream},
    loopback::{self, push},
    pair::{Pair, System},
    place::Place,
    report::About,
    row::Series,
    tell,
};

/// The page of the paper's table.
pub(crate) const TABLE2: About = About {
    name: "table2",
    title: "The paper's three distances",
    method: "One unmodified iperf3 TCP stream across 16, 23 and 32 ms (the paper's Tokyo, Osaka \
             and Kyushu), direct and through two proxies with mutual TLS 1.3 between them. Profile \
             2021: tcp_rmem at most 6291456, tcp_wmem at most 4194304; tuned: both 64 MiB; CUBIC \
             in both. buffers=64K: an application that asks for socket buffers of 64 KiB. \
             streams=8: the same application with eight connections. reverse: the server sends. \
             rate: the path carries so many Mbit/s, with a drop-tail queue of one bandwidth-delay \
             product before it; without it the processors are the limit. The WAN is tools/wan.",
    drawn: &[loopback::THROUGHPUT],
};

/// The page of the same with loss.
pub(crate) const LOSS: About = About {
    name: "wan",
    title: "23 ms with random loss, and small flows beside a bulk flow",
    method: "One unmodified iperf3 TCP stream across 23 ms that loses 1e-4 and 1e-3 of its \
             segments at random, direct and through two proxies with mutual TLS 1.3 between them. \
             Profiles as in table2. flows=1000: as many connections that each send a byte and wait \
             for its echo twice a second, alone and beside one connection that sends all it can \
             through the same proxies, without loss.",
    drawn: &[loopback::THROUGHPUT, flows::P99, flows::BULK],
};

const PROFILES: [Profile; 2] = [Profile::Year2021, Profile::Tuned];
const SYSTEMS: [System; 3] = [System::Direct, System::Renkei, System::Envoy];

/// Paths of less than these processors can carry, in Mbit/s.
const RATES: [u64; 2] = [2500, 5000];

/// The paper's distances without loss.
pub(crate) fn table2(choice: &Choice) -> Result<Series, BenchError> {
    let mut series = Series::new(TABLE2.name);
    let one = Stream::one(choice.seconds);
    for profile in PROFILES {
        for rtt in [16, 23, 32] {
            let path = Path::new(Duration::from_millis(rtt));
            let mut streams = vec![(one, "")];
            if profile == Profile::Year2021 {
                let small = Stream {
                    buffers: Some("64K"),
                    ..one
                };
                let eight = Stream { streams: 8, ..one };
                streams.extend([(small, " buffers=64K"), (eight, " streams=8")]);
            }
            let middle = rtt == 23;
            if profile == Profile::Year2021 && middle {
                let back = Stream {
                    reverse: true,
                    ..one
                };
                streams.push((back, " reverse"));
            }
            across(&mut series, &path, profile, &streams, choice)?;
            if profile == Profile::Tuned && middle {
                for rate in RATES {
                    let path = Path {
                        rate: Some(rate * 1_000_000),
                        ..path.clone()
                    };
                    across(&mut series, &path, profile, &[(one, "")], choice)?;
                }
            }
        }
    }
    Ok(series)
}

/// One distance with random loss.
pub(crate) fn loss(choice: &Choice) -> Result<Series, BenchError> {
    let mut series = Series::new(LOSS.name);
    for profile in PROFILES {
        for loss in [1e-4, 1e-3] {
            let path = Path::new(Duration::from_millis(23)).with_loss(loss);
            let one = Stream::one(choice.seconds);
            across(&mut series, &path, profile, &[(one, "")], choice)?;
        }
    }
    flows::measure(&mut series, choice)?;
    Ok(series)
}

/// All systems across one path, in turns.
fn across(
    series: &mut Series,
    path: &Path,
    profile: Profile,
    streams: &[(Stream, &str)],
    choice: &Choice,
) -> Result<(), BenchError> {
    let case = name(path, profile);
    let cases: Vec<(Stream, String)> = streams
        .iter()
        .map(|(stream, suffix)| (*stream, format!("{case}{suffix}")))
        .filter(|(_, case)| choice.takes(case))
        .collect();
    if cases.is_empty() {
        return Ok(());
    }
    let wan = Wan::new(path.clone(), profile, 1)?;
    let place = Place::Wan(&wan);
    let iperf = Iperf::start(place)?;
    let pairs: Vec<Pair> = loopback::start(&iperf, place, &choice.systems(&SYSTEMS))?;
    for run in 1..=choice.runs {
        for (stream, case) in &cases {
            for pair in &pairs {
                let flow = iperf.run(pair, *stream)?;
                tell(&format!(
                    "{case}: run {run} of {}, {}: {:.0} Mbit/s",
                    choice.runs,
                    pair.system.name(),
                    flow.megabits_per_second
                ));
                push(series, case, pair.system, flow);
            }
        }
    }
    Ok(())
}

/// A path in the name of a case.
fn name(path: &Path, profile: Profile) -> String {
    let rate = path.rate.map(|rate| format!(" rate={}", rate / 1_000_000));
    format!(
        "rtt={} profile={} loss={}{}",
        path.rtt.as_millis(),
        profile.name(),
        share(path.loss),
        rate.unwrap_or_default()
    )
}

/// `0`, `1e-4`: the way people write losses.
fn share(loss: f64) -> String {
    if loss > 0.0 {
        format!("{loss:e}")
    } else {
        "0".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_written_as_people_write_them() {
        assert_eq!(
            [share(0.0), share(1e-4), share(1e-3)],
            ["0", "1e-4", "1e-3"]
        );
    }
}
