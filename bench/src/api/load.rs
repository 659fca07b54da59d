//! Many small requests: creates and gets of ConfigMaps, one after the other on each connection; and a list of them all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::json;

use super::server::Server;
use super::wire::Connection;
use super::{Figures, Options};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A ConfigMap of one kilobyte.
fn map(number: usize) -> String {
    let filler = "x".repeat(880);
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": format!("bench-{number}")}, "data": {"filler": filler},
    })
    .to_string()
}

/// Sends requests until the time is over, or `most` are sent; gives how long each took, and how long all did.
pub(super) async fn hammer(
    server: &Server,
    connections: usize,
    time: Duration,
    most: usize,
    request: impl Fn(&Connection, usize) -> Vec<u8> + Send + Sync + 'static,
) -> anyhow::Result<(Vec<Duration>, Duration)> {
    let next = Arc::new(AtomicUsize::new(0));
    let request = Arc::new(request);
    let mut opened = Vec::new();
    for _ in 0..connections {
        opened.push(server.connect().await?);
    }
    let began = Instant::now();
    let tasks = opened.into_iter().map(|mut connection| {
        let (next, request) = (next.clone(), request.clone());
        tokio::spawn(async move {
            let mut took = Vec::new();
            while began.elapsed() < time {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= most {
                    break;
                }
                let bytes = request(&connection, number);
                let sent = Instant::now();
                let answer = connection.exchange(&bytes).await?;
                took.push(sent.elapsed());
                if answer.code >= 300 {
                    let said = String::from_utf8_lossy(&answer.body).into_owned();
                    bail!("request {number}: {}: {said}", answer.code);
                }
            }
            Ok(took)
        })
    });
    let mut all = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        all.extend(task.await??);
    }
    Ok((all, began.elapsed()))
}

/// Creates, gets, a list, and what memory is left of it.
pub(super) async fn run(
    server: &Server,
    options: &Options,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let (connections, made) = (options.connections, options.objects);
    let forever = Duration::from_secs(3600);
    let before = server.processor_seconds();
    let (took, all) = hammer(server, connections, forever, made, |c, number| {
        c.request("POST", MAPS, Some(&map(number)))
    })
    .await?;
    let spent = (server.processor_seconds() - before) * 1e6;
    figures.add("creates of 1 KB", made as f64 / all.as_secs_f64(), "/s");
    let each = "creates of 1 KB: the server's processor time of one";
    figures.add(each, spent / made as f64, "us");
    figures.latencies("creates of 1 KB", took);
    let time = Duration::from_secs(options.seconds);
    let before = server.processor_seconds();
    let (took, all) = hammer(server, connections, time, usize::MAX, move |c, number| {
        // A step that meets all of them in no order.
        let number = number.wrapping_mul(7919) % made.max(1);
        c.request("GET", &format!("{MAPS}/bench-{number}"), None)
    })
    .await?;
    let spent = (server.processor_seconds() - before) * 1e6;
    let each = "gets of 1 KB: the server's processor time of one";
    figures.add(each, spent / took.len() as f64, "us");
    figures.add("gets of 1 KB", took.len() as f64 / all.as_secs_f64(), "/s");
    figures.latencies("gets of 1 KB", took);
    let mut connection = server.connect().await?;
    let request = connection.request("GET", MAPS, None);
    let began = Instant::now();
    let answer = connection.measure(&request).await?;
    let took = began.elapsed().as_secs_f64();
    let mib = answer.bytes as f64 / f64::from(1 << 20);
    figures.add("list of what was created", took * 1e3, "ms");
    figures.add("list of what was created, rate", mib / took, "MiB/s");
    tokio::time::sleep(Duration::from_secs(3)).await;
    figures.add("after this load: memory (PSS)", server.memory_mib(), "MiB");
    Ok(())
}
