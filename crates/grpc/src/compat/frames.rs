//! The frames of an HTTP/2 connection, as far as header blocks need them (RFC 9113 4 and 6).
//!
//! ```text
//!            preface done          head complete, not HEADERS
//! Preface ----------------> Head ------------------------------> Pass
//!                           ^  ^ <-------------------------------+
//!                           |  |         payload passed
//!                           |  +--- Collect <--- head complete, HEADERS or CONTINUATION
//!                           |            |
//!                           +------------+ END_HEADERS: the block is rewritten and passed
//! ```

use bytes::{BufMut, BytesMut};

use super::block::{BlockError, Rewriter};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;
/// RFC 9113 6.5.2: the largest payload, unless the server allows more, and ours does not.
const MAX_PAYLOAD: usize = 16 * 1024;
/// The most bytes of one compressed header block.
const MAX_BLOCK: usize = 16 * 1024;
/// The most frames that one header block may be spread over.
const MAX_FRAMES: usize = 32;

const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Bytes of the priority fields in a HEADERS frame (RFC 9113 6.2).
const PRIORITY_BYTES: usize = 5;

/// Why a connection is ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The connection does not begin with the preface (RFC 9113 3.4).
    #[error("the client does not speak HTTP/2")]
    Preface,
    /// A header frame has more bytes than are read (RFC 9113 4.2).
    #[error("a header frame has {0} bytes; at most {MAX_PAYLOAD} are read")]
    FrameTooLarge(usize),
    /// The block, compressed, exceeds its bound.
    #[error("a header block has more than {MAX_BLOCK} bytes or {MAX_FRAMES} frames")]
    BlockTooLarge,
    /// RFC 9113 6.2 and 6.10: nothing may come between the frames of one block.
    #[error("a frame of type {0} came where the order of header frames does not allow it")]
    Order(u8),
    /// A frame says that it has more padding than bytes (RFC 9113 6.2).
    #[error("a header frame is shorter than its padding and priority")]
    Padding,
    /// The header block itself.
    #[error(transparent)]
    Block(#[from] BlockError),
}

#[derive(Debug, Clone, Copy)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    fn read(bytes: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, s @ ..] = bytes;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        Self {
            length,
            kind,
            flags,
            stream: u32::from_be_bytes(s),
        }
    }

    fn write(self, out: &mut BytesMut) {
        out.put_uint(self.length as u64, 3);
        out.put_u8(self.kind);
        out.put_u8(self.flags);
        out.put_u32(self.stream);
    }
}

/// A header block of which END_HEADERS has not come yet.
#[derive(Debug)]
struct Block {
    stream: u32,
    /// Of its HEADERS frame, without END_HEADERS and PADDED.
    flags: u8,
    priority: Vec<u8>,
    fragments: Vec<u8>,
    frames: usize,
}

#[derive(Debug)]
enum State {
    Preface { seen: usize },
    Head { seen: [u8; HEAD], count: usize },
    Pass { left: usize },
    Collect { head: Head, payload: Vec<u8> },
}

impl State {
    const NEXT: Self = Self::Head {
        seen: [0; HEAD],
        count: 0,
    };
}

/// The client's half of one connection.
#[derive(Debug)]
pub(super) struct Frames {
    state: State,
    block: Option<Block>,
    rewriter: Rewriter,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            state: State::Preface { seen: 0 },
            block: None,
            rewriter: Rewriter::default(),
        }
    }
}

impl Frames {
    /// Takes what the client sent, in pieces of any size; appends what the server is to read.
    pub(super) fn push(&mut self, mut input: &[u8], out: &mut BytesMut) -> Result<(), FrameError> {
        while !input.is_empty() {
            input = self.step(input, out)?;
        }
        Ok(())
    }

    /// Consumes at least one byte.
    fn step<'a>(&mut self, input: &'a [u8], out: &mut BytesMut) -> Result<&'a [u8], FrameError> {
        match &mut self.state {
            State::Preface { seen } => {
                let missing = PREFACE.get(*seen..).unwrap_or_default();
                let (bytes, rest) = split(input, missing.len());
                if !missing.starts_with(bytes) {
                    return Err(FrameError::Preface);
                }
                *seen += bytes.len();
                out.put_slice(bytes);
                if *seen == PREFACE.len() {
                    self.state = State::NEXT;
                }
                Ok(rest)
            }
            State::Head { seen, count } => {
                let (bytes, rest) = split(input, HEAD - *count);
                for (to, from) in seen.iter_mut().skip(*count).zip(bytes) {
                    *to = *from;
                }
                *count += bytes.len();
                if *count == HEAD {
                    let head = Head::read(*seen);
                    self.begin(head, out)?;
                }
                Ok(rest)
            }
            State::Pass { left } => {
                let (bytes, rest) = split(input, *left);
                *left -= bytes.len();
                out.put_slice(bytes);
                if *left == 0 {
                    self.state = State::NEXT;
                }
                Ok(rest)
            }
            State::Collect { head, payload } => {
                let (bytes, rest) = split(input, head.length - payload.len());
                payload.extend_from_slice(bytes);
                if payload.len() == head.length {
                    let (head, payload) = (*head, std::mem::take(payload));
                    self.state = State::NEXT;
                    self.collected(head, &payload, out)?;
                }
                Ok(rest)
            }
        }
    }

    /// A frame's head has come.
    fn begin(&mut self, head: Head, out: &mut BytesMut) -> Result<(), FrameError> {
        let in_order = match &self.block {
            None => head.kind != CONTINUATION,
            Some(block) => head.kind == CONTINUATION && head.stream == block.stream,
        };
        if !in_order {
            return Err(FrameError::Order(head.kind));
        }
        if !matches!(head.kind, HEADERS | CONTINUATION) {
            head.write(out);
            self.state = if head.length == 0 {
                State::NEXT
            } else {
                State::Pass { left: head.length }
            };
            return Ok(());
        }
        if head.length > MAX_PAYLOAD {
            return Err(FrameError::FrameTooLarge(head.length));
        }
        if head.length == 0 {
            self.state = State::NEXT;
            return self.collected(head, &[], out);
        }
        self.state = State::Collect {
            head,
            payload: Vec::with_capacity(head.length),
        };
        Ok(())
    }

    /// A HEADERS or CONTINUATION frame is complete.
    fn collected(
        &mut self,
        head: Head,
        payload: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), FrameError> {
        let mut block = match self.block.take() {
            None => open(head, payload)?,
            Some(mut block) => {
                block.fragments.extend_from_slice(payload);
                block
            }
        };
        block.frames += 1;
        if block.fragments.len() > MAX_BLOCK || block.frames > MAX_FRAMES {
            return Err(FrameError::BlockTooLarge);
        }
        if head.flags & END_HEADERS == 0 {
            self.block = Some(block);
            return Ok(());
        }
        let rewritten = self.rewriter.rewrite(&block.fragments)?;
        write_block(&block, &rewritten, out);
        Ok(())
    }
}

fn split(input: &[u8], at_most: usize) -> (&[u8], &[u8]) {
    input.split_at_checked(at_most).unwrap_or((input, &[]))
}

/// Reads the payload of a HEADERS frame (RFC 9113 6.2): padding length, priority, fragment,
/// padding.
fn open(head: Head, payload: &[u8]) -> Result<Block, FrameError> {
    let has = |flag| head.flags & flag != 0;
    let (padding, rest) = match payload.split_first() {
        Some((padding, rest)) if has(PADDED) => (usize::from(*padding), rest),
        None if has(PADDED) => return Err(FrameError::Padding),
        _ => (0, payload),
    };
    let priority = if has(PRIORITY) { PRIORITY_BYTES } else { 0 };
    let (priority, rest) = rest.split_at_checked(priority).ok_or(FrameError::Padding)?;
    let end = rest.len().checked_sub(padding).ok_or(FrameError::Padding)?;
    Ok(Block {
        stream: head.stream,
        flags: head.flags & !(END_HEADERS | PADDED),
        priority: priority.to_vec(),
        fragments: rest.get(..end).unwrap_or_default().to_vec(),
        frames: 0,
    })
}

/// Writes a block as one HEADERS frame and as many CONTINUATION frames as it needs.
fn write_block(block: &Block, rewritten: &[u8], out: &mut BytesMut) {
    let (first, mut rest) = split(rewritten, MAX_PAYLOAD - block.priority.len());
    let last = |rest: &[u8]| if rest.is_empty() { END_HEADERS } else { 0 };
    let length = block.priority.len() + first.len();
    let flags = block.flags | last(rest);
    Head {
        length,
        kind: HEADERS,
        flags,
        stream: block.stream,
    }
    .write(out);
    out.put_slice(&block.priority);
    out.put_slice(first);
    while !rest.is_empty() {
        let (next, after) = split(rest, MAX_PAYLOAD);
        rest = after;
        let head = Head {
            length: next.len(),
            kind: CONTINUATION,
            flags: last(rest),
            stream: block.stream,
        };
        head.write(out);
        out.put_slice(next);
    }
}
