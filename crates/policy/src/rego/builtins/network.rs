//! Addresses and networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    Answer, Builtin, Call, Outcome, Parameter as P, Special, function, special, text, truth,
};
use crate::rego::value::Value;

pub(super) const TABLE: &[Builtin] = &[special(
    function(
        "net.cidr_contains",
        &[P::Text, P::Text],
        Answer::Bool,
        contains,
    ),
    Special::Network,
)];

/// A longer text is neither an address nor a network.
const MAX_TEXT: usize = 64;

/// Addresses that share their first bits; IPv4 within IPv6 is IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rego) struct Network {
    first: IpAddr,
    bits: u32,
}

impl Network {
    pub(in crate::rego) fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let (address, bits) = text.split_once('/')?;
        if bits.is_empty() || !bits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let (address, bits): (IpAddr, u32) = (address.parse().ok()?, bits.parse().ok()?);
        let first = match address {
            IpAddr::V4(_) if bits > 32 => return None,
            IpAddr::V6(_) if bits > 128 => return None,
            IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask32(bits))),
            IpAddr::V6(ip) => {
                let first = Ipv6Addr::from_bits(ip.to_bits() & mask128(bits));
                match first.to_ipv4_mapped() {
                    Some(mapped) if bits >= 96 => {
                        let bits = bits - 96;
                        return Some(Self {
                            first: IpAddr::V4(Ipv4Addr::from_bits(mapped.to_bits() & mask32(bits))),
                            bits,
                        });
                    }
                    _ => IpAddr::V6(first),
                }
            }
        };
        Some(Self { first, bits })
    }

    fn contains(&self, ip: IpAddr) -> bool {
        match (self.first, ip.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(ip)) => {
                ip.to_bits() & mask32(self.bits) == first.to_bits()
            }
            (IpAddr::V6(first), IpAddr::V6(ip)) => {
                ip.to_bits() & mask128(self.bits) == first.to_bits()
            }
            _ => false,
        }
    }
}

fn mask32(bits: u32) -> u32 {
    u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0)
}

fn mask128(bits: u32) -> u128 {
    u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0)
}

fn contains(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let [outer, inner] = arguments else {
        return Ok(None);
    };
    let (Some(outer), Some(inner)) = (text(outer), text(inner)) else {
        return Ok(None);
    };
    call.budget.spend(4)?;
    let Some(outer) = Network::parse(outer) else {
        return Ok(None);
    };
    if inner.len() <= MAX_TEXT
        && let Ok(ip) = inner.parse::<IpAddr>()
    {
        return truth(outer.contains(ip));
    }
    match Network::parse(inner) {
        Some(inner) => truth(inner.bits >= outer.bits && outer.contains(inner.first)),
        None => Ok(None),
    }
}
