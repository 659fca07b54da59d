//! What is promised of the figures, and whether it holds.
//!
//! A bound stands under the name that its figure has when as much is measured as the promise is about; with other numbers
//! (`--pods 1000`) there is none.

use super::Figures;
use crate::report::Verdict;

/// What a figure may be.
#[derive(Clone, Copy)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
    /// So many times what a stock server does; what it did on a machine of two cores where none is measured.
    TimesPeer(f64, f64),
    /// So many parts of what a stock server takes; the same.
    PartOfPeer(f64, f64),
    /// So many parts of another figure of the same server.
    PartOf(f64, &'static str),
}

use Limit::{AtLeast, AtMost, PartOf, PartOfPeer, TimesPeer};

const BOUNDS: &[(&str, Limit)] = &[
    ("ready after start", AtMost(300.0)),
    ("idle: memory (PSS)", AtMost(40.0)),
    ("creates of 1 KB", TimesPeer(4.0, 2200.0)),
    ("creates of 1 KB, p99", PartOfPeer(1.0 / 3.0, 85.0)),
    ("gets of 1 KB", TimesPeer(6.0, 4500.0)),
    ("gets of 1 KB, p99", PartOfPeer(1.0 / 3.0, 45.0)),
    ("after this load: memory (PSS)", AtMost(150.0)),
    ("list of 100000 pods, first byte", AtMost(50.0)),
    ("list of 100000 pods, whole", AtMost(1500.0)),
    (
        "list of 100000 pods, extra memory",
        PartOf(0.1, "list of 100000 pods, size"),
    ),
    ("10000 watchers: deliveries", AtLeast(49_000.0)),
    ("10000 watchers: delivery, p99", AtMost(250.0)),
    ("10000 watchers: memory (PSS)", AtMost(1024.0)),
    ("5000 watchers of a node each: changes", AtLeast(980.0)),
    ("5000 watchers of a node each: delivery, p99", AtMost(50.0)),
    ("100 custom kinds: memory (PSS)", AtMost(50.0)),
    ("a free seat", AtMost(1000.0)),
];

/// What is promised of a figure of ours.
pub(super) fn verdict(name: &str, value: f64, ours: &Figures, peer: &Figures) -> Option<Verdict> {
    let (_, limit) = BOUNDS.iter().find(|(of, _)| *of == name)?;
    let of_peer = |usual| peer.get(name).unwrap_or(usual);
    let (limit, least) = match *limit {
        AtMost(limit) => (limit, false),
        AtLeast(limit) => (limit, true),
        TimesPeer(times, usual) => (times * of_peer(usual), true),
        PartOfPeer(part, usual) => (part * of_peer(usual), false),
        PartOf(part, other) => (part * ours.get(other)?, false),
    };
    Some(Verdict {
        limit,
        holds: if least {
            value >= limit
        } else {
            value <= limit
        },
        sign: if least { ">=" } else { "<=" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_follows_the_peer_where_there_is_one() {
        let (mut ours, mut peer) = (Figures::default(), Figures::default());
        let name = "creates of 1 KB, p99";
        let says = |ours: &Figures, peer: &Figures| {
            verdict(name, 28.0, ours, peer).map(|verdict| verdict.to_string())
        };
        assert_eq!(says(&ours, &peer).as_deref(), Some("<= 28.3: holds"));
        peer.add(name, 60.0, "ms");
        assert_eq!(says(&ours, &peer).as_deref(), Some("<= 20: MISSED"));
        let name = "list of 100000 pods, extra memory";
        assert!(verdict(name, 1.0, &ours, &peer).is_none());
        ours.add("list of 100000 pods, size", 100.0, "MiB");
        assert!(verdict(name, 9.9, &ours, &peer).is_some_and(|verdict| verdict.holds));
    }
}
