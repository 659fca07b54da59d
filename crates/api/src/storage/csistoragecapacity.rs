//! CSIStorageCapacity: how much room a CSI driver has left for a class in a part of the cluster.
//!
//! Upstream: `pkg/registry/storage/csistoragecapacity`, `pkg/apis/storage/validation`.

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::CSIStorageCapacity as Typed;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};

use crate::check::{self, ErrorListExt};
use crate::columns;
use crate::core::persistentvolume::class_name;
use crate::core::resources;
use crate::kind::{Context, Kind, Names, Part, Scope};
use crate::view::Items;
use crate::warn;

/// The kind `CSIStorageCapacity`.
pub struct CSIStorageCapacity;

impl Kind for CSIStorageCapacity {
    type Object = Typed;
    const NAMES: Names = Names::new(
        super::GROUP,
        "v1",
        "CSIStorageCapacity",
        "csistoragecapacities",
        "csistoragecapacity",
    );
    const SCOPE: Scope = Scope::Namespaced;
    const UNCONDITIONAL_UPDATE: bool = false;
    const COLUMNS: &'static [Column] = columns::NAME_AND_CREATED;

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let at = Path::new("nodeTopology");
        check::label_selector(&mut errors, &at, new.node_topology.as_ref());
        let class = new.storage_class_name.as_str();
        class_name(&mut errors, &Path::new("storageClassName"), class);
        if let Some(capacity) = &new.capacity {
            let at = Path::new("capacity");
            if resources::parse(&mut errors, &at, capacity).is_some_and(|q| q.signum() < 0) {
                errors.invalid(&at, capacity.0.as_str(), check::NOT_NEGATIVE);
            }
        }
        errors
    }

    fn validate_update(context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = Self::validate_create(context, new);
        errors.immutable(
            &Path::new("nodeTopology"),
            &new.node_topology,
            &old.node_topology,
        );
        let at = Path::new("storageClassName");
        errors.immutable(&at, &new.storage_class_name, &old.storage_class_name);
        errors
    }

    fn warnings(new: &Typed) -> Vec<String> {
        let Some(topology) = &new.node_topology else {
            return Vec::new();
        };
        let path = Path::new("nodeTopology");
        let mut warnings = Vec::new();
        for (i, expression) in topology.match_expressions.items().iter().enumerate() {
            let key = &expression.key;
            if let Some(text) = warn::node_label(key) {
                let path = path.child("matchExpressions").index(i).child("key");
                warnings.push(format!("{path}: {key} is {text}"));
            }
        }
        for key in topology.match_labels.iter().flatten().map(|(key, _)| key) {
            if let Some(text) = warn::node_label(key) {
                let path = path.child("matchLabels").child(key);
                warnings.push(format!("{path}: {text}"));
            }
        }
        warnings
    }

    fn row(_object: &Typed, tree: &Object, _now: Timestamp) -> Row {
        columns::name_and_created(tree)
    }
}
