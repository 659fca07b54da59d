//! CustomResourceDefinition: a kind that a user adds.
//!
//! [`naming`] decides about names and conditions, [`super::custom`] is the kind that comes out of a definition.
//! Upstream: `k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition`, `.../apis/apiextensions/validation`.

pub mod naming;
mod validation;
mod warnings;

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition as Typed, CustomResourceDefinitionSpec,
};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object};
use serde_json::{Value, json};

use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::{Items, fill};

/// Kept on a definition until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The kind `CustomResourceDefinition`.
pub struct CustomResourceDefinition;

impl Kind for CustomResourceDefinition {
    type Object = Typed;
    const NAMES: Names = Names {
        categories: kind::Words::Fixed(&["api-extensions"]),
        ..Names::new(
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
            "customresourcedefinitions",
            "customresourcedefinition",
        )
        .short(&["crd", "crds"])
    };
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text("Scope", "Cluster/Namespaced"),
        columns::text("Versions", "Served versions"),
        columns::CREATED,
        columns::wide("Group", "API group"),
        columns::wide("Kind", "CustomResource kind"),
        columns::wide("ShortNames", "Short names"),
        Column {
            kind: "boolean",
            ..columns::wide("Established", "Established status")
        },
    ];
    const HAS_GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(object: &mut Typed) {
        let stored = storage_version(&object.spec).map(str::to_owned);
        default_spec(&mut object.spec);
        let Some(stored) = stored else { return };
        let status = object.status.get_or_insert_default();
        if status.stored_versions.items().is_empty() {
            status.stored_versions = Some(vec![stored]);
        }
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        new.0.remove("status");
        keep_stored_version(new);
    }

    /// Schemas that are no schemas say nothing.
    fn read(new: &mut Object) {
        let versions = new
            .0
            .get_mut("spec")
            .and_then(|spec| spec.get_mut("versions"));
        let versions = versions.and_then(Value::as_array_mut).into_iter().flatten();
        for version in versions {
            let schema = version
                .get_mut("schema")
                .and_then(|s| s.get_mut("openAPIV3Schema"));
            schema.into_iter().for_each(read_schema);
        }
    }

    fn prepare_update(_context: &Context, part: Part, new: &mut Object, old: &Object) {
        kind::keep_other_part(part, new, old);
        if part == Part::Main {
            keep_stored_version(new);
        }
    }

    fn prepare_delete(context: &Context, new: &mut Object) -> bool {
        if !new.finalizers().any(|f| f == CLEANUP) {
            let metadata = new.metadata_mut();
            let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
            if let Value::Array(finalizers) = finalizers {
                finalizers.push(CLEANUP.into());
            }
        }
        let status = new.object_at_mut(&["status"]);
        naming::set_condition(
            status,
            &naming::Condition {
                kind: "Terminating",
                status: "True",
                reason: "InstanceDeletionPending".to_owned(),
                message:
                    "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
                        .to_owned(),
            },
            context.now,
        );
        true
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        validation::create(new)
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        match part {
            Part::Status => validation::status(new),
            _ => validation::update(new, old),
        }
    }

    fn warnings(new: &Typed) -> Vec<String> {
        warnings::of(&new.spec)
    }

    fn row(object: &Typed, tree: &Object, _now: Timestamp) -> Row {
        let served = object.spec.versions.iter().filter(|v| v.served);
        let mut versions: Vec<String> = served
            .map(|v| format!("{}{}", v.name, if v.storage { "(storage)" } else { "" }))
            .collect();
        versions.sort();
        let status = object.status.as_ref();
        let mut conditions = status.map_or(&[][..], |s| s.conditions.items()).iter();
        let established = conditions.any(|c| c.type_ == "Established" && c.status == "True");
        Row::from(vec![
            tree.name().into(),
            object.spec.scope.as_str().into(),
            versions.join(",").into(),
            columns::created(tree).into(),
            object.spec.group.as_str().into(),
            object.spec.names.kind.as_str().into(),
            object.spec.names.short_names.items().join(",").into(),
            established.into(),
        ])
    }
}

fn default_spec(spec: &mut CustomResourceDefinitionSpec) {
    let names = &mut spec.names;
    fill(&mut names.singular, &names.kind.to_lowercase());
    if !names.kind.is_empty() {
        fill(&mut names.list_kind, &format!("{}List", names.kind));
    }
    let conversion = spec
        .conversion
        .get_or_insert_with(|| CustomResourceConversion {
            strategy: "None".to_owned(),
            webhook: None,
        });
    let client = conversion
        .webhook
        .as_mut()
        .and_then(|w| w.client_config.as_mut());
    if let Some(service) = client.and_then(|c| c.service.as_mut()) {
        service.port.get_or_insert(443);
    }
}

/// The version in which objects are stored.
pub fn storage_version(spec: &CustomResourceDefinitionSpec) -> Option<&str> {
    spec.versions
        .iter()
        .find(|v| v.storage)
        .map(|v| v.name.as_str())
}

/// Notes in the status that objects may be stored in the storage version.
fn keep_stored_version(object: &mut Object) {
    let versions = object.at(&["spec", "versions"]).and_then(Value::as_array);
    let storage = versions
        .into_iter()
        .flatten()
        .find(|v| v["storage"] == true)
        .and_then(|v| v["name"].as_str())
        .map(str::to_owned);
    let Some(storage) = storage else { return };
    let status = object.object_at_mut(&["status"]);
    let stored = status.entry("storedVersions").or_insert_with(|| json!([]));
    if !stored.is_array() {
        *stored = json!([]);
    }
    if let Value::Array(stored) = stored
        && !stored.contains(&Value::from(storage.as_str()))
    {
        stored.push(storage.into());
    }
}

#[cfg(test)]
mod tests;

/// Leaves out what stands where a schema or several should and is neither.
fn read_schema(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else {
        return;
    };
    if fields
        .get("items")
        .is_some_and(|i| !i.is_object() && !i.is_array())
    {
        fields.remove("items");
    }
    let needs = fields
        .get_mut("dependencies")
        .and_then(Value::as_object_mut);
    for need in needs.into_iter().flat_map(|needs| needs.values_mut()) {
        if !need.is_object() && !need.is_array() {
            *need = serde_json::json!({});
        }
    }
    for key in ["properties", "patternProperties", "definitions"] {
        let inner = fields.get_mut(key).and_then(Value::as_object_mut);
        let inner = inner.into_iter().flat_map(|inner| inner.values_mut());
        inner.for_each(read_schema);
    }
    for key in [
        "items",
        "additionalProperties",
        "additionalItems",
        "not",
        "allOf",
        "anyOf",
        "oneOf",
    ] {
        match fields.get_mut(key) {
            Some(Value::Array(list)) => list.iter_mut().for_each(read_schema),
            Some(inner) => read_schema(inner),
            None => {}
        }
    }
}
