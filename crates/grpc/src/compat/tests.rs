//! Frames are written by hand here, headers by `loona_hpack`'s encoder, and the result is judged
//! by a decoder that sees only what the server would see.

use bytes::BytesMut;
use loona_hpack::{Decoder, Encoder};
use proptest::prelude::*;

use super::{
    block::{BlockError, Rewriter},
    frames::{FrameError, Frames},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs
        .iter()
        .map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec()))
        .collect()
}

fn encode(encoder: &mut Encoder<'_>, fields: &Fields) -> Vec<u8> {
    encoder.encode(fields.iter().map(|(n, v)| (&n[..], &v[..])))
}

/// (kind, flags, stream, payload) of every frame after the preface.
fn split(bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let mut rest = bytes.strip_prefix(PREFACE).unwrap();
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        let stream = u32::from_be_bytes(rest[5..9].try_into().unwrap());
        frames.push((rest[3], rest[4], stream, rest[9..9 + length].to_vec()));
        rest = &rest[9 + length..];
    }
    frames
}

fn pass(pieces: &[&[u8]]) -> Result<Vec<u8>, FrameError> {
    let mut frames = Frames::default();
    let mut out = BytesMut::new();
    for piece in pieces {
        frames.push(piece, &mut out)?;
    }
    Ok(out.to_vec())
}

fn python_request() -> Fields {
    fields(&[
        (":scheme", "http"),
        (":method", "POST"),
        (":authority", "%2Frun%2Frenkei%2Fworkload.sock"),
        (":path", "/SpiffeWorkloadAPI/FetchX509SVID"),
        ("workload.spiffe.io", "true"),
        ("te", "trailers"),
    ])
}

fn with_localhost(mut fields: Fields) -> Fields {
    for (name, value) in &mut fields {
        if name == b":authority" {
            *value = b"localhost".to_vec();
        }
    }
    fields
}

#[test]
fn the_authority_is_replaced_again_and_again_with_a_dynamic_table() {
    let mut encoder = Encoder::new();
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    for stream in [1, 3, 5] {
        bytes.extend(frame(
            1,
            0x4,
            stream,
            &encode(&mut encoder, &python_request()),
        ));
        bytes.extend(frame(0, 0x1, stream, b"message"));
    }
    let frames = split(&pass(&[&bytes]).unwrap());
    assert_eq!(frames[0], (4, 0, 0, vec![]));
    // One decoder for each block: nothing refers to an earlier one.
    for (at, stream) in [(1, 1), (3, 3), (5, 5)] {
        let (kind, flags, of, payload) = &frames[at];
        assert_eq!((*kind, *flags, *of), (1, 0x4, stream));
        assert_eq!(
            Decoder::new().decode(payload).unwrap(),
            with_localhost(python_request())
        );
        assert_eq!(frames[at + 1], (0, 0x1, stream, b"message".to_vec()));
    }
}

#[test]
fn padding_goes_and_priority_and_end_stream_stay() {
    let block = encode(&mut Encoder::new(), &python_request());
    let mut payload = vec![3, 0x80, 0, 0, 0, 15];
    payload.extend(&block);
    payload.extend([0, 0, 0]);
    let bytes = [PREFACE, &frame(1, 0x1 | 0x4 | 0x8 | 0x20, 1, &payload)].concat();
    let frames = split(&pass(&[&bytes]).unwrap());
    let (kind, flags, stream, payload) = &frames[0];
    assert_eq!((*kind, *flags, *stream), (1, 0x1 | 0x4 | 0x20, 1));
    assert_eq!(payload[..5], [0x80, 0, 0, 0, 15]);
    assert_eq!(
        Decoder::new().decode(&payload[5..]).unwrap(),
        with_localhost(python_request())
    );
}

#[test]
fn a_block_may_be_spread_over_frames_and_bytes_may_come_one_by_one() {
    let block = encode(&mut Encoder::new(), &python_request());
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(1, 0x1, 1, &block[..10]));
    bytes.extend(frame(9, 0, 1, &[]));
    bytes.extend(frame(9, 0x4, 1, &block[10..]));
    bytes.extend(frame(6, 0, 0, b"12345678"));
    let whole = pass(&[&bytes]).unwrap();
    assert_eq!(pass(&bytes.chunks(1).collect::<Vec<_>>()).unwrap(), whole);
    let frames = split(&whole);
    assert_eq!(frames.len(), 2);
    assert_eq!((frames[0].0, frames[0].1), (1, 0x5));
    assert_eq!(
        Decoder::new().decode(&frames[0].3).unwrap(),
        with_localhost(python_request())
    );
    assert_eq!(frames[1], (6, 0, 0, b"12345678".to_vec()));
}

#[test]
fn trailers_without_an_authority_stay_as_they_are() {
    let trailers = fields(&[("grpc-status", "0")]);
    let block = encode(&mut Encoder::new(), &trailers);
    let bytes = [PREFACE, &frame(1, 0x5, 1, &block)].concat();
    let frames = split(&pass(&[&bytes]).unwrap());
    assert_eq!(Decoder::new().decode(&frames[0].3).unwrap(), trailers);
}

#[test]
fn a_block_that_grows_beyond_a_frame_is_continued() {
    let mut encoder = Encoder::new();
    let big = vec![("x".into(), vec![b'v'; 3000])];
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(1, 0x4, 1, &encode(&mut encoder, &big)));
    // Index 62 is the field that the first block put into the dynamic table.
    bytes.extend(frame(1, 0x4, 3, &[0x80 | 62; 10]));
    let frames = split(&pass(&[&bytes]).unwrap());
    let kinds: Vec<_> = frames.iter().map(|f| (f.0, f.1, f.2)).collect();
    assert_eq!(kinds, [(1, 0x4, 1), (1, 0, 3), (9, 0x4, 3)]);
    let joined = [&frames[1].3[..], &frames[2].3[..]].concat();
    assert_eq!(
        Decoder::new().decode(&joined).unwrap(),
        vec![big[0].clone(); 10]
    );
}

#[test]
fn what_is_not_http2_is_refused() {
    assert_eq!(pass(&[b"GET / HTTP/1.1\r\n\r\n"]), Err(FrameError::Preface));
}

#[test]
fn oversized_blocks_are_refused_before_they_are_kept() {
    let large = [PREFACE, &frame(1, 0, 1, &[0; 16_385])].concat();
    assert_eq!(
        pass(&[&large[..PREFACE.len() + 9]]),
        Err(FrameError::FrameTooLarge(16_385))
    );

    let full = frame(1, 0, 1, &[0; 16_384]);
    let more = [PREFACE, &full, &frame(9, 0, 1, &[0])].concat();
    assert_eq!(pass(&[&more]), Err(FrameError::BlockTooLarge));

    let mut many = [PREFACE, &frame(1, 0, 1, &[])].concat();
    (0..32).for_each(|_| many.extend(frame(9, 0, 1, &[])));
    assert_eq!(pass(&[&many]), Err(FrameError::BlockTooLarge));
}

#[test]
fn a_small_block_that_decodes_to_much_is_refused() {
    let mut rewriter = Rewriter::default();
    let big = vec![("x".into(), vec![b'v'; 4000])];
    rewriter
        .rewrite(&encode(&mut Encoder::new(), &big))
        .unwrap();
    assert_eq!(
        rewriter.rewrite(&[0x80 | 62; 100]),
        Err(BlockError::TooLarge)
    );
    assert_eq!(
        rewriter.rewrite(&[0x82; 129]),
        Err(BlockError::TooManyFields)
    );
}

#[test]
fn a_table_larger_than_the_server_allows_is_refused() {
    // A dynamic table size update to 4097, then an indexed field.
    let result = Rewriter::default().rewrite(&[0x3f, 0xe2, 0x1f, 0x82]);
    assert!(matches!(result, Err(BlockError::Hpack(_))), "{result:?}");
}

#[test]
fn header_frames_out_of_order_are_refused() {
    let open = frame(1, 0, 1, &[]);
    for (next, kind) in [
        (frame(0, 0, 1, &[]), 0),
        (frame(9, 4, 3, &[]), 9),
        (open.clone(), 1),
    ] {
        let bytes = [PREFACE, &open, &next].concat();
        assert_eq!(pass(&[&bytes]), Err(FrameError::Order(kind)));
    }
    let alone = [PREFACE, &frame(9, 4, 1, &[])].concat();
    assert_eq!(pass(&[&alone]), Err(FrameError::Order(9)));
    let padding = [PREFACE, &frame(1, 0xc, 1, &[5, 0])].concat();
    assert_eq!(pass(&[&padding]), Err(FrameError::Padding));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = pass(&[PREFACE, &bytes]);
    }

    #[test]
    fn arbitrary_header_blocks_never_panic(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8),
    ) {
        let mut rewriter = Rewriter::default();
        for block in blocks {
            let _ = rewriter.rewrite(&block);
        }
    }

    #[test]
    fn any_headers_in_any_pieces_keep_their_meaning(
        requests in prop::collection::vec(
            prop::collection::vec(("[a-z-]{1,20}", "[ -~]{0,60}"), 0..12),
            1..6,
        ),
        cut in 1_usize..50,
    ) {
        let mut encoder = Encoder::new();
        let mut bytes = PREFACE.to_vec();
        let requests: Vec<Fields> = requests
            .into_iter()
            .map(|r| r.into_iter().map(|(n, v)| (n.into_bytes(), v.into_bytes())).collect())
            .collect();
        for request in &requests {
            let block = encode(&mut encoder, request);
            let (first, second) = block.split_at(block.len().min(cut));
            bytes.extend(frame(1, 0, 1, first));
            bytes.extend(frame(9, 0x4, 1, second));
        }
        let passed = pass(&bytes.chunks(cut).collect::<Vec<_>>()).unwrap();
        let frames = split(&passed);
        prop_assert_eq!(frames.len(), requests.len());
        for (frame, request) in frames.iter().zip(requests) {
            prop_assert_eq!(Decoder::new().decode(&frame.3).unwrap(), request);
        }
    }
}
