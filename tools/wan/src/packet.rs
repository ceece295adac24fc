//! Packets as a TUN device with `IFF_VNET_HDR` gives them: a `virtio_net_hdr`, then an IP packet,
//! which may be a super-packet of many segments that are yet to be cut (TSO, USO).
//!
//! A super-packet that loses segments is delivered as the pieces between the losses. Each piece is
//! again a super-packet (or a plain packet, when one segment is left) with its own IP length and
//! identification, TCP sequence number, flags and partial checksum, so that the receiver sees what
//! it would have seen had the segments travelled one by one.

use std::ops::Range;

/// The length of `virtio_net_hdr` without mergeable buffers.
const VNET_HEADER: usize = 10;
/// The largest read from a device: the header and an IP packet.
pub const LARGEST: usize = VNET_HEADER + 65_535;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
/// TCP's ECN bit in the GSO type.
const GSO_ECN: u8 = 0x80;

const TCP_FIN: u8 = 0x01;
const TCP_PSH: u8 = 0x08;
const TCP_CWR: u8 = 0x80;

/// A read from a device, understood as far as splitting needs.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    bytes: &'a [u8],
    /// The lengths of a super-packet; `None` for a plain packet.
    segments: Option<Segments>,
}

#[derive(Debug, Clone, Copy)]
struct Segments {
    /// IP and transport headers together.
    headers: usize,
    /// Where the transport header starts.
    transport: usize,
    /// Where the checksum lies in the transport header.
    checksum: usize,
    /// Payload bytes of a segment.
    payload: usize,
    count: usize,
    version: u8,
    tcp: bool,
}

impl<'a> Packet<'a> {
    /// Reads the headers. What is not understood counts as one segment and travels as it is.
    pub fn parse(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            segments: Segments::parse(bytes),
        }
    }

    /// How many packets of the path's MTU this is.
    pub fn segments(&self) -> usize {
        self.segments.map_or(1, |segments| segments.count)
    }

    /// The bytes of one segment on the wire.
    pub fn segment_bytes(&self) -> usize {
        match self.segments {
            Some(segments) => segments.headers + segments.payload,
            None => self.bytes.len().saturating_sub(VNET_HEADER),
        }
    }

    /// Writes the packet that carries only the segments of `range`; `false` when the packet is
    /// plain or the range is not in it.
    pub fn piece(&self, range: Range<usize>, out: &mut Vec<u8>) -> bool {
        out.clear();
        self.segments
            .and_then(|segments| segments.write(self.bytes, range, out))
            .is_some()
    }
}

impl Segments {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let kind = *bytes.get(1)? & !GSO_ECN;
        let payload = usize::from(native(bytes, 4)?);
        if !matches!(kind, GSO_TCP4 | GSO_TCP6 | GSO_UDP) || payload == 0 {
            return None;
        }
        let transport = usize::from(native(bytes, 6)?);
        let checksum = usize::from(native(bytes, 8)?);
        let packet = bytes.get(VNET_HEADER..)?;
        let tcp = kind != GSO_UDP;
        let length = if tcp {
            usize::from(packet.get(transport + 12)? >> 4) * 4
        } else {
            8
        };
        let headers = transport + length;
        let total = packet.len().checked_sub(headers)?;
        Some(Self {
            headers,
            transport,
            checksum,
            payload,
            count: total.div_ceil(payload).max(1),
            version: packet.first()? >> 4,
            tcp,
        })
    }

    fn write(&self, bytes: &[u8], range: Range<usize>, out: &mut Vec<u8>) -> Option<()> {
        let packet = bytes.get(VNET_HEADER..)?;
        let start = self.headers + range.start * self.payload;
        let end = (self.headers + range.end * self.payload).min(packet.len());
        out.extend_from_slice(bytes.get(..VNET_HEADER)?);
        out.extend_from_slice(packet.get(..self.headers)?);
        out.extend_from_slice(packet.get(start..end)?);
        let (header, packet) = out.split_at_mut_checked(VNET_HEADER)?;
        self.mark(header, range.len())?;
        self.address(packet, range.start)?;
        if self.tcp {
            self.sequence(packet, &range)?;
        } else {
            let length = u16::try_from(packet.len() - self.transport).ok()?;
            put(packet, self.transport + 4, length)?;
        }
        let sum = self.pseudo_header(packet)?;
        put(packet, self.transport + self.checksum, sum)
    }

    /// The `virtio_net_hdr` of a piece of `count` segments.
    fn mark(&self, header: &mut [u8], count: usize) -> Option<()> {
        *header.get_mut(0)? |= NEEDS_CHECKSUM;
        let length = u16::try_from(self.headers).ok()?;
        header.get_mut(2..4)?.copy_from_slice(&length.to_ne_bytes());
        if count == 1 {
            *header.get_mut(1)? = GSO_NONE;
            header.get_mut(4..6)?.fill(0);
        }
        Some(())
    }

    /// The IP header of a piece that starts at segment `first`.
    fn address(&self, packet: &mut [u8], first: usize) -> Option<()> {
        if self.version == 6 {
            let length = u16::try_from(packet.len().checked_sub(40)?).ok()?;
            return put(packet, 4, length);
        }
        let length = u16::try_from(packet.len()).ok()?;
        put(packet, 2, length)?;
        let identification = big(packet, 4)?.wrapping_add(first as u16);
        put(packet, 4, identification)?;
        put(packet, 10, 0)?;
        let sum = !sum(packet.get(..self.transport)?);
        put(packet, 10, sum)
    }

    /// The TCP sequence number and flags of a piece.
    fn sequence(&self, packet: &mut [u8], range: &Range<usize>) -> Option<()> {
        let at = self.transport + 4;
        let field = packet.get_mut(at..at + 4)?;
        let before = u32::from_be_bytes(field.try_into().ok()?);
        let number = before.wrapping_add((range.start * self.payload) as u32);
        field.copy_from_slice(&number.to_be_bytes());
        let flags = packet.get_mut(self.transport + 13)?;
        if range.start > 0 {
            *flags &= !TCP_CWR;
        }
        if range.end < self.count {
            *flags &= !(TCP_FIN | TCP_PSH);
        }
        Some(())
    }

    /// What the checksum field holds while the checksum itself is still to be made.
    fn pseudo_header(&self, packet: &[u8]) -> Option<u16> {
        let addresses = if self.version == 6 { 8..40 } else { 12..20 };
        let protocol: u16 = if self.tcp { 6 } else { 17 };
        let length = u16::try_from(packet.len() - self.transport).ok()?;
        let parts = [sum(packet.get(addresses)?), protocol, length];
        Some(fold(parts.into_iter().map(u32::from).sum()))
    }
}

/// The one's complement sum of big-endian words.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    fold(words.sum())
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn native(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(field.try_into().ok()?))
}

fn big(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes(field.try_into().ok()?))
}

fn put(bytes: &mut [u8], at: usize, value: u16) -> Option<()> {
    bytes
        .get_mut(at..at + 2)?
        .copy_from_slice(&value.to_be_bytes());
    Some(())
}

#[cfg(test)]
mod tests;
