//! Where a service really runs: `HOST:PORT`, or `unix:PATH`.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize, de};

use crate::{AddressError, HostPort};

/// What an address of a unix socket begins with.
const UNIX: &str = "unix:";
/// `sun_path` of unix(7) has 108 bytes, the last of which is a NUL.
const MAX_SOCKET_PATH: usize = 107;

/// Why a text is neither `HOST:PORT` nor `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// It is not the address of a unix socket, and not `HOST:PORT` either.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The process has no folder that a path could be relative to.
    #[error("the path of the unix socket does not begin with /")]
    Relative,
    /// The name is not a path (unix(7), "abstract").
    #[error("an abstract unix socket has no mode: every user of the machine can connect to it")]
    Abstract,
    /// The kernel takes no longer path.
    #[error("the path of the unix socket has more than {MAX_SOCKET_PATH} bytes")]
    TooLong,
    /// The path would not be readable in a log.
    #[error("the path of the unix socket contains a control character")]
    Control,
}

/// The address of a backend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendAddress {
    /// A host and a port of TCP.
    Tcp(HostPort),
    /// The absolute path of a unix socket of type stream.
    Unix(PathBuf),
}

impl BackendAddress {
    /// Reads `HOST:PORT` or `unix:PATH`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, BackendError> {
        let path = text.strip_prefix(UNIX);
        // A host may be called `unix`, and no path is a number.
        let is_port = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
        match path.filter(|rest| !is_port(rest)) {
            Some(path) => socket(path).map(Self::Unix),
            None => Ok(Self::Tcp(HostPort::parse(text)?)),
        }
    }

    /// The host and port, of a backend with TCP.
    pub fn tcp(&self) -> Option<&HostPort> {
        match self {
            Self::Tcp(address) => Some(address),
            Self::Unix(_) => None,
        }
    }

    /// The path, of a backend with a unix socket.
    pub fn unix(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => Some(path),
        }
    }
}

fn socket(path: &str) -> Result<PathBuf, BackendError> {
    match path {
        path if path.starts_with('@') => Err(BackendError::Abstract),
        path if !path.starts_with('/') => Err(BackendError::Relative),
        path if path.len() > MAX_SOCKET_PATH => Err(BackendError::TooLong),
        path if path.chars().any(char::is_control) => Err(BackendError::Control),
        // One spelling of each path, so that repeated ones are found.
        path => Ok(Path::new(path).components().collect()),
    }
}

impl FromStr for BackendAddress {
    type Err = BackendError;

    fn from_str(text: &str) -> Result<Self, BackendError> {
        Self::parse(text)
    }
}

impl From<HostPort> for BackendAddress {
    fn from(address: HostPort) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl Serialize for BackendAddress {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BackendAddress {
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
            "unix:9092",
            "unix:/run/postgresql/.s.PGSQL.5432",
            "unix:/run/a b/c:1",
        ] {
            let address = BackendAddress::parse(text).unwrap();
            assert_eq!(address.to_string(), text);
            let json = serde_json::to_string(&address).unwrap();
            assert_eq!(
                serde_json::from_str::<BackendAddress>(&json).unwrap(),
                address
            );
        }
        assert!(BackendAddress::parse("unix:9092").unwrap().tcp().is_some());
        let slashes = BackendAddress::parse("unix:///run//app/./socket").unwrap();
        assert_eq!(slashes.unix(), Some(Path::new("/run/app/socket")));
    }

    #[test]
    fn what_is_no_path_of_a_socket_is_refused() {
        let fault = |text: &str| BackendAddress::parse(text).unwrap_err();
        assert_eq!(fault("unix:@redis"), BackendError::Abstract);
        assert_eq!(fault("unix:run/redis"), BackendError::Relative);
        assert_eq!(fault("unix:"), BackendError::Relative);
        assert_eq!(fault("unix:/run/a\nb"), BackendError::Control);
        let longest = format!("unix:/{}", "a".repeat(MAX_SOCKET_PATH - 1));
        assert!(BackendAddress::parse(&longest).is_ok());
        assert_eq!(fault(&format!("{longest}a")), BackendError::TooLong);
        assert_eq!(
            fault("localhost"),
            BackendError::Address(AddressError::NoPort)
        );
    }
}
