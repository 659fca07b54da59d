//! Sets of field paths, as trees, and their form in `managedFields`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::{Map, Value};

use super::path::PathElement;
use crate::schema::Schema;

/// A set of paths. Owning a path does not mean owning what is below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    nodes: BTreeMap<PathElement, Node>,
}

/// Invariant: a node is a member or has something below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    below: FieldSet,
}

impl FieldSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// A set of paths of plain fields.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::new();
        for path in paths {
            let path: Vec<PathElement> = path.iter().map(|name| PathElement::field(name)).collect();
            set.insert(&path);
        }
        set
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a path; the empty path is in no set.
    pub fn insert(&mut self, path: &[PathElement]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let node = match self.nodes.get_mut(first) {
            Some(node) => node,
            None => self.nodes.entry(first.clone()).or_default(),
        };
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert(rest);
        }
    }

    /// Whether a path is in the set.
    pub fn has(&self, path: &[PathElement]) -> bool {
        match path {
            [] => false,
            [last] => self.nodes.get(last).is_some_and(|n| n.member),
            [first, rest @ ..] => self.nodes.get(first).is_some_and(|n| n.below.has(rest)),
        }
    }

    /// Whether the element itself is in the set.
    pub(super) fn has_element(&self, element: &PathElement) -> bool {
        self.nodes.get(element).is_some_and(|n| n.member)
    }

    /// What the set holds below an element, if anything.
    pub(super) fn below(&self, element: &PathElement) -> Option<&Self> {
        let node = self.nodes.get(element)?;
        (!node.below.is_empty()).then_some(&node.below)
    }

    /// All paths, in order.
    pub fn paths(&self) -> Vec<Vec<PathElement>> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, path: &mut Vec<PathElement>, out: &mut Vec<Vec<PathElement>>) {
        for (element, node) in &self.nodes {
            path.push(element.clone());
            if node.member {
                out.push(path.clone());
            }
            node.below.collect(path, out);
            path.pop();
        }
    }

    /// Takes over all paths of another set.
    pub fn extend(&mut self, other: &Self) {
        for (element, node) in &other.nodes {
            match self.nodes.entry(element.clone()) {
                Entry::Vacant(slot) => {
                    slot.insert(node.clone());
                }
                Entry::Occupied(mut slot) => {
                    let own = slot.get_mut();
                    own.member |= node.member;
                    own.below.extend(&node.below);
                }
            }
        }
    }

    /// Takes over all paths of another set that nobody needs any more.
    pub fn absorb(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        for (element, node) in other.nodes {
            match self.nodes.entry(element) {
                Entry::Vacant(slot) => {
                    slot.insert(node);
                }
                Entry::Occupied(mut slot) => {
                    let own = slot.get_mut();
                    own.member |= node.member;
                    own.below.absorb(node.below);
                }
            }
        }
    }

    /// Takes these paths out: what is left is the [`FieldSet::difference`].
    pub fn subtract(&mut self, other: &Self) {
        self.nodes.retain(|element, own| {
            if let Some(their) = other.nodes.get(element) {
                own.member &= !their.member;
                own.below.subtract(&their.below);
            }
            own.member || !own.below.is_empty()
        });
    }

    /// The paths in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.extend(other);
        out
    }

    /// The paths in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |own, their| match their {
            Some(their) => Node {
                member: own.member && their.member,
                below: own.below.intersection(&their.below),
            },
            None => Node::default(),
        })
    }

    /// The paths in this one and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, |own, their| match their {
            Some(their) => Node {
                member: own.member && !their.member,
                below: own.below.difference(&their.below),
            },
            None => own.clone(),
        })
    }

    /// The paths in this one that are not in the other and not below one of the other.
    #[must_use]
    pub fn recursive_difference(&self, other: &Self) -> Self {
        self.combine(other, |own, their| match their {
            Some(their) if their.member => Node::default(),
            Some(their) => Node {
                member: own.member,
                below: own.below.recursive_difference(&their.below),
            },
            None => own.clone(),
        })
    }

    fn combine(&self, other: &Self, rule: impl Fn(&Node, Option<&Node>) -> Node) -> Self {
        let mut nodes = BTreeMap::new();
        for (element, own) in &self.nodes {
            let node = rule(own, other.nodes.get(element));
            if node.member || !node.below.is_empty() {
                nodes.insert(element.clone(), node);
            }
        }
        Self { nodes }
    }

    /// The set with every named field on the way to a member made a member too.
    #[must_use]
    pub(super) fn with_named_fields(&self, schema: &Schema) -> Self {
        let mut nodes = BTreeMap::new();
        for (element, node) in &self.nodes {
            let mut member = node.member;
            let child = match element {
                PathElement::Field(name) => {
                    member |= schema.property(name).is_some();
                    schema.child(name)
                }
                PathElement::Key(_) => schema.items(),
                _ => None,
            };
            let below = node.below.with_named_fields(child.unwrap_or(Schema::any()));
            nodes.insert(element.clone(), Node { member, below });
        }
        Self { nodes }
    }

    /// The form in `managedFields[].fieldsV1`.
    pub fn encode(&self) -> Value {
        let mut map = Map::new();
        for (element, node) in &self.nodes {
            let mut below = node.below.encode();
            if node.member
                && let Value::Object(below) = &mut below
                && !below.is_empty()
            {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            map.insert(element.encode(), below);
        }
        Value::Object(map)
    }

    /// Reads the form in `managedFields[].fieldsV1`.
    ///
    /// # Errors
    /// Not that form.
    pub fn decode(json: &Value) -> Result<Self, String> {
        let Value::Object(map) = json else {
            return Err(format!("expected a map, got {json}"));
        };
        let mut nodes = BTreeMap::new();
        for (key, json) in map.iter().filter(|(key, _)| *key != ".") {
            let element = PathElement::decode(key)?;
            let below = Self::decode(json)?;
            let member = below.is_empty() || json.get(".").is_some();
            nodes.insert(element, Node { member, below });
        }
        Ok(Self { nodes })
    }
}
