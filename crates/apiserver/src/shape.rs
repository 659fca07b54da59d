//! Objects in the shape a client asked for: as they are, as a table, or their metadata alone.

use api::AnyKind;
use jiff::Timestamp;
use machinery::table::Row;
use machinery::{ApiError, Object};
use serde_json::{Map, Value, json};

use crate::cache::Wire;
use crate::call::Call;
use crate::negotiate::{Form, Media, Shape};
use crate::protobuf;
use crate::request::Query;
use crate::resource::Resource;

/// What a row of a table carries of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IncludeObject {
    None,
    Metadata,
    Object,
}

impl IncludeObject {
    pub(crate) fn parse(query: &Query) -> Result<Self, ApiError> {
        match query.text("includeObject") {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(ApiError::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', \
                 'Object', 'None', or empty"
            ))),
        }
    }
}

/// How objects are shown to one client.
#[derive(Clone)]
pub(crate) struct Shaper {
    pub(crate) resource: Resource,
    pub(crate) form: Form,
    include: IncludeObject,
    wire: Option<Wire>,
    now: Timestamp,
}

fn wire_of(form: &Form, resource: &Resource) -> Option<Wire> {
    if form.shape != Shape::Object || resource.is_converted() {
        return None;
    }
    let names = resource.names();
    match form.media {
        Media::Json if form.pretty => None,
        Media::Json => Some(Wire::Json),
        Media::Protobuf => {
            protobuf::message_of(&names.api_version(), names.kind).map(Wire::Protobuf)
        }
        Media::Cbor => Some(Wire::Cbor),
        Media::Yaml => None,
    }
}

/// Metadata of a list of what is one, or of one of what is a list.
fn not_in_number(resource: &Resource, is_list: bool) -> ApiError {
    let names = resource.names();
    let package = match names.group.split('.').next() {
        None | Some("" | "events") => "core",
        Some(first) => first,
    };
    let (asked, is) = match is_list {
        true => ("PartialObjectMetadata", "a list"),
        false => ("PartialObjectMetadataList", "not a list"),
    };
    let kind = match (resource.kind.may_be_outdated(), is_list) {
        (true, true) => "unstructured.UnstructuredList".to_owned(),
        (true, false) => "unstructured.Unstructured".to_owned(),
        (false, true) => format!("{package}.{}", names.list_kind()),
        (false, false) => format!("{package}.{}", names.kind),
    };
    ApiError::new(
        406,
        "NotAcceptable",
        format!("you requested {asked}, but the requested object is {is} (*{kind})"),
    )
}

impl Shaper {
    /// The shape that a request asks for.
    ///
    /// # Errors
    /// 406, or 400 for a bad option.
    pub(crate) fn of(call: &Call, resource: &Resource) -> Result<Self, ApiError> {
        let custom = resource.kind.may_be_outdated();
        let form = match call.info.verb {
            "watch" => Form::negotiate_watch(&call.headers, &call.query, custom)?,
            _ => Form::negotiate(&call.headers, &call.query, custom)?,
        };
        let include = match form.shape {
            Shape::Table(_) => IncludeObject::parse(&call.query)?,
            _ => IncludeObject::Metadata,
        };
        Ok(Self {
            resource: resource.clone(),
            wire: wire_of(&form, resource),
            form,
            include,
            now: call.now,
        })
    }

    /// Refuses metadata of a list where one object is to be shown, and the other way round.
    ///
    /// # Errors
    /// 406.
    pub(crate) fn check_number(&self, is_list: bool) -> Result<(), ApiError> {
        let is_partial = matches!(self.form.shape, Shape::Partial(_));
        match is_partial && is_list != self.form.is_list_of_metadata {
            true => Err(not_in_number(&self.resource, is_list)),
            false => Ok(()),
        }
    }

    /// Whether the stored bytes can be sent as they are.
    pub(crate) fn is_plain(&self) -> bool {
        self.wire == Some(Wire::Json)
    }

    /// The encoding, where it needs nothing but the stored object.
    pub(crate) fn wire(&self) -> Option<Wire> {
        self.wire
    }

    /// Whether the objects in a list carry `apiVersion` and `kind`: those of custom kinds do.
    pub(crate) fn types_items(&self) -> bool {
        self.resource.kind.may_be_outdated()
    }

    fn kind(&self) -> &dyn AnyKind {
        &*self.resource.kind
    }

    /// One object, as the resource shows it, in shape.
    pub(crate) fn one(&self, object: Object) -> Value {
        match &self.form.shape {
            Shape::Object => object.into_value(),
            Shape::Partial(version) => partial(&object, version),
            Shape::Table(version) => {
                let metadata = match object.resource_version() {
                    "" => json!({}),
                    version => json!({"resourceVersion": version}),
                };
                let rows = self.rows(std::slice::from_ref(&object));
                self.table(version, metadata, vec![object], rows, true)
            }
        }
    }

    /// One object of a watch; tables define their columns in the first event only.
    pub(crate) fn event(&self, object: Object, first: bool) -> Value {
        match &self.form.shape {
            Shape::Table(version) => {
                let metadata = json!({"resourceVersion": object.resource_version()});
                let rows = self.rows(std::slice::from_ref(&object));
                self.table(version, metadata, vec![object], rows, first)
            }
            _ => self.one(object),
        }
    }

    /// A list of objects, as the resource shows them, in shape.
    pub(crate) fn list(&self, metadata: Value, objects: Vec<Object>) -> Value {
        match &self.form.shape {
            Shape::Table(version) => {
                let mut rows = self.rows(&objects);
                self.kind().mark_rows(&objects, &mut rows);
                self.table(version, metadata, objects, rows, true)
            }
            Shape::Partial(version) => {
                let items: Vec<Value> = objects.iter().map(|o| partial(o, version)).collect();
                // Upstream makes no list for nothing.
                let items = (!items.is_empty()).then_some(items);
                json!({
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": format!("meta.k8s.io/{version}"),
                    "metadata": metadata, "items": items,
                })
            }
            Shape::Object => {
                let names = self.kind().names();
                let items = objects.into_iter().map(|mut object| {
                    if !self.types_items() {
                        object.0.remove("kind");
                        object.0.remove("apiVersion");
                    }
                    object.into_value()
                });
                json!({
                    "kind": names.list_kind(), "apiVersion": names.api_version(),
                    "metadata": metadata, "items": items.collect::<Vec<_>>(),
                })
            }
        }
    }

    fn table(
        &self,
        version: &str,
        metadata: Value,
        objects: Vec<Object>,
        rows: Vec<Row>,
        with_columns: bool,
    ) -> Value {
        let kind = self.kind();
        let columns = match with_columns {
            true => kind
                .columns()
                .iter()
                .map(machinery::table::ColumnOf::definition)
                .collect(),
            false => Value::Null,
        };
        let rows = objects.into_iter().zip(rows);
        let rows: Vec<Value> = rows.map(|(o, row)| self.row(version, o, row)).collect();
        // Kinds with a date of making come from upstream's general table, which has no list where it has no row.
        let is_general = kind.columns().iter().any(|column| column.kind == "date");
        let rows = match rows.is_empty() && is_general {
            true => Value::Null,
            false => rows.into(),
        };
        json!({
            "kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata,
            "columnDefinitions": columns, "rows": rows,
        })
    }

    fn rows(&self, objects: &[Object]) -> Vec<Row> {
        let row = |object: &Object| self.kind().row(object, self.now);
        objects.iter().map(row).collect()
    }

    fn row(&self, version: &str, object: Object, cells: Row) -> Value {
        let mut row = Map::new();
        row.insert("cells".into(), cells.cells.into());
        if !cells.conditions.is_empty() {
            row.insert("conditions".into(), cells.conditions.into());
        }
        let shown = match self.include {
            IncludeObject::None => Value::Null,
            IncludeObject::Metadata => partial(&object, version),
            IncludeObject::Object => object.into_value(),
        };
        row.insert("object".into(), shown);
        Value::Object(row)
    }
}

/// An object's metadata as an object of its own.
fn partial(object: &Object, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": object.0.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}
