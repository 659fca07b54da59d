//! What a definition's author should know.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinitionSpec, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use machinery::structural::is_known_format;

use super::validation::each_schema;
use crate::view::OrEmpty;

/// The warnings for whoever writes a definition.
pub(super) fn of(spec: &CustomResourceDefinitionSpec) -> Vec<String> {
    let mut formats = Vec::new();
    let mut sets = Vec::new();
    for version in &spec.versions {
        let schema = version
            .schema
            .as_ref()
            .and_then(|s| s.open_api_v3_schema.as_ref());
        let Some(schema) = schema else { continue };
        each_schema(schema, &mut |schema: &JSONSchemaProps| {
            let format = schema.format.text();
            if !format.is_empty() && !is_known_format(schema.type_.text(), format) {
                formats.push(format!("unrecognized format {format:?}"));
            }
            let items = match &schema.items {
                Some(JSONSchemaPropsOrArray::Schema(items)) => items.type_.text(),
                _ => "",
            };
            let is_set = schema.x_kubernetes_list_type.text() == "set";
            if is_set && matches!(items, "object" | "array") {
                sets.push(format!(
                    "x-kubernetes-list-type: set for items of type {items:?} is not supported by server-side apply or \
                     CEL validation rules"
                ));
            }
        });
    }
    sets.sort();
    sets.dedup();
    formats.dedup();
    formats.extend(sets);
    formats
}
