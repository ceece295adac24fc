//! The protocols that two proxies may choose from (RFC 7301): trunk or session, bytes or Kafka.

use renkei_site::Protocol;

/// A trunk whose streams carry bytes, and whose lanes change their keys
/// ([`takes_key_update`](crate::trunk::takes_key_update)).
pub(crate) const TRUNK: &[u8] = b"renkei-trunk/1.1";
/// The same with a peer that takes no new keys.
const TRUNK_1_0: &[u8] = b"renkei-trunk/1";
/// A trunk whose streams carry Kafka sessions, in the same two versions.
pub(crate) const TRUNK_KAFKA: &[u8] = b"renkei-trunk-kafka/1.1";
const TRUNK_KAFKA_1_0: &[u8] = b"renkei-trunk-kafka/1";
/// The callee speaks Kafka: the caller's proxy is to keep listeners for its brokers.
pub(crate) const KAFKA: &[u8] = b"renkei-kafka/1";
/// The callee's protocol is bytes.
pub(crate) const TCP: &[u8] = b"renkei-tcp/1";
/// HTTP/1.1 under its registered name (RFC 7301 6).
const HTTP: &[u8] = b"http/1.1";

/// What a caller can follow. A callee that chooses nothing carries bytes.
pub(crate) const CALLER: [&[u8]; 6] = [TRUNK, TRUNK_KAFKA, TRUNK_1_0, TRUNK_KAFKA_1_0, KAFKA, TCP];
/// The same without trunks.
pub(crate) const CALLER_SESSIONS: [&[u8]; 2] = [KAFKA, TCP];

/// Whether the other end chose a trunk.
pub(crate) fn is_trunk(alpn: Option<&[u8]>) -> bool {
    matches!(
        alpn,
        Some(TRUNK | TRUNK_1_0 | TRUNK_KAFKA | TRUNK_KAFKA_1_0)
    )
}

/// Whether the other end has said that it speaks Kafka.
pub(crate) fn is_kafka(alpn: Option<&[u8]>) -> bool {
    matches!(alpn, Some(KAFKA | TRUNK_KAFKA | TRUNK_KAFKA_1_0))
}

/// What the callee of a service chooses out of `offered`. Callers that offer none of these are
/// served without: a choice of nothing would end their handshake (RFC 7301 3.2).
pub(crate) fn choose(protocol: Protocol, offered: &[&[u8]]) -> Option<&'static [u8]> {
    let own: &[&'static [u8]] = match protocol {
        Protocol::Kafka => &[TRUNK_KAFKA, TRUNK_KAFKA_1_0, KAFKA],
        Protocol::Tcp => &[TRUNK, TRUNK_1_0, TCP],
        // For the caller's proxy its bytes are bytes; others may speak of it by its name.
        Protocol::Http => &[TRUNK, TRUNK_1_0, TCP, HTTP],
    };
    own.iter().find(|name| offered.contains(name)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trunk::takes_key_update;

    /// What the release before offers, and what it chooses from.
    const OLDER: [&[u8]; 4] = [TRUNK_1_0, TRUNK_KAFKA_1_0, KAFKA, TCP];

    #[test]
    fn with_a_peer_of_the_release_before_a_trunk_keeps_its_keys() {
        for (protocol, chosen) in [
            (Protocol::Tcp, TRUNK_1_0),
            (Protocol::Http, TRUNK_1_0),
            (Protocol::Kafka, TRUNK_KAFKA_1_0),
        ] {
            assert_eq!(choose(protocol, &OLDER), Some(chosen));
            assert!(CALLER.contains(&chosen), "which it can choose, too");
            assert!(is_trunk(Some(chosen)) && !takes_key_update(chosen));
            assert_eq!(is_kafka(Some(chosen)), protocol == Protocol::Kafka);
        }
        assert!(takes_key_update(TRUNK) && takes_key_update(TRUNK_KAFKA));
    }

    #[test]
    fn a_callee_chooses_what_its_protocol_needs() {
        for (protocol, chosen) in [
            (Protocol::Tcp, TRUNK),
            (Protocol::Http, TRUNK),
            (Protocol::Kafka, TRUNK_KAFKA),
        ] {
            assert_eq!(choose(protocol, &CALLER), Some(chosen));
            assert!(is_trunk(Some(chosen)));
        }
        assert_eq!(choose(Protocol::Kafka, &CALLER_SESSIONS), Some(KAFKA));
        assert_eq!(choose(Protocol::Http, &[b"h2", HTTP]), Some(HTTP));
        assert_eq!(choose(Protocol::Tcp, &[b"h2", HTTP]), None);
        assert!(is_kafka(Some(KAFKA)) && is_kafka(Some(TRUNK_KAFKA)) && !is_kafka(None));
        assert!(!CALLER_SESSIONS.iter().any(|one| is_trunk(Some(one))));
    }
}
