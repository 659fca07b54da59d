//! When a node may be called ready: the API says so, and a DNS query to the service's address is answered.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use client::watch::{Change, store};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::cluster::{CLUSTER_DOMAIN, DNS_SERVICE};

/// How long a node may take; what then keeps it from being ready does not go away by itself.
const PATIENCE: Duration = Duration::from_secs(120);
/// UDP may lose a query; it is sent again after this.
const RETRANSMIT: Duration = Duration::from_millis(200);
const QUERIES: u32 = 25;
/// An answer's flags and answer count, as far as they matter.
const IS_RESPONSE: u8 = 0x80;

/// Completes when the node is Ready and the cluster DNS answers.
///
/// `parts` turn true when they know all that existed at the start.
pub(in crate::node) async fn wait(
    client: Client,
    name: String,
    parts: Vec<watch::Receiver<bool>>,
) -> anyhow::Result<()> {
    let node = async {
        let ready = node_ready(Api::all(client.clone()), &name);
        match timeout(PATIENCE, ready).await {
            Ok(result) => result,
            Err(_) => bail!("{}", why_not(&Api::all(client), &name).await),
        }
    };
    let names = async {
        // A sender that is gone means a component that ended, which is told elsewhere.
        for mut part in parts {
            let known = part.wait_for(|ready| *ready).await;
            known.context("a component ended early")?;
        }
        dns_answers().await
    };
    tokio::try_join!(node, names).map(drop)
}

/// Completes when the node is Ready.
pub(crate) async fn node_ready(api: Api<Node>, name: &str) -> anyhow::Result<()> {
    let own = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let (_, changes) = store(api, own);
    let mut changes = std::pin::pin!(changes);
    while let Some(change) = changes.next().await {
        if let Change::Applied { new, .. } = change
            && is_ready(&new)
        {
            return Ok(());
        }
    }
    bail!("the watch of the node ended")
}

/// What a node that is not ready says about it.
async fn why_not(api: &Api<Node>, name: &str) -> String {
    let node = api.get_opt(name).await.ok().flatten();
    let Some(node) = node else {
        return format!("the node {name} did not register");
    };
    let conditions = node
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    let ready = conditions
        .into_iter()
        .find(|condition| condition.type_ == "Ready");
    let message = ready
        .and_then(|condition| condition.message)
        .unwrap_or_default();
    format!(
        "the node is not ready after {} seconds: {message}",
        PATIENCE.as_secs()
    )
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Asks for the address of the API's service, at the address that pods ask.
async fn dns_answers() -> anyhow::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).await?;
    socket
        .connect(SocketAddr::new(DNS_SERVICE.into(), 53))
        .await?;
    let id = socket.local_addr()?.port();
    let query = query(id, &format!("kubernetes.default.svc.{CLUSTER_DOMAIN}"));
    let mut answer = [0; 512];
    for _ in 0..QUERIES {
        socket
            .send(&query)
            .await
            .context("cannot ask the cluster DNS")?;
        if let Ok(Ok(length)) = timeout(RETRANSMIT, socket.recv(&mut answer)).await
            && is_answer(&answer[..length], id)
        {
            return Ok(());
        }
    }
    bail!("the cluster DNS at {DNS_SERVICE} does not answer")
}

/// A question for the IPv4 address of a name.
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    // Recursion desired, one question, nothing else.
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).unwrap_or(0));
        out.extend(label.as_bytes());
    }
    // The root, type A, class IN.
    out.extend([0, 0, 1, 0, 1]);
    out
}

/// A response to this question, without error, with an answer in it.
fn is_answer(message: &[u8], id: u16) -> bool {
    match message {
        [a, b, flags, code, _, _, c, d, ..] => {
            u16::from_be_bytes([*a, *b]) == id
                && flags & IS_RESPONSE != 0
                && code & 0x0f == 0
                && u16::from_be_bytes([*c, *d]) > 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers() {
        let question = query(7, "a.bc");
        assert_eq!(&question[12..], [1, b'a', 2, b'b', b'c', 0, 0, 1, 0, 1]);
        assert!(!is_answer(&question, 7), "a question is no answer");
        let mut answer = question;
        answer[2] |= IS_RESPONSE;
        assert!(!is_answer(&answer, 7), "nothing in it");
        answer[7] = 1;
        assert!(is_answer(&answer, 7) && !is_answer(&answer, 8));
        answer[3] |= 3;
        assert!(!is_answer(&answer, 7), "no such name");
    }
}
