//! What differs between two versions of an object.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::path::PathElement;
use super::set::FieldSet;
use super::shape::{Shape, child, element, items, list, shape};
use crate::schema::Schema;
use crate::value::same;

/// The paths that differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// In the new version only.
    pub added: FieldSet,
    /// In both, with other values.
    pub modified: FieldSet,
    /// In the old version only.
    pub removed: FieldSet,
}

impl Comparison {
    /// Whether nothing differs.
    pub fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// Leaves out these paths and what is below them.
    #[must_use]
    pub(super) fn without(self, ignored: &FieldSet) -> Self {
        if ignored.is_empty() {
            return self;
        }
        Self {
            added: self.added.recursive_difference(ignored),
            modified: self.modified.recursive_difference(ignored),
            removed: self.removed.recursive_difference(ignored),
        }
    }
}

/// Compares an old and a new version.
pub fn compare(old: &Value, new: &Value, schema: &Schema) -> Comparison {
    let mut walk = Walk::default();
    walk.pair(Some(old), Some(new), schema);
    walk.out
}

fn keys(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let map = value.and_then(Value::as_object).into_iter().flatten();
    map.map(|(key, _)| key.as_str())
}

/// A field of an object, as Go's encoder would have written it.
fn field<'a>(value: Option<&'a Value>, key: &str, schema: &'a Schema) -> Option<&'a Value> {
    let map = value?;
    map.get(key).or_else(|| schema.value_when_unset(key))
}

fn by_name<'a>(list: &'a [Value], schema: &Schema) -> BTreeMap<PathElement, Vec<&'a Value>> {
    let mut all: BTreeMap<PathElement, Vec<&Value>> = BTreeMap::new();
    for item in list {
        if let Ok(name) = element(schema, item) {
            all.entry(name).or_default().push(item);
        }
    }
    all
}

#[derive(Default)]
struct Walk {
    path: Vec<PathElement>,
    out: Comparison,
}

impl Walk {
    fn pair(&mut self, old: Option<&Value>, new: Option<&Value>, schema: &Schema) {
        let of = |v: Option<&Value>| v.map(|v| shape(schema, v));
        let is_leaf = match (of(old), of(new)) {
            (Some(a), Some(b)) if a != b => {
                self.one(a, old, new, schema);
                self.one(b, old, new, schema)
            }
            (a, b) => match b.or(a) {
                Some(shape) => self.one(shape, old, new, schema),
                None => return,
            },
        };
        // A map or an element that comes or goes is itself a change.
        if !is_leaf && old.is_none() {
            self.out.added.insert(&self.path);
        } else if !is_leaf && new.is_none() {
            self.out.removed.insert(&self.path);
        }
    }

    /// Compares as this shape; true if the pair was one value.
    fn one(
        &mut self,
        shape: Shape,
        old: Option<&Value>,
        new: Option<&Value>,
        schema: &Schema,
    ) -> bool {
        let map = |v: Option<&Value>| v.and_then(Value::as_object).map_or(0, |m| m.len());
        match shape {
            Shape::Map if map(old) + map(new) > 0 => {
                self.maps(old, new, schema);
                false
            }
            Shape::List if list(old).len() + list(new).len() > 0 => {
                self.lists(list(old), list(new), schema);
                false
            }
            _ => {
                match (old, new) {
                    (None, _) => self.out.added.insert(&self.path),
                    (_, None) => self.out.removed.insert(&self.path),
                    (Some(old), Some(new)) if !same(old, new) => {
                        self.out.modified.insert(&self.path);
                    }
                    _ => {}
                }
                true
            }
        }
    }

    fn maps(&mut self, old: Option<&Value>, new: Option<&Value>, schema: &Schema) {
        let mut all = keys(old).chain(keys(new)).collect::<Vec<&str>>();
        // With both there, fields set in neither are the same in both.
        if old.is_none() || new.is_none() {
            all.extend(schema.fields_when_unset());
        }
        all.sort_unstable();
        all.dedup();
        for key in all {
            self.path.push(PathElement::field(key));
            let (old, new) = (field(old, key, schema), field(new, key, schema));
            self.pair(old, new, child(schema, key));
            self.path.pop();
        }
    }

    fn lists(&mut self, old: &[Value], new: &[Value], schema: &Schema) {
        let (old, new) = (by_name(old, schema), by_name(new, schema));
        let names: BTreeSet<&PathElement> = old.keys().chain(new.keys()).collect();
        for name in names {
            let old = old.get(name).map(Vec::as_slice).unwrap_or_default();
            let new = new.get(name).map(Vec::as_slice).unwrap_or_default();
            self.path.push(name.clone());
            self.elements(old, new, items(schema));
            self.path.pop();
        }
    }

    /// Elements of one name; several of a name are one value.
    fn elements(&mut self, old: &[&Value], new: &[&Value], schema: &Schema) {
        match (old.len() > 1, new.len() > 1) {
            (false, false) => self.pair(old.first().copied(), new.first().copied(), schema),
            (true, true) => {
                let equal = old.len() == new.len() && old.iter().zip(new).all(|(a, b)| same(a, b));
                if !equal {
                    self.out.modified.insert(&self.path);
                }
            }
            (true, false) => {
                if let Some(new) = new.first() {
                    self.pair(None, Some(new), schema);
                }
                self.out.removed.insert(&self.path);
            }
            (false, true) => {
                if let Some(old) = old.first() {
                    self.pair(Some(old), None, schema);
                }
                self.out.added.insert(&self.path);
            }
        }
    }
}
