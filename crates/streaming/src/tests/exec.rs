//! Exec and attach over both transports.

use futures::StreamExt;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::client::{binary, channels, refusal, send, spdy, websocket};
use super::{Harness, all, terminal};
use crate::spdy::Frame;
use crate::{AttachRequest, StreamOptions};

const SUCCESS: &str = r#"{"status":"Success"}"#;
const CODE_3: &str = r#"{"status":"Failure","message":"command terminated with non-zero exit code: exit status 3","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;

#[tokio::test]
async fn version_5_of_the_websocket_protocol_ends_the_input() {
    let harness = Harness::new().await;
    let url = harness.exec("cat 3", all());
    let (mut socket, protocol) = websocket(&url, "v5.channel.k8s.io").await;
    assert_eq!(protocol.as_deref(), Some("v5.channel.k8s.io"));
    send(&mut socket, binary(0, "some ")).await;
    send(&mut socket, binary(0, "input")).await;
    send(&mut socket, Message::binary(vec![255, 0])).await;
    let (seen, close) = channels(&mut socket).await;
    assert_eq!(seen[&1], "some input");
    assert_eq!(seen[&2], "end of input");
    assert_eq!(seen[&3], CODE_3);
    assert_eq!(close.unwrap().code, CloseCode::Normal);
}

#[tokio::test]
async fn the_first_message_says_that_the_connection_stands() {
    let harness = Harness::new().await;
    let (mut socket, _) = websocket(&harness.exec("wait", all()), "v5.channel.k8s.io").await;
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::binary(vec![1])
    );
    let only_stdin = StreamOptions {
        stdin: true,
        ..StreamOptions::default()
    };
    let (mut socket, _) = websocket(&harness.exec("wait", only_stdin), "v4.channel.k8s.io").await;
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::binary(vec![3])
    );
}

#[tokio::test]
async fn the_base64_form() {
    let harness = Harness::new().await;
    let options = terminal();
    let url = harness.exec("size", options);
    let (mut socket, protocol) =
        websocket(&url, "unknown, v4.base64.channel.k8s.io, v4.channel.k8s.io").await;
    assert_eq!(protocol.as_deref(), Some("v4.base64.channel.k8s.io"));
    // {"Width":80,"Height":24} and {"Width":100,"Height":30}
    send(
        &mut socket,
        Message::text("4eyJXaWR0aCI6ODAsIkhlaWdodCI6MjR9"),
    )
    .await;
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("1"));
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::text("1ODB4MjQ7")
    );
    send(
        &mut socket,
        Message::text("4eyJXaWR0aCI6MTAwLCJIZWlnaHQiOjMwfQ=="),
    )
    .await;
    let (seen, _) = channels(&mut socket).await;
    assert_eq!(seen[&1], "MTAweDMwOw==");
    assert_eq!(seen[&3], "eyJzdGF0dXMiOiJTdWNjZXNzIn0=");
}

#[tokio::test]
async fn the_oldest_form_has_no_protocol_and_tells_failures_only() {
    let harness = Harness::new().await;
    let (mut socket, protocol) = websocket(&harness.exec("flood 0", all()), "").await;
    assert_eq!(protocol, None);
    let (seen, _) = channels(&mut socket).await;
    assert_eq!(seen.keys().collect::<Vec<_>>(), [&1]);
    let (mut socket, _) = websocket(&harness.exec("fail", all()), "channel.k8s.io").await;
    let (seen, _) = channels(&mut socket).await;
    let expected = "Internal error occurred: error executing command in container: no such thing";
    assert_eq!(seen[&3], expected);
}

#[tokio::test]
async fn spdy_with_every_stream() {
    let harness = Harness::new().await;
    let url = harness.exec("cat 3", all());
    let (mut client, protocol) = spdy(
        &url,
        "v5.channel.k8s.io, v4.channel.k8s.io,v3.channel.k8s.io",
    )
    .await;
    assert_eq!(protocol, "v4.channel.k8s.io");
    let error = client.open(&[("streamType", "error")]).await;
    let stdin = client.open(&[("streamType", "stdin")]).await;
    let stdout = client.open(&[("streamType", "stdout")]).await;
    let stderr = client.open(&[("streamType", "stderr")]).await;
    client.data(stdin, "some ", false).await;
    client.data(stdin, "input", true).await;
    let seen = client.read(&[]).await;
    assert_eq!(seen[&stdout], "some input.");
    assert_eq!(seen[&stderr], "end of input.");
    assert_eq!(seen[&error], format!("{CODE_3}."));
}

#[tokio::test]
async fn spdy_with_a_terminal() {
    let harness = Harness::new().await;
    let (mut client, _) = spdy(&harness.exec("size", terminal()), "v4.channel.k8s.io").await;
    let error = client.open(&[("streamType", "error")]).await;
    client.open(&[("streamType", "stdin")]).await;
    let stdout = client.open(&[("streamType", "stdout")]).await;
    let resize = client.open(&[("streamType", "resize")]).await;
    client.data(resize, "{\"Width\":80,\"Hei", false).await;
    client.data(resize, "ght\":24}\n", false).await;
    let Some(Frame::Data { data, .. }) = client.next().await else {
        panic!("no answer")
    };
    assert_eq!(data, "80x24;");
    client
        .data(resize, "{\"Width\":100,\"Height\":30}\n", false)
        .await;
    let seen = client.read(&[]).await;
    assert_eq!(
        (&*seen[&stdout], &*seen[&error]),
        ("100x30;.", &*format!("{SUCCESS}."))
    );
}

#[tokio::test]
async fn version_1_over_spdy_tells_failures_only() {
    let harness = Harness::new().await;
    let options = StreamOptions {
        stdout: true,
        ..StreamOptions::default()
    };
    let (mut client, protocol) = spdy(&harness.exec("fail", options), "channel.k8s.io").await;
    assert_eq!(protocol, "channel.k8s.io");
    let error = client.open(&[("streamType", "error")]).await;
    client.open(&[("streamType", "stdout")]).await;
    let text = &client.read(&[]).await[&error];
    assert!(
        text.ends_with("error executing command in container: no such thing."),
        "{text}"
    );
}

#[tokio::test]
async fn attaching() {
    let harness = Harness::new().await;
    let url = |id: &str| {
        let options = StreamOptions {
            stdout: true,
            ..StreamOptions::default()
        };
        harness
            .server
            .attach_url(AttachRequest {
                container_id: id.into(),
                options,
            })
            .unwrap()
    };
    let (mut socket, _) = websocket(&url("here"), "v5.channel.k8s.io").await;
    let (seen, _) = channels(&mut socket).await;
    assert_eq!((&*seen[&1], &*seen[&3]), ("attached", SUCCESS));
    let (mut socket, _) = websocket(&url("gone"), "v5.channel.k8s.io").await;
    let (seen, _) = channels(&mut socket).await;
    let expected = r#"{"status":"Failure","message":"Internal error occurred: error attaching to container: container is not running","reason":"InternalError","code":500}"#;
    assert_eq!(seen[&3], expected);
}

/// No task may outlive its attach (containerd CVE-2022-23471, CVE-2025-64329).
#[tokio::test]
async fn nothing_is_left_when_the_client_goes() {
    let harness = Harness::new().await;
    let (socket, _) = websocket(&harness.exec("wait", all()), "v5.channel.k8s.io").await;
    assert_eq!(harness.event().await, "waiting");
    drop(socket);
    assert_eq!(harness.event().await, "dropped");

    let options = StreamOptions {
        stdout: true,
        ..StreamOptions::default()
    };
    let (mut client, _) = spdy(&harness.exec("wait", options), "v4.channel.k8s.io").await;
    client.open(&[("streamType", "error")]).await;
    client.open(&[("streamType", "stdout")]).await;
    assert_eq!(harness.event().await, "waiting");
    drop(client);
    assert_eq!(harness.event().await, "dropped");
}

#[tokio::test]
async fn nothing_is_left_when_the_server_stops() {
    let harness = Harness::new().await;
    let (mut socket, _) = websocket(&harness.exec("wait", all()), "v5.channel.k8s.io").await;
    assert_eq!(harness.event().await, "waiting");
    let Harness { server, mut events } = harness;
    drop(server);
    assert_eq!(events.get_mut().recv().await.unwrap(), "dropped");
    assert_eq!(channels(&mut socket).await.1, None);
}

#[tokio::test]
async fn a_flood_arrives_whole() {
    const BYTES: u32 = 4 << 20;
    let harness = Harness::new().await;
    let url = harness.exec(&format!("flood {BYTES}"), all());
    let (mut socket, _) = websocket(&url, "v5.channel.k8s.io").await;
    let mut got = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Binary(data) = message
            && data[0] == 1
        {
            got.extend_from_slice(&data[1..]);
        }
    }
    assert_eq!(got.len(), BYTES as usize);
    let numbers = got
        .chunks(4)
        .map(|word| u32::from_be_bytes(word.try_into().unwrap()));
    assert!(numbers.eq(0..BYTES / 4));
}

#[tokio::test]
async fn handshakes_that_fail() {
    let harness = Harness::new().await;
    let url = || harness.exec("wait", all());
    let (status, text) = refusal(&url(), &[]).await;
    assert_eq!(status, 400);
    assert!(text.starts_with("unable to upgrade: header X-Stream-Protocol-Version does not exist"));
    let upgrade = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
    let [connection, spdy] = upgrade;
    let (status, text) = refusal(
        &url(),
        &[connection, spdy, ("x-stream-protocol-version", "v9")],
    )
    .await;
    assert_eq!(status, 403);
    assert!(
        text.contains("client supports [v9], server accepts [v4.channel.k8s.io"),
        "{text}"
    );
    let (status, text) = refusal(
        &url(),
        &[("x-stream-protocol-version", "v4.channel.k8s.io")],
    )
    .await;
    assert_eq!(
        (status.as_u16(), &*text),
        (
            400,
            "unable to upgrade: missing upgrade headers in request\n"
        )
    );
    let mut headers = super::client::WEBSOCKET.to_vec();
    headers.push(("sec-websocket-protocol", "v9.channel.k8s.io"));
    assert_eq!(refusal(&url(), &headers).await.0, 403);
}
