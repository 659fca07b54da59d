//! What the disk can do by itself.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

const LENGTH: Duration = Duration::from_secs(2);

/// How many small writes a second are on disk, one after the other.
pub(super) fn fsyncs_per_second(directory: &Path) -> anyhow::Result<f64> {
    let mut file = std::fs::File::create(directory.join("fsync"))?;
    let (block, began, mut count) = ([7; 4096], Instant::now(), 0);
    while began.elapsed() < LENGTH {
        file.write_all(&block)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}
