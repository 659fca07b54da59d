//! Errors by what was written: a typed view cannot tell what is empty from what is not there.

use machinery::field::ErrorType;
use machinery::{ErrorList, FieldError, Object};
use serde_json::{Value, json};

/// The value that the path of an error leads to.
pub(super) fn value_at<'a>(object: &'a Object, path: &str) -> Option<&'a Value> {
    let (first, mut rest) = next_step(path)?;
    let mut found = object.0.get(first)?;
    while !rest.is_empty() {
        let (step, after) = next_step(rest)?;
        found = match found {
            Value::Array(list) => list.get(step.parse::<usize>().ok()?)?,
            other => other.get(step)?,
        };
        rest = after;
    }
    Some(found)
}

/// A name or what stands in brackets, and what comes after it.
fn next_step(path: &str) -> Option<(&str, &str)> {
    if let Some(inside) = path.strip_prefix('[') {
        return inside.split_once(']');
    }
    let name = path.strip_prefix('.').unwrap_or(path);
    let end = name.find(['.', '[']).unwrap_or(name.len());
    Some(name.split_at(end))
}

/// Shows what is empty as it was written.
pub(super) fn show_empties(errors: &mut ErrorList, object: &Object) {
    for error in &mut errors.0 {
        let empty = json!({});
        let there = value_at(object, &error.path.to_string());
        if error.value.as_ref() == Some(&empty) && there == Some(&empty) {
            error.shown = Some("{}".to_owned());
        }
    }
}

/// A selector that is there and says nothing is empty, not missing; then nothing is said of the labels that it does not
/// match.
pub(crate) fn empty_selector(errors: &mut ErrorList, object: &Object, why: &str) {
    const LABELS: &str = "spec.template.metadata.labels";
    if object.at(&["spec", "selector"]).is_none_or(Value::is_null) {
        return;
    }
    let missing =
        |e: &FieldError| e.kind == ErrorType::Required && e.path.to_string() == "spec.selector";
    let Some(place) = errors.0.iter().position(missing) else {
        return;
    };
    errors.0.retain(|e| e.path.to_string() != LABELS);
    let at = errors.0[place].path.clone();
    let mut told = ErrorList::new();
    told.invalid(&at, json!({}), why);
    errors.0.splice(place..=place, told.0);
}
