//! PriorityClass: a name for how important pods are.
//!
//! Upstream: `pkg/registry/scheduling/priorityclass`, `pkg/apis/scheduling/validation`.

use jiff::Timestamp;
use k8s_openapi::api::scheduling::v1::PriorityClass as Typed;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};

use crate::check::ErrorListExt;
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope};
use crate::view::{OrEmpty, fill_with};

/// Classes of users end here; above are those of the system.
pub const USER_MAX: i32 = 1_000_000_000;
const SYSTEM_PREFIX: &str = "system-";

/// The classes that every cluster has: name, value, description.
pub const SYSTEM: &[(&str, i32, &str)] = &[
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

/// The kind `PriorityClass`.
pub struct PriorityClass;

impl Kind for PriorityClass {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "scheduling.k8s.io",
        "v1",
        "PriorityClass",
        "priorityclasses",
        "priorityclass",
    )
    .short(&["pc"]);
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::integer(
            "Value",
            "value represents the integer value of this priority class. This \
                                   is the actual priority that pods receive when they have the name \
                                   of this class in their pod spec.",
        ),
        Column {
            name: "Global-Default",
            kind: "boolean",
            format: "",
            description: "globalDefault specifies whether this PriorityClass should be considered \
                          as the default priority for pods that do not have any priority class. \
                          Only one PriorityClass can be marked as `globalDefault`. However, if more \
                          than one PriorityClasses exists with their `globalDefault` field set to \
                          true, the smallest value of such global default PriorityClasses will be \
                          used as the default priority.",
            priority: 0,
        },
        columns::AGE,
        columns::text(
            "PreemptionPolicy",
            "preemptionPolicy is the Policy for preempting pods with lower priority. One of Never, \
             PreemptLowerPriority. Defaults to PreemptLowerPriority if unset.",
        ),
    ];

    fn prepare_create(_context: &Context, new: &mut Object) {
        // It is never counted up.
        new.metadata_mut().insert("generation".into(), 1.into());
    }

    fn prepare_update(_context: &Context, part: Part, new: &mut Object, old: &Object) {
        kind::keep_other_part(part, new, old);
        let generation = old.at(&["metadata", "generation"]).cloned();
        kind::set_at(new, &["metadata"], "generation", generation);
    }

    fn default(object: &mut Typed) {
        fill_with(
            &mut object.preemption_policy,
            "PreemptLowerPriority".to_owned(),
        );
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let name = new.metadata.name.text();
        let value = new.value.unwrap_or(0);
        if name.starts_with(SYSTEM_PREFIX) {
            if let Some(why) = not_known(name, value, new.global_default == Some(true)) {
                let detail = format!(
                    "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
                );
                errors.forbidden(&Path::new("metadata").child("name"), detail);
            }
        } else if value > USER_MAX {
            let detail = format!("maximum allowed value of a user defined priority is {USER_MAX}");
            errors.forbidden(&Path::new("value"), detail);
        }
        if let Some(policy) = &new.preemption_policy {
            let path = Path::new("preemptionPolicy");
            if errors.required_text(&path, policy, "") {
                errors.one_of(&path, policy, &["PreemptLowerPriority", "Never"]);
            }
        }
        errors
    }

    fn validate_update(_context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        if new.value.unwrap_or(0) != old.value.unwrap_or(0) {
            errors.forbidden(&Path::new("value"), "may not be changed in an update.");
        }
        let path = Path::new("preemptionPolicy");
        errors.immutable(&path, &new.preemption_policy, &old.preemption_policy);
        errors
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        Row::from(vec![
            tree.name().into(),
            object.value.unwrap_or(0).into(),
            object.global_default.unwrap_or(false).into(),
            kind::age(tree, now).into(),
            object.preemption_policy.text().into(),
        ])
    }
}

/// Why this is not one of the system's own classes.
fn not_known(name: &str, value: i32, global_default: bool) -> Option<String> {
    let Some((_, known, _)) = SYSTEM.iter().find(|(n, ..)| *n == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if *known != value {
        return Some(format!("value of {name} PriorityClass must be {known}"));
    }
    global_default.then(|| format!("globalDefault of {name} PriorityClass must be false"))
}
