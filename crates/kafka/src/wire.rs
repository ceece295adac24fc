//! Kafka's primitive types, read from a slice that is already bounded.
//!
//! Nothing is allocated for a count or a length read from the wire: arrays are walked element by
//! element, so a count larger than the data ends at the first missing byte.

use bytes::{BufMut, BytesMut};

/// What is wrong with bytes that should be a Kafka message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireFault {
    /// The data ended within a field.
    #[error("the message ends in the middle of a field")]
    Truncated,
    /// A length or count below zero where null is not allowed.
    #[error("a length of {0} where there must be a value")]
    Negative(i32),
    /// A variable-length integer beyond 32 bits.
    #[error("a variable-length integer of more than 32 bits")]
    Varint,
    /// A host name that is not text.
    #[error("a host name that is not UTF-8")]
    Host,
    /// A port outside 0 to 65535.
    #[error("port {0} does not exist")]
    Port(i32),
    /// Something that cannot be written in the field it belongs to.
    #[error("a value too long for its field")]
    Oversized,
}

/// A cursor over one message.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    /// Whether strings, arrays and structures are in the compact form of KIP-482.
    flexible: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(input: &'a [u8], flexible: bool) -> Self {
        Self {
            input,
            at: 0,
            flexible,
        }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn flexible(&self) -> bool {
        self.flexible
    }

    /// What was read since the reader was at `start`.
    pub(crate) fn passed_since(&self, start: usize) -> &'a [u8] {
        self.input.get(start..self.at).unwrap_or_default()
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], WireFault> {
        let end = self.at.checked_add(count).ok_or(WireFault::Truncated)?;
        let taken = self.input.get(self.at..end).ok_or(WireFault::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], WireFault> {
        self.take(N)?.try_into().map_err(|_| WireFault::Truncated)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, WireFault> {
        self.array_of().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, WireFault> {
        self.array_of().map(i32::from_be_bytes)
    }

    pub(crate) fn uvarint(&mut self) -> Result<u32, WireFault> {
        let mut value: u32 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array_of()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                return Err(WireFault::Varint);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireFault::Varint)
    }

    /// A nullable string; its bytes are not looked at.
    pub(crate) fn nullable_string(&mut self) -> Result<Option<&'a [u8]>, WireFault> {
        let length = match self.flexible {
            true => i64::from(self.uvarint()?) - 1,
            false => i64::from(self.i16()?),
        };
        match usize::try_from(length) {
            Ok(length) => self.take(length).map(Some),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(WireFault::Negative(
                i32::try_from(length).unwrap_or(i32::MIN),
            )),
        }
    }

    pub(crate) fn string(&mut self) -> Result<&'a [u8], WireFault> {
        self.nullable_string()?.ok_or(WireFault::Negative(-1))
    }

    /// The count of an array's elements. It may claim more than there is: do not allocate by it.
    pub(crate) fn array(&mut self) -> Result<u32, WireFault> {
        if self.flexible {
            return self
                .uvarint()?
                .checked_sub(1)
                .ok_or(WireFault::Negative(-1));
        }
        let count = self.i32()?;
        u32::try_from(count).map_err(|_| WireFault::Negative(count))
    }

    /// The same where null is allowed.
    pub(crate) fn nullable_array(&mut self) -> Result<Option<u32>, WireFault> {
        if self.flexible {
            return Ok(self.uvarint()?.checked_sub(1));
        }
        match self.i32()? {
            -1 => Ok(None),
            count => u32::try_from(count)
                .map(Some)
                .map_err(|_| WireFault::Negative(count)),
        }
    }

    /// Passes over bytes, null or not.
    pub(crate) fn skip_bytes(&mut self) -> Result<(), WireFault> {
        let length = self.nullable_array()?.unwrap_or_default();
        let length = usize::try_from(length).map_err(|_| WireFault::Truncated)?;
        self.take(length).map(drop)
    }

    /// The next tagged field: its tag and its value.
    pub(crate) fn tag(&mut self) -> Result<(u32, &'a [u8]), WireFault> {
        let tag = self.uvarint()?;
        let size = self.uvarint()?;
        let size = usize::try_from(size).map_err(|_| WireFault::Truncated)?;
        Ok((tag, self.take(size)?))
    }

    /// Passes over a structure's tagged fields; older forms have none.
    pub(crate) fn skip_tags(&mut self) -> Result<(), WireFault> {
        if self.flexible {
            for _ in 0..self.uvarint()? {
                self.tag()?;
            }
        }
        Ok(())
    }
}

pub(crate) fn put_uvarint(out: &mut BytesMut, mut value: u32) {
    while let Some(more) = Some(value >> 7).filter(|more| *more > 0) {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value = more;
    }
    out.put_u8(value as u8);
}

pub(crate) fn put_string(out: &mut BytesMut, flexible: bool, text: &[u8]) -> Result<(), WireFault> {
    let length = i16::try_from(text.len()).map_err(|_| WireFault::Oversized)?;
    match flexible {
        true => put_uvarint(out, u32::from(length.unsigned_abs()) + 1),
        false => out.put_i16(length),
    }
    out.put_slice(text);
    Ok(())
}

/// Writes the count of an array.
pub(crate) fn put_array(out: &mut BytesMut, flexible: bool, count: u32) -> Result<(), WireFault> {
    match flexible {
        true => put_uvarint(out, count.checked_add(1).ok_or(WireFault::Oversized)?),
        false => out.put_i32(i32::try_from(count).map_err(|_| WireFault::Oversized)?),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn varints_end_at_32_bits() {
        for (bytes, value) in [
            (&[0x00_u8][..], Ok(0)),
            (&[0xac, 0x02], Ok(300)),
            (&[0xff, 0xff, 0xff, 0xff, 0x0f], Ok(u32::MAX)),
            (&[0xff, 0xff, 0xff, 0xff, 0x1f], Err(WireFault::Varint)),
            (
                &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
                Err(WireFault::Varint),
            ),
            (&[0x80], Err(WireFault::Truncated)),
        ] {
            assert_eq!(Reader::new(bytes, true).uvarint(), value, "{bytes:x?}");
        }
    }

    #[test]
    fn null_and_negative_lengths_are_told_apart() {
        assert_eq!(
            Reader::new(&[0xff, 0xff], false).nullable_string(),
            Ok(None)
        );
        assert_eq!(
            Reader::new(&[0xff, 0xff], false).string(),
            Err(WireFault::Negative(-1))
        );
        let minus_two = Reader::new(&[0xff, 0xfe], false).nullable_string();
        assert_eq!(minus_two, Err(WireFault::Negative(-2)));
        assert_eq!(
            Reader::new(&[0xff; 4], false).array(),
            Err(WireFault::Negative(-1))
        );
        assert_eq!(
            Reader::new(&[0], true).array(),
            Err(WireFault::Negative(-1))
        );
    }

    proptest! {
        #[test]
        fn varints_round_trip(value: u32) {
            let mut out = BytesMut::new();
            put_uvarint(&mut out, value);
            prop_assert_eq!(Reader::new(&out, true).uvarint(), Ok(value));
        }
    }
}
