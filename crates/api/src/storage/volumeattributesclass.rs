//! VolumeAttributesClass: parameters of a CSI driver's volumes that may change while a volume lives.
//!
//! Upstream: `pkg/registry/storage/volumeattributesclass`, `pkg/apis/storage/validation`.

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::VolumeAttributesClass as Typed;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};

use crate::check::same;
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope};

/// The kind `VolumeAttributesClass`.
pub struct VolumeAttributesClass;

impl Kind for VolumeAttributesClass {
    type Object = Typed;
    const NAMES: Names = Names::new(
        super::GROUP,
        "v1",
        "VolumeAttributesClass",
        "volumeattributesclasses",
        "volumeattributesclass",
    )
    .short(&["vac"]);
    const SCOPE: Scope = Scope::Cluster;
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "DriverName",
            "driverName is the name of the CSI driver This field is immutable.",
        ),
        columns::AGE,
    ];

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        super::provisioner(&mut errors, &Path::new("driverName"), &new.driver_name);
        let path = Path::new("parameters");
        super::parameters(&mut errors, &path, new.parameters.as_ref(), false);
        errors
    }

    fn validate_update(context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        if new.driver_name != old.driver_name {
            let path = Path::new("driverName");
            errors.forbidden(&path, "updates to driverName are forbidden.");
        }
        if !same(&new.parameters, &old.parameters) {
            let path = Path::new("parameters");
            errors.forbidden(&path, "updates to parameters are forbidden.");
        }
        errors.append(Self::validate_create(context, new));
        errors
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        Row::from(vec![
            tree.name().into(),
            object.driver_name.as_str().into(),
            kind::age(tree, now).into(),
        ])
    }
}
