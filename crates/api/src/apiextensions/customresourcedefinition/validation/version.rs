//! The parts of a version beside its schema.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinitionVersion, CustomResourceSubresources,
};
use machinery::structural::{Structural, Type};
use machinery::{ErrorList, Path};

use crate::check::json;
use crate::view::{Items, OrEmpty, Yes};

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];
const MAX_SELECTABLE_FIELDS: usize = 8;

pub(super) fn deprecation(
    errors: &mut ErrorList,
    at: &Path,
    version: &CustomResourceDefinitionVersion,
) {
    let Some(warning) = version.deprecation_warning.as_deref() else {
        return;
    };
    if !version.deprecated.yes() {
        return errors.invalid(at, warning, "can only be set for deprecated versions");
    }
    if warning.len() > 256 {
        errors.invalid(at, warning, "must be <= 256 characters long");
    }
    if warning.is_empty() {
        errors.invalid(at, warning, "must not be an empty string");
    }
    if let Some((i, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        let why = format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {i}"
        );
        errors.invalid(at, warning, why);
    }
}

pub(super) fn subresources(
    errors: &mut ErrorList,
    at: &Path,
    subresources: Option<&CustomResourceSubresources>,
) {
    let Some(scale) = subresources.and_then(|s| s.scale.as_ref()) else {
        return;
    };
    let paths = [
        (
            "specReplicasPath",
            scale.spec_replicas_path.as_str(),
            &[".spec."][..],
            ".spec",
        ),
        (
            "statusReplicasPath",
            &scale.status_replicas_path,
            &[".status."],
            ".status",
        ),
    ];
    for (field, path, below, shown) in paths {
        let at = at.child(&format!("scale.{field}"));
        if path.is_empty() {
            errors.required(&at, "");
        } else {
            simple_path(errors, &at, path, below, shown);
        }
    }
    let selector = scale.label_selector_path.text();
    if !selector.is_empty() {
        let at = at.child("scale.labelSelectorPath");
        let shown = "either .spec or .status";
        simple_path(errors, &at, selector, &[".spec.", ".status."], shown);
    }
}

fn simple_path(errors: &mut ErrorList, at: &Path, path: &str, below: &[&str], shown: &str) {
    if !path.starts_with('.') {
        errors.invalid(at, path, "must be a simple json path starting with .");
    } else if !below.iter().any(|prefix| path.starts_with(prefix)) {
        errors.invalid(at, path, format!("should be a json path under {shown}"));
    }
}

pub(super) fn columns(
    errors: &mut ErrorList,
    at: &Path,
    columns: &[CustomResourceColumnDefinition],
) {
    for (i, column) in columns.iter().enumerate() {
        let at = at.index(i);
        if column.name.is_empty() {
            errors.required(&at.child("name"), "");
        }
        let types = format!("must be one of {}", COLUMN_TYPES.join(","));
        match column.type_.as_str() {
            "" => errors.required(&at.child("type"), types),
            own if !COLUMN_TYPES.contains(&own) => errors.invalid(&at.child("type"), own, types),
            _ => {}
        }
        let format = column.format.text();
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            let why = format!("must be one of {}", COLUMN_FORMATS.join(","));
            errors.invalid(&at.child("format"), format, why);
        }
        let at = at.child("JSONPath");
        match column.json_path.as_str() {
            "" => errors.required(&at, ""),
            path => simple_path(errors, &at, path, &["."], ""),
        }
    }
}

pub(super) fn selectable_fields(
    errors: &mut ErrorList,
    at: &Path,
    version: &CustomResourceDefinitionVersion,
) {
    let fields = version.selectable_fields.items();
    if fields.is_empty() {
        return;
    }
    let schema = version
        .schema
        .as_ref()
        .and_then(|s| s.open_api_v3_schema.as_ref());
    let schema = Structural::read(&json(&schema));
    let mut seen = BTreeSet::new();
    for (i, field) in fields.iter().enumerate() {
        let at = at.index(i).child("jsonPath");
        let path = field.json_path.as_str();
        if path.is_empty() {
            errors.required(&at, "");
            continue;
        }
        let found = match field_schema(&schema, path) {
            Ok(found) => found,
            Err(why) => {
                errors.invalid(&at, path, format!("is an invalid path: {why}"));
                continue;
            }
        };
        if path == ".metadata" || path.starts_with(".metadata.") {
            errors.invalid(&at, path, "must not point to fields in metadata");
        }
        if !matches!(found.kind, Type::String | Type::Boolean | Type::Integer) {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                formats are allowed.";
            errors.invalid(&at, path, why);
        }
        if !seen.insert(path) {
            errors.duplicate(&at, path);
        }
    }
    if seen.len() > MAX_SELECTABLE_FIELDS {
        errors.too_many(at, seen.len(), MAX_SELECTABLE_FIELDS);
    }
}

/// The schema at a path of plain field names: `.spec.color`, `.spec['a.b']`.
pub(super) fn field_schema<'a>(
    schema: &'a Structural,
    path: &str,
) -> Result<&'a Structural, String> {
    let mut rest = path;
    let mut schema = schema;
    while !rest.is_empty() {
        let name: &str;
        if let Some(after) = rest.strip_prefix("['") {
            let end = after.find("']").ok_or("unexpected end of JSON path")?;
            name = &after[..end];
            rest = &after[end + 2..];
        } else if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            name = &after[..end];
            rest = &after[end..];
        } else {
            return Err(format!(
                "expected [ or . but got: {}",
                &rest[..rest.len().min(20)]
            ));
        }
        schema = schema
            .child(name)
            .ok_or_else(|| format!("does not refer to a valid field: {name}"))?;
    }
    Ok(schema)
}
