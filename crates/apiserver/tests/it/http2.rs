//! Clients that misuse HTTP/2: frames written by hand.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::tls::serve;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a length")
        .to_be_bytes();
    let mut out = length[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// The preface and settings of a client.
fn greeting() -> Vec<u8> {
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    out.extend(frame(SETTINGS, 0, 0, &[]));
    out
}

/// `GET https://localhost/` in HPACK's static table, and the authority as a literal.
fn request() -> Vec<u8> {
    let mut out = vec![0x82, 0x87, 0x84, 0x01, 9];
    out.extend(b"localhost");
    out
}

/// Writes until the server has enough; says whether it ended the connection, and the frames' kinds it sent.
async fn flood(first: Vec<u8>, mut next: impl FnMut(u32) -> Vec<u8>, most: u32) -> (bool, Vec<u8>) {
    let serving = serve().await;
    let stream = serving.connect(b"h2").await;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let reading = tokio::spawn(async move {
        let (mut all, mut buffer) = (Vec::new(), [0; 16 * 1024]);
        // A connection that is cut off is at its end too.
        while let Ok(read @ 1..) = reader.read(&mut buffer).await {
            all.extend_from_slice(&buffer[..read]);
        }
        all
    });
    let mut greeting = greeting();
    greeting.extend(first);
    writer.write_all(&greeting).await.expect("a greeting");
    let mut ended = false;
    for i in 0..most {
        if writer.write_all(&next(i)).await.is_err() || reading.is_finished() {
            ended = true;
            break;
        }
    }
    let heard = tokio::time::timeout(Duration::from_secs(10), reading).await;
    ended |= heard.is_ok();
    let all = heard.map(|all| all.expect("a reader")).unwrap_or_default();
    let mut kinds = Vec::new();
    let mut rest = all.as_slice();
    while let [a, b, c, kind, ..] = rest {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        kinds.push(*kind);
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    serving.end().await;
    (ended, kinds)
}

/// 2023-44487: requests that are taken back as fast as they are made end the connection.
#[tokio::test]
async fn cve_2023_44487_rapid_reset_ends_the_connection() {
    let pairs = |i: u32| {
        let stream = 2 * i + 1;
        let mut out = frame(HEADERS, END_STREAM | END_HEADERS, stream, &request());
        out.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        out
    };
    // All in a few writes, so that nobody has time to look at one of them.
    let bunch = move |i: u32| (0..500).flat_map(|n| pairs(500 * i + n)).collect();
    let (ended, kinds) = flood(Vec::new(), bunch, 40).await;
    assert!(ended && kinds.contains(&GOAWAY), "{kinds:?}");
}

/// 2023-45288: headers without an end are not read without an end.
#[tokio::test]
async fn cve_2023_45288_continuation_flood_ends_the_connection() {
    // Literal headers that are not indexed: each frame is whole, and the block never ends.
    let mut field = vec![0x00, 3];
    field.extend(b"x-a");
    field.push(100);
    field.extend([b'a'; 100]);
    let block: Vec<u8> = field
        .iter()
        .copied()
        .cycle()
        .take(field.len() * 150)
        .collect();
    let first = frame(HEADERS, END_STREAM, 1, &request());
    let next = move |_| frame(CONTINUATION, 0, 1, &block);
    let (ended, _) = flood(first, next, 2000).await;
    assert!(ended, "32 MB of headers were taken");
}
