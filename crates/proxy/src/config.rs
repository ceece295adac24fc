//! What a proxy is to do, and its bounds.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use renkei_policy::ServicePolicy;
use renkei_site::ProxyPart;

/// What a proxy is to do.
#[derive(Debug, Clone)]
pub struct Desired {
    /// Its part of the site.
    pub site: Arc<ProxyPart>,
    /// The policy of every service, by the service's name. A service without one is closed.
    pub policies: BTreeMap<String, Arc<ServicePolicy>>,
}

/// How much a proxy takes on at once, and how long it waits for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyLimits {
    /// Open connections of each kind: from other sites, of local workloads, forwarded as a hub.
    /// Half as many may be before their handshake's end, half as many may be lanes of trunks, and
    /// an eighth may read the bundle endpoint. No caller gets all of them (docs/operating.md).
    pub connections: usize,
    /// TLS handshakes under way at the gateway, of which one address has at most half; more wait.
    pub handshakes: usize,
    /// Connections being opened to other sites, of which one gateway has at most half; more wait.
    pub dials: usize,
    /// How long a caller may take for its handshake.
    pub handshake_timeout: Duration,
    /// How long one address of a gateway or backend may take to answer.
    pub connect_timeout: Duration,
    /// How long a backend of HTTP may take nothing of a request, and how long its response may
    /// take to begin. A service's `response_timeout` comes first.
    pub backend_response_timeout: Duration,
    /// How long a response of HTTP may pause.
    pub backend_idle_timeout: Duration,
    /// Bytes that all trunks together may hold, for their applications and for their peers.
    pub memory: u64,
    /// Bytes that all Kafka sessions of a direction may collect, of requests and answers of which
    /// all must be there before any of it is sent. One caller has a quarter of it.
    pub kafka_memory: usize,
    /// How long the connections of a trunk wait when every lane to the other site is lost.
    pub grace: Duration,
    /// How long what is open waits for the bundle of its peer, or for the SVID of its own side, once
    /// that is missing. New connections are refused meanwhile.
    pub bundle_grace: Duration,
    /// Records that a lane seals with one key. Then it changes the key (RFC 8446 4.6.3), if the
    /// other end takes that.
    pub records_per_key: u64,
    /// Records that one key seals after which a lane is replaced, if the other end takes no new
    /// keys. AES-GCM allows three times the default (RFC 8446 5.5).
    pub records_per_lane: u64,
}

/// Files that a process has open for other things than connections.
const OTHER_FILES: u64 = 256;
/// Files for each of [`ProxyLimits::connections`]: two for a connection from another site, two for
/// one of a local workload, and half for each of a lane and a connection in its handshake.
const FILES: u64 = 5;
/// Memory of the process for each of them, of which the trunks have half.
const MEMORY: u64 = 256 * 1024;
/// The bounds of what is derived.
const CONNECTIONS: std::ops::RangeInclusive<u64> = 16..=65_536;

impl ProxyLimits {
    /// What a process may take on that can have so many files open (RLIMIT_NOFILE), and so many
    /// bytes of memory.
    pub fn for_resources(files: u64, memory: u64) -> Self {
        let connections = (files.saturating_sub(OTHER_FILES) / FILES)
            .min(memory / MEMORY)
            .clamp(*CONNECTIONS.start(), *CONNECTIONS.end());
        let connections = usize::try_from(connections).unwrap_or(usize::MAX);
        let least = |most: usize| most.min(connections.div_ceil(4)).max(4);
        Self {
            connections,
            handshakes: least(1_024),
            dials: least(256),
            memory: memory / 4,
            ..Self::default()
        }
    }
}

impl Default for ProxyLimits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            handshakes: 1_024,
            dials: 256,
            handshake_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            backend_response_timeout: Duration::from_mins(5),
            backend_idle_timeout: Duration::from_hours(1),
            memory: 1 << 30,
            kafka_memory: 1 << 27,
            grace: Duration::from_secs(30),
            bundle_grace: Duration::from_secs(3),
            records_per_key: 1 << 16,
            records_per_lane: 1 << 23,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_follow_the_files_and_the_memory_of_the_process() {
        let of = |files, memory| ProxyLimits::for_resources(files, memory).connections;
        const GIB: u64 = 1 << 30;
        assert_eq!(of(524_288, 4 * GIB), 16_384, "memory");
        assert_eq!(of(1_024, 4 * GIB), 153, "files");
        assert_eq!(of(u64::MAX, u64::MAX), 65_536);
        assert_eq!(of(0, 0), 16, "a site works with little, too");
        let few = ProxyLimits::for_resources(1_024, GIB);
        assert_eq!((few.handshakes, few.dials, few.memory), (39, 39, GIB / 4));
    }
}
