//! How fast a cluster and a pod start, and what a cluster costs that does nothing.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::cluster::Cluster;
use crate::report::{Report, median};

/// How long an idle cluster is watched.
const IDLE: Duration = Duration::from_secs(60);
/// What the start of a cluster leaves to do is done by then.
const SETTLE: Duration = Duration::from_secs(15);
/// `USER_HZ`: ticks of processor time a second.
const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) fn run(cluster: &Cluster, times: usize, report: &mut Report) -> anyhow::Result<()> {
    let (mut first, mut again) = (Vec::new(), Vec::new());
    for _ in 0..times {
        cluster.oxikube(&["delete"])?;
        first.push(cluster.oxikube(&["start"])?);
        cluster.oxikube(&["stop"])?;
        again.push(cluster.oxikube(&["start"])?);
    }
    report.figure("start of a new cluster, ready with DNS", median(first), "s")?;
    report.figure(
        "start of a stopped cluster, ready with DNS",
        median(again),
        "s",
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let pods = runtime.block_on(pods(cluster, times))?;
    report.figure(
        "pod with a present image, create to running",
        median(pods),
        "ms",
    )?;
    idle(cluster, report)
}

async fn pods(cluster: &Cluster, times: usize) -> anyhow::Result<Vec<f64>> {
    let archive = cluster.data().with_file_name("busybox.tar");
    let image = demo_images::samples::busybox()?.build()?;
    image.archive(std::fs::File::create(&archive)?)?;
    cluster.oxikube(&[
        "image",
        "load",
        archive.to_str().context("a path that is not text")?,
    ])?;
    let api: Api<Pod> = Api::namespaced(cluster.client().await?, "default");
    let mut taken = Vec::new();
    for number in 0..times {
        taken.push(pod(&api, &format!("bench-{number}"), image.name()).await?);
    }
    Ok(taken)
}

/// Milliseconds from the request that makes a pod to the event that says it runs.
async fn pod(api: &Api<Pod>, name: &str, image: &str) -> anyhow::Result<f64> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "main", "image": image, "imagePullPolicy": "IfNotPresent",
            "command": ["sleep", "3600"],
        }]},
    }))?;
    let parameters = WatchParams::default()
        .fields(&format!("metadata.name={name}"))
        .timeout(60);
    let mut events = api.watch(&parameters, "0").await?.boxed();
    let began = Instant::now();
    api.create(&PostParams::default(), &pod).await?;
    while let Some(event) = events.try_next().await? {
        let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event else {
            continue;
        };
        if pod
            .status
            .is_some_and(|status| status.phase.as_deref() == Some("Running"))
        {
            let taken = began.elapsed().as_secs_f64() * 1000.0;
            api.delete(name, &DeleteParams::default().grace_period(0))
                .await?;
            return Ok(taken);
        }
    }
    bail!("pod {name} did not run within a minute")
}

fn idle(cluster: &Cluster, report: &mut Report) -> anyhow::Result<()> {
    std::thread::sleep(SETTLE);
    let processes = cluster.processes()?;
    if processes.is_empty() {
        bail!("no process of the cluster was found");
    }
    let sum = |of: fn(u32) -> Option<f64>| processes.iter().filter_map(|pid| of(*pid)).sum::<f64>();
    let (ticks, written) = (sum(processor_ticks), sum(bytes_written));
    std::thread::sleep(IDLE);
    let share = (sum(processor_ticks) - ticks) / TICKS_PER_SECOND / IDLE.as_secs_f64();
    report.figure(
        "idle: memory (PSS) of all processes",
        sum(proportional_set_kib) / 1024.0,
        "MiB",
    )?;
    report.figure("idle: processor, share of a core", share * 100.0, "%")?;
    let kib = (sum(bytes_written) - written) / 1024.0;
    report.figure("idle: written to disk in a minute", kib, "KiB")
}

fn processor_ticks(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // User and system time are fields 14 and 15; the name before them may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
}

fn proportional_set_kib(pid: u32) -> Option<f64> {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn bytes_written(pid: u32) -> Option<f64> {
    field(&format!("/proc/{pid}/io"), "write_bytes:")
}

fn field(file: &str, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(name))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}
