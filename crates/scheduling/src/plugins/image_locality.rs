//! Nodes that have the pod's images already are better, the bigger and the less spread the images are.

use super::{MAX_SCORE, Score};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

/// Images smaller than this do not count.
const MIN_BYTES: i64 = 23 * 1024 * 1024;
/// An image does not count for more than this.
const MAX_BYTES_PER_CONTAINER: i64 = 1000 * 1024 * 1024;

/// The plug-in `ImageLocality`.
pub(super) struct ImageLocality;

impl Score for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn score(&self, snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let nodes = snapshot.nodes().count().max(1) as f64;
        let spread = |image: &str| {
            snapshot
                .nodes()
                .filter(|n| n.images.contains_key(image))
                .count() as f64
                / nodes
        };
        let sizes = pod.images.iter().map(|image| qualified(image));
        let sum = sizes
            .filter_map(|image| Some((node.images.get(&image)?, image)))
            .map(|(size, image)| (*size as f64 * spread(&image)) as i64)
            .sum::<i64>();
        let containers = i64::try_from(pod.images.len().max(1)).unwrap_or(1);
        let max = MAX_BYTES_PER_CONTAINER * containers;
        MAX_SCORE * (sum.clamp(MIN_BYTES, max) - MIN_BYTES) / (max - MIN_BYTES)
    }
}

/// The name with its tag.
fn qualified(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.contains(':') || image.contains('@') {
        true => image.to_owned(),
        false => format!("{image}:latest"),
    }
}
