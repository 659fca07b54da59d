//! The status of a quota.

use std::time::Duration;

use api::quota::{self, Amounts};
use control::{Plan, StatusWrite};
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaStatus};

use super::Observed;

/// How long less must have been used before it is believed.
const SETTLED: Duration = Duration::from_millis(500);

/// Decides about one quota.
pub(super) fn reconcile(o: &Observed) -> Plan {
    let spec = o.quota.spec.clone().unwrap_or_default();
    let hard = spec.hard.unwrap_or_default();
    let status = o.quota.status.clone().unwrap_or_default();
    let before = quota::amounts(status.used.as_ref());
    let same_limits = status.hard.unwrap_or_default() == hard;
    let fresh = !same_limits || o.used.keys().any(|name| !before.contains_key(name));
    let lower = o
        .used
        .iter()
        .any(|(name, now)| before.get(name).is_some_and(|was| was > now));
    let waited = o.since.map_or(Duration::ZERO, |since| {
        Duration::try_from(since.duration_until(o.now)).unwrap_or_default()
    });
    let because = format!("uses {}", words(&o.used));
    if fresh || !lower || waited >= SETTLED {
        return Plan {
            status: write(o, hard, &o.used, &before, same_limits),
            because,
            ..Plan::default()
        };
    }
    // Perhaps the object that admission has charged for is not seen yet.
    let mut most = o.used.clone();
    for (name, amount) in &mut most {
        if let Some(was) = before.get(name).filter(|was| *was > amount) {
            amount.clone_from(was);
        }
    }
    Plan {
        status: write(o, hard, &most, &before, same_limits),
        requeue_after: Some(SETTLED - waited),
        since: Some(o.since.unwrap_or(o.now)),
        because: format!("{because}, unless something is about to appear"),
        ..Plan::default()
    }
}

fn words(amounts: &Amounts) -> String {
    let words: Vec<String> = amounts
        .iter()
        .map(|(name, n)| format!("{name}={n}"))
        .collect();
    words.join(", ")
}

/// The status write, if it says anything new.
fn write(
    o: &Observed,
    hard: std::collections::BTreeMap<
        String,
        k8s_openapi::apimachinery::pkg::api::resource::Quantity,
    >,
    used: &Amounts,
    before: &Amounts,
    same_limits: bool,
) -> Option<StatusWrite> {
    let counted = o
        .quota
        .status
        .as_ref()
        .is_some_and(|s| s.hard.is_some() && s.used.is_some());
    if same_limits && used == before && counted {
        return None;
    }
    let mut quota = ResourceQuota::clone(&o.quota);
    quota.status = Some(ResourceQuotaStatus {
        hard: Some(hard),
        used: Some(quota::texts(used)),
    });
    Some(StatusWrite::of(&quota))
}
