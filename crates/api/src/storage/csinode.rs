//! CSINode: the CSI drivers on a node, as its kubelet knows them.
//!
//! Upstream: `pkg/registry/storage/csinode`, `pkg/apis/storage/validation`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::{CSINode as Typed, CSINodeDriver};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};
use serde_json::Value;

use crate::check::ErrorListExt;
use crate::columns;
use crate::core::volumes;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::Items;

const NODE_ID_MAX: usize = 256;

/// The kind `CSINode`.
pub struct CSINode;

impl Kind for CSINode {
    type Object = Typed;
    const NAMES: Names = Names::new(super::GROUP, "v1", "CSINode", "csinodes", "csinode");
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const STATUS_RESETS: &'static [&'static [&'static str]] = crate::kind::METADATA_AND_SPEC;
    const UNCONDITIONAL_UPDATE: bool = false;
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::integer(
            "Drivers",
            "Drivers indicates the number of CSI drivers registered on the node",
        ),
        columns::AGE,
    ];

    fn default(object: &mut Typed) {
        // The health of storage is an alpha feature; without it the status is empty.
        object.status = None;
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("spec").child("drivers");
        let mut seen = BTreeSet::new();
        for (i, one) in new.spec.drivers.iter().enumerate() {
            driver(&mut errors, &path.index(i), one, !seen.insert(&one.name));
        }
        errors
    }

    fn validate_update(context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = Self::validate_create(context, new);
        let path = Path::new("spec").child("drivers");
        for before in &old.spec.drivers {
            for after in new.spec.drivers.iter().filter(|d| d.name == before.name) {
                let fixed = |driver: &CSINodeDriver| CSINodeDriver {
                    allocatable: None,
                    ..driver.clone()
                };
                errors.immutable(&path, &fixed(after), &fixed(before));
            }
        }
        errors
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        Row::from(vec![
            tree.name().into(),
            Value::from(object.spec.drivers.len()),
            kind::age(tree, now).into(),
        ])
    }
}

fn driver(errors: &mut ErrorList, path: &Path, driver: &CSINodeDriver, repeated: bool) {
    let (name, id) = (driver.name.as_str(), driver.node_id.as_str());
    volumes::csi_driver_name(errors, &path.child("name"), name);
    errors.required_text(&path.child("nodeID"), id, "");
    if id.len() > NODE_ID_MAX {
        let detail = format!("must be {NODE_ID_MAX} characters or less");
        errors.invalid(&path.child("nodeID"), id, detail);
    }
    if let Some(count) = driver.allocatable.as_ref().and_then(|a| a.count) {
        errors.not_negative(&path.child("allocatable").child("count"), count.into());
    }
    if repeated {
        errors.duplicate(&path.child("name"), name);
    }
    let mut seen = BTreeSet::new();
    for key in driver.topology_keys.items() {
        if key.is_empty() {
            errors.required(path, "");
        }
        if !seen.insert(key) {
            errors.duplicate(path, key.as_str());
        }
        errors.invalid_each(path, key, names::qualified_name(key));
    }
}
