//! ConfigMap: plain configuration as keys and values, for pods to read.
//!
//! Upstream: `pkg/registry/core/configmap`, `ValidateConfigMap*` in `pkg/apis/core/validation`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap as Typed;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};

use crate::check::ErrorListExt;
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope};

/// All values of a ConfigMap or a Secret together may not be longer than this.
pub const DATA_MAX: usize = 1024 * 1024;
/// What is said about a change of an object that is marked immutable.
pub const IMMUTABLE_WHEN_SET: &str = "field is immutable when `immutable` is set";

/// The kind `ConfigMap`.
pub struct ConfigMap;

impl Kind for ConfigMap {
    type Object = Typed;
    const NAMES: Names =
        Names::new("", "v1", "ConfigMap", "configmaps", "configmap").short(&["cm"]);
    const SCOPE: Scope = Scope::Namespaced;
    const MAY_WARN: bool = false;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "Data",
            "Data contains the configuration data. Each key must consist of \
                               alphanumeric characters, '-', '_' or '.'. Values with non-UTF-8 byte \
                               sequences must use the BinaryData field. The keys stored in Data \
                               must not overlap with the keys in the BinaryData field, this is \
                               enforced during validation process.",
        ),
        columns::AGE,
    ];

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let mut size = 0;
        let path = Path::new("data");
        for (key, value) in new.data.iter().flatten() {
            errors.invalid_each(&path.key(key), key, names::config_map_key(key));
            if new
                .binary_data
                .as_ref()
                .is_some_and(|b| b.contains_key(key))
            {
                let detail = "duplicate of key present in binaryData";
                errors.invalid(&path.key(key), key.as_str(), detail);
            }
            size += value.len();
        }
        let path = Path::new("binaryData");
        for (key, value) in new.binary_data.iter().flatten() {
            errors.invalid_each(&path.key(key), key, names::config_map_key(key));
            size += value.0.len();
        }
        if size > DATA_MAX {
            errors.too_long(&crate::check::whole(), DATA_MAX);
        }
        errors
    }

    fn validate_update(context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        if old.immutable == Some(true) {
            let changed = [
                ("immutable", new.immutable != Some(true)),
                ("data", new.data != old.data),
                ("binaryData", new.binary_data != old.binary_data),
            ];
            for (key, _) in changed.into_iter().filter(|(_, changed)| *changed) {
                errors.forbidden(&Path::new(key), IMMUTABLE_WHEN_SET);
            }
        }
        errors.append(Self::validate_create(context, new));
        errors
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let keys = object.data.as_ref().map_or(0, |d| d.len())
            + object.binary_data.as_ref().map_or(0, |d| d.len());
        Row::from(vec![
            tree.name().into(),
            keys.into(),
            kind::age(tree, now).into(),
        ])
    }
}
