//! Lives of the store on the simulated disk, and the assertion that stands behind every answer.

use std::sync::Arc;

use crate::format::Format;
use crate::history::Commit;
use crate::sim;
use crate::sim_disk::SimDisk;

#[test]
fn what_was_acknowledged_survives_everything_a_disk_does() {
    let seeds = match std::env::var("STORE_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..3000,
    };
    let alone = seeds.end - seeds.start == 1;
    let tally = sim::run(seeds, |_| {})
        .unwrap_or_else(|broken| panic!("STORE_SEED={}: {}", broken.seed, broken.what));
    if !alone {
        // The faults did happen.
        assert!(tally.checkpoints > 1000, "{tally:?}");
        assert!(tally.damage_found > 500, "{tally:?}");
        assert!(tally.full > 500, "{tally:?}");
        assert!(tally.upgrades > 500, "{tally:?}");
    }
}

/// Nothing can be published that the log does not vouch for.
#[test]
#[should_panic(expected = "published before it is durable")]
fn publishing_ahead_of_the_log_is_a_bug() {
    let disk: Arc<dyn crate::disk::Disk> = Arc::new(SimDisk::new(1));
    let shape = crate::wal::Shape {
        segment_bytes: 1000,
        declared: Format::CURRENT,
        writes: Format::CURRENT,
    };
    let mut log = crate::wal::Log::create(disk, shape, 1, 1).unwrap();
    let proof = log.sync().unwrap();
    let published = crate::published::Published::new(crate::history::History::empty());
    let batch = crate::Batch {
        revision: 2,
        events: Arc::new([]),
    };
    published.publish(vec![Commit { time_ms: 0, batch }], None, &proof);
}
