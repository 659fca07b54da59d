//! Figures of the store, each beside etcd or the disk's own, measured in one run.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use etcd_api::etcdserverpb::PutRequest;
use etcd_api::etcdserverpb::kv_client::KvClient;
use futures::StreamExt;
use parking_lot::Mutex;
use store::embedded::{Engine, Options};
use store::{KeyValue, Op, Range, RangeEnd, Store, Txn, backup};
use tonic::transport::{Channel, Endpoint};

use crate::etcd::Cluster;

/// Bytes of a value.
const VALUE: usize = 1024;
/// Keys that writers write.
const KEYS: u64 = 10_000;
/// How many clients write at the same time.
const CLIENTS: [usize; 4] = [1, 16, 256, 4096];
/// Connections to etcd that its clients share.
const CONNECTIONS: usize = 16;

/// How it is measured.
pub struct Settings {
    /// Each rate is measured for so long.
    pub time: Duration,
    /// Keys of the large store.
    pub large: u64,
    /// A directory on the disk to measure.
    pub dir: PathBuf,
    /// One JSON object a figure goes here.
    pub json: Option<File>,
}

struct Report {
    json: Option<File>,
}

impl Report {
    fn figure(
        &mut self,
        name: &str,
        value: f64,
        unit: &str,
        peer: Option<(&str, f64)>,
    ) -> anyhow::Result<()> {
        let beside = peer.map(|(who, peer)| (who, peer, value / peer));
        let shown = beside.map_or(String::new(), |(who, peer, ratio)| {
            format!("  {who} {peer:.0}, {ratio:.2} x")
        });
        println!("{name:58} {value:>12.1} {unit:9}{shown}");
        let Some(file) = &mut self.json else {
            return Ok(());
        };
        let mut line = format!("{{\"name\":\"{name}\",\"value\":{value:.3},\"unit\":\"{unit}\"");
        if let Some((who, peer, ratio)) = beside {
            line += &format!(
                ",\"peer\":{{\"name\":\"{who}\",\"value\":{peer:.3}}},\"ratio\":{ratio:.3}"
            );
        }
        writeln!(file, "{line}}}").context("cannot write the figures")
    }
}

/// Latencies of one measurement.
struct Measured {
    rate: f64,
    latencies: Vec<Duration>,
}

impl Measured {
    fn new(count: u64, took: Duration, mut latencies: Vec<Duration>) -> Measured {
        latencies.sort_unstable();
        Measured {
            rate: count as f64 / took.as_secs_f64(),
            latencies,
        }
    }

    fn percentile(&self, share: f64) -> f64 {
        let at = (self.latencies.len() as f64 * share) as usize;
        let last = self.latencies.len().saturating_sub(1);
        let found = self.latencies.get(at.min(last));
        found.map_or(f64::NAN, |found| found.as_secs_f64() * 1000.0)
    }
}

/// Measures everything.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let home = tempfile::tempdir_in(&settings.dir)?;
    let mut report = Report {
        json: settings.json,
    };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|load| load.parse().ok());
    report.figure(
        "load of the machine before",
        load.unwrap_or(f64::NAN),
        "",
        None,
    )?;
    let raw = raw(home.path(), settings.time)?;
    report.figure("raw: 1 KiB appended and synced", raw.rate, "/s", None)?;
    report.figure("raw: p99.9", raw.percentile(0.999), "ms", None)?;
    runtime.block_on(writes(&mut report, home.path(), settings.time, &raw))?;
    runtime.block_on(stalls(&mut report, home.path(), settings.time * 4))?;
    reads(&mut report)?;
    runtime.block_on(fan_out(&mut report, settings.time))?;
    large(&mut report, home.path(), settings.large)
}

fn value() -> Bytes {
    Bytes::from(vec![b'x'; VALUE])
}

fn put(key: u64) -> Txn {
    Txn {
        success: vec![Op::Put {
            key: format!("/registry/bench/{key:08}").into(),
            value: value(),
            ttl: None,
        }],
        ..Txn::default()
    }
}

/// The disk's own rate, measured as the log uses it.
fn raw(dir: &Path, time: Duration) -> anyhow::Result<Measured> {
    let path = dir.join("raw");
    let file = File::create(&path)?;
    let bytes = [b'x'; VALUE];
    let (began, mut latencies) = (Instant::now(), Vec::new());
    while began.elapsed() < time {
        let one = Instant::now();
        file.write_at(&bytes, latencies.len() as u64 * VALUE as u64)?;
        file.sync_data()?;
        latencies.push(one.elapsed());
    }
    let took = began.elapsed();
    std::fs::remove_file(path)?;
    Ok(Measured::new(latencies.len() as u64, took, latencies))
}

/// Lets clients do something over and over.
async fn hammer<F: Future<Output = anyhow::Result<()>> + Send>(
    clients: usize,
    time: Duration,
    once: impl Fn(usize, u64) -> F + Clone + Send + Sync + 'static,
) -> anyhow::Result<Measured> {
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let began = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let (once, latencies) = (once.clone(), latencies.clone());
            tokio::spawn(async move {
                let (mut own, mut count) = (Vec::new(), 0);
                while began.elapsed() < time {
                    let start = Instant::now();
                    once(client, count).await?;
                    own.push(start.elapsed());
                    count += 1;
                }
                latencies.lock().extend(own);
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let took = began.elapsed();
    let latencies = std::mem::take(&mut *latencies.lock());
    Ok(Measured::new(latencies.len() as u64, took, latencies))
}

fn key_of(client: usize, count: u64) -> u64 {
    (client as u64 * 7919 + count * 31) % KEYS
}

async fn embedded(dir: &Path, clients: usize, time: Duration) -> anyhow::Result<Measured> {
    let engine = Engine::open(dir, Options::default())?;
    let writer = engine.clone();
    let measured = hammer(clients, time, move |client, count| {
        let engine = writer.clone();
        async move {
            engine.txn(put(key_of(client, count))).await?;
            Ok(())
        }
    })
    .await;
    engine.close();
    measured
}

async fn etcd(channels: &[Channel], clients: usize, time: Duration) -> anyhow::Result<Measured> {
    let channels = channels.to_vec();
    hammer(clients, time, move |client, count| {
        let channel = channels[client % channels.len()].clone();
        let request = PutRequest {
            key: format!("/registry/bench/{:08}", key_of(client, count)).into(),
            value: value(),
            ..PutRequest::default()
        };
        async move {
            KvClient::new(channel).put(request).await?;
            Ok(())
        }
    })
    .await
}

async fn writes(
    report: &mut Report,
    home: &Path,
    time: Duration,
    raw: &Measured,
) -> anyhow::Result<()> {
    let mut cluster = Cluster::start_in(home, 1, None)?;
    cluster.wait()?;
    let endpoint = cluster.endpoints().remove(0);
    let channels = (0..CONNECTIONS).map(|_| Endpoint::from_shared(endpoint.clone()));
    let channels: Vec<Channel> = channels
        .map(|endpoint| anyhow::Ok(endpoint?.connect_lazy()))
        .collect::<Result<_, _>>()?;
    for clients in CLIENTS {
        let ours = embedded(&home.join(format!("writes-{clients}")), clients, time).await?;
        let theirs = etcd(&channels, clients, time).await?;
        let name = format!("durable writes of 1 KiB, {clients} clients");
        report.figure(&name, ours.rate, "/s", Some(("etcd", theirs.rate)))?;
        if clients == 1 {
            let name = format!("{name}, beside the disk");
            report.figure(&name, ours.rate, "/s", Some(("fsync", raw.rate)))?;
        }
        let name = format!("{name}: p99");
        let peer = Some(("etcd", theirs.percentile(0.99)));
        report.figure(&name, ours.percentile(0.99), "ms", peer)?;
    }
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        let unsynced = tempfile::tempdir_in(memory)?;
        let fast = embedded(unsynced.path(), 16, time).await?;
        let name = "writes of 1 KiB on a disk of memory, 16 clients";
        report.figure(name, fast.rate, "/s", None)?;
    }
    Ok(())
}

/// The longest that a write takes while checkpoints go on, and what the files come to.
async fn stalls(report: &mut Report, home: &Path, time: Duration) -> anyhow::Result<()> {
    let dir = home.join("stalls");
    let options = Options {
        // As much as fits into a short run.
        history_revisions: 4000,
        checkpoint_bytes: 4 << 20,
        segment_bytes: 2 << 20,
        ..Options::default()
    };
    let engine = Engine::open(&dir, options)?;
    let fill = (0..KEYS).collect::<Vec<_>>();
    for some in fill.chunks(500) {
        let success = some.iter().flat_map(|key| put(*key).success).collect();
        let txn = Txn {
            success,
            ..Txn::default()
        };
        engine.txn(txn).await?;
    }
    let beside = tokio::task::spawn_blocking({
        let home = home.to_owned();
        move || raw(&home, time)
    });
    let writer = engine.clone();
    let measured = hammer(16, time, move |client, count| {
        let engine = writer.clone();
        async move {
            engine.txn(put(key_of(client, count))).await?;
            Ok(())
        }
    });
    let measured = measured.await?;
    let raw = beside.await??;
    let longest = measured.percentile(1.0);
    let beyond = longest - raw.percentile(0.999);
    report.figure("longest write beside checkpoints", longest, "ms", None)?;
    report.figure(
        "the same beyond the p99.9 of raw syncs beside it",
        beyond,
        "ms",
        None,
    )?;
    let stats = engine.stats().await?;
    engine.close();
    let files = size(&dir)? as f64;
    let live = (KEYS as usize * (VALUE + 23)) as f64;
    report.figure(
        "files after it",
        files / 1e6,
        "MB",
        Some(("live data", live / 1e6)),
    )?;
    report.figure(
        "history kept then",
        stats.history_bytes as f64 / 1e6,
        "MB",
        None,
    )
}

fn size(dir: &Path) -> anyhow::Result<u64> {
    let mut all = 0;
    for entry in std::fs::read_dir(dir)? {
        all += entry?.metadata()?.len();
    }
    Ok(all)
}

/// Reads of one key on one core.
fn reads(report: &mut Report) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path(), Options::default())?;
    let rate = runtime.block_on(async {
        for some in (0..KEYS).collect::<Vec<_>>().chunks(1000) {
            let success = some.iter().flat_map(|key| put(*key).success).collect();
            let txn = Txn {
                success,
                ..Txn::default()
            };
            engine.txn(txn).await?;
        }
        let keys: Vec<Bytes> = (0..KEYS)
            .map(|key| format!("/registry/bench/{key:08}").into())
            .collect();
        let (began, mut count) = (Instant::now(), 0u64);
        while began.elapsed() < Duration::from_secs(2) {
            for _ in 0..1000 {
                let key = keys[(count * 7919 % KEYS) as usize].clone();
                let found = engine.range(Range::key(key)).await?;
                ensure!(found.count == 1, "a key is missing");
                count += 1;
            }
        }
        anyhow::Ok(count as f64 / began.elapsed().as_secs_f64())
    })?;
    engine.close();
    report.figure("reads of one key on one core", rate, "/s", None)
}

/// Events delivered to many watchers.
async fn fan_out(report: &mut Report, time: Duration) -> anyhow::Result<()> {
    const WATCHERS: usize = 1000;
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path(), Options::default())?;
    let delivered = Arc::new(AtomicU64::new(0));
    let mut readers = Vec::new();
    for _ in 0..WATCHERS {
        let prefix = Bytes::from_static(b"/registry/");
        let mut watch = engine.watch(prefix, RangeEnd::Prefix, 2).await?;
        let delivered = delivered.clone();
        readers.push(tokio::spawn(async move {
            while let Some(Ok(batch)) = watch.next().await {
                delivered.fetch_add(batch.events.len() as u64, Ordering::Relaxed);
            }
        }));
    }
    let writer = engine.clone();
    let began = Instant::now();
    hammer(256, time, move |client, count| {
        let engine = writer.clone();
        async move {
            engine.txn(put(key_of(client, count))).await?;
            Ok(())
        }
    })
    .await?;
    let rate = delivered.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    engine.close();
    for reader in readers {
        reader.await?;
    }
    let name = "events delivered to 1,000 watchers in this process";
    report.figure(name, rate, "/s", None)
}

/// How long a large store takes to open, and what it takes in memory, in a process of its own.
fn large(report: &mut Report, home: &Path, keys: u64) -> anyhow::Result<()> {
    let dir = home.join("large");
    let kvs = (0..keys).map(|key| KeyValue {
        key: format!("/registry/bench/{key:08}").into(),
        value: value(),
        create_revision: key + 2,
        mod_revision: key + 2,
        version: 1,
        lease: None,
    });
    backup::import(&dir, keys + 2, kvs)?;
    let output = Command::new(std::env::current_exe()?)
        .arg("open")
        .arg(&dir)
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(f64::NAN);
    let (seconds, resident) = (next(), next());
    let what = format!("{keys} keys of 1 KiB");
    report.figure(&format!("{what}: opening"), seconds, "s", None)?;
    report.figure(&format!("{what}: resident"), resident / 1e9, "GB", None)
}

/// Opens a store and prints how long it took and what is resident then.
pub fn open(dir: &Path) -> anyhow::Result<()> {
    let began = Instant::now();
    let engine = Engine::open(dir, Options::default())?;
    let took = began.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(f64::NAN);
    println!("{took} {}", kib * 1024.0);
    engine.close();
    Ok(())
}
