//! SPDY to the byte.

use bytes::Bytes;
use proptest::prelude::*;

use crate::spdy::{Decoder, Encoder, Frame, Headers, RESET_CANCEL};

/// What moby/spdystream v0.5.0, the implementation of every Kubernetes client, writes when a
/// port-forward opens its two streams, and then when a server replies.
const SYN_STREAMS: &str = "\
    800300010000003e0000000100000000000078f9e3c6a7c202253a703a2b294a4dcc851625aca9a0808614cb45e01c\
    60616061c0c0c0c0590489c64c50f2663400000000ffff\
    800300010000001800000003000000000000c2aa19540e2512d60b000000ffff";
const SYN_REPLIES: &str = "\
    800300020000000e000000016260606000000000ffff800300020000000c00000003026100000000ffff";
/// Data, an end, a reset, a ping, a goodbye.
const OTHERS: &str = "\
    000000030000000568656c6c6f0000000301000000800300030000000800000003000000058003000600000004\
    0000000180030007000000080000000300000000";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

async fn decode(bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = Decoder::new(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next().await.unwrap() {
        frames.push(frame);
    }
    frames
}

fn encode(frames: &[Frame]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    frames
        .iter()
        .for_each(|frame| encoder.encode(frame, &mut out).unwrap());
    out
}

fn headers(pairs: &[(&str, &str)]) -> Headers {
    Headers(
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
    )
}

#[tokio::test]
async fn the_frames_of_the_go_client_are_read() {
    let frames = decode(&bytes(SYN_STREAMS)).await;
    assert_eq!(frames.len(), 2);
    for (frame, (id, kind)) in frames.iter().zip([(1, "error"), (3, "data")]) {
        let Frame::SynStream {
            stream,
            headers,
            fin: false,
            ..
        } = frame
        else {
            panic!("{frame:?}");
        };
        assert_eq!(*stream, id);
        assert_eq!(headers.get("streamType"), Some(kind));
        assert_eq!(headers.get("port"), Some("8080"));
        assert_eq!(headers.get("requestID"), Some("0"));
    }
}

#[tokio::test]
async fn replies_are_read_and_have_the_right_shape() {
    let reply = |stream| Frame::SynReply {
        stream,
        headers: Headers::default(),
        fin: false,
    };
    // The headers of one direction are packed as one: these come after the streams.
    let all = [bytes(SYN_STREAMS), bytes(SYN_REPLIES)].concat();
    assert_eq!(decode(&all).await[2..], [reply(1), reply(3)]);
    let ours = encode(&[reply(1), reply(3)]);
    assert_eq!(decode(&ours).await, [reply(1), reply(3)]);
    // Version 3, type 2, no flags; then the length and the stream.
    assert_eq!(ours[..6], bytes("800300020000"));
    assert_eq!(ours[8..12], bytes("00000001"));
    // The zlib header announces the dictionary of SPDY/3 by its checksum.
    assert_eq!(ours[14..18], bytes("e3c6a7c2"));
}

#[tokio::test]
async fn a_syn_stream_has_the_right_shape() {
    let headers = headers(&[("Port", "80"), ("StreamType", "data")]);
    let frame = Frame::SynStream {
        stream: 5,
        headers,
        fin: true,
        unidirectional: false,
    };
    let ours = encode(&[frame]);
    assert_eq!(ours[..5], bytes("8003000101"));
    assert_eq!(ours[8..18], bytes("00000005000000000000"));
    let [
        Frame::SynStream {
            headers, fin: true, ..
        },
    ] = &decode(&ours).await[..]
    else {
        panic!("not a stream");
    };
    assert_eq!(headers.0[1], ("streamtype".into(), "data".into()));
}

#[tokio::test]
async fn the_other_frames_are_the_same_to_the_byte() {
    let data = |data: &'static str, fin| Frame::Data {
        stream: 3,
        data: data.into(),
        fin,
    };
    let frames = [
        data("hello", false),
        data("", true),
        Frame::Reset {
            stream: 3,
            status: RESET_CANCEL,
        },
        Frame::Ping { id: 1 },
        Frame::GoAway {
            last_stream: 3,
            status: 0,
        },
    ];
    assert_eq!(encode(&frames), bytes(OTHERS));
    assert_eq!(decode(&bytes(OTHERS)).await, frames);
}

#[tokio::test]
async fn a_long_data_frame_comes_in_pieces() {
    let data = Bytes::from(vec![7; 100_000]);
    let bytes = encode(&[Frame::Data {
        stream: 1,
        data: data.clone(),
        fin: true,
    }]);
    let mut whole = Vec::new();
    let frames = decode(&bytes).await;
    for (at, frame) in frames.iter().enumerate() {
        let Frame::Data {
            stream: 1,
            data,
            fin,
        } = frame
        else {
            panic!("{frame:?}")
        };
        assert!(data.len() <= crate::pipe::PIECE);
        assert_eq!(*fin, at + 1 == frames.len());
        whole.extend_from_slice(data);
    }
    assert_eq!(whole, data);
}

#[tokio::test]
async fn what_is_not_spdy_is_an_error() {
    for hex in [
        "80020001 00000000",
        "80030001 00ffffff",
        "80030003 00000002 0000",
        "80030001 00000003 000000",
    ] {
        let bytes = bytes(hex);
        assert!(Decoder::new(&bytes[..]).next().await.is_err(), "{hex}");
    }
}

/// A few bytes must not become a huge block of headers.
#[tokio::test]
async fn a_header_bomb_is_refused() {
    let bomb = headers(&[("a", &"x".repeat(1 << 20))]);
    let bytes = encode(&[Frame::SynReply {
        stream: 1,
        headers: bomb,
        fin: false,
    }]);
    assert!(bytes.len() < 10_000);
    let error = Decoder::new(&bytes[..]).next().await.unwrap_err();
    assert_eq!(error.to_string(), "a header block is too large");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn blocks_survive_the_way_there_and_back(
        blocks in prop::collection::vec(
            prop::collection::vec(("[a-z-]{1,12}", "[ -~]{0,200}"), 0..8), 1..6)
    ) {
        let frames: Vec<_> = blocks
            .into_iter()
            .map(|block| Frame::SynReply { stream: 1, headers: Headers(block), fin: false })
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        prop_assert_eq!(runtime.block_on(decode(&encode(&frames))), frames);
    }

    #[test]
    fn noise_is_never_more_than_an_error(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut framed = bytes("80030001");
        framed.extend((noise.len() as u32).to_be_bytes());
        framed.extend(&noise);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _ = runtime.block_on(async { Decoder::new(&framed[..]).next().await });
        let _ = runtime.block_on(async { Decoder::new(&noise[..]).next().await });
    }
}
