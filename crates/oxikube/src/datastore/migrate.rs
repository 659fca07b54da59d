//! `oxikube store migrate`: all keys from one store to another.
//!
//! To files, every key keeps its revisions. etcd gives revisions itself: there the counter is driven up to where the
//! source was, so that no client sees time run backwards.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use clap::Args;
use etcd_store::{EtcdStore, Opened, Place};
use futures::StreamExt;
use store::{Compare, KeyValue, LeaseId, Op, Range, Revision, Store, Txn, TxnResult, backup};

use super::tls;
use crate::start::say;

/// From where to where.
#[derive(Args, Debug)]
pub(crate) struct MigrateArgs {
    /// Where the data is: a data directory, or URLs of etcd's members with commas between them; this cluster's own
    /// directory when not given.
    #[arg(long)]
    from: Option<String>,
    /// Where it goes: the same, and empty.
    #[arg(long)]
    to: Option<String>,
    /// Who signs etcd's certificates, PEM.
    #[arg(long)]
    cafile: Option<PathBuf>,
    /// The certificate to show to etcd, PEM.
    #[arg(long, requires = "keyfile")]
    certfile: Option<PathBuf>,
    /// The key of that certificate, PEM.
    #[arg(long, requires = "certfile")]
    keyfile: Option<PathBuf>,
}

/// Keys written to etcd with one transaction; it takes 128 operations.
const AT_ONCE: usize = 50;
/// Writes under way when the counter is driven up.
const ABREAST: usize = 64;
/// Driving the counter further than this would take too long.
const FURTHEST: Revision = 3_000_000;
/// Written and removed again to drive the counter.
const SCRATCH: &str = "oxikube-migration";

fn place(args: &MigrateArgs, said: Option<&str>, dir: &Path) -> anyhow::Result<Place> {
    match said {
        None => Ok(Place::Directory(dir.to_owned())),
        Some(text) if text.contains("://") => {
            let tls = tls(
                args.cafile.as_deref(),
                args.certfile.as_deref(),
                args.keyfile.as_deref(),
            )?;
            Ok(Place::etcd(text, tls)?)
        }
        Some(path) => Ok(Place::Directory(path.into())),
    }
}

pub(super) fn run(dir: &Path, args: &MigrateArgs) -> anyhow::Result<()> {
    if args.from.is_none() && args.to.is_none() {
        bail!("say --from or --to");
    }
    let from = place(args, args.from.as_deref(), dir)?;
    let to = place(args, args.to.as_deref(), dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(migrate(&from, &to))
}

async fn migrate(from: &Place, to: &Place) -> anyhow::Result<()> {
    if let Place::Directory(dir) = from {
        ensure!(
            dir.join("FORMAT").exists(),
            "there is no store in {}",
            dir.display()
        );
    }
    let source = etcd_store::open(from).await.context("the source")?;
    let found = source.store().range(Range::prefix("")).await?;
    let (mut kvs, revision) = (found.kvs, found.revision);
    let lives = lives(&source, &kvs).await?;
    match to {
        Place::Directory(dir) => {
            for (kv, life) in kvs.iter_mut().zip(&lives) {
                kv.lease = life.map(|left| LeaseId(now_ms() + left.as_millis() as u64));
            }
            backup::import(dir, revision, kvs.clone())?;
        }
        Place::Etcd { .. } => {
            let Opened::Etcd(etcd) = etcd_store::open(to).await.context("the target")? else {
                bail!("the target is no etcd");
            };
            fill(&etcd, &kvs, &lives, revision).await?;
            etcd.close();
        }
    }
    let target = etcd_store::open(to).await.context("the target")?;
    let there = target.store().range(Range::prefix("")).await?;
    let same = |(a, b): (&KeyValue, &KeyValue)| a.key == b.key && a.value == b.value;
    ensure!(
        there.kvs.len() == kvs.len() && there.kvs.iter().zip(&kvs).all(same),
        "what arrived is not what was sent; empty the target and try again"
    );
    say(&format!(
        "{} keys of revision {revision} are in the target now, which is at revision {}",
        there.kvs.len(),
        there.revision
    ));
    source.close();
    target.close();
    Ok(())
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |passed| passed.as_millis() as u64)
}

/// How long each key still lives, for those that go away by themselves.
async fn lives(source: &Opened, kvs: &[KeyValue]) -> anyhow::Result<Vec<Option<Duration>>> {
    let mut asked = std::collections::HashMap::new();
    let mut lives = Vec::with_capacity(kvs.len());
    for kv in kvs {
        let life = match (kv.lease, source) {
            (None, _) => None,
            (Some(lease), Opened::Etcd(etcd)) => match asked.get(&lease) {
                Some(known) => *known,
                None => {
                    let left = etcd.lease_left(lease).await?;
                    asked.insert(lease, left);
                    left
                }
            },
            // A named lease is kept by clients of etcd's API, who are not there any more.
            (Some(lease), Opened::Embedded(_)) if lease.is_named() => None,
            (Some(lease), Opened::Embedded(_)) => Some(Duration::from_millis(
                lease.0.saturating_sub(now_ms()).max(1000),
            )),
        };
        lives.push(life);
    }
    Ok(lives)
}

async fn fill(
    etcd: &EtcdStore,
    kvs: &[KeyValue],
    lives: &[Option<Duration>],
    revision: Revision,
) -> anyhow::Result<()> {
    let there = etcd.range(Range::prefix("")).await?;
    ensure!(
        there.kvs.is_empty(),
        "the target holds {} keys already; nothing is mixed",
        there.kvs.len()
    );
    // First: each key is newer than it was, not only the store.
    drive(etcd, revision).await?;
    let pairs: Vec<_> = kvs.iter().zip(lives).collect();
    for some in pairs.chunks(AT_ONCE) {
        let compare = some.iter().map(|(kv, _)| Compare::ModRevision {
            key: kv.key.clone(),
            equals: 0,
        });
        let success = some.iter().map(|(kv, life)| Op::Put {
            key: kv.key.clone(),
            value: kv.value.clone(),
            ttl: **life,
        });
        let txn = Txn {
            compare: compare.collect(),
            success: success.collect(),
            failure_read: Vec::new(),
        };
        if let TxnResult::Failed { .. } = etcd.txn(txn).await? {
            bail!("somebody else writes to the target");
        }
    }
    Ok(())
}

/// Writes a key of no meaning until the store is at a revision.
async fn drive(etcd: &EtcdStore, to: Revision) -> anyhow::Result<()> {
    let now = etcd.latest().await?;
    if to <= now {
        return Ok(());
    }
    if to - now > FURTHEST {
        say(&format!(
            "the target stays behind revision {to}: restart every client of the cluster"
        ));
        return Ok(());
    }
    let writes = futures::stream::iter(now..to - 1).map(|number| async move {
        let put = Op::Put {
            key: SCRATCH.into(),
            value: number.to_string().into(),
            ttl: None,
        };
        let txn = Txn {
            success: vec![put],
            ..Txn::default()
        };
        etcd.txn(txn).await
    });
    let mut writes = writes.buffer_unordered(ABREAST);
    while let Some(written) = writes.next().await {
        written?;
    }
    let txn = Txn {
        success: vec![Op::Delete {
            key: SCRATCH.into(),
        }],
        ..Txn::default()
    };
    etcd.txn(txn).await?;
    Ok(())
}
