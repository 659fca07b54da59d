//! Lays an applied configuration over the live object, and takes paths out of an object.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::path::PathElement;
use super::set::FieldSet;
use super::shape::{Shape, child, element, items, list, shape};
use crate::schema::Schema;

/// The live object with all that the configuration says.
pub(super) fn merge(live: &Value, config: &Value, schema: &Schema) -> Value {
    pair(Some(live), Some(config), schema).unwrap_or(Value::Null)
}

fn pair(live: Option<&Value>, config: Option<&Value>, schema: &Schema) -> Option<Value> {
    let value = config.or(live)?;
    let count = |v: Option<&Value>| fields(v).map_or(0, Map::len);
    match shape(schema, value) {
        Shape::Map if count(live) + count(config) > 0 => maps(live, config, schema),
        Shape::List if list(live).len() + list(config).len() > 0 => {
            lists(list(live), list(config), schema)
        }
        _ => Some(value.clone()),
    }
}

fn maps(live: Option<&Value>, config: Option<&Value>, schema: &Schema) -> Option<Value> {
    let (live, config) = (fields(live), fields(config));
    let keys: BTreeSet<&String> = live.into_iter().chain(config).flat_map(Map::keys).collect();
    let merged = keys.into_iter().filter_map(|key| {
        // What only the live object has is taken as it is; nothing below can change it.
        let value = match config.and_then(|c| c.get(key)) {
            None => live.and_then(|l| l.get(key)).cloned(),
            Some(config) => pair(
                live.and_then(|l| l.get(key)),
                Some(config),
                child(schema, key),
            ),
        };
        Some((key.clone(), value?))
    });
    let merged: Map<String, Value> = merged.collect();
    (!merged.is_empty()).then_some(Value::Object(merged))
}

fn fields(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

/// The elements of a list by name.
struct Named<'a> {
    order: Vec<(PathElement, &'a Value)>,
    /// None where several elements have the name.
    by_name: BTreeMap<PathElement, Option<&'a Value>>,
}

fn named<'a>(list: &'a [Value], schema: &Schema) -> Named<'a> {
    let mut out = Named {
        order: Vec::new(),
        by_name: BTreeMap::new(),
    };
    for item in list {
        let Ok(name) = element(schema, item) else {
            continue;
        };
        let slot = out.by_name.entry(name.clone());
        slot.and_modify(|v| *v = None).or_insert(Some(item));
        out.order.push((name, item));
    }
    out
}

/// Keeps the order of the configuration, with elements of the live list between those they stood between.
fn lists(live: &[Value], config: &[Value], schema: &Schema) -> Option<Value> {
    let (live, config) = (named(live, schema), named(config, schema));
    let mut shared: std::collections::VecDeque<&PathElement> = config
        .order
        .iter()
        .map(|(name, _)| name)
        .filter(|name| live.by_name.contains_key(name))
        .collect();
    let mut next_shared = shared.pop_front();
    let mut merged = BTreeSet::new();
    let mut out = Vec::new();
    let both = |name: &PathElement| {
        let (left, right) = (live.by_name.get(name), config.by_name.get(name));
        pair(
            left.copied().flatten(),
            right.copied().flatten(),
            items(schema),
        )
    };
    let (mut l, mut r) = (0, 0);
    while l < live.order.len() || r < config.order.len() {
        if let (Some((left, _)), Some((right, _))) = (live.order.get(l), config.order.get(r)) {
            if left == right {
                merged.insert(left);
                out.extend(both(left));
                (l, r) = (l + 1, r + 1);
                next_shared = shared.pop_front();
                continue;
            }
            if config.by_name.contains_key(left) && next_shared.is_some_and(|n| n != left) {
                l += 1;
                continue;
            }
        }
        if let Some((left, item)) = live.order.get(l) {
            if !config.by_name.contains_key(left) {
                out.extend(pair(Some(*item), None, items(schema)));
                l += 1;
                continue;
            }
            if merged.contains(left) {
                l += 1;
            }
        }
        if let Some((right, _)) = config.order.get(r) {
            merged.insert(right);
            out.extend(both(right));
            r += 1;
            if next_shared == Some(right) {
                next_shared = shared.pop_front();
            }
        }
    }
    (!out.is_empty()).then_some(Value::Array(out))
}

/// What becomes of a field whose value loses everything in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Emptied {
    /// It stays, as null: whoever owned the field itself keeps it.
    Null,
    /// It goes.
    Gone,
}

/// The object without these paths.
pub(super) fn remove(
    value: &Value,
    paths: &FieldSet,
    schema: &Schema,
    emptied: Emptied,
) -> Option<Value> {
    match (shape(schema, value), value) {
        (Shape::Map, Value::Object(map)) => {
            let mut out = Map::new();
            for (key, value) in map {
                let name = PathElement::field(key);
                if paths.has_element(&name) {
                    continue;
                }
                let kept = match paths.below(&name) {
                    Some(below) => remove(value, below, child(schema, key), emptied)
                        .or((emptied == Emptied::Null).then_some(Value::Null)),
                    None => Some(value.clone()),
                };
                out.extend(kept.map(|kept| (key.clone(), kept)));
            }
            (!out.is_empty()).then_some(Value::Object(out))
        }
        (Shape::List, Value::Array(list)) => {
            let mut out = Vec::new();
            for item in list {
                let Ok(name) = element(schema, item) else {
                    out.push(item.clone());
                    continue;
                };
                if paths.has_element(&name) {
                    continue;
                }
                match paths.below(&name) {
                    Some(below) => out.extend(remove(item, below, items(schema), emptied)),
                    None => out.push(item.clone()),
                }
            }
            (!out.is_empty()).then_some(Value::Array(out))
        }
        (Shape::Leaf, Value::Object(_) | Value::Array(_)) => None,
        _ => Some(value.clone()),
    }
}
