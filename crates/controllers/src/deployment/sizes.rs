//! How many pods there may be, must be, and how many each ReplicaSet gets.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use machinery::int_or_string::{Round, scaled};

use super::revision::{DESIRED_REPLICAS, MAX_REPLICAS};

/// The numbers of a Deployment's spec, percentages resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Pods that are wanted.
    pub(super) replicas: i32,
    /// Pods that there may be above that.
    pub(super) max_surge: i32,
    /// Pods that may be missing.
    pub(super) max_unavailable: i32,
    /// Whether it rolls, as opposed to recreating.
    pub(super) rolls: bool,
}

impl Sizes {
    /// The numbers of a spec. Surge is rounded up, unavailability down; both zero means one may be missing.
    pub(super) fn of(spec: &DeploymentSpec) -> Self {
        let replicas = spec.replicas.unwrap_or(1);
        let strategy = spec.strategy.as_ref();
        let rolls = strategy.and_then(|s| s.type_.as_deref()) != Some("Recreate");
        if !rolls {
            return Self {
                replicas,
                max_surge: 0,
                max_unavailable: 0,
                rolls,
            };
        }
        let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
        // What is not a number or a percentage has not passed validation.
        let resolve = |value: Option<&IntOrString>, round| {
            value
                .and_then(|v| scaled(v, replicas, round).ok())
                .unwrap_or(0)
        };
        let max_surge = resolve(rolling.and_then(|r| r.max_surge.as_ref()), Round::Up);
        let unavailable = rolling.and_then(|r| r.max_unavailable.as_ref());
        let mut max_unavailable = resolve(unavailable, Round::Down);
        if max_surge == 0 && max_unavailable == 0 {
            max_unavailable = 1;
        }
        Self {
            replicas,
            max_surge,
            max_unavailable: max_unavailable.min(replicas),
            rolls,
        }
    }

    /// Most pods that there may be.
    pub(super) const fn most(&self) -> i32 {
        self.replicas.saturating_add(self.max_surge)
    }

    /// Fewest pods that must be available.
    pub(super) const fn least(&self) -> i32 {
        self.replicas - self.max_unavailable
    }

    /// The size that the new ReplicaSet may have now, where `total` is the size of all of them.
    pub(super) fn of_new_set(&self, total: i32, current: i32) -> i32 {
        if !self.rolls {
            return self.replicas;
        }
        if total >= self.most() {
            return current;
        }
        current + (self.most() - total).min(self.replicas - current)
    }
}

/// The size a ReplicaSet's spec asks for.
pub(super) fn size(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// Available pods of a ReplicaSet.
pub(super) fn available(set: &ReplicaSet) -> i32 {
    let status = set.status.as_ref();
    status.and_then(|s| s.available_replicas).unwrap_or(0)
}

/// Pods that a ReplicaSet has.
pub(super) fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |s| s.replicas)
}

/// A number that an annotation of a ReplicaSet holds.
pub(super) fn annotated(set: &ReplicaSet, key: &str) -> Option<i32> {
    let text = set.metadata.annotations.as_ref()?.get(key)?;
    text.parse().ok().filter(|n| *n >= 0)
}

/// Whether the ReplicaSet is of another Deployment size than the present one.
pub(super) fn was_scaled(set: &ReplicaSet, sizes: &Sizes) -> bool {
    annotated(set, DESIRED_REPLICAS).is_some_and(|desired| desired != sizes.replicas)
}

/// Whether the new ReplicaSet carries the whole load.
pub(super) fn is_saturated(set: &ReplicaSet, sizes: &Sizes) -> bool {
    size(set) == sizes.replicas
        && annotated(set, DESIRED_REPLICAS) == Some(sizes.replicas)
        && available(set) == sizes.replicas
}

/// The sizes that spread a change of the whole over the ReplicaSets in proportion; the sets are sorted, largest first.
pub(super) fn proportional(root: &Deployment, sets: &[&ReplicaSet], sizes: &Sizes) -> Vec<i32> {
    let total = sets.iter().map(|s| size(s)).fold(0, i32::saturating_add);
    let allowed = if sizes.replicas > 0 { sizes.most() } else { 0 };
    let to_add = allowed - total;
    let mut added = 0;
    let mut new: Vec<i32> = sets
        .iter()
        .map(|set| {
            let share = share(root, set, sizes, to_add, added);
            added += share;
            size(set) + share
        })
        .collect();
    if let Some(largest) = new.first_mut().filter(|_| to_add != 0) {
        *largest = (*largest + to_add - added).max(0);
    }
    new
}

fn share(root: &Deployment, set: &ReplicaSet, sizes: &Sizes, to_add: i32, added: i32) -> i32 {
    if size(set) == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = fraction(root, set, sizes);
    let left = to_add - added;
    if to_add > 0 {
        fraction.min(left)
    } else {
        fraction.max(left)
    }
}

fn fraction(root: &Deployment, set: &ReplicaSet, sizes: &Sizes) -> i32 {
    if sizes.replicas == 0 {
        return -size(set);
    }
    let status = root.status.as_ref();
    let present = status.and_then(|s| s.replicas).unwrap_or(0);
    let before = annotated(set, MAX_REPLICAS)
        .filter(|n| *n != 0)
        .unwrap_or(present);
    if before == 0 {
        return 0;
    }
    let exact = f64::from(size(set)) * f64::from(sizes.most()) / f64::from(before);
    // Both factors fit an i32 and the quotient is bounded by them, so the rounded value is exact.
    #[expect(clippy::cast_possible_truncation, reason = "bounded by i32 factors")]
    let rounded = exact.round() as i32;
    rounded - size(set)
}
