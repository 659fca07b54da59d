//! Reads of one key through the public trait, on one core: keys at random, one after the other.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use store::embedded::{Engine, Options};
use store::{Range, Store};

use super::{Limit, Report, import, median, noise};

/// A set that a busy cluster has, and two that no cache of a processor holds.
const SETS: [u64; 3] = [10_000, 300_000, 1_000_000];
const ROUNDS: u32 = 9;

pub(super) fn measure(report: &mut Report, home: &Path, time: Duration) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for keys in SETS {
        let dir = home.join(format!("reads-{keys}"));
        import(&dir, keys)?;
        let engine = Engine::open(&dir, Options::default())?;
        let rates = runtime.block_on(async {
            let mut rates = Vec::new();
            for round in 0..ROUNDS {
                rates.push(rate(&*engine, keys, u64::from(round), time / ROUNDS).await?);
            }
            anyhow::Ok(rates)
        })?;
        engine.close();
        std::fs::remove_dir_all(&dir)?;
        let name = format!("reads of one key of {keys} on one core");
        report.promise(&name, median(&rates), "/s", Limit::AtLeast(1e6))?;
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
