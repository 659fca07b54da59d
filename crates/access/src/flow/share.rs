//! Lends seats that a level does not use to those that could use more.
//!
//! Every level gets the same multiple of what it is thought to need, as far as its bounds allow, so that all seats are given.
//! Behaviour: KEP-1040 "Dispatching", `k8s.io/apiserver/pkg/util/flowcontrol/{conc_alloc,apf_controller}.go`.

use super::{Limits, Memory};

const LEAST_TARGET: f64 = 0.001;

/// A level as it takes part.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Its seats by configuration.
    pub limits: Limits,
    /// Its demand.
    pub memory: Memory,
    /// Whether it never waits.
    pub exempt: bool,
}

/// What a level gets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// The seats of the next period.
    pub seats: u64,
    /// What it should have had.
    pub target: f64,
}

/// The seats of each level in the next period, and which multiple of their targets that is.
pub fn shares(parts: &[Part]) -> (Vec<Share>, f64) {
    let total: f64 = parts.iter().map(|p| p.limits.nominal as f64).sum();
    let least: Vec<f64> = parts.iter().map(least).collect();
    let of = |exempt: bool| {
        parts
            .iter()
            .zip(&least)
            .filter(move |(p, _)| p.exempt == exempt)
    };
    let left = total - of(true).map(|(_, least)| *least).sum::<f64>();
    let lower: f64 = of(false).map(|(p, _)| p.limits.lower as f64).sum();
    let current: f64 = of(false).map(|(_, least)| *least).sum();
    let targets = parts.iter().zip(&least);
    let targets: Vec<f64> = targets
        .map(|(p, least)| p.memory.smoothed.max(*least))
        .collect();
    let multiple = match left > current {
        true => multiple(parts, &least, &targets, left),
        false => 0.0,
    };
    let seats = |i: usize| -> f64 {
        let (part, low) = (&parts[i], parts[i].limits.lower as f64);
        if part.exempt {
            least[i]
        } else if left <= lower {
            low
        } else if left <= current {
            low + ((least[i] - low) * (left - lower) / (current - lower)).round()
        } else {
            let target = targets[i].max(LEAST_TARGET);
            (target * multiple)
                .clamp(least[i], upper(part, least[i]))
                .round()
        }
    };
    let shares = (0..parts.len()).map(|i| Share {
        seats: seats(i) as u64,
        target: targets[i],
    });
    (shares.collect(), multiple)
}

/// What a level has whatever others want: what it does not lend, and what it used of its own.
fn least(part: &Part) -> f64 {
    let (lower, peak) = (part.limits.lower as f64, part.memory.most);
    match part.exempt {
        true => lower.max(peak),
        false => lower.max(peak.min(part.limits.nominal as f64)),
    }
}

fn upper(part: &Part, least: f64) -> f64 {
    (part.limits.upper as f64).max(least)
}

/// The multiple at which the seats of all levels, within their bounds, add up to what there is.
fn multiple(parts: &[Part], least: &[f64], targets: &[f64], wanted: f64) -> f64 {
    let bounded: Vec<(f64, f64, f64)> = (0..parts.len())
        .filter(|i| !parts[*i].exempt)
        .map(|i| {
            let target = targets[i].max(LEAST_TARGET);
            (target, least[i], upper(&parts[i], least[i]))
        })
        .collect();
    let sum = |multiple: f64| -> f64 {
        let each = bounded.iter();
        each.map(|(target, low, high)| (target * multiple).clamp(*low, *high))
            .sum()
    };
    // The sum grows with the multiple and bends only where a level meets a bound.
    let bends = bounded
        .iter()
        .flat_map(|(target, low, high)| [low / target, high / target]);
    let mut bends: Vec<f64> = bends.collect();
    bends.sort_unstable_by(f64::total_cmp);
    let mut below = 0.0;
    for bend in bends {
        let at = sum(bend);
        if at >= wanted {
            let from = sum(below);
            let step = at - from;
            return match step > 0.0 {
                true => below + (bend - below) * (wanted - from) / step,
                false => bend,
            };
        }
        below = bend;
    }
    below
}
