//! Streams across an emulated WAN, one proxy of each pair at either side: the paper's table 2, and
//! the same with loss.

use std::time::Duration;

use renkei_wan::{Path, Profile, Wan};

use crate::{
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
             streams=8: the same application with eight connections. The WAN is tools/wan.",
    drawn: loopback::THROUGHPUT.0,
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
    drawn: loopback::THROUGHPUT.0,
};

const PROFILES: [Profile; 2] = [Profile::Year2021, Profile::Tuned];
const SYSTEMS: [System; 3] = [System::Direct, System::Renkei, System::Envoy];

/// The paper's distances without loss.
pub(crate) fn table2(runs: u32, seconds: u32) -> Result<Series, BenchError> {
    let mut series = Series::new(TABLE2.name);
    let one = Stream::one(seconds);
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
            across(&mut series, path, profile, &streams, runs)?;
        }
    }
    Ok(series)
}

/// One distance with random loss.
pub(crate) fn loss(runs: u32, seconds: u32) -> Result<Series, BenchError> {
    let mut series = Series::new(LOSS.name);
    for profile in PROFILES {
        for loss in [1e-4, 1e-3] {
            let path = Path::new(Duration::from_millis(23)).with_loss(loss);
            across(
                &mut series,
                path,
                profile,
                &[(Stream::one(seconds), "")],
                runs,
            )?;
        }
    }
    flows::measure(&mut series, runs, seconds)?;
    Ok(series)
}

/// All systems across one path, in turns.
fn across(
    series: &mut Series,
    path: Path,
    profile: Profile,
    streams: &[(Stream, &str)],
    runs: u32,
) -> Result<(), BenchError> {
    let case = format!(
        "rtt={} profile={} loss={}",
        path.rtt.as_millis(),
        profile.name(),
        share(path.loss)
    );
    let wan = Wan::new(path, profile, 1)?;
    let place = Place::Wan(&wan);
    let iperf = Iperf::start(place)?;
    let pairs: Vec<Pair> = loopback::start(&iperf, place, &SYSTEMS)?;
    for run in 1..=runs {
        for (stream, suffix) in streams {
            for pair in &pairs {
                let flow = iperf.run(pair, *stream)?;
                let case = format!("{case}{suffix}");
                tell(&format!(
                    "{case}: run {run} of {runs}, {}: {:.0} Mbit/s",
                    pair.system.name(),
                    flow.megabits_per_second
                ));
                push(series, &case, pair.system, flow);
            }
        }
    }
    Ok(())
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
