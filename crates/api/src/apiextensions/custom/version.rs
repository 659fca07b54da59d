//! One version of a definition, ready for use.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionVersion;
use machinery::jsonpath::JsonPath;
use machinery::schema::Schema;
use machinery::structural::Structural;
use serde_json::{Value, json};

use super::Lazy;
use super::columns::Column;
use crate::check;
use crate::kind::ScalePaths;
use crate::view::{Items, OrEmpty, Yes};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// One version of a definition.
#[derive(Debug)]
pub struct Version {
    /// For example `v1beta1`.
    pub name: Box<str>,
    /// Whether it is served.
    pub served: bool,
    /// The warning for whoever uses it.
    pub(super) deprecation: Option<Option<Box<str>>>,
    pub(super) has_status: bool,
    pub(super) scale: Option<ScalePaths>,
    pub(super) columns: Vec<Column>,
    pub(super) selectable: Box<[Box<str>]>,
    pub(super) selectable_paths: Box<[JsonPath]>,
    /// The schema as text: a tree takes several times as much.
    schema_text: Box<str>,
    structural: Lazy<Structural>,
    merge: Lazy<Schema>,
}

/// `.spec.replicas` in parts.
fn parts(path: &str) -> Vec<Box<str>> {
    let path = path.strip_prefix('.').unwrap_or(path);
    match path {
        "" => Vec::new(),
        path => path.split('.').map(Box::from).collect(),
    }
}

impl Version {
    pub(super) fn read(version: &CustomResourceDefinitionVersion) -> Self {
        let schema = version
            .schema
            .as_ref()
            .and_then(|s| s.open_api_v3_schema.as_ref());
        let subresources = version.subresources.as_ref();
        let scale = subresources
            .and_then(|s| s.scale.as_ref())
            .map(|s| ScalePaths {
                spec_replicas: parts(&s.spec_replicas_path),
                status_replicas: parts(&s.status_replicas_path),
                selector: parts(s.label_selector_path.text()),
            });
        let fields = version.selectable_fields.items();
        let fields = fields.iter().map(|f| f.json_path.as_str());
        let warning = version.deprecation_warning.as_deref().map(Box::from);
        Self {
            name: version.name.as_str().into(),
            served: version.served,
            deprecation: version.deprecated.yes().then_some(warning),
            has_status: subresources.is_some_and(|s| s.status.is_some()),
            scale,
            columns: Column::read(version.additional_printer_columns.items()),
            selectable: fields
                .clone()
                .map(|f| f.strip_prefix('.').unwrap_or(f).into())
                .collect(),
            selectable_paths: fields
                .map(|f| JsonPath::parse(f).unwrap_or_default())
                .collect(),
            schema_text: check::json(&schema).to_string().into(),
            structural: Lazy::new(),
            merge: Lazy::new(),
        }
    }

    /// The schema as it was given; null when there is none.
    pub fn schema_json(&self) -> Value {
        serde_json::from_str(&self.schema_text).unwrap_or_default()
    }

    /// The schema, compiled.
    pub(super) fn structural(&self) -> &Structural {
        self.structural.get_or_init(|| {
            let mut schema = Structural::read(&self.schema_json());
            schema.add_meta(true);
            Box::new(schema)
        })
    }

    /// The schema for those who merge; `name` is that of the definition.
    pub(super) fn merge_schema(&self, name: &str) -> Schema {
        let made = self.merge.get_or_init(|| {
            let mut json = self.schema_json();
            add_meta(&mut json, true);
            forget_unset(&mut json);
            // What the schema refers to must be there.
            crate::schema::object_meta();
            Box::new(crate::schema::registry().read(name, &json))
        });
        (**made).clone()
    }
}

/// Removes what makes a schema tell how a field looks that is not set: those of built-in kinds are written out
/// then, as the fields of structs are; those of custom kinds are not there.
fn forget_unset(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    map.remove("required");
    if map.get("default").is_some_and(Value::is_object) {
        map.remove("default");
    }
    for key in ["items", "additionalProperties"] {
        map.get_mut(key).into_iter().for_each(forget_unset);
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(forget_unset);
    }
}

/// Gives objects (the root and those embedded) the fields that every object has.
pub(super) fn add_meta(schema: &mut Value, root: bool) {
    let Value::Object(map) = schema else { return };
    for key in ["items", "additionalProperties"] {
        map.get_mut(key)
            .into_iter()
            .for_each(|s| add_meta(s, false));
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(|s| add_meta(s, false));
    }
    if !root && map.get("x-kubernetes-embedded-resource") != Some(&Value::Bool(true)) {
        return;
    }
    let properties = map.entry("properties").or_insert_with(|| json!({}));
    if let Value::Object(properties) = properties {
        for key in ["apiVersion", "kind"] {
            let text = json!({"type": "string"});
            properties.entry(key).or_insert(text);
        }
        let metadata = json!({"$ref": format!("#/definitions/{OBJECT_META}")});
        properties.insert("metadata".to_owned(), metadata);
    }
}
