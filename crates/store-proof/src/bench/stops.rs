//! The longest that a write takes while checkpoints and compaction go on, and what the files come
//! to.
//!
//! Two stores take turns: one that is compacted and written to checkpoints all the time, and one
//! that only writes its log. A thread beside them syncs a file of its own all the while, so that
//! what the disk and other programs do to anybody shows too. The longest of many waits is mostly
//! chance; so each round tells its own, and the median over the rounds says what checkpoints cost.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use store::Store;
use store::disk::RealDisk;
use store::embedded::{Engine, Options};

use super::traced::{Calls, Traced};
use super::{KEYS, Limit, Measured, Report, VALUE, fill, median, raw, size, txn_of};

const ROUNDS: u32 = 10;
const CLIENTS: usize = 16;

/// A write: when it began and how long it took.
type Waits = Arc<Mutex<Vec<(Instant, Duration)>>>;

pub(super) async fn measure(
    report: &mut Report,
    home: &Path,
    time: Duration,
) -> anyhow::Result<()> {
    let dir = home.join("stops");
    let (disk, calls) = Traced::new(RealDisk::take(&dir)?);
    // As much background work as fits into a short run.
    let busy = Options {
        history_revisions: 4000,
        checkpoint_bytes: 4 << 20,
        segment_bytes: 2 << 20,
        ..Options::default()
    };
    let with = Engine::open_on(Arc::new(disk), busy)?;
    let without = Options {
        history_revisions: usize::MAX,
        history_bytes: usize::MAX,
        segment_bytes: u64::MAX,
        ..Options::default()
    };
    let without = Engine::open(&home.join("stops-none"), without)?;
    fill(&with, KEYS).await?;
    fill(&without, KEYS).await?;
    let (mut on, mut off, mut disk, mut all_raw) = (vec![], vec![], vec![], vec![]);
    let mut longest = Vec::new();
    for _ in 0..ROUNDS {
        for (engine, worst) in [(&with, &mut on), (&without, &mut off)] {
            let (waits, raw) = round(engine, home, time * 2 / ROUNDS).await?;
            worst.push(worst_of(&waits));
            disk.push(raw.percentile(1.0));
            all_raw.extend(raw.latencies);
            if Arc::ptr_eq(engine, &with) {
                longest.extend(waits);
            }
        }
    }
    without.close();
    let raw = Measured::new(0, Duration::from_secs(1), all_raw);
    let p999 = raw.percentile(0.999);
    report.figure("raw syncs beside the writes: p99.9", p999, "ms", None)?;
    report.figure(
        "raw syncs beside the writes: longest of a round",
        median(&disk),
        "ms",
        None,
    )?;
    let peer = Some(("without", median(&off)));
    report.figure(
        "longest write of a round, beside checkpoints",
        median(&on),
        "ms",
        peer,
    )?;
    let beyond = median(&on) - p999;
    report.promise(
        "longest write of a round, beyond the p99.9 of raw syncs",
        beyond,
        "ms",
        Limit::AtMost(20.0),
    )?;
    let worst = |of: &[f64]| of.iter().copied().fold(0.0, f64::max);
    let peer = Some(("without", worst(&off)));
    report.figure(
        "longest write of all, beside checkpoints",
        worst(&on),
        "ms",
        peer,
    )?;
    report.figure(
        "the same beyond the p99.9 of raw syncs",
        worst(&on) - p999,
        "ms",
        None,
    )?;
    own_part(report, longest, &calls)?;
    let stats = with.stats().await?;
    with.close();
    let files = size(&dir)? as f64 / 1e6;
    let live = (KEYS as usize * (VALUE + 23)) as f64 / 1e6;
    report.figure("files after it", files, "MB", Some(("live data", live)))?;
    let history = stats.history_bytes as f64 / 1e6;
    let most = Limit::AtMost((3.0 * live + history + 32.0).round());
    report.promise("files beside three times the live data", files, "MB", most)?;
    report.figure("history kept then", history, "MB", None)
}

fn worst_of(waits: &[(Instant, Duration)]) -> f64 {
    let longest = waits.iter().map(|(_, took)| *took).max();
    longest.unwrap_or_default().as_secs_f64() * 1000.0
}

/// Clients write for a while; beside them somebody syncs a file.
async fn round(
    engine: &Arc<Engine>,
    home: &Path,
    time: Duration,
) -> anyhow::Result<(Vec<(Instant, Duration)>, Measured)> {
    let waits = Waits::default();
    let beside = tokio::task::spawn_blocking({
        let home = home.to_owned();
        move || raw(&home, time)
    });
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (engine, waits) = (engine.clone(), waits.clone());
            tokio::spawn(async move {
                let (mut own, mut count) = (Vec::new(), 0);
                while began.elapsed() < time {
                    let start = Instant::now();
                    engine.txn(txn_of(client, count)).await?;
                    own.push((start, start.elapsed()));
                    count += 1;
                }
                waits.lock().extend(own);
                anyhow::Ok(())
            })
        })
        .collect();
    for client in clients {
        client.await??;
    }
    let raw = beside.await??;
    Ok((std::mem::take(&mut *waits.lock()), raw))
}

/// Of the longest writes, what was not the log's own sync; and what else the disk did then.
fn own_part(
    report: &mut Report,
    mut waits: Vec<(Instant, Duration)>,
    calls: &Calls,
) -> anyhow::Result<()> {
    waits.sort_unstable_by_key(|(_, took)| std::cmp::Reverse(*took));
    let calls = std::mem::take(&mut *calls.lock());
    let mut most = Duration::ZERO;
    let mut told: Vec<Instant> = Vec::new();
    for (began, took) in waits.into_iter().take(5000) {
        let end = began + took;
        let during = calls
            .iter()
            .filter(|call| call.began < end && call.began + call.took > began);
        let overlap = |from: Instant, took: Duration| {
            (from + took)
                .min(end)
                .saturating_duration_since(from.max(began))
        };
        let during: Vec<_> = during.collect();
        let synced = during.iter().filter(|call| call.is_of_log());
        let synced: Duration = synced.map(|call| overlap(call.began, call.took)).sum();
        most = most.max(took.saturating_sub(synced));
        let is_told = told.iter().any(|at| *at < end && *at + took > began);
        if told.len() < 5 && !is_told {
            told.push(began);
            let calls = during.iter().map(|call| {
                let ms = call.took.as_secs_f64() * 1000.0;
                format!("{} {} {ms:.1}", call.what, call.name)
            });
            let calls: Vec<_> = calls.collect();
            println!(
                "  {:6.1} ms: {}",
                took.as_secs_f64() * 1000.0,
                calls.join(", ")
            );
        }
    }
    let name = "longest part of a write that was no sync of the log";
    report.figure(name, most.as_secs_f64() * 1000.0, "ms", None)
}
