//! The protocols that two proxies may choose from (RFC 7301): trunk or session, bytes or Kafka.

use renkei_site::Protocol;

/// A trunk whose streams carry bytes.
pub(crate) const TRUNK: &[u8] = b"renkei-trunk/1";
/// A trunk whose streams carry Kafka sessions.
pub(crate) const TRUNK_KAFKA: &[u8] = b"renkei-trunk-kafka/1";
/// The callee speaks Kafka: the caller's proxy is to keep listeners for its brokers.
pub(crate) const KAFKA: &[u8] = b"renkei-kafka/1";
/// The callee's protocol is bytes.
pub(crate) const TCP: &[u8] = b"renkei-tcp/1";
/// HTTP/1.1 under its registered name (RFC 7301 6).
const HTTP: &[u8] = b"http/1.1";

/// What a caller can follow. A callee that chooses nothing carries bytes.
pub(crate) const CALLER: [&[u8]; 4] = [TRUNK, TRUNK_KAFKA, KAFKA, TCP];
/// The same without trunks.
pub(crate) const CALLER_SESSIONS: [&[u8]; 2] = [KAFKA, TCP];

/// Whether the other end chose a trunk.
pub(crate) fn is_trunk(alpn: Option<&[u8]>) -> bool {
    matches!(alpn, Some(TRUNK | TRUNK_KAFKA))
}

/// Whether the other end has said that it speaks Kafka.
pub(crate) fn is_kafka(alpn: Option<&[u8]>) -> bool {
    matches!(alpn, Some(KAFKA | TRUNK_KAFKA))
}

/// What the callee of a service chooses out of `offered`. Callers that offer none of these are
/// served without: a choice of nothing would end their handshake (RFC 7301 3.2).
pub(crate) fn choose(protocol: Protocol, offered: &[&[u8]]) -> Option<&'static [u8]> {
    let own: &[&'static [u8]] = match protocol {
        Protocol::Kafka => &[TRUNK_KAFKA, KAFKA],
        Protocol::Tcp => &[TRUNK, TCP],
        // For the caller's proxy its bytes are bytes; others may speak of it by its name.
        Protocol::Http => &[TRUNK, TCP, HTTP],
    };
    own.iter().find(|name| offered.contains(name)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

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
