//! Addresses that people write: `HOST:PORT`.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize, de};

/// RFC 1035 2.3.4: a name has at most 255 bytes on the wire, 253 as text.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Why a text is not `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No port at the end.
    #[error("the port is missing")]
    NoPort,
    /// The port is no number from 1 to 65535.
    #[error("{0:?} is not a port (1 to 65535)")]
    Port(String),
    /// No host before the port.
    #[error("the host is missing")]
    NoHost,
    /// An IPv6 address without brackets cannot be separated from its port.
    #[error("an IPv6 address needs brackets")]
    Brackets,
    /// Neither an IP address nor a DNS name.
    #[error("{0:?} is neither an IP address nor a DNS name")]
    Host(String),
}

/// A DNS name or an IP address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A DNS name in lower case, still to be resolved.
    Name(String),
    /// An address, of IPv4 or IPv6.
    Ip(IpAddr),
}

/// A host and a port, such as `gw.osaka.example:8443` or `[::1]:9092`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    host: Host,
    port: u16,
}

impl HostPort {
    /// A host and a port.
    pub fn new(host: Host, port: u16) -> Self {
        Self { host, port }
    }

    /// Reads `HOST:PORT`; an IPv6 address is in brackets.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(AddressError::Brackets);
        }
        let port = match port.parse() {
            Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => number,
            _ => return Err(AddressError::Port(port.to_owned())),
        };
        Ok(Self {
            host: Host::parse(host)?,
            port,
        })
    }

    /// The host as it is written: a DNS name or an IP address.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The TCP port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        Self::new(Host::Ip(address.ip()), address.port())
    }
}

impl Host {
    /// Parses an IP address (IPv6 in brackets) or a DNS name.
    fn parse(text: &str) -> Result<Self, AddressError> {
        let bad = || AddressError::Host(text.to_owned());
        if text.is_empty() {
            return Err(AddressError::NoHost);
        }
        if let Some(rest) = text.strip_prefix('[') {
            let inner = rest.strip_suffix(']').ok_or_else(bad)?;
            return inner
                .parse()
                .map(|ip| Self::Ip(IpAddr::V6(ip)))
                .map_err(|_| bad());
        }
        if text.contains(':') {
            return Err(AddressError::Brackets);
        }
        match text.parse() {
            Ok(ip) => Ok(Self::Ip(IpAddr::V4(ip))),
            Err(_) if is_dns_name(text) => Ok(Self::Name(text.to_ascii_lowercase())),
            Err(_) => Err(bad()),
        }
    }
}

/// Whether a text is a DNS name: labels of letters, digits, `-` and `_` (which resolvers of
/// container networks use), the last of them not a number, so that `10.0.0.256` is none.
pub(crate) fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= MAX_NAME
        && text.split('.').all(label)
        && !text.rsplit('.').next().is_some_and(number)
}

/// Whether a text is one DNS label in lower case (RFC 1123 2.1): the name of a service.
pub(crate) fn is_dns_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_LABEL).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Serialize for HostPort {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostPort {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_written() {
        for text in [
            "127.0.0.1:9092",
            "[::1]:9092",
            "gw.osaka.example:8443",
            "kafka_1:9092",
        ] {
            assert_eq!(HostPort::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(HostPort::parse("Broker:1").unwrap().to_string(), "broker:1");
    }

    #[test]
    fn what_is_wrong_with_an_address_is_told() {
        let fault = |text: &str| HostPort::parse(text).unwrap_err();
        assert_eq!(fault("localhost"), AddressError::NoPort);
        assert_eq!(fault(":9092"), AddressError::NoHost);
        assert_eq!(fault("::1"), AddressError::Brackets);
        assert_eq!(fault("fe80::1:x:9092"), AddressError::Brackets);
        for port in ["", "0", "65536", "+1", "http"] {
            assert_eq!(
                fault(&format!("a:{port}")),
                AddressError::Port(port.to_owned())
            );
        }
        for host in ["10.0.0.256", "a..b", "-a", "a b", "[::1", "[1]", "日本"] {
            assert_eq!(
                fault(&format!("{host}:1")),
                AddressError::Host(host.to_owned())
            );
        }
    }
}
