//! Figures of the store, each beside etcd or the disk's own, measured in one run.
//!
//! Other programs use the machine too. So whatever is compared takes turns in short rounds, and
//! what is reported is the median of the rounds, with how far they lie apart. What the store promises has a limit,
//! which is printed beside the figure; in the end all of them are listed.

mod reads;
mod stops;
mod traced;
mod writes;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use store::embedded::{Engine, Options};
use store::{KeyValue, Op, RangeEnd, Store, Txn, backup};

/// Bytes of a value.
const VALUE: usize = 1024;
/// Keys that writers write.
const KEYS: u64 = 10_000;

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
    /// Only these parts; all when empty.
    pub only: Vec<String>,
}

struct Report {
    json: Option<File>,
    /// What was promised and measured.
    promises: Vec<(String, f64, Limit)>,
}

/// What a figure must keep to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

impl Limit {
    fn holds(self, value: f64) -> bool {
        match self {
            Limit::AtLeast(least) => value >= least,
            Limit::AtMost(most) => value <= most,
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Limit::AtLeast(least) => write!(f, "at least {least}"),
            Limit::AtMost(most) => write!(f, "at most {most}"),
        }
    }
}

impl Report {
    /// A figure that the store promises.
    fn promise(&mut self, name: &str, value: f64, unit: &str, limit: Limit) -> anyhow::Result<()> {
        self.promises
            .push((format!("{name}, {unit}"), value, limit));
        self.write(name, value, unit, None, Some(limit))
    }

    /// Says of every promise whether it holds.
    fn sum_up(&self) {
        println!();
        for (name, value, limit) in &self.promises {
            let holds = if limit.holds(*value) {
                "holds "
            } else {
                "MISSED"
            };
            println!("{holds} {name:72} {value:>12.2}  {limit}");
        }
    }

    fn figure(
        &mut self,
        name: &str,
        value: f64,
        unit: &str,
        peer: Option<(&str, f64)>,
    ) -> anyhow::Result<()> {
        self.write(name, value, unit, peer, None)
    }

    fn write(
        &mut self,
        name: &str,
        value: f64,
        unit: &str,
        peer: Option<(&str, f64)>,
        limit: Option<Limit>,
    ) -> anyhow::Result<()> {
        let beside = peer.map(|(who, peer)| (who, peer, value / peer));
        let shown = beside.map_or(String::new(), |(who, peer, ratio)| {
            format!("  {who} {peer:.0}, {ratio:.2} x")
        });
        let bound = limit.map_or(String::new(), |limit| format!("  ({limit})"));
        println!("{name:58} {value:>12.2} {unit:9}{shown}{bound}");
        let Some(file) = &mut self.json else {
            return Ok(());
        };
        let mut line = format!("{{\"name\":\"{name}\",\"value\":{value:.3},\"unit\":\"{unit}\"");
        if let Some((who, peer, ratio)) = beside {
            line += &format!(
                ",\"peer\":{{\"name\":\"{who}\",\"value\":{peer:.3}}},\"ratio\":{ratio:.3}"
            );
        }
        if let Some(limit) = limit {
            line += &format!(",\"limit\":\"{limit}\",\"holds\":{}", limit.holds(value));
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
        promises: Vec::new(),
    };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|load| load.parse().ok());
    report.figure(
        "load of the machine before",
        load.unwrap_or(f64::NAN),
        "",
        None,
    )?;
    let wanted = |part: &str| settings.only.is_empty() || settings.only.iter().any(|o| o == part);
    if wanted("writes") {
        runtime.block_on(writes::measure(&mut report, home.path(), settings.time))?;
    }
    if wanted("stops") {
        runtime.block_on(stops::measure(&mut report, home.path(), settings.time))?;
    }
    if wanted("reads") {
        reads::measure(&mut report, home.path(), settings.time)?;
    }
    if wanted("watches") {
        runtime.block_on(fan_out(&mut report, settings.time))?;
    }
    if wanted("large") {
        large(&mut report, home.path(), settings.large)?;
    }
    report.sum_up();
    Ok(())
}

/// The middle of some values.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How far the middle half of some values lies apart, as a share of their median.
fn noise(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |share: usize| sorted.get(sorted.len() * share / 4).copied();
    match (at(1), at(3)) {
        (Some(low), Some(high)) => (high - low) / median(values),
        _ => f64::NAN,
    }
}

/// What clients write, by their number and how often they have written.
fn txn_of(client: usize, count: u64) -> Txn {
    put((client as u64 * 7919 + count * 31) % KEYS)
}

/// Writes all keys once.
async fn fill(engine: &Engine, keys: u64) -> anyhow::Result<()> {
    let mut next = 0;
    while next < keys {
        let some = next..(next + 500).min(keys);
        next = some.end;
        let txn = Txn {
            success: some.flat_map(|key| put(key).success).collect(),
            ..Txn::default()
        };
        engine.txn(txn).await?;
    }
    Ok(())
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

fn size(dir: &Path) -> anyhow::Result<u64> {
    let mut all = 0;
    for entry in std::fs::read_dir(dir)? {
        all += entry?.metadata()?.len();
    }
    Ok(all)
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
            engine.txn(txn_of(client, count)).await?;
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
    report.promise(name, rate, "/s", Limit::AtLeast(1e6))
}

/// Makes the directory of a store with so many keys.
fn import(dir: &Path, keys: u64) -> anyhow::Result<()> {
    let kvs = (0..keys).map(|key| KeyValue {
        key: format!("/registry/bench/{key:08}").into(),
        value: value(),
        create_revision: key + 2,
        mod_revision: key + 2,
        version: 1,
        lease: None,
    });
    backup::import(dir, keys + 2, kvs)?;
    Ok(())
}

/// How long a large store takes to open, and what it takes in memory, in a process of its own.
fn large(report: &mut Report, home: &Path, keys: u64) -> anyhow::Result<()> {
    let dir = home.join("large");
    import(&dir, keys)?;
    let output = Command::new(std::env::current_exe()?)
        .arg("open")
        .arg(&dir)
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(f64::NAN);
    let (seconds, resident) = (next(), next());
    let what = format!("{keys} keys of 1 KiB");
    // Both limits are for a gigabyte of values, which is a million of them.
    let share = keys as f64 / 1e6;
    let opening = Limit::AtMost(5.0 * share);
    report.promise(&format!("{what}: opening"), seconds, "s", opening)?;
    let size = Limit::AtMost(1.6 * share);
    report.promise(&format!("{what}: resident"), resident / 1e9, "GB", size)
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
