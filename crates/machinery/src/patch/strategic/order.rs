//! The order of merged lists: what the patch lists keeps the patch's order, the rest the server's.

use serde_json::{Map, Value};

use super::{
    DIRECTIVE, GO_LIST, PatchError, SET_ORDER, Schema, bad_order, bad_type, merge_slice,
    no_merge_key, without_directives,
};
use crate::value::go_display;

/// Carries out every `$setElementOrder/field` with the list of that field, and takes both out of the patch.
pub(super) fn merge_ordered(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    schema: Option<&Schema>,
) -> Result<(), PatchError> {
    let directives: Vec<String> = patch
        .keys()
        .filter(|key| key.starts_with(SET_ORDER))
        .cloned()
        .collect();
    for directive in directives {
        let order = patch.remove(&directive).unwrap_or_default();
        let order = order.as_array().ok_or_else(|| bad_type(GO_LIST, &order))?;
        let name = directive
            .strip_prefix(SET_ORDER)
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or_else(bad_order)?;
        let field = schema.and_then(|s| s.child(name));
        let key = field.and_then(Schema::merge_key);
        let (old, new) = (list_of(original, name)?, list_of(patch, name)?);
        if let Some(new) = &new {
            check_order(new, order, key)?;
        }
        let server_order = server_order(
            old.as_deref().unwrap_or_default(),
            new.as_deref().unwrap_or_default(),
            key,
        );
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => new.into_iter().filter_map(without_directives).collect(),
            (Some(old), Some(new)) => merge_slice(old, new, field, false)?,
        };
        let ordered = normalize(merged, order, &server_order, key)?;
        original.insert(name.to_owned(), Value::Array(ordered));
        patch.remove(name);
    }
    Ok(())
}

/// The order that decides where server-only elements go: the server's. Where the patch deletes elements, upstream's list
/// has been edited in place by then, and new elements stand in the freed places.
fn server_order(old: &[Value], new: &[Value], key: Option<&str>) -> Vec<Value> {
    let deleted = |item: &&Value| item.get(DIRECTIVE).and_then(Value::as_str) == Some("delete");
    let same = |a: &Value, b: &Value| identity(a, key) == identity(b, key);
    let gone = |item: &Value| new.iter().filter(deleted).any(|d| same(d, item));
    let plain = new.iter().filter(|item| item.get(DIRECTIVE).is_none());
    let added = plain.filter(|item| !old.iter().any(|own| !gone(own) && same(own, item)));
    let kept = old.iter().filter(|item| !gone(item));
    kept.chain(added).take(old.len()).cloned().collect()
}

fn list_of(map: &Map<String, Value>, name: &str) -> Result<Option<Vec<Value>>, PatchError> {
    match map.get(name) {
        None => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list.clone())),
        Some(other) => Err(bad_type(GO_LIST, other)),
    }
}

/// The part of an element that says which one it is.
fn identity<'a>(item: &'a Value, key: Option<&str>) -> Option<&'a Value> {
    match key {
        Some(key) => item.get(key),
        None => Some(item),
    }
}

/// The elements of the patch must come in the order that the directive gives.
fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut places = order.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let wanted = identity(item, key);
        if wanted.is_none() {
            return Err(no_merge_key(item, key.unwrap_or_default()));
        }
        if !places.any(|place| identity(place, key) == wanted) {
            let (patch, order) = (Value::from(patch.to_vec()), Value::from(order.to_vec()));
            return Err(PatchError::Internal(format!(
                "The order in patch list:\n{}\n doesn't match {SET_ORDER} list:\n{}\n",
                go_display(&patch),
                go_display(&order)
            )));
        }
    }
    Ok(())
}

/// Sorts a merged list: elements named by `patch_order` in that order, the others by `server_order`, interleaved so
/// that a server-only element stays before what it stood before.
pub(super) fn normalize(
    merged: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    if let Some(key) = key {
        let nameless = merged.iter().find(|item| item.get(key).is_none());
        if let Some(item) = nameless {
            return Err(no_merge_key(item, key));
        }
    }
    let place = |list: &[Value], item: &Value| {
        let wanted = identity(item, key);
        list.iter().position(|other| identity(other, key) == wanted)
    };
    let in_patch = |item: &Value| place(patch_order, item).is_some();
    let (mut patched, mut server): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(in_patch);
    patched.sort_by_key(|item| place(patch_order, item));
    server.sort_by_key(|item| place(server_order, item));

    let mut out = Vec::with_capacity(patched.len() + server.len());
    let (mut left, mut right) = (
        server.into_iter().peekable(),
        patched.into_iter().peekable(),
    );
    loop {
        let before = match (left.peek(), right.peek()) {
            (None, None) => return Ok(out),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(l), Some(r)) => {
                let (l, r) = (place(server_order, l), place(server_order, r));
                matches!((l, r), (Some(l), Some(r)) if l < r)
            }
        };
        out.extend(if before { left.next() } else { right.next() });
    }
}
