//! Port-forward in its three forms.

use futures::StreamExt;
use tokio_tungstenite::tungstenite::Message;

use super::Harness;
use super::client::{Spdy, Upgraded, binary, channels, refusal, send, spdy, websocket};
use crate::spdy::{Frame, RESET_CANCEL};
use crate::websocket::Tunnel;

const NO_PORT: &str =
    "error forwarding port 81 to pod sandbox, uid : failed to connect to localhost:81";

async fn pair<I>(client: &mut Spdy<I>, request: &str, port: &str) -> (u32, u32)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite,
{
    let stream = |kind| [("streamType", kind), ("port", port), ("requestID", request)];
    let error = client.open(&stream("error")).await;
    client
        .send(Frame::Data {
            stream: error,
            data: "".into(),
            fin: true,
        })
        .await;
    (error, client.open(&stream("data")).await)
}

#[tokio::test]
async fn over_spdy() {
    let harness = Harness::new().await;
    let (mut client, protocol) = spdy(&harness.forward(&[]), "portforward.k8s.io").await;
    assert_eq!(protocol, "portforward.k8s.io");
    let (error, data) = pair(&mut client, "0", "80").await;
    let (error_2, data_2) = pair(&mut client, "1", "80").await;
    client.data(data, "hel", false).await;
    client.data(data_2, "second", true).await;
    client.data(data, "lo", true).await;
    let seen = client.read(&[data, error, data_2, error_2]).await;
    assert_eq!((&*seen[&data], &*seen[&error]), ("HELLO.", "."));
    assert_eq!((&*seen[&data_2], &*seen[&error_2]), ("SECOND.", "."));
}

#[tokio::test]
async fn a_port_that_nobody_listens_on() {
    let harness = Harness::new().await;
    let (mut client, _) = spdy(&harness.forward(&[]), "portforward.k8s.io").await;
    let (error, data) = pair(&mut client, "0", "81").await;
    let seen = client.read(&[error, data]).await;
    assert_eq!(
        (&*seen[&error], &*seen[&data]),
        (&*format!("{NO_PORT}."), "!")
    );
    // The connection goes on.
    let (_, data) = pair(&mut client, "1", "80").await;
    client.data(data, "x", true).await;
    assert_eq!(client.read(&[data]).await[&data], "X.");
}

#[tokio::test]
async fn a_reset_ends_the_connection_into_the_pod() {
    let harness = Harness::new().await;
    let (mut client, _) = spdy(&harness.forward(&[]), "portforward.k8s.io").await;
    let (error, data) = pair(&mut client, "0", "80").await;
    client.data(data, "unfinished", false).await;
    client
        .send(Frame::Reset {
            stream: data,
            status: RESET_CANCEL,
        })
        .await;
    assert_eq!(client.read(&[error]).await[&error], ".");
    assert_eq!(harness.event().await, "connection over");
}

#[tokio::test]
async fn nothing_is_left_when_the_client_goes() {
    let harness = Harness::new().await;
    let (mut client, _) = spdy(&harness.forward(&[]), "portforward.k8s.io").await;
    let (_, data) = pair(&mut client, "0", "80").await;
    client.data(data, "unfinished", false).await;
    drop(client);
    assert_eq!(harness.event().await, "connection over");
}

#[tokio::test]
async fn streams_that_are_not_right_are_reset() {
    let harness = Harness::new().await;
    let (mut client, _) = spdy(&harness.forward(&[]), "portforward.k8s.io").await;
    let wrong: [&[(&str, &str)]; 4] = [
        &[("streamType", "data")],
        &[("streamType", "data"), ("port", "0")],
        &[("streamType", "data"), ("port", "99999")],
        &[("streamType", "other"), ("port", "80")],
    ];
    for headers in wrong {
        let opened = client.begin(headers).await;
        let answer = client.next().await;
        assert!(matches!(answer, Some(Frame::Reset { stream, .. }) if stream == opened));
    }
    client.send(Frame::Ping { id: 7 }).await;
    assert_eq!(client.next().await, Some(Frame::Ping { id: 7 }));
    // Old clients send no request numbers.
    let error = client
        .open(&[("streamType", "error"), ("port", "80")])
        .await;
    let data = client.open(&[("streamType", "data"), ("port", "80")]).await;
    client.data(data, "old", true).await;
    let seen = client.read(&[data, error]).await;
    assert_eq!((&*seen[&data], &*seen[&error]), ("OLD.", "."));
}

#[tokio::test]
async fn through_a_tunnel() {
    let harness = Harness::new().await;
    let (socket, protocol) = websocket(&harness.forward(&[]), "SPDY/3.1+portforward.k8s.io").await;
    assert_eq!(protocol.as_deref(), Some("SPDY/3.1+portforward.k8s.io"));
    let mut client: Spdy<Tunnel<Upgraded>> = Spdy::new(Tunnel::new(socket));
    let (error, data) = pair(&mut client, "0", "80").await;
    client.data(data, "hello", true).await;
    let seen = client.read(&[data, error]).await;
    assert_eq!((&*seen[&data], &*seen[&error]), ("HELLO.", "."));
    let (error, _) = pair(&mut client, "1", "81").await;
    assert_eq!(client.read(&[error]).await[&error], format!("{NO_PORT}."));
}

#[tokio::test]
async fn over_the_channels_of_a_websocket() {
    let harness = Harness::new().await;
    let (mut socket, _) = websocket(&harness.forward(&[80, 81]), "v4.channel.k8s.io").await;
    let mut begun = Vec::new();
    while begun.len() < 4 {
        if let Message::Binary(data) = socket.next().await.unwrap().unwrap() {
            // Port 81 fails whenever it likes.
            if data.len() == 3 {
                begun.push(data.to_vec());
            }
        }
    }
    assert_eq!(
        begun,
        [
            vec![0, 80, 0],
            vec![1, 80, 0],
            vec![2, 81, 0],
            vec![3, 81, 0]
        ]
    );
    send(&mut socket, binary(0, "hello")).await;
    socket.close(None).await.unwrap();
    let (seen, _) = channels(&mut socket).await;
    assert!(!seen.contains_key(&2));
    assert_eq!(harness.event().await, "connection over");
    let mut headers = super::client::WEBSOCKET.to_vec();
    headers.push(("sec-websocket-protocol", "v4.channel.k8s.io"));
    assert_eq!(refusal(&harness.forward(&[]), &headers).await.0, 400);
}
