//! StorageClass: who provisions volumes for the claims that name it, and how.
//!
//! Upstream: `pkg/registry/storage/storageclass`, `pkg/apis/storage/validation`, `printStorageClass`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::TopologySelectorTerm;
use k8s_openapi::api::storage::v1::StorageClass as Typed;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};

use crate::check::{self, ErrorListExt};
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope};
use crate::view::{Items, OrEmpty, fill_with};
use crate::warn;

/// The annotation that makes a class the one for claims that name none.
pub const DEFAULT_ANNOTATION: &str = "storageclass.kubernetes.io/is-default-class";
/// Its name of old, which still counts.
pub const DEFAULT_ANNOTATION_BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";

/// The kind `StorageClass`.
pub struct StorageClass;

impl Kind for StorageClass {
    type Object = Typed;
    const NAMES: Names = Names::new(
        super::GROUP,
        "v1",
        "StorageClass",
        "storageclasses",
        "storageclass",
    )
    .short(&["sc"]);
    const SCOPE: Scope = Scope::Cluster;
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "Provisioner",
            "provisioner indicates the type of the provisioner.",
        ),
        columns::text(
            "ReclaimPolicy",
            "reclaimPolicy controls the reclaimPolicy for dynamically provisioned PersistentVolumes of this storage \
             class. Defaults to Delete.",
        ),
        columns::text(
            "VolumeBindingMode",
            "volumeBindingMode indicates how PersistentVolumeClaims should be provisioned and bound.  When unset, \
             VolumeBindingImmediate is used. This field is only honored by servers that enable the VolumeScheduling \
             feature.",
        ),
        columns::text(
            "AllowVolumeExpansion",
            "allowVolumeExpansion shows whether the storage class allow volume expand.",
        ),
        columns::AGE,
    ];

    fn default(object: &mut Typed) {
        fill_with(&mut object.reclaim_policy, "Delete".to_owned());
        fill_with(&mut object.volume_binding_mode, "Immediate".to_owned());
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        super::provisioner(&mut errors, &Path::new("provisioner"), &new.provisioner);
        let path = Path::new("parameters");
        super::parameters(&mut errors, &path, new.parameters.as_ref(), true);
        let policy = new.reclaim_policy.text();
        if !policy.is_empty() {
            errors.one_of(&Path::new("reclaimPolicy"), policy, &["Delete", "Retain"]);
        }
        let at = Path::new("volumeBindingMode");
        match &new.volume_binding_mode {
            None => errors.required(&at, ""),
            Some(mode) => errors.one_of(&at, mode, &["Immediate", "WaitForFirstConsumer"]),
        }
        topologies(&mut errors, new.allowed_topologies.items());
        errors
    }

    fn validate_update(context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = Self::validate_create(context, new);
        let at = |name| Path::new(name);
        errors.immutable(&at("parameters"), &new.parameters, &old.parameters);
        errors.fixed(&at("provisioner"), &new.provisioner, &old.provisioner);
        errors.fixed(
            &at("reclaimPolicy"),
            &new.reclaim_policy,
            &old.reclaim_policy,
        );
        let mode = at("volumeBindingMode");
        errors.fixed(&mode, &new.volume_binding_mode, &old.volume_binding_mode);
        errors
    }

    fn warnings(new: &Typed) -> Vec<String> {
        let mut warnings = Vec::new();
        for (i, term) in new.allowed_topologies.items().iter().enumerate() {
            let path = Path::new("allowedTopologies").index(i);
            let expressions = term.match_label_expressions.items();
            for (j, expression) in expressions.iter().enumerate() {
                if let Some(text) = warn::node_label(&expression.key) {
                    let path = path.child("matchLabelExpressions").index(j).child("key");
                    warnings.push(format!("{path}: {text}"));
                }
            }
        }
        warnings
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        Row::from(vec![
            tree.name().into(),
            object.provisioner.as_str().into(),
            object.reclaim_policy.as_deref().unwrap_or("Delete").into(),
            object
                .volume_binding_mode
                .as_deref()
                .unwrap_or("Immediate")
                .into(),
            object.allow_volume_expansion.unwrap_or(false).into(),
            kind::age(tree, now).into(),
        ])
    }

    fn mark_rows(objects: &[Object], rows: &mut [Row]) {
        let Some(chosen) = default_class(objects) else {
            return;
        };
        for (object, row) in objects.iter().zip(rows) {
            if object.name() == chosen.name()
                && let Some(cell) = row.cells.first_mut()
            {
                *cell = format!("{} (default)", object.name()).into();
            }
        }
    }
}

/// Whether a class says that it is the default.
pub fn is_default(class: &Object) -> bool {
    class.annotations().any(|(key, value)| {
        matches!(key, DEFAULT_ANNOTATION | DEFAULT_ANNOTATION_BETA) && value == "true"
    })
}

/// The class that a claim without one gets: the newest of those that say so, of the same age the first by name.
pub fn default_class<'a>(classes: impl IntoIterator<Item = &'a Object>) -> Option<&'a Object> {
    let created = |class: &Object| class.meta_str("creationTimestamp").to_owned();
    let defaults = classes.into_iter().filter(|class| is_default(class));
    defaults.reduce(|best, class| {
        let newer = created(class) > created(best);
        let earlier = created(class) == created(best) && class.name() < best.name();
        if newer || earlier { class } else { best }
    })
}

fn topologies(errors: &mut ErrorList, terms: &[TopologySelectorTerm]) {
    let mut seen: Vec<BTreeMap<&str, BTreeSet<&str>>> = Vec::new();
    for (i, term) in terms.iter().enumerate() {
        let path = Path::new("allowedTopologies").index(i);
        let at = path.child("matchLabelExpressions");
        let mut raw: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (j, expression) in term.match_label_expressions.items().iter().enumerate() {
            let at = at.index(j);
            if expression.values.is_empty() {
                errors.required(&at.child("values"), "");
            }
            let mut values = BTreeSet::new();
            for (k, value) in expression.values.iter().enumerate() {
                if !values.insert(value.as_str()) {
                    errors.duplicate(&at.child("values").index(k), value.as_str());
                }
            }
            check::label_name(errors, &at.child("key"), &expression.key);
            if raw.insert(&expression.key, values).is_some() {
                errors.duplicate(&at.child("key"), expression.key.as_str());
            }
        }
        // An empty term equals the blank ones that upstream compares with.
        let blank = raw.is_empty();
        let repeats = seen.iter().filter(|other| **other == raw).count();
        let repeats = repeats + if blank { terms.len() } else { 0 };
        for _ in 0..repeats {
            errors.duplicate(&at, "");
        }
        seen.push(raw);
    }
}
