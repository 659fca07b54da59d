//! The owners of an object's replicas as its sub-resource `scale` shows them, and back.
//!
//! Behaviour: `k8s.io/apimachinery/pkg/util/managedfields/scalehandler.go`.

use serde_json::Value;

use super::managers::{self, ManagerId, Managers, Operation, Owned};
use super::set::FieldSet;
use super::{entries, set_entries};
use crate::Object;

/// The version that a scale is in.
pub const SCALE_VERSION: &str = "autoscaling/v1";

const IN_SCALE: &[&[&str]] = &[&["spec", "replicas"]];

/// An object whose scale is written.
#[derive(Clone, Copy, Debug)]
pub struct Scaled<'a> {
    /// The object as it is.
    pub object: &'a Object,
    /// The version that the request is in.
    pub api_version: &'a str,
    /// Where replicas are in it.
    pub replicas: &'a [&'a str],
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

impl Scaled<'_> {
    fn managers(&self) -> Managers {
        let there = entries(self.object).map(Vec::as_slice);
        managers::decode(there.unwrap_or_default()).unwrap_or_default()
    }

    /// Whether this manager owns the replicas.
    fn owns(&self, owned: &Owned, replicas: &FieldSet) -> bool {
        group(&owned.api_version) == group(self.api_version)
            && !owned.set.intersection(replicas).is_empty()
    }

    fn replicas(&self) -> FieldSet {
        FieldSet::of_fields(&[self.replicas])
    }

    /// Gives a scale of the object its owners: those who own the replicas.
    pub fn show(&self, scale: &mut Object) {
        let replicas = self.replicas();
        let shown = self.managers().into_iter();
        let shown = shown.filter(|(_, owned)| self.owns(owned, &replicas));
        let shown: Managers = shown
            .map(|(id, owned)| {
                let id = ManagerId {
                    api_version: match id.operation {
                        Operation::Apply => String::new(),
                        Operation::Update => SCALE_VERSION.to_owned(),
                    },
                    ..id
                };
                let owned = Owned {
                    api_version: SCALE_VERSION.to_owned(),
                    set: FieldSet::of_fields(IN_SCALE),
                    time: owned.time,
                };
                (id, owned)
            })
            .collect();
        set_entries(scale, &shown);
    }

    /// Gives a new version of the object the owners that it has after its scale was written.
    pub fn take_over(&self, scale: &Object, new: &mut Object) {
        let (replicas, in_scale) = (self.replicas(), FieldSet::of_fields(IN_SCALE));
        let there = entries(scale).map(Vec::as_slice).unwrap_or_default();
        let mut of_scale = managers::decode(there).unwrap_or_default();
        let mut after = Managers::new();
        for (id, mut owned) in self.managers() {
            if self.owns(&owned, &replicas) && of_scale.remove(&id).is_none() {
                owned.set = owned.set.difference(&replicas);
            }
            if !owned.set.is_empty() {
                after.insert(id, owned);
            }
        }
        of_scale.retain(|_, owned| !owned.set.intersection(&in_scale).is_empty());
        let times = self.managers();
        for id in of_scale.into_keys() {
            let owned = Owned {
                api_version: self.api_version.to_owned(),
                set: replicas.clone(),
                // Only who was there before has a time.
                time: times.get(&id).and_then(|owned| owned.time.clone()),
            };
            after.insert(id, owned);
        }
        new.metadata_mut()
            .insert("managedFields".to_owned(), Value::Null);
        set_entries(new, &after);
    }
}
