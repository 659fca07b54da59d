//! Backups on a schedule, the oldest ones removed.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use store::Store;
use store::embedded::Engine;

use crate::cluster::make_private_dir;

/// Takes a backup so often; none when nothing has changed since the last one.
pub(super) async fn keep(engine: Arc<Engine>, to: PathBuf, every: Duration, most: usize) {
    let mut last = None;
    loop {
        tokio::time::sleep(every).await;
        let revision = engine.revision();
        if last == Some(revision) {
            continue;
        }
        let (from, to) = (engine.clone(), to.clone());
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |passed| passed.as_secs());
        let taken = tokio::task::spawn_blocking(move || take(&from, &to, now, most)).await;
        match taken {
            Ok(Ok(file)) => {
                last = Some(revision);
                tracing::info!(file = %file.display(), revision, "a snapshot was taken");
            }
            Ok(Err(error)) => {
                tracing::error!(error = format!("{error:#}"), "no snapshot was taken");
            }
            Err(error) => tracing::error!(%error, "no snapshot was taken"),
        }
    }
}

/// Takes one, as a whole or not at all, and removes the oldest ones beyond `most`.
pub(super) fn take(engine: &Engine, to: &Path, now: u64, most: usize) -> anyhow::Result<PathBuf> {
    make_private_dir(to)?;
    let file = to.join(format!("snapshot-{now:010}.backup"));
    let unfinished = to.join("unfinished");
    let written = (|| {
        let mut out = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        engine.backup(&mut out)?;
        out.sync_all()?;
        fs::rename(&unfinished, &file)?;
        fs::File::open(to)?.sync_all()
    })();
    written.with_context(|| format!("cannot write {}", file.display()))?;
    let mut all: Vec<PathBuf> = fs::read_dir(to)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "backup"))
        .collect();
    all.sort();
    let superfluous = all.len().saturating_sub(most.max(1));
    for old in &all[..superfluous] {
        fs::remove_file(old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    Ok(file)
}
