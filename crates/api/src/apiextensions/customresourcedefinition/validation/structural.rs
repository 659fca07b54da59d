//! A schema must be structural: types stand outside of logical junctors, which only check values.
//!
//! Behaviour: `.../apiserver/schema/{validation.go,defaulting/validation.go}`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinitionVersion, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use machinery::re2;
use machinery::structural::{META_FIELDS, Structural, prune, validate as validate_value};
use machinery::{ErrorList, Path};

use crate::check::json;
use crate::view::{Items, OrEmpty, Yes};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Everything that keeps a schema from being structural.
pub(super) fn validate(errors: &mut ErrorList, at: &Path, schema: &JSONSchemaProps) {
    let mut found = ErrorList::new();
    invariants(&mut found, at, schema, Level::Root);
    junctors(&mut found, at, schema, schema, at);
    found.0.sort_by_key(ToString::to_string);
    errors.append(found);
}

fn items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items),
        _ => None,
    }
}

fn invariants(errors: &mut ErrorList, at: &Path, schema: &JSONSchemaProps, level: Level) {
    let kind = schema.type_.text();
    let embedded = schema.x_kubernetes_embedded_resource.yes();
    let preserves = schema.x_kubernetes_preserve_unknown_fields.yes();
    if kind == "array" && schema.items.is_none() {
        errors.required(&at.child("items"), "must be specified");
    }
    if let Some(items) = items(schema) {
        invariants(errors, &at.child("items"), items, Level::Item);
    }
    for (name, property) in schema.properties.iter().flatten() {
        let at = at.child("properties").key(name);
        invariants(errors, &at, property, Level::Field);
    }
    if let Some(more) = &schema.additional_properties {
        let at = at.child("additionalProperties");
        if level == Level::Root {
            errors.forbidden(&at, "must not be used at the root");
        }
        if embedded {
            let why = "must not be used if x-kubernetes-embedded-resource is set";
            errors.forbidden(&at, why);
        }
        if let JSONSchemaPropsOrBool::Schema(more) = more {
            invariants(errors, &at, more, Level::Field);
        }
    }
    extensions(errors, at, schema);
    let is_int_or_string = |any_of: &Option<Vec<JSONSchemaProps>>| {
        let only = |schema: &JSONSchemaProps, kind: &str| {
            let wanted = JSONSchemaProps {
                type_: Some(kind.to_owned()),
                ..JSONSchemaProps::default()
            };
            *schema == wanted
        };
        matches!(any_of.items(), [a, b] if only(a, "integer") && only(b, "string"))
    };
    let skip_first = schema
        .all_of
        .items()
        .first()
        .is_some_and(|s| is_int_or_string(&s.any_of));
    value_checks(
        errors,
        at,
        schema,
        is_int_or_string(&schema.any_of),
        skip_first,
    );
    types(errors, at, schema, level);
    let is_resource = level == Level::Root || embedded;
    for (name, property) in schema.properties.iter().flatten().filter(|_| is_resource) {
        let at = at.child("properties").key(name);
        let given = property.type_.text();
        if matches!(name.as_str(), "kind" | "apiVersion") && given != "string" {
            errors.invalid(&at.child("type"), given, "must be string");
        }
        if name == "metadata" {
            metadata(errors, &at, property, level);
        }
    }
    let bare = schema.properties.as_ref().is_none_or(|p| p.is_empty());
    if embedded && !preserves && bare {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.required(&at.child("properties"), why);
    }
}

fn types(errors: &mut ErrorList, at: &Path, schema: &JSONSchemaProps, level: Level) {
    let kind = schema.type_.text();
    let at = at.child("type");
    let free = schema.x_kubernetes_int_or_string.yes()
        || schema.x_kubernetes_preserve_unknown_fields.yes();
    if schema.x_kubernetes_embedded_resource.yes() && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        match kind {
            "" => errors.required(&at, why),
            kind => errors.invalid(&at, kind, why),
        }
    } else if kind.is_empty() && !free {
        errors.required(
            &at,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        );
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.invalid(&at, kind, "must be object at the root");
    }
}

fn extensions(errors: &mut ErrorList, at: &Path, schema: &JSONSchemaProps) {
    if !schema.x_kubernetes_int_or_string.yes() {
        return;
    }
    let why = "must be false if x-kubernetes-int-or-string is true";
    let others = [
        (
            "x-kubernetes-preserve-unknown-fields",
            schema.x_kubernetes_preserve_unknown_fields.yes(),
        ),
        (
            "x-kubernetes-embedded-resource",
            schema.x_kubernetes_embedded_resource.yes(),
        ),
    ];
    for (name, _) in others.into_iter().filter(|(_, set)| *set) {
        errors.invalid(&at.child(name), true, why);
    }
}

/// The metadata of an object has its type already; a schema may restrict names only.
fn metadata(errors: &mut ErrorList, at: &Path, schema: &JSONSchemaProps, level: Level) {
    if schema.type_.text() != "object" {
        errors.invalid(&at.child("type"), schema.type_.text(), "must be object");
    }
    if level != Level::Root {
        return;
    }
    let mut rest = schema.clone();
    let only_names = rest
        .properties
        .iter()
        .flatten()
        .all(|(name, _)| matches!(name.as_str(), "name" | "generateName"));
    if only_names {
        rest.properties = None;
    }
    (rest.type_, rest.default) = (None, None);
    if rest != JSONSchemaProps::default() {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.forbidden(at, why);
    }
}

/// The value checks of a node; those of `x-kubernetes-int-or-string` may name types.
fn value_checks(
    errors: &mut ErrorList,
    at: &Path,
    schema: &JSONSchemaProps,
    skip_any_of: bool,
    skip_first_all_of: bool,
) {
    if !skip_any_of {
        for (i, inner) in schema.any_of.items().iter().enumerate() {
            nested(errors, &at.child("anyOf").index(i), inner, false);
        }
    }
    for (i, inner) in schema.all_of.items().iter().enumerate() {
        let skip = skip_first_all_of && i == 0;
        nested(errors, &at.child("allOf").index(i), inner, skip);
    }
    for (i, inner) in schema.one_of.items().iter().enumerate() {
        nested(errors, &at.child("oneOf").index(i), inner, false);
    }
    if let Some(not) = &schema.not {
        nested(errors, &at.child("not"), not, false);
    }
    let pattern = schema.pattern.text();
    if !pattern.is_empty()
        && let Err(error) = re2::compile(pattern)
    {
        let why = format!("must be a valid regular expression, but isn't: {error}");
        errors.invalid(&at.child("pattern"), pattern, why);
    }
}

/// A schema inside of a junctor checks values and says nothing else.
fn nested(errors: &mut ErrorList, at: &Path, schema: &JSONSchemaProps, skip_any_of: bool) {
    value_checks(errors, at, schema, skip_any_of, false);
    if let Some(items) = items(schema) {
        nested(errors, &at.child("items"), items, false);
    }
    for (name, property) in schema.properties.iter().flatten() {
        let at = at.child("properties").key(name);
        nested(errors, &at, property, false);
        if name == "metadata" {
            errors.forbidden(&at, "must not be specified in a nested context");
        }
    }
    const EMPTY: &str = "must be empty to be structural";
    const UNDEFINED: &str = "must be undefined to be structural";
    const FALSE: &str = "must be false to be structural";
    let refused = [
        ("type", !schema.type_.text().is_empty(), EMPTY),
        (
            "additionalProperties",
            schema.additional_properties.is_some(),
            UNDEFINED,
        ),
        ("default", schema.default.is_some(), UNDEFINED),
        ("title", !schema.title.text().is_empty(), EMPTY),
        ("description", !schema.description.text().is_empty(), EMPTY),
        ("nullable", schema.nullable.yes(), FALSE),
        (
            "x-kubernetes-preserve-unknown-fields",
            schema.x_kubernetes_preserve_unknown_fields.yes(),
            FALSE,
        ),
        (
            "x-kubernetes-embedded-resource",
            schema.x_kubernetes_embedded_resource.yes(),
            FALSE,
        ),
        (
            "x-kubernetes-int-or-string",
            schema.x_kubernetes_int_or_string.yes(),
            FALSE,
        ),
        (
            "x-kubernetes-list-map-keys",
            !schema.x_kubernetes_list_map_keys.items().is_empty(),
            EMPTY,
        ),
        (
            "x-kubernetes-list-type",
            schema.x_kubernetes_list_type.is_some(),
            UNDEFINED,
        ),
        (
            "x-kubernetes-map-type",
            schema.x_kubernetes_map_type.is_some(),
            UNDEFINED,
        ),
        (
            "x-kubernetes-validations",
            !schema.x_kubernetes_validations.items().is_empty(),
            EMPTY,
        ),
    ];
    for (field, _, why) in refused.into_iter().filter(|(_, there, _)| *there) {
        errors.forbidden(&at.child(field), why);
    }
}

/// Every field that a junctor of the root names must be there outside of it too; deeper ones are not looked at.
fn junctors(
    errors: &mut ErrorList,
    at: &Path,
    inner: &JSONSchemaProps,
    outer: &JSONSchemaProps,
    outer_at: &Path,
) {
    let lists = [
        ("allOf", &inner.all_of),
        ("anyOf", &inner.any_of),
        ("oneOf", &inner.one_of),
    ];
    for (name, list) in lists {
        for (i, inner) in list.items().iter().enumerate() {
            covered(
                errors,
                &at.child(name).index(i),
                inner,
                Some(outer),
                outer_at,
            );
        }
    }
    if let Some(not) = &inner.not {
        covered(errors, &at.child("not"), not, Some(outer), outer_at);
    }
}

fn covered(
    errors: &mut ErrorList,
    at: &Path,
    inner: &JSONSchemaProps,
    outer: Option<&JSONSchemaProps>,
    outer_at: &Path,
) {
    let Some(outer) = outer else {
        let because = format!("because it is defined in {at}");
        return errors.required(outer_at, because);
    };
    junctors(errors, at, inner, outer, outer_at);
    if let Some(inner) = items(inner) {
        let outer_at = outer_at.child("items");
        covered(errors, &at.child("items"), inner, items(outer), &outer_at);
    }
    for (name, inner) in inner.properties.iter().flatten() {
        let outer_at = outer_at.child("properties").key(name);
        let at = at.child("properties").key(name);
        let property = outer.properties.as_ref().and_then(|p| p.get(name));
        covered(errors, &at, inner, property, &outer_at);
    }
}

/// Whether a version has defaults.
pub(super) fn has_defaults(version: &CustomResourceDefinitionVersion) -> bool {
    fn inside(schema: &JSONSchemaProps) -> bool {
        schema.default.as_ref().is_some_and(|d| !d.0.is_null())
            || items(schema).is_some_and(inside)
            || schema.properties.iter().flatten().any(|(_, p)| inside(p))
            || matches!(&schema.additional_properties,
                Some(JSONSchemaPropsOrBool::Schema(values)) if inside(values))
    }
    let schema = version.schema.as_ref();
    schema
        .and_then(|s| s.open_api_v3_schema.as_ref())
        .is_some_and(inside)
}

/// Defaults must themselves be what the schema asks for.
pub(super) fn defaults(errors: &mut ErrorList, at: &Path, schema: &JSONSchemaProps) {
    default_of(errors, at, schema, false, true);
}

fn default_of(
    errors: &mut ErrorList,
    at: &Path,
    schema: &JSONSchemaProps,
    inside_meta: bool,
    root: bool,
) {
    let embedded = root || schema.x_kubernetes_embedded_resource.yes();
    let inside_meta = inside_meta && !embedded;
    if let Some(default) = schema.default.as_ref().filter(|d| !d.0.is_null()) {
        let at = at.child("default");
        let structural = Structural::read(&json(schema));
        let mut pruned = default.0.clone();
        if !inside_meta && !prune(&mut pruned, &structural, embedded).is_empty() {
            errors.invalid(&at, default.0.clone(), "must not have unknown fields");
        }
        errors.append(validate_value(&default.0, None, &structural, &at));
    }
    if let Some(items) = items(schema) {
        default_of(errors, &at.child("items"), items, inside_meta, false);
    }
    for (name, property) in schema.properties.iter().flatten() {
        let at = at.child("properties").key(name);
        let meta = inside_meta || (embedded && META_FIELDS.contains(&name.as_str()));
        default_of(errors, &at, property, meta, false);
    }
}
