//! ControllerRevision: what a StatefulSet or a DaemonSet looked like, so that it can look so again.
//!
//! Upstream: `pkg/registry/apps/controllerrevision`, `ValidateControllerRevision*` in `pkg/apis/apps/validation`.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision as Typed;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};
use serde_json::Value;

use crate::check::{self, ErrorListExt};
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope};
use crate::view::Items;

/// The kind `ControllerRevision`.
pub struct ControllerRevision;

impl Kind for ControllerRevision {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "apps",
        "v1",
        "ControllerRevision",
        "controllerrevisions",
        "controllerrevision",
    );
    const SCOPE: Scope = Scope::Namespaced;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text("Controller", "Controller of the object"),
        columns::text(
            "Revision",
            "Revision indicates the revision of the state represented by \
                                   Data.",
        ),
        columns::AGE,
    ];

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        revision(&mut errors, new);
        let at = Path::new("data");
        match &new.data.0 {
            Value::Null => errors.required(&at, "data is mandatory"),
            Value::Object(_) => {}
            _ => errors.required(&at, "data must be a valid JSON object"),
        }
        errors
    }

    fn validate_update(_context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        revision(&mut errors, new);
        if new.data.0 != old.data.0 {
            errors.invalid(&Path::new("data"), new.data.0.clone(), check::IMMUTABLE);
        }
        errors
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let owners = object.metadata.owner_references.items();
        let owner = owners.iter().find(|o| o.controller == Some(true));
        let owner = owner.map(|o| {
            let group = o.api_version.split_once('/').map_or("", |(group, _)| group);
            let dot = if group.is_empty() { "" } else { "." };
            format!("{}{dot}{group}/{}", o.kind.to_lowercase(), o.name)
        });
        Row::from(vec![
            tree.name().into(),
            owner.unwrap_or_else(|| "<none>".to_owned()).into(),
            object.revision.unwrap_or(0).into(),
            kind::age(tree, now).into(),
        ])
    }
}

fn revision(errors: &mut ErrorList, new: &Typed) {
    errors.not_negative(&Path::new("revision"), new.revision.unwrap_or(0));
}
