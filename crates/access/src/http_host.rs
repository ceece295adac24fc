//! Hosts of HTTP requests in the one form that rules are compared with.

use std::{fmt, net::Ipv6Addr};

use thiserror::Error;

/// The most bytes of a host: a DNS name has at most 253.
const MAX: usize = 255;

/// The host that a request is for, as its `Host` header names it (RFC 9112 3.2): in small letters,
/// without the port and without the dot that may end a name. Servers choose by it among the sites
/// that they serve. An empty one is allowed, and is no site's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpHost(String);

/// The value of a `Host` header is not a host with an optional port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the Host header is not a host name or address with an optional port")]
pub struct HttpHostError;

impl HttpHost {
    /// Reads the value of a `Host` header.
    ///
    /// # Errors
    /// When it is not `uri-host [ ":" port ]` (RFC 9110 7.2), or has characters that no host name
    /// has and that servers read differently: user information, an encoded character, a list.
    pub fn parse(text: &[u8]) -> Result<Self, HttpHostError> {
        let text = std::str::from_utf8(text).map_err(|_| HttpHostError)?;
        let (host, port) = match text.starts_with('[') {
            true => split_address(text)?,
            false => split_name(text)?,
        };
        if port.len() > 5 || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(HttpHostError);
        }
        Ok(Self(host))
    }

    /// The canonical form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HttpHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Host and port of an IPv6 address: `[2001:db8::7]:80`.
fn split_address(text: &str) -> Result<(String, &str), HttpHostError> {
    let end = text.find(']').ok_or(HttpHostError)?;
    let address: &str = text.get(1..end).ok_or(HttpHostError)?;
    let address: Ipv6Addr = address.parse().map_err(|_| HttpHostError)?;
    let host = format!("[{address}]");
    let after = text.get(end + 1..).unwrap_or_default();
    match after.strip_prefix(':') {
        Some(port) => Ok((host, port)),
        None if after.is_empty() => Ok((host, "")),
        None => Err(HttpHostError),
    }
}

/// Host and port of a name or an IPv4 address: `records.example:80`.
fn split_name(text: &str) -> Result<(String, &str), HttpHostError> {
    let (host, port) = text.split_once(':').unwrap_or((text, ""));
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if host.len() > MAX || !host.bytes().all(is_host) {
        return Err(HttpHostError);
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    Ok((host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_form() {
        for (text, form) in [
            ("records.example", "records.example"),
            ("Records.EXAMPLE:8080", "records.example"),
            ("records.example.", "records.example"),
            ("records.example.:80", "records.example"),
            ("records.example:", "records.example"),
            ("my_app", "my_app"),
            ("192.0.2.7:80", "192.0.2.7"),
            ("[2001:DB8::7]:80", "[2001:db8::7]"),
            ("[0:0::1]", "[::1]"),
            ("", ""),
        ] {
            let host = HttpHost::parse(text.as_bytes());
            assert_eq!(host.map(|host| host.0).as_deref(), Ok(form), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = "x".repeat(256);
        for text in [
            "a b", "a, b", "a@b", "a/b", "a?b", "a\\b", "a%2eb", "a:b", "a:80:90", "a:123456",
            "[::1", "[::1]x", "[a]", "::1", "a]", "a\u{e9}", &long,
        ] {
            assert_eq!(
                HttpHost::parse(text.as_bytes()),
                Err(HttpHostError),
                "{text}"
            );
        }
        assert_eq!(HttpHost::parse(b"\xff"), Err(HttpHostError));
    }
}
