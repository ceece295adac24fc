//! Request targets with characters that must be percent-encoded and often are not: `"`, `<`, `>`,
//! a backquote, and bytes above ASCII. The parser of HTTP below refuses them. They are encoded
//! here, on their way to it, as browsers do (WHATWG URL, 4.3); every server decodes them to what
//! was sent.
//!
//! To find the targets, this follows the framing of the messages (RFC 9112 6.3). It decides
//! nothing: what it gives out is read by the parser of HTTP as if the caller had sent it so. Where
//! the framing is broken, it changes nothing more.

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use super::{MAX_HEAD, surplus::PARSED};

/// The longest start of a line that is looked at: `transfer-encoding`.
const WORD: usize = 17;
/// How the first line of HTTP/2 begins (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// The first byte of a TLS ClientHello: a record of the handshake (RFC 8446 5.1).
const HANDSHAKE: u8 = 0x16;

/// What a caller speaks that does not speak HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OtherProtocol {
    Http2,
    Tls,
}

/// Where in the messages of a caller the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Empty lines may come before a request line (RFC 9112 2.2).
    Before,
    Method,
    Target,
    /// The rest of the request line.
    Version,
    FieldName,
    FieldValue(Field),
    Body(Body),
    /// The framing is broken, or the connection has become a tunnel.
    Unknown,
}

/// Header fields that say where a message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Length,
    Coding,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// So many bytes.
    Sized(u64),
    /// The digits of a chunk's size.
    ChunkSize(u64),
    /// The rest of the line of a chunk's size.
    ChunkExtension(u64),
    Chunk(u64),
    /// The end of the line behind a chunk.
    ChunkEnd,
    /// A line of trailers; whether there is anything in it.
    Trailer(bool),
}

/// Follows the bytes of one caller.
#[derive(Debug)]
pub(super) struct TargetEncoder {
    place: Place,
    /// The start of the present line, in small letters for header fields.
    word: [u8; WORD],
    word_length: usize,
    first_line: bool,
    other: Option<OtherProtocol>,
    length: u64,
    chunked: bool,
    /// Of the present head: its bytes and fields, and whether the fields from here on may go
    /// around the parser.
    bytes: usize,
    fields: usize,
    divides: bool,
}

impl TargetEncoder {
    pub(super) fn new() -> Self {
        Self {
            place: Place::Before,
            word: [0; WORD],
            word_length: 0,
            first_line: true,
            other: None,
            length: 0,
            chunked: false,
            bytes: 0,
            fields: 0,
            divides: true,
        }
    }

    /// There are more fields than are parsed: the rest of the head is to be
    /// [divided](super::surplus), and [said](Self::divided) to be. Gives how long it may be.
    pub(super) fn to_be_divided(&self) -> Option<usize> {
        let is_line_start = self.place == Place::FieldName && self.word_length == 0;
        let is_due = self.divides && is_line_start && self.fields >= PARSED;
        is_due.then(|| MAX_HEAD.saturating_sub(self.bytes))
    }

    /// What follows of the head is as it is to be.
    pub(super) fn divided(&mut self) {
        self.divides = false;
    }

    /// What the caller speaks, if its first line is of another protocol.
    pub(super) fn other_protocol(&self) -> Option<OtherProtocol> {
        self.other
    }

    /// All that follows is to stay as it is.
    pub(super) fn stop(&mut self) {
        self.place = Place::Unknown;
    }

    /// A part of a head has come.
    pub(super) fn is_in_head(&self) -> bool {
        !self.is_in_body() && self.place != Place::Before
    }

    /// Whether the next bytes stay as they are: they are of a body.
    pub(super) fn is_in_body(&self) -> bool {
        matches!(self.place, Place::Body(_) | Place::Unknown)
    }

    /// Follows bytes of a body, and gives how many of them are of it.
    pub(super) fn body(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while let (Place::Body(body), [first, after @ ..]) = (self.place, rest) {
            let next;
            (next, rest) = match body {
                Body::Sized(left) | Body::Chunk(left) => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let left = left - count as u64;
                    let next = match body {
                        Body::Sized(_) if left == 0 => Place::Before,
                        Body::Sized(_) => Place::Body(Body::Sized(left)),
                        _ if left == 0 => Place::Body(Body::ChunkEnd),
                        _ => Place::Body(Body::Chunk(left)),
                    };
                    (next, rest.get(count..).unwrap_or_default())
                }
                _ => (framing(body, *first), after),
            };
            self.place = next;
        }
        match self.place {
            Place::Unknown => bytes.len(),
            _ => bytes.len() - rest.len(),
        }
    }

    /// Passes on bytes of a head, up to its end, as far as there is room. There must be some.
    pub(super) fn head(&mut self, raw: &mut BytesMut, out: &mut ReadBuf<'_>) {
        let before = out.filled().len();
        while let Some(byte) = raw.first().copied() {
            if self.to_be_divided().is_some() {
                return;
            }
            let encoded = [b'%', digit(byte >> 4), digit(byte & 15)];
            let plain = [byte];
            let passed: &[u8] = match self.place == Place::Target && must_be_encoded(byte) {
                true => &encoded,
                false => &plain,
            };
            // Nothing at all would be taken for an end.
            let passed = match out.filled().len() == before && out.remaining() < passed.len() {
                true => &plain,
                false => passed,
            };
            if out.remaining() < passed.len() {
                return;
            }
            out.put_slice(passed);
            raw.advance(1);
            if self.step(byte) {
                return;
            }
        }
    }

    /// Follows one byte of a head; whether it is the last.
    fn step(&mut self, byte: u8) -> bool {
        self.bytes += 1;
        if self.first_line && self.word_length == 0 && byte == HANDSHAKE {
            self.other = Some(OtherProtocol::Tls);
        }
        match (self.place, byte) {
            (Place::Before, b'\r' | b'\n') => {}
            (Place::Before, _) => {
                (self.length, self.chunked, self.word_length) = (0, false, 0);
                (self.bytes, self.fields, self.divides) = (1, 0, true);
                self.place = Place::Method;
                self.note(byte);
            }
            (Place::Method | Place::Target | Place::Version, b'\n') => {
                if self.first_line && self.word() == PREFACE {
                    self.other = Some(OtherProtocol::Http2);
                }
                self.first_line = false;
                self.next_line();
            }
            (Place::Method | Place::Target, b' ') => {
                self.note(byte);
                self.place = match self.place {
                    Place::Method => Place::Target,
                    _ => Place::Version,
                };
            }
            (Place::Method | Place::Target | Place::Version, _) => self.note(byte),
            (Place::FieldName, b'\r') => {}
            (Place::FieldName, b'\n') => {
                let is_end = self.word_length == 0;
                self.next_line();
                if is_end {
                    self.place = self.after_head();
                }
                return is_end;
            }
            (Place::FieldName, b':') => self.place = Place::FieldValue(self.field()),
            (Place::FieldName, _) => self.note(byte.to_ascii_lowercase()),
            (Place::FieldValue(_), b'\n') => self.next_line(),
            (Place::FieldValue(Field::Length), b'0'..=b'9') => {
                let length = self.length.saturating_mul(10);
                self.length = length.saturating_add(u64::from(byte - b'0'));
            }
            (Place::FieldValue(_) | Place::Body(_) | Place::Unknown, _) => {}
        }
        false
    }

    fn next_line(&mut self) {
        self.fields += 1;
        self.place = Place::FieldName;
        self.word_length = 0;
    }

    fn note(&mut self, byte: u8) {
        if let Some(place) = self.word.get_mut(self.word_length) {
            *place = byte;
        }
        self.word_length = self.word_length.saturating_add(1);
    }

    /// What a line begins with; of a longer line, only the preface is recognized.
    fn word(&self) -> &[u8] {
        let line_end = self.word.get(..self.word_length.min(WORD));
        let word = line_end.unwrap_or_default();
        word.strip_suffix(b"\r").unwrap_or(word)
    }

    fn field(&mut self) -> Field {
        match self.word() {
            b"content-length" if self.word_length == 14 => {
                self.length = 0;
                Field::Length
            }
            b"transfer-encoding" if self.word_length == 17 => {
                self.chunked = true;
                Field::Coding
            }
            _ => Field::Other,
        }
    }

    fn after_head(&self) -> Place {
        match (self.chunked, self.length) {
            (true, _) => Place::Body(Body::ChunkSize(0)),
            (false, 0) => Place::Before,
            (false, length) => Place::Body(Body::Sized(length)),
        }
    }
}

/// What follows a byte between the chunks of a body (RFC 9112 7.1).
fn framing(body: Body, byte: u8) -> Place {
    Place::Body(match (body, byte) {
        (Body::ChunkSize(size), _) if byte.is_ascii_hexdigit() => {
            let digit = char::from(byte).to_digit(16).unwrap_or_default();
            Body::ChunkSize(size.saturating_mul(16).saturating_add(u64::from(digit)))
        }
        (Body::ChunkSize(0) | Body::ChunkExtension(0), b'\n') => Body::Trailer(false),
        (Body::ChunkSize(size) | Body::ChunkExtension(size), b'\n') => Body::Chunk(size),
        (Body::ChunkSize(size), b'\r' | b';' | b' ' | b'\t') | (Body::ChunkExtension(size), _) => {
            Body::ChunkExtension(size)
        }
        (Body::ChunkEnd, b'\r') => Body::ChunkEnd,
        (Body::ChunkEnd, b'\n') => Body::ChunkSize(0),
        (Body::Trailer(false), b'\n') => return Place::Before,
        (Body::Trailer(true), b'\n') => Body::Trailer(false),
        (Body::Trailer(some), b'\r') => Body::Trailer(some),
        (Body::Trailer(_), _) => Body::Trailer(true),
        _ => return Place::Unknown,
    })
}

fn must_be_encoded(byte: u8) -> bool {
    !byte.is_ascii() || b"\"<>`".contains(&byte)
}

fn digit(value: u8) -> u8 {
    match value {
        0..=9 => b'0' + value,
        _ => b'A' + value - 10,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes out of these bytes when they come in pieces of this size.
    fn passed(encoder: &mut TargetEncoder, bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut all = Vec::new();
        for piece in bytes.chunks(piece) {
            let mut raw = BytesMut::from(piece);
            while !raw.is_empty() {
                let mut space = [0; 64];
                let mut out = ReadBuf::new(&mut space);
                if encoder.is_in_body() {
                    let count = encoder.body(&raw);
                    all.extend_from_slice(&raw.split_to(count));
                } else {
                    encoder.head(&mut raw, &mut out);
                    all.extend_from_slice(out.filled());
                }
            }
        }
        all
    }

    #[test]
    fn targets_are_encoded_and_nothing_else() {
        let sized = "PUT /\"<> HTTP/1.1\r\nContent-Length: 12\r\nx: \"<>\r\n\r\nGET /\"<> \"\r\n";
        let chunked = "PUT /` HTTP/1.1\nTRANSFER-ENCODING: gzip, chunked\n\n\
                       c;\"<>=1\r\nGET /\"<> \"\r\n\r\n0\r\n\"<>: \"\r\n\r\n";
        let empty = "\r\n\r\nGET /\u{e9}?\" HTTP/1.1\r\ncontent-length:\r\n\r\n";
        let all = [sized, chunked, empty, sized, empty, chunked, empty].concat();
        let expected = all
            .replace("PUT /\"<> ", "PUT /%22%3C%3E ")
            .replace("PUT /` ", "PUT /%60 ")
            .replace("/\u{e9}?\" ", "/%C3%A9?%22 ");
        for piece in [1, 2, 3, 7, 64, all.len()] {
            let mut encoder = TargetEncoder::new();
            let passed = passed(&mut encoder, all.as_bytes(), piece);
            assert_eq!(String::from_utf8(passed).unwrap(), expected, "{piece}");
            assert_eq!(encoder.other_protocol(), None);
        }
    }

    #[test]
    fn other_protocols_are_known_by_their_first_line() {
        for (bytes, expected) in [
            (
                &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
                Some(OtherProtocol::Http2),
            ),
            (b"\x16\x03\x01\x02\x00\x01", Some(OtherProtocol::Tls)),
            (b"GET / HTTP/1.1\r\n\r\n", None),
            (b"GET / HTTP/1.1\r\n\r\n\x16", None),
            (b"PRI * HTTP/2.05\r\n\r\n", None),
        ] {
            let mut encoder = TargetEncoder::new();
            passed(&mut encoder, bytes, 1);
            assert_eq!(encoder.other_protocol(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_broken_framing_is_left_as_it_is() {
        let broken =
            b"PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nGET /\" HTTP/1.1\r\n";
        assert_eq!(passed(&mut TargetEncoder::new(), broken, 5), broken);
    }

    proptest! {
        #[test]
        fn bytes_that_need_no_encoding_come_out_as_they_came(
            text in "([A-Z0-9a-f ]|\r\n|content-length: [0-9]|transfer-encoding: chunked|: ){0,60}",
            piece in 1_usize..9,
        ) {
            let passed = passed(&mut TargetEncoder::new(), text.as_bytes(), piece);
            prop_assert_eq!(passed, text.as_bytes());
        }
    }
}
