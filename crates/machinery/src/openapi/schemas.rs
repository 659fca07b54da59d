//! The schemas of a document: those that its operations name and all below them, in the dialect of its version.

use serde_json::{Map, Value, json};

use super::model::{Content, Operations};
use super::{ServedResource, ServedSubresource, Source};

/// JSON schemas by definition name.
pub type Definitions = Map<String, Value>;

/// Where references of a document point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Swagger: `#/definitions/`.
    V2,
    /// OpenAPI 3: `#/components/schemas/`.
    V3,
}

impl Dialect {
    /// A reference to a definition.
    pub(super) fn reference(self, name: &str) -> Value {
        let place = match self {
            Self::V2 => "definitions",
            Self::V3 => "components/schemas",
        };
        json!({"$ref": format!("#/{place}/{name}")})
    }
}

/// The schemas that these operations need, with the kinds they are of.
pub(super) fn collect(
    operations: &Operations,
    resources: &[ServedResource],
    source: Source<'_>,
    dialect: Dialect,
) -> Definitions {
    let mut names: Vec<&str> = Vec::new();
    for operation in operations.values().flatten() {
        let answers = operation.answers.iter().filter_map(|(_, c)| match c {
            Content::Object(name) => Some(name.as_str()),
            Content::Text | Content::Stream => None,
        });
        names.extend(answers);
        names.extend(operation.body.iter().map(|(name, _)| name.as_str()));
    }
    let mut out = Definitions::new();
    for name in names {
        if !out.contains_key(name) {
            out.extend(source(name).unwrap_or_default());
        }
    }
    for (name, schema) in &mut out {
        translate(name, schema, dialect);
    }
    name_kinds(&mut out, operations, resources);
    out
}

/// Writes `x-kubernetes-group-version-kind` on the definitions of kinds.
fn name_kinds(out: &mut Definitions, operations: &Operations, resources: &[ServedResource]) {
    let mut put = |definition: &str, group: &str, version: &str, kind: &str| {
        let Some(Value::Object(schema)) = out.get_mut(definition) else {
            return;
        };
        let list = schema
            .entry("x-kubernetes-group-version-kind")
            .or_insert_with(|| json!([]));
        let gvk = json!({"group": group, "version": version, "kind": kind});
        if let Value::Array(list) = list
            && !list.contains(&gvk)
        {
            list.push(gvk);
        }
    };
    for r in resources {
        put(&r.definition, &r.group, &r.version, &r.kind);
        let (list, kind) = (format!("{}List", r.definition), format!("{}List", r.kind));
        put(&list, &r.group, &r.version, &kind);
        for s in &r.subresources {
            let ServedSubresource {
                definition,
                group,
                version,
                kind,
                ..
            } = s;
            put(definition, group, version, kind);
        }
    }
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
    let mut versions: Vec<(&str, &str)> = operations
        .values()
        .flatten()
        .filter_map(|o| o.gvk.as_ref())
        .map(|[group, version, _]| (group.as_str(), version.as_str()))
        .collect();
    versions.push(("", "v1"));
    versions.sort_unstable();
    versions.dedup();
    for kind in ["DeleteOptions", "WatchEvent"] {
        for (group, version) in &versions {
            put(&format!("{META}.{kind}"), group, version, kind);
        }
    }
    for kind in [
        "Status",
        "APIResourceList",
        "APIGroup",
        "APIGroupList",
        "APIVersions",
    ] {
        put(&format!("{META}.{kind}"), "", "v1", kind);
    }
}

/// What may be of several types says nothing of them.
const ANYTHING: [&str; 4] = [
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
];

/// From the JSON schema of the source to the dialect of the document.
fn translate(name: &str, schema: &mut Value, dialect: Dialect) {
    let Value::Object(map) = schema else {
        return;
    };
    if ANYTHING.contains(&name) {
        map.retain(|key, _| key == "description");
    }
    if map.remove("x-kubernetes-int-or-string").is_some() {
        let quantity = name.ends_with(".Quantity");
        match (dialect, quantity) {
            (Dialect::V2, _) => {
                map.insert("type".into(), "string".into());
            }
            (Dialect::V3, true) => {
                map.insert(
                    "oneOf".into(),
                    json!([{"type": "string"}, {"type": "number"}]),
                );
            }
            (Dialect::V3, false) => {
                map.insert(
                    "oneOf".into(),
                    json!([{"type": "integer"}, {"type": "string"}]),
                );
            }
        }
        if !quantity {
            map.insert("format".into(), "int-or-string".into());
        }
    }
    if dialect == Dialect::V2 {
        map.remove("default");
    }
    for key in ["properties", "patternProperties"] {
        if let Some(Value::Object(fields)) = map.get_mut(key) {
            fields.values_mut().for_each(|s| translate("", s, dialect));
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(key) {
            translate("", inner, dialect);
        }
    }
    let target = map
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|r| r.rsplit('/').next())
        .map(str::to_owned);
    if let Some(target) = target {
        map.remove("$ref");
        let reference = dialect.reference(&target);
        if dialect == Dialect::V3 && !map.is_empty() {
            map.insert("allOf".into(), json!([reference]));
        } else if let Value::Object(reference) = reference {
            map.extend(reference);
        }
    }
}
