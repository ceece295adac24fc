//! One HTTP/2 header block: decoded, `:authority` replaced, encoded again (RFC 7541).

use std::fmt;

use loona_hpack::{Decoder, encoder::encode_integer_into};

/// RFC 9113 6.5.2: the size of the dynamic table that a server has unless it says otherwise, and
/// ours does not.
const TABLE_BYTES: usize = 4096;
/// The most bytes of names and values that a block may decode to, counted as in RFC 7541 4.1.
const MAX_DECODED: usize = 64 * 1024;
/// What each field counts beyond its bytes (RFC 7541 4.1).
const FIELD_OVERHEAD: usize = 32;
/// The most fields of one block. The decoder builds a Huffman table for every string, so
/// this bounds the time that a block takes.
const MAX_FIELDS: usize = 128;

/// The value that every `:authority` gets.
const AUTHORITY: &[u8] = b"localhost";
/// RFC 7541 6.2.2: a literal field without indexing, with a literal name.
const LITERAL_WITHOUT_INDEXING: u8 = 0x00;

/// Why a header block is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The block has more than `MAX_FIELDS` header fields.
    #[error("a header block has more than {MAX_FIELDS} fields")]
    TooManyFields,
    /// The decoded header fields have more than `MAX_DECODED` bytes.
    #[error("a header block decodes to more than {MAX_DECODED} bytes")]
    TooLarge,
    /// A field ends beyond its block, or an integer is too long.
    #[error("a header block is cut short or has an oversized integer")]
    Truncated,
    /// The header block is not valid HPACK.
    #[error("a header block cannot be decoded: {0}")]
    Hpack(String),
}

/// Decodes the header blocks of one connection, in their order: the dynamic table is shared.
pub(super) struct Rewriter(Decoder<'static>);

impl Default for Rewriter {
    fn default() -> Self {
        let mut decoder = Decoder::new();
        decoder.set_max_allowed_table_size(TABLE_BYTES);
        Self(decoder)
    }
}

impl fmt::Debug for Rewriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rewriter")
    }
}

impl Rewriter {
    /// The same fields in the same order, with `:authority` replaced, without any reference to a
    /// dynamic table.
    pub(super) fn rewrite(&mut self, block: &[u8]) -> Result<Vec<u8>, BlockError> {
        check_fields(block)?;
        let mut rewritten = Vec::with_capacity(block.len().saturating_mul(2));
        let mut size = 0_usize;
        let decoded = self.0.decode_with_cb(block, |name, value| {
            size = size.saturating_add(name.len() + value.len() + FIELD_OVERHEAD);
            if size <= MAX_DECODED {
                let value = if *name == *b":authority" {
                    AUTHORITY
                } else {
                    &value
                };
                rewritten.push(LITERAL_WITHOUT_INDEXING);
                put_string(&mut rewritten, &name);
                put_string(&mut rewritten, value);
            }
        });
        decoded.map_err(|error| BlockError::Hpack(error.to_string()))?;
        if size > MAX_DECODED {
            Err(BlockError::TooLarge)
        } else {
            Ok(rewritten)
        }
    }
}

/// RFC 7541 5.2, without Huffman coding.
fn put_string(to: &mut Vec<u8>, text: &[u8]) {
    let written = encode_integer_into(text.len(), 7, 0, to);
    debug_assert!(written.is_ok(), "writing to memory does not fail");
    to.extend_from_slice(text);
}

/// Walks over the fields without decoding them, to bound their number before any work is done.
fn check_fields(mut block: &[u8]) -> Result<(), BlockError> {
    let mut fields = 0;
    while let Some(first) = block.first().copied() {
        fields += 1;
        if fields > MAX_FIELDS {
            return Err(BlockError::TooManyFields);
        }
        block = match first {
            0x80.. => integer(block, 7)?.1,
            0x40..0x80 => literal(block, 6)?,
            0x20..0x40 => integer(block, 5)?.1,
            _ => literal(block, 4)?,
        };
    }
    Ok(())
}

/// What follows a literal field whose name index has `prefix` bits (RFC 7541 6.2).
fn literal(block: &[u8], prefix: u8) -> Result<&[u8], BlockError> {
    let (name, rest) = integer(block, prefix)?;
    let rest = if name == 0 { string(rest)? } else { rest };
    string(rest)
}

/// What follows a string (RFC 7541 5.2).
fn string(block: &[u8]) -> Result<&[u8], BlockError> {
    let (length, rest) = integer(block, 7)?;
    rest.get(length..).ok_or(BlockError::Truncated)
}

/// An integer and what follows it (RFC 7541 5.1).
fn integer(block: &[u8], prefix: u8) -> Result<(usize, &[u8]), BlockError> {
    let (first, mut rest) = block.split_first().ok_or(BlockError::Truncated)?;
    let mask = u8::MAX >> (8 - prefix);
    let mut value = usize::from(first & mask);
    if value < usize::from(mask) {
        return Ok((value, rest));
    }
    for shift in [0, 7, 14, 21] {
        let (byte, after) = rest.split_first().ok_or(BlockError::Truncated)?;
        rest = after;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value, rest));
        }
    }
    Err(BlockError::Truncated)
}
