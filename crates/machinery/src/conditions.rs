//! Conditions of the shared form, `metav1.Condition`.
//!
//! Behaviour: `k8s.io/apimachinery/pkg/api/meta/conditions.go`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// The condition of a type.
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == kind)
}

/// Adds a condition, or brings the one of its type up to date. The time of transition moves with the status only.
pub fn set(conditions: &mut Vec<Condition>, new: Condition) {
    let Some(there) = conditions.iter_mut().find(|c| c.type_ == new.type_) else {
        return conditions.push(new);
    };
    let time = match there.status == new.status {
        true => there.last_transition_time.clone(),
        false => new.last_transition_time,
    };
    *there = Condition {
        last_transition_time: time,
        ..new
    };
}
