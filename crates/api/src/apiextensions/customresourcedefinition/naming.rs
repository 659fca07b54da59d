//! Which names a definition gets, and what its conditions say.
//!
//! Names are unique in a group; who asks first has them. A definition whose names are accepted is established: its objects
//! are served. Behaviour: `.../controller/{status,establish,nonstructuralschema,apiapproval}`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use machinery::{Object, certificate, time};
use serde_json::{Map, Value, json};

/// One condition of a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `type`
    pub kind: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

/// Whether a definition has a condition with status `True`.
pub fn is_true(definition: &Object, kind: &str) -> bool {
    condition(definition, kind).is_some_and(|c| c["status"] == "True")
}

fn condition<'a>(definition: &'a Object, kind: &str) -> Option<&'a Value> {
    let conditions = definition.at(&["status", "conditions"])?.as_array()?;
    conditions.iter().find(|c| c["type"] == kind)
}

/// Puts a condition into a status; its time changes when its status does.
pub fn set_condition(status: &mut Map<String, Value>, new: &Condition, now: Timestamp) {
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Value::Array(conditions) = conditions else {
        return;
    };
    let fresh = json!({
        "type": new.kind, "status": new.status, "reason": new.reason, "message": new.message,
        "lastTransitionTime": time::rfc3339(now),
    });
    match conditions.iter_mut().find(|c| c["type"] == new.kind) {
        None => conditions.push(fresh),
        Some(there) => {
            let since = there["lastTransitionTime"].take();
            let keeps = there["status"] == new.status && !since.is_null();
            *there = fresh;
            if keeps {
                there["lastTransitionTime"] = since;
            }
        }
    }
}

/// The status that a definition should have beside the other definitions of its group, if that is another one than it has.
pub fn settle<'a>(
    definition: &Object,
    others: impl Iterator<Item = &'a Object>,
    now: Timestamp,
) -> Option<Object> {
    let mut new = definition.clone();
    accept_names(&mut new, definition, others, now);
    let accepted = is_true(&new, "NamesAccepted");
    if accepted && !is_true(&new, "Established") {
        let (status, reason, message) = match has_bad_authorities(definition) {
            false => (
                "True",
                "InitialNamesAccepted",
                "the initial names have been accepted",
            ),
            true => (
                "False",
                "InvalidCABundle",
                "The conversion webhook CABundle is invalid",
            ),
        };
        let established = Condition {
            kind: "Established",
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        set_condition(new.object_at_mut(&["status"]), &established, now);
    }
    if let Some(approved) = approval(definition) {
        set_condition(new.object_at_mut(&["status"]), &approved, now);
    }
    (new != *definition).then_some(new)
}

/// Whether a conversion webhook could not be believed, whatever certificate it showed.
fn has_bad_authorities(definition: &Object) -> bool {
    let conversion = ["spec", "conversion"];
    let bundle =
        definition.at(&[&conversion[..], &["webhook", "clientConfig", "caBundle"]].concat());
    let bundle = bundle.and_then(|b| serde_json::from_value::<ByteString>(b.clone()).ok());
    definition.str_at(&[&conversion[..], &["strategy"]].concat()) == "Webhook"
        && bundle.is_some_and(|b| !b.0.is_empty() && certificate::check_authorities(&b.0).is_err())
}

/// The names that the definitions of a group hold: those of resources, those of kinds.
fn taken<'a>(
    group: &str,
    name: &str,
    others: impl Iterator<Item = &'a Object>,
) -> [BTreeSet<String>; 2] {
    let mut taken = [BTreeSet::new(), BTreeSet::new()];
    for other in others {
        if other.str_at(&["spec", "group"]) != group || other.name() == name {
            continue;
        }
        let names = other.at(&["status", "acceptedNames"]);
        let text = |key: &str| names.and_then(|n| n[key].as_str()).map(str::to_owned);
        let short = names.and_then(|n| n["shortNames"].as_array());
        let short = short.into_iter().flatten().filter_map(Value::as_str);
        taken[0].extend(text("plural").into_iter().chain(text("singular")));
        taken[0].extend(short.map(str::to_owned));
        taken[1].extend(text("kind").into_iter().chain(text("listKind")));
    }
    taken
}

fn accept_names<'a>(
    new: &mut Object,
    definition: &Object,
    others: impl Iterator<Item = &'a Object>,
    now: Timestamp,
) {
    let wanted = definition
        .at(&["spec", "names"])
        .cloned()
        .unwrap_or_default();
    let accepted = definition.at(&["status", "acceptedNames"]);
    let accepted = accepted.cloned().unwrap_or_else(|| json!({}));
    if wanted == accepted && condition(definition, "NamesAccepted").is_some() {
        return;
    }
    let group = definition.str_at(&["spec", "group"]);
    let [resources, kinds] = taken(group, definition.name(), others);
    let mut names = accepted.clone();
    let mut problem: Option<(&str, String)> = None;
    let fields = [
        ("plural", "PluralConflict", &resources),
        ("singular", "SingularConflict", &resources),
        ("shortNames", "ShortNamesConflict", &resources),
        ("kind", "KindConflict", &kinds),
        ("listKind", "ListKindConflict", &kinds),
    ];
    for (field, reason, taken) in fields {
        match conflict(&wanted[field], &accepted[field], taken) {
            Some(message) => problem = Some((reason, message)),
            None => set(&mut names, field, &wanted[field]),
        }
    }
    set(&mut names, "categories", &wanted["categories"]);
    let (status, reason, message) = match problem {
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
        Some((reason, message)) => ("False", reason, message),
    };
    let out = new.object_at_mut(&["status"]);
    out.insert("acceptedNames".into(), names);
    let condition = Condition {
        kind: "NamesAccepted",
        status,
        reason: reason.to_owned(),
        message,
    };
    set_condition(out, &condition, now);
    if status == "False" && !is_true(definition, "Established") {
        let refused = Condition {
            kind: "Established",
            status: "False",
            reason: "NotAccepted".to_owned(),
            message: "not all names are accepted".to_owned(),
        };
        set_condition(out, &refused, now);
    }
}

fn set(names: &mut Value, field: &str, value: &Value) {
    let Value::Object(names) = names else { return };
    match value {
        Value::Null => drop(names.remove(field)),
        value => drop(names.insert(field.to_owned(), value.clone())),
    }
}

/// Why a name (or one of several) cannot be had.
fn conflict(wanted: &Value, accepted: &Value, taken: &BTreeSet<String>) -> Option<String> {
    if wanted == accepted {
        return None;
    }
    let used = |name: &str| {
        taken
            .contains(name)
            .then(|| format!("{name:?} is already in use"))
    };
    match wanted {
        Value::String(name) => used(name),
        Value::Array(names) => {
            let has = |name: &str| {
                let own = accepted.as_array();
                own.into_iter().flatten().any(|own| own == name)
            };
            let names = names.iter().filter_map(Value::as_str).filter(|n| !has(n));
            let problems: Vec<String> = names.filter_map(used).collect();
            match problems.as_slice() {
                [] => None,
                [one] => Some(one.clone()),
                many => Some(format!("[{}]", many.join(", "))),
            }
        }
        _ => None,
    }
}

/// The annotation that says who approved an API of a protected group.
pub(super) const APPROVED: &str = "api-approved.kubernetes.io";

/// What the annotation of a definition in a protected group says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Approval {
    Invalid,
    Approved,
    Bypassed,
    Missing,
}

/// Whether a group belongs to the Kubernetes community.
pub(super) fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].iter().any(|own| {
        group
            .strip_suffix(own)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// The state of the annotation, and why.
pub(super) fn approval_of(annotation: &str) -> (Approval, String) {
    let must = format!("protected groups must have approval annotation {APPROVED:?}");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let is_url = annotation.split_once("://").is_some_and(|(scheme, rest)| {
        let host = rest.split('/').next().unwrap_or("");
        !scheme.is_empty()
            && scheme.chars().all(|c| c.is_ascii_alphanumeric())
            && !host.is_empty()
            && !annotation.contains(' ')
    });
    match annotation {
        "" => (Approval::Missing, format!("{must}, {see}")),
        text if text.starts_with("unapproved") => {
            (Approval::Bypassed, format!("not approved: {text:?}"))
        }
        text if is_url => (Approval::Approved, format!("approved in {text}")),
        _ => {
            let with = "with either a URL or a reason starting with \"unapproved\"";
            (Approval::Invalid, format!("{must} {with}, {see}"))
        }
    }
}

fn approval(definition: &Object) -> Option<Condition> {
    if !is_protected(definition.str_at(&["spec", "group"])) {
        return None;
    }
    let annotation = definition.annotations().find(|(key, _)| *key == APPROVED);
    let (state, message) = approval_of(annotation.map_or("", |(_, value)| value));
    let (status, reason) = match state {
        Approval::Invalid => ("False", "InvalidAnnotation"),
        Approval::Missing => ("False", "MissingAnnotation"),
        Approval::Approved => ("True", "ApprovedAnnotation"),
        Approval::Bypassed => ("False", "UnapprovedAnnotation"),
    };
    Some(Condition {
        kind: "KubernetesAPIApprovalPolicyConformant",
        status,
        reason: reason.to_owned(),
        message,
    })
}
