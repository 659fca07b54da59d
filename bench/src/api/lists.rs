//! A list of very many pods: when it begins, when it ends, and what memory it takes on the way.

use std::time::{Duration, Instant};

use serde_json::json;

use super::load::hammer;
use super::server::Server;
use super::{Figures, Options};

const PODS: &str = "/api/v1/namespaces/default/pods";

/// A pod as a scheduler has left it.
pub(super) fn pod(number: usize, node: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{number}"), "labels": {"app": format!("app-{}", number % 500)}},
        "spec": {"nodeName": node, "containers": [{
            "name": "main", "image": "registry.example/app:1", "ports": [{"containerPort": 80}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
        }]},
    })
    .to_string()
}

/// Makes the pods and lists them.
pub(super) async fn run(
    server: &Server,
    options: &Options,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let time = Duration::from_secs(3600);
    let (took, all) = hammer(
        server,
        options.connections,
        time,
        options.pods,
        |c, number| {
            let node = format!("node-{}", number % 1000);
            c.request("POST", PODS, Some(&pod(number, &node)))
        },
    )
    .await?;
    let count = took.len();
    let name = |what: &str| format!("list of {count} pods, {what}");
    figures.add("creates of pods", count as f64 / all.as_secs_f64(), "/s");
    tokio::time::sleep(Duration::from_secs(3)).await;
    figures.add(
        format!("{count} pods: memory (PSS)"),
        server.memory_mib(),
        "MiB",
    );
    let (mut first, mut whole) = (Duration::MAX, Duration::MAX);
    let (mut bytes, mut extra) = (0, f64::MAX);
    for _ in 0..3 {
        let mut connection = server.connect().await?;
        let request = connection.request("GET", PODS, None);
        server.forget_peak();
        let before = server.resident_mib();
        let began = Instant::now();
        let answer = connection.measure(&request).await?;
        whole = whole.min(began.elapsed());
        first = first.min(answer.first_byte);
        extra = extra.min(server.peak_mib() - before);
        bytes = answer.bytes;
    }
    let mib = bytes as f64 / f64::from(1 << 20);
    figures.add(name("first byte"), first.as_secs_f64() * 1e3, "ms");
    figures.add(name("whole"), whole.as_secs_f64() * 1e3, "ms");
    figures.add(name("size"), mib, "MiB");
    figures.add(name("extra memory"), extra, "MiB");
    Ok(())
}
