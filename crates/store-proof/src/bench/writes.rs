//! Durable writes, beside etcd and beside the disk's own syncs.

use std::path::Path;
use std::time::Duration;

use etcd_api::etcdserverpb::PutRequest;
use etcd_api::etcdserverpb::kv_client::KvClient;
use store::Store;
use store::embedded::{Engine, Options};
use tonic::transport::{Channel, Endpoint};

use super::{KEYS, Limit, Measured, Report, hammer, median, noise, raw, txn_of, value};
use crate::etcd::Cluster;

/// How many clients write at the same time.
const CLIENTS: [usize; 4] = [1, 16, 256, 4096];
/// How many times as much as etcd so many must write.
const TIMES_ETCD: [(usize, f64); 3] = [(16, 2.0), (256, 3.0), (4096, 3.0)];
/// Connections to etcd that its clients share.
const CONNECTIONS: usize = 16;
/// Each of those that are compared has so many turns.
const ROUNDS: u32 = 9;

pub(super) async fn measure(
    report: &mut Report,
    home: &Path,
    time: Duration,
) -> anyhow::Result<()> {
    let mut cluster = Cluster::start_in(home, 1, None)?;
    cluster.wait()?;
    let endpoint = cluster.endpoints().remove(0);
    let channels = (0..CONNECTIONS).map(|_| Endpoint::from_shared(endpoint.clone()));
    let channels: Vec<Channel> = channels
        .map(|endpoint| anyhow::Ok(endpoint?.connect_lazy()))
        .collect::<Result<_, _>>()?;
    for clients in CLIENTS {
        compare(report, home, &channels, clients, time / ROUNDS).await?;
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

/// What the rounds of one of those that are compared came to.
#[derive(Default)]
struct Rounds {
    rates: Vec<f64>,
    p99: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, measured: &Measured) {
        self.rates.push(measured.rate);
        self.p99.push(measured.percentile(0.99));
    }
}

async fn compare(
    report: &mut Report,
    home: &Path,
    channels: &[Channel],
    clients: usize,
    time: Duration,
) -> anyhow::Result<()> {
    let (mut ours, mut theirs, mut disk) =
        (Rounds::default(), Rounds::default(), Rounds::default());
    let dir = home.join(format!("writes-{clients}"));
    for _ in 0..ROUNDS {
        disk.add(&raw(home, time)?);
        ours.add(&embedded(&dir, clients, time).await?);
        theirs.add(&etcd(channels, clients, time).await?);
    }
    let name = format!("durable writes of 1 KiB, {clients} clients");
    let rate = median(&ours.rates);
    let peer = median(&theirs.rates);
    report.figure(&name, rate, "/s", Some(("etcd", peer)))?;
    if let Some(times) = TIMES_ETCD.iter().find(|(of, _)| *of == clients) {
        let name = format!("{name}, beside etcd");
        report.promise(&name, rate / peer, "x", Limit::AtLeast(times.1))?;
    }
    report.figure(&format!("{name}: spread"), noise(&ours.rates), "", None)?;
    if clients == 1 {
        let beside = format!("{name}, beside the disk");
        report.figure(&beside, rate, "/s", Some(("fsync", median(&disk.rates))))?;
        let shares: Vec<f64> = ours
            .rates
            .iter()
            .zip(&disk.rates)
            .map(|(a, b)| a / b)
            .collect();
        let name = format!("{beside}: median of shares");
        report.promise(&name, median(&shares), "x", Limit::AtLeast(0.7))?;
        report.figure("raw syncs: spread", noise(&disk.rates), "", None)?;
    }
    let peer = Some(("etcd", median(&theirs.p99)));
    report.figure(&format!("{name}: p99"), median(&ours.p99), "ms", peer)
}

async fn embedded(dir: &Path, clients: usize, time: Duration) -> anyhow::Result<Measured> {
    let engine = Engine::open(dir, Options::default())?;
    let writer = engine.clone();
    let measured = hammer(clients, time, move |client, count| {
        let engine = writer.clone();
        async move {
            engine.txn(txn_of(client, count)).await?;
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
        let key = (client as u64 * 7919 + count * 31) % KEYS;
        let request = PutRequest {
            key: format!("/registry/bench/{key:08}").into(),
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
