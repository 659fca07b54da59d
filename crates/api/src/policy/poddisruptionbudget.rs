//! PodDisruptionBudget: how many pods of a selection may be down at a time because somebody wanted so.
//!
//! Upstream: `pkg/registry/policy/poddisruptionbudget`, `pkg/apis/policy/validation`.

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::{
    PodDisruptionBudget as Typed, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};
use serde_json::{Value, json};

use crate::check::{self, ErrorListExt};
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::Items;

/// Marks selectors whose meaning an old version of the API turned around; never of use to anybody else.
const OLD_MEANING: &str = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match";

/// Pods that are not ready may always be evicted.
pub const ALWAYS_ALLOW: &str = "AlwaysAllow";
/// Pods that are not ready may be evicted while enough others are.
pub const IF_HEALTHY_BUDGET: &str = "IfHealthyBudget";

/// The kind `PodDisruptionBudget`.
pub struct PodDisruptionBudget;

impl Kind for PodDisruptionBudget {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        "poddisruptionbudget",
    )
    .short(&["pdb"]);
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "Min Available",
            "The minimum number of pods that must be available.",
        ),
        columns::text(
            "Max Unavailable",
            "The maximum number of pods that may be unavailable.",
        ),
        columns::integer(
            "Allowed Disruptions",
            "Calculated number of pods that may be disrupted at this time.",
        ),
        columns::AGE,
    ];
    const HAS_GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn prepare_create(_context: &Context, new: &mut Object) {
        let status = json!({
            "disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0,
        });
        new.0.insert("status".into(), status);
        drop_old_meaning(new, None);
    }

    fn prepare_update(_context: &Context, part: Part, new: &mut Object, old: &Object) {
        kind::keep_other_part(part, new, old);
        if part == Part::Main {
            drop_old_meaning(new, Some(old));
        }
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        kind::path_segment(name, prefix)
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        spec(&mut errors, &new.spec.clone().unwrap_or_default());
        errors
    }

    fn validate_update(context: &Context, part: Part, new: &Typed, _old: &Typed) -> ErrorList {
        match part {
            Part::Status => status(&new.status.clone().unwrap_or_default()),
            _ => Self::validate_create(context, new),
        }
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let spec = object.spec.clone().unwrap_or_default();
        let shown = |bound: Option<IntOrString>| match bound {
            None => "N/A".to_owned(),
            Some(IntOrString::Int(number)) => number.to_string(),
            Some(IntOrString::String(text)) => text,
        };
        let allowed = object.status.as_ref().and_then(|s| s.disruptions_allowed);
        Row::from(vec![
            tree.name().into(),
            shown(spec.min_available).into(),
            shown(spec.max_unavailable).into(),
            allowed.unwrap_or(0).into(),
            kind::age(tree, now).into(),
        ])
    }
}

/// A selector that names the mark together with anything else loses it.
fn drop_old_meaning(new: &mut Object, old: Option<&Object>) {
    const AT: &[&str] = &["spec", "selector"];
    if old.is_some_and(|old| old.at(AT) == new.at(AT)) {
        return;
    }
    let nothing = json!({"matchExpressions": [{"key": OLD_MEANING, "operator": "Exists"}]});
    if new.at(AT).is_none() || new.at(AT) == Some(&nothing) {
        return;
    }
    let spec = new.0.get_mut("spec").and_then(|s| s.get_mut("selector"));
    let list = spec.and_then(|s| s.get_mut("matchExpressions"));
    if let Some(list) = list.and_then(Value::as_array_mut) {
        list.retain(|e| e.get("key").and_then(Value::as_str) != Some(OLD_MEANING));
    }
}

fn spec(errors: &mut ErrorList, spec: &PodDisruptionBudgetSpec) {
    let path = Path::new("spec");
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        errors.invalid(&path, check::json(spec), detail);
    }
    let bounds = [
        ("minAvailable", &spec.min_available),
        ("maxUnavailable", &spec.max_unavailable),
    ];
    for (key, bound) in bounds {
        if let Some(bound) = bound {
            check::positive_int_or_percent(errors, &path.child(key), bound);
            check::at_most_100_percent(errors, &path.child(key), bound);
        }
    }
    check::label_selector(errors, &path.child("selector"), spec.selector.as_ref());
    if let Some(policy) = &spec.unhealthy_pod_eviction_policy {
        let at = path.child("unhealthyPodEvictionPolicy");
        errors.one_of(&at, policy, &[ALWAYS_ALLOW, IF_HEALTHY_BUDGET]);
    }
}

fn status(status: &PodDisruptionBudgetStatus) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("status");
    let conditions = status.conditions.items();
    check::conditions(&mut errors, &path.child("conditions"), conditions);
    let counts = [
        ("disruptionsAllowed", status.disruptions_allowed),
        ("currentHealthy", status.current_healthy),
        ("desiredHealthy", status.desired_healthy),
        ("expectedPods", status.expected_pods),
    ];
    for (key, count) in counts {
        errors.not_negative(&path.child(key), i64::from(count.unwrap_or(0)));
    }
    errors
}
