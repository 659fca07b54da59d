//! ComponentStatus: whether the other parts of the control plane are well. Asked, never kept, and deprecated upstream.
//!
//! Upstream: `pkg/registry/core/componentstatus`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ComponentStatus as Typed;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object};

use crate::columns;
use crate::kind::{Context, Kind, Names, Part, Scope, Verb};
use crate::view::{Items, OrEmpty};

/// The kind `ComponentStatus`.
pub struct ComponentStatus;

impl Kind for ComponentStatus {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "",
        "v1",
        "ComponentStatus",
        "componentstatuses",
        "componentstatus",
    )
    .short(&["cs"]);
    const SCOPE: Scope = Scope::Cluster;
    const VERBS: &'static [Verb] = Verb::READ_ONLY;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text("Status", "Status of the component conditions"),
        columns::text("Message", "Message of the component conditions"),
        columns::text("Error", "Error of the component conditions"),
    ];
    const DEPRECATION: Option<&'static str> = Some("v1 ComponentStatus is deprecated in v1.19+");

    // Nobody writes one.
    fn validate_create(_context: &Context, _new: &Typed) -> ErrorList {
        ErrorList::new()
    }

    fn validate_update(_context: &Context, _part: Part, _new: &Typed, _old: &Typed) -> ErrorList {
        ErrorList::new()
    }

    fn row(object: &Typed, tree: &Object, _now: Timestamp) -> Row {
        let conditions = object.conditions.items();
        let healthy = conditions.iter().find(|c| c.type_ == "Healthy");
        let status = match healthy.map(|c| c.status.as_str()) {
            None => "Unknown",
            Some("True") => "Healthy",
            Some(_) => "Unhealthy",
        };
        let text = |field: Option<&Option<String>>| field.map_or("", |t| t.text()).to_owned();
        Row::from(vec![
            tree.name().into(),
            status.into(),
            text(healthy.map(|c| &c.message)).into(),
            text(healthy.map(|c| &c.error)).into(),
        ])
    }
}
