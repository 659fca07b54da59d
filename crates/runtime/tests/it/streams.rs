//! Exec, attach and port-forward as a client sees them, and the whole CRI over its socket.

use cri::RuntimeService;
use cri::v1::*;
use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::node::{Node, shell};

/// A client of the streaming server.
struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn open(url: &str, protocol: &str) -> Client {
        let mut request = url.replacen("http", "ws", 1).into_client_request().unwrap();
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", protocol.parse().unwrap());
        Client(tokio_tungstenite::connect_async(request).await.unwrap().0)
    }

    async fn send(&mut self, channel: u8, bytes: &[u8]) {
        let message = [&[channel], bytes].concat();
        self.0.send(Message::binary(message)).await.unwrap();
    }

    /// Reads one channel until it contains `end`, or to the end.
    async fn read(&mut self, channel: u8, end: &str) -> String {
        let mut text = String::new();
        while end.is_empty() || !text.contains(end) {
            let next = tokio::time::timeout(std::time::Duration::from_secs(20), self.0.next());
            let Some(Ok(message)) = next.await.expect("an answer in time") else {
                break;
            };
            let bytes = message.into_data();
            if bytes.first() == Some(&channel) {
                text.push_str(&String::from_utf8_lossy(&bytes[1..]));
            }
        }
        text
    }
}

fn exec_request(container: &str, command: &[&str], tty: bool) -> ExecRequest {
    ExecRequest {
        container_id: container.into(),
        cmd: command.iter().map(|word| (*word).to_owned()).collect(),
        tty,
        stdin: true,
        stdout: true,
        stderr: !tty,
    }
}

#[tokio::test]
async fn a_command_is_typed_to_and_its_exit_code_comes_back() {
    let node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("streams")).await;
    let id = node.run(&pod, shell("sleep 1000")).await;
    let request = exec_request(&id, &["sh", "-c", "cat; echo done >&2; exit 6"], false);
    let url = node.runtime.exec(request).await.unwrap().url;
    let mut client = Client::open(&url, "v5.channel.k8s.io").await;
    client.send(0, b"hello\n").await;
    assert_eq!(client.read(1, "\n").await, "hello\n");
    client.send(255, &[0]).await;
    assert_eq!(client.read(2, "\n").await, "done\n");
    let status = client.read(3, "}").await + &client.read(3, "").await;
    assert!(
        status.contains("\"6\"") && status.contains("NonZeroExitCode"),
        "{status}"
    );
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn a_terminal_has_a_size_and_a_user() {
    let node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("tty")).await;
    let id = node.run(&pod, shell("sleep 1000")).await;
    let url = node
        .runtime
        .exec(exec_request(&id, &["sh"], true))
        .await
        .unwrap()
        .url;
    let mut client = Client::open(&url, "v5.channel.k8s.io").await;
    client.send(4, br#"{"Width":123,"Height":45}"#).await;
    client
        .send(
            0,
            b"while [ \"$(stty size)\" != '45 123' ]; do :; done; echo size''ok; tty\n",
        )
        .await;
    let text = client.read(1, "/dev/pts/").await;
    assert!(text.contains("sizeok"), "{text}");
    client.send(0, b"exit 0\n").await;
    assert!(client.read(3, "Success").await.contains("Success"));
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn who_attaches_sees_and_types_to_the_container() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("attach")).await;
    for (tty, log) in [(false, "pipes/0.log"), (true, "tty/0.log")] {
        let mut config = shell("read line; echo got $line; read line; exit 3");
        config.stdin = true;
        config.tty = tty;
        config.log_path = log.into();
        let id = node.run(&pod, config).await;
        let request = AttachRequest {
            container_id: id.clone(),
            stdin: true,
            tty,
            stdout: true,
            stderr: !tty,
        };
        let url = node.runtime.attach(request).await.unwrap().url;
        let mut client = Client::open(&url, "v5.channel.k8s.io").await;
        client.send(0, b"something\n").await;
        assert!(
            client
                .read(1, "got something")
                .await
                .contains("got something")
        );
        // The runtime may be restarted under a container with a terminal, too.
        node.restart().await;
        let request = AttachRequest {
            container_id: id.clone(),
            stdin: true,
            tty,
            stdout: true,
            stderr: !tty,
        };
        let url = node.runtime.attach(request).await.unwrap().url;
        let mut client = Client::open(&url, "v5.channel.k8s.io").await;
        client.send(0, b"end\n").await;
        assert_eq!(node.wait_exit(&id).await.exit_code, 3);
        assert!(node.log(&id).await.contains("stdout F got something"));
    }
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn who_has_typed_all_leaves_a_container_whose_input_stays_open() {
    let node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("leave")).await;
    let mut config = shell("while read line; do echo got $line; done");
    config.stdin = true;
    config.log_path = "leave/0.log".into();
    let id = node.run(&pod, config).await;
    for word in ["first", "second"] {
        let request = AttachRequest {
            container_id: id.clone(),
            stdin: true,
            tty: false,
            stdout: true,
            stderr: true,
        };
        let url = node.runtime.attach(request).await.unwrap().url;
        let mut client = Client::open(&url, "v5.channel.k8s.io").await;
        client.send(0, format!("{word}\n").as_bytes()).await;
        let got = format!("got {word}");
        assert!(client.read(1, &got).await.contains(&got));
        client.send(255, &[0]).await;
        assert!(client.read(3, "Success").await.contains("Success"));
    }
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn a_port_of_the_pod_is_reached() {
    let node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("port")).await;
    let id = node
        .run(
            &pod,
            shell("while :; do echo hello from the pod | nc -l -p 8080; done"),
        )
        .await;
    let listening = "until grep -q ':1F90 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done";
    node.exec(&id, &["sh", "-c", listening]).await.unwrap();
    let request = PortForwardRequest {
        pod_sandbox_id: pod.clone(),
        port: vec![8080],
    };
    let url = node.runtime.port_forward(request).await.unwrap().url;
    let mut client = Client::open(&url, "v4.channel.k8s.io").await;
    let text = client.read(0, "the pod\n").await;
    assert!(text.ends_with("hello from the pod\n"), "{text:?}");
    drop(client);
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn the_cri_is_served_on_a_socket_for_root_only() {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::new().await;
    let socket = node.dir.path().join("run/cri.sock");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let runtime = node.runtime.clone();
    let path = socket.clone();
    let server =
        tokio::spawn(
            async move { runtime::serve(runtime, &path, async { drop(stopped.await) }).await },
        );
    while !socket.exists() {
        tokio::task::yield_now().await;
    }
    let client = cri::remote::Remote::new(&socket.display().to_string()).unwrap();
    let version = client.version(VersionRequest::default()).await.unwrap();
    assert_eq!(
        (
            version.runtime_name.as_str(),
            version.runtime_api_version.as_str()
        ),
        ("oxikube", "v1")
    );
    assert_eq!(
        std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let config = Some(node.sandbox_config("remote"));
    let pod = client
        .run_pod_sandbox(RunPodSandboxRequest {
            config,
            ..Default::default()
        })
        .await;
    let pod = pod.unwrap().pod_sandbox_id;
    let mut events = client
        .get_container_events(GetEventsRequest {})
        .await
        .unwrap();
    let id = node.run(&pod, shell("exit 9")).await;
    loop {
        let event = events.next().await.unwrap().unwrap();
        if event.container_event_type == ContainerEventType::ContainerStoppedEvent as i32 {
            assert_eq!(event.container_id, id);
            assert_eq!(event.containers_statuses[0].exit_code, 9);
            break;
        }
    }
    drop((events, client, stop));
    server.await.unwrap().unwrap();
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}
