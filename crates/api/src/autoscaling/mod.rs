//! The group `autoscaling`.

pub mod horizontalpodautoscaler;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v1::Scale as TypedScale;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};

use crate::check::ErrorListExt;
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Verb};

/// The kind `Scale`: how many replicas something has, whatever kind it is of. It is seen through the sub-resource `scale`.
pub struct Scale;

impl Kind for Scale {
    type Object = TypedScale;
    const NAMES: Names = Names::new("autoscaling", "v1", "Scale", "scales", "scale");
    const SCOPE: Scope = Scope::Namespaced;
    const VERBS: &'static [Verb] = &[Verb::Get, Verb::Patch, Verb::Update];
    const COLUMNS: &'static [Column] = &[
        Column {
            format: "",
            ..columns::NAME
        },
        columns::integer("Desired", "The wanted number of replicas."),
        columns::integer("Available", "The observed number of replicas."),
        columns::AGE,
    ];

    fn validate_create(_context: &Context, new: &TypedScale) -> ErrorList {
        let mut errors = ErrorList::new();
        let replicas = new.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
        errors.not_negative(&Path::new("spec").child("replicas"), i64::from(replicas));
        errors
    }

    fn validate_update(
        context: &Context,
        _part: Part,
        new: &TypedScale,
        _old: &TypedScale,
    ) -> ErrorList {
        Self::validate_create(context, new)
    }

    fn row(object: &TypedScale, tree: &Object, now: Timestamp) -> Row {
        Row::from(vec![
            tree.name().into(),
            object
                .spec
                .as_ref()
                .and_then(|s| s.replicas)
                .unwrap_or(0)
                .into(),
            object.status.as_ref().map_or(0, |s| s.replicas).into(),
            kind::age(tree, now).into(),
        ])
    }
}
