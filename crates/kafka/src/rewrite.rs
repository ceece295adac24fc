//! Rewriting the answers that name brokers, and the offer of ApiVersions.
//!
//! An answer is walked only as far as the last address in it. Addresses are replaced; every other
//! byte, tagged fields and all that follows included, is copied as it is.

mod offer;
#[cfg(test)]
mod tests;

use bytes::{BufMut, Bytes, BytesMut};

use crate::api;
use crate::cutter::LENGTH;
use crate::error::SessionError;
use crate::form::UNSUPPORTED_VERSION;
use crate::form::writer::with_length;
use crate::wire::{Reader, WireFault, put_string, put_uvarint};

pub(crate) use self::offer::Offer;
use self::offer::error_code;

/// An address that clients at this site can dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// The TCP port of the listener.
    pub port: u16,
}

/// Local addresses for the brokers of one cluster.
pub trait Endpoints {
    /// The local address for a broker, which says of itself that it is at `host` and `port`.
    ///
    /// It should be the same for a node id for as long as clients may remember it. `None` ends the
    /// session. The answers come from another institution: set a limit to the number of nodes.
    fn endpoint(&mut self, node: i32, host: &str, port: u16) -> Option<Endpoint>;
}

impl<F: FnMut(i32, &str, u16) -> Option<Endpoint>> Endpoints for F {
    fn endpoint(&mut self, node: i32, host: &str, port: u16) -> Option<Endpoint> {
        self(node, host, port)
    }
}

/// An answer to be rewritten, in the version it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Metadata(i16),
    FindCoordinator(i16),
    DescribeCluster(i16),
    Produce(i16),
    ApiVersions(i16),
    /// The answer of version 0 to a client that asked for a version yet to be invented.
    FutureApiVersions,
}

impl Answer {
    /// How the answer to a request has to be rewritten, if at all.
    pub(crate) fn of(key: i16, version: i16) -> Option<Self> {
        match key {
            api::METADATA => Some(Self::Metadata(version)),
            api::FIND_COORDINATOR => Some(Self::FindCoordinator(version)),
            api::DESCRIBE_CLUSTER => Some(Self::DescribeCluster(version)),
            api::PRODUCE if version >= 10 => Some(Self::Produce(version)),
            api::API_VERSIONS => Some(Self::ApiVersions(version)),
            _ => None,
        }
    }

    pub(crate) fn api(self) -> &'static str {
        match self {
            Self::Metadata(_) => "Metadata",
            Self::FindCoordinator(_) => "FindCoordinator",
            Self::DescribeCluster(_) => "DescribeCluster",
            Self::Produce(_) => "Produce",
            Self::ApiVersions(_) | Self::FutureApiVersions => "ApiVersions",
        }
    }

    fn flexible(self) -> bool {
        match self {
            Self::Metadata(version) => version >= 9,
            Self::FindCoordinator(version) | Self::ApiVersions(version) => version >= 3,
            Self::DescribeCluster(_) | Self::Produce(_) => true,
            Self::FutureApiVersions => false,
        }
    }

    /// Rewrites a whole frame, its length included.
    pub(crate) fn rewrite(
        self,
        frame: &[u8],
        endpoints: &mut dyn Endpoints,
        offer: Offer,
    ) -> Result<Bytes, SessionError> {
        self.splice(frame, endpoints, offer)
            .map_err(|fault| match fault {
                Fault::Wire(fault) => SessionError::MalformedAnswer {
                    api: self.api(),
                    fault,
                },
                Fault::NoEndpoint(node) => SessionError::NoEndpoint { node },
            })
    }

    fn splice(
        self,
        frame: &[u8],
        endpoints: &mut dyn Endpoints,
        offer: Offer,
    ) -> Result<Bytes, Fault> {
        let mut splice = Splice::new(frame, self.flexible(), endpoints);
        splice.reader.take(LENGTH + 4)?;
        match self {
            Self::Metadata(version) => splice.metadata(version)?,
            Self::FindCoordinator(version) => splice.find_coordinator(version)?,
            Self::DescribeCluster(version) => splice.describe_cluster(version)?,
            Self::Produce(version) => splice.produce(version)?,
            Self::ApiVersions(_) if error_code(frame)? == UNSUPPORTED_VERSION => {
                return self.refused_api_versions(frame, endpoints, offer);
            }
            Self::ApiVersions(version) => splice.api_versions(version, offer)?,
            Self::FutureApiVersions => {
                splice.replace(2, |out| {
                    out.put_i16(UNSUPPORTED_VERSION);
                    Ok(())
                })?;
                splice.offer(offer)?;
            }
        }
        Ok(with_length(splice.finish())?)
    }
}

#[derive(Debug)]
enum Fault {
    Wire(WireFault),
    NoEndpoint(i32),
}

impl From<WireFault> for Fault {
    fn from(fault: WireFault) -> Self {
        Self::Wire(fault)
    }
}

/// A copy in the making: what the reader has passed is copied unless it is replaced.
struct Splice<'a, 'e> {
    reader: Reader<'a>,
    input: &'a [u8],
    copied: usize,
    out: BytesMut,
    endpoints: &'e mut dyn Endpoints,
}

impl<'a, 'e> Splice<'a, 'e> {
    fn new(input: &'a [u8], flexible: bool, endpoints: &'e mut dyn Endpoints) -> Self {
        let out = BytesMut::with_capacity(input.len() + 64);
        Self {
            reader: Reader::new(input, flexible),
            input,
            copied: 0,
            out,
            endpoints,
        }
    }

    /// Copies up to `end`, which the reader has passed.
    fn copy_to(&mut self, end: usize) {
        self.out
            .put_slice(self.input.get(self.copied..end).unwrap_or_default());
        self.copied = end;
    }

    /// Writes something in the place of the next `count` bytes.
    fn replace(
        &mut self,
        count: usize,
        write: impl FnOnce(&mut BytesMut) -> Result<(), WireFault>,
    ) -> Result<(), WireFault> {
        self.copy_to(self.reader.at());
        self.reader.take(count)?;
        self.copied = self.reader.at();
        write(&mut self.out)
    }

    fn finish(mut self) -> BytesMut {
        self.copy_to(self.input.len());
        self.out
    }

    /// A node id with the host and port that follow it.
    fn broker(&mut self) -> Result<(), Fault> {
        let node = self.reader.i32()?;
        let start = self.reader.at();
        let host = self.reader.string()?;
        let port = self.reader.i32()?;
        let (host, port) = match node {
            // No broker: nothing to dial, whatever the answer says.
            ..0 => (String::new(), -1),
            _ => {
                let host = std::str::from_utf8(host).map_err(|_| WireFault::Host)?;
                let port = u16::try_from(port).map_err(|_| WireFault::Port(port))?;
                let local = self.endpoints.endpoint(node, host, port);
                let local = local.ok_or(Fault::NoEndpoint(node))?;
                (local.host, i32::from(local.port))
            }
        };
        self.copy_to(start);
        self.copied = self.reader.at();
        put_string(&mut self.out, self.reader.flexible(), host.as_bytes())?;
        self.out.put_i32(port);
        Ok(())
    }

    fn metadata(&mut self, version: i16) -> Result<(), Fault> {
        self.reader.skip_tags()?;
        if version >= 3 {
            self.reader.i32()?; // throttle time
        }
        for _ in 0..self.reader.array()? {
            self.broker()?;
            if version >= 1 {
                self.reader.nullable_string()?; // rack
            }
            self.reader.skip_tags()?;
        }
        Ok(())
    }

    fn find_coordinator(&mut self, version: i16) -> Result<(), Fault> {
        self.reader.skip_tags()?;
        if version >= 1 {
            self.reader.i32()?; // throttle time
        }
        if version >= 4 {
            return self.coordinators();
        }
        self.reader.i16()?; // error code
        if version >= 1 {
            self.reader.nullable_string()?; // error message
        }
        self.broker()
    }

    /// One coordinator for each key asked for (KIP-699).
    fn coordinators(&mut self) -> Result<(), Fault> {
        for _ in 0..self.reader.array()? {
            self.reader.string()?; // key
            self.broker()?;
            self.reader.i16()?; // error code
            self.reader.nullable_string()?; // error message
            self.reader.skip_tags()?;
        }
        Ok(())
    }

    fn describe_cluster(&mut self, version: i16) -> Result<(), Fault> {
        self.reader.skip_tags()?;
        self.reader.take(4 + 2)?; // throttle time, error code
        self.reader.nullable_string()?; // error message
        if version >= 1 {
            self.reader.take(1)?; // endpoint type
        }
        self.reader.nullable_string()?; // cluster id
        self.reader.i32()?; // controller id
        for _ in 0..self.reader.array()? {
            self.broker()?;
            self.reader.nullable_string()?; // rack
            if version >= 2 {
                self.reader.take(1)?; // is fenced
            }
            self.reader.skip_tags()?;
        }
        Ok(())
    }

    /// Produce from version 10: NodeEndpoints are a tagged field behind the partitions.
    fn produce(&mut self, version: i16) -> Result<(), Fault> {
        self.reader.skip_tags()?;
        for _ in 0..self.reader.array()? {
            match version {
                ..13 => self.reader.string()?,
                _ => self.reader.take(16)?, // topic id
            };
            for _ in 0..self.reader.array()? {
                self.produced_partition()?;
            }
            self.reader.skip_tags()?;
        }
        self.reader.i32()?; // throttle time
        for _ in 0..self.reader.uvarint()? {
            let start = self.reader.at();
            if let (0, endpoints) = self.reader.tag()? {
                let endpoints = self.node_endpoints(endpoints)?;
                self.replace_tag(start, 0, &endpoints)?;
            }
        }
        Ok(())
    }

    /// Writes another value of the tagged field that was read from `start`.
    fn replace_tag(&mut self, start: usize, tag: u32, value: &[u8]) -> Result<(), WireFault> {
        self.copy_to(start);
        self.copied = self.reader.at();
        put_uvarint(&mut self.out, tag);
        let length = u32::try_from(value.len()).map_err(|_| WireFault::Oversized)?;
        put_uvarint(&mut self.out, length);
        self.out.put_slice(value);
        Ok(())
    }

    fn produced_partition(&mut self) -> Result<(), WireFault> {
        self.reader.take(4 + 2 + 8 + 8 + 8)?; // index, error code, offset, time, start offset
        for _ in 0..self.reader.array()? {
            self.reader.i32()?; // index of a refused record
            self.reader.nullable_string()?; // and why
            self.reader.skip_tags()?;
        }
        self.reader.nullable_string()?; // error message
        self.reader.skip_tags()
    }

    fn node_endpoints(&mut self, value: &[u8]) -> Result<BytesMut, Fault> {
        let mut splice = Splice::new(value, true, self.endpoints);
        for _ in 0..splice.reader.array()? {
            splice.broker()?;
            splice.reader.nullable_string()?; // rack
            splice.reader.skip_tags()?;
        }
        Ok(splice.finish())
    }
}
