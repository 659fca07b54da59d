//! Reads of one key through the public trait, on one core: keys at random, one after the other.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use store::embedded::{Engine, Options};
use store::{Range, Store};

use super::{Report, fill, median, noise};

/// A set that a busy cluster has, and one that no cache of a processor holds.
const SETS: [u64; 2] = [10_000, 300_000];
const ROUNDS: u32 = 9;

pub(super) fn measure(report: &mut Report, time: Duration) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for keys in SETS {
        let home = tempfile::tempdir()?;
        let engine = Engine::open(home.path(), Options::default())?;
        let rates = runtime.block_on(async {
            fill(&engine, keys).await?;
            // As it is after a while: the history of the filling is gone.
            engine.shrink().await?;
            let mut rates = Vec::new();
            for round in 0..ROUNDS {
                rates.push(rate(&*engine, keys, u64::from(round), time / ROUNDS).await?);
            }
            anyhow::Ok(rates)
        })?;
        engine.close();
        let name = format!("reads of one key of {keys} on one core");
        report.figure(&name, median(&rates), "/s", None)?;
        let best = rates.iter().copied().fold(0.0, f64::max);
        report.figure(&format!("{name}: best round"), best, "/s", None)?;
        report.figure(&format!("{name}: spread"), noise(&rates), "", None)?;
    }
    Ok(())
}

async fn rate(store: &dyn Store, keys: u64, seed: u64, time: Duration) -> anyhow::Result<f64> {
    // Made beforehand: writing numbers as text is not what is measured.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let wanted: Vec<Bytes> = (0..keys.min(100_000))
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            Bytes::from(format!("/registry/bench/{:08}", state % keys))
        })
        .collect();
    let (began, mut count) = (Instant::now(), 0u64);
    while began.elapsed() < time {
        for key in &wanted {
            let found = store.range(Range::key(key.clone())).await?;
            ensure!(
                found.count == 1 && found.kvs[0].value.len() == super::VALUE,
                "a key is missing"
            );
            count += 1;
        }
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}
