//! The OpenAPI schema of a version.

use std::cell::RefCell;
use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinitionVersion, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool, ValidationRule,
};
use machinery::cel::cardinality;
use machinery::structural::{CompiledRule, META_FIELDS, Rule, Structural};
use machinery::{ErrorList, Path};
use serde_json::Value;

use super::{structural, version};
use crate::check::{ErrorListExt, json};
use crate::view::{Items, OrEmpty, Yes};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// The fields that a root schema may have when status is a sub-resource, by their names in upstream's types.
const ROOT_FIELDS: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength \
    MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example \
    XPreserveUnknownFields XValidations]";
/// The others.
const NOT_AT_ROOT: [&str; 21] = [
    "$ref",
    "$schema",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "default",
    "definitions",
    "dependencies",
    "enum",
    "id",
    "maxProperties",
    "minProperties",
    "not",
    "nullable",
    "oneOf",
    "patternProperties",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
];

/// Checks a version's schema, which is told as standing at `at`; the rules of one that `is_old` may cost what they cost.
pub(super) fn validation(
    errors: &mut ErrorList,
    at: &Path,
    version: &CustomResourceDefinitionVersion,
    is_old: bool,
) {
    let schema = version
        .schema
        .as_ref()
        .and_then(|s| s.open_api_v3_schema.as_ref());
    let Some(schema) = schema else { return };
    let at = at.child("openAPIV3Schema");
    let has_status = version
        .subresources
        .as_ref()
        .is_some_and(|s| s.status.is_some());
    if has_status {
        root_fields(errors, &at, schema);
    }
    if schema.nullable.yes() {
        errors.forbidden(&at.child("nullable"), "nullable cannot be true at the root");
    }
    let before = errors.0.len();
    structural::validate(errors, &at, schema);
    if errors.0.len() == before {
        structural::defaults(errors, &at, schema);
    }
    let total = RefCell::default();
    let walk = Walk {
        inside_meta: false,
        no_defaults: None,
        uncorrelatable: None,
        most: Some(1),
        is_old,
        total: &total,
    };
    walk.schema(errors, &at, schema, true);
    total.into_inner().tell(errors, &at);
}

/// The most that a rule may cost.
const RULE_BUDGET: u64 = 10_000_000;
/// The most that all rules of a schema may.
const SCHEMA_BUDGET: u64 = 100_000_000;

/// What the rules of a schema cost together.
#[derive(Default)]
struct Total {
    cost: u64,
    /// Those that cost most.
    expensive: Vec<(u64, Path)>,
}

impl Total {
    fn add(&mut self, at: &Path, cost: u64) {
        self.cost = self.cost.saturating_add(cost);
        if cost >= SCHEMA_BUDGET / 100 {
            self.expensive.push((cost, at.clone()));
            self.expensive
                .sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
            self.expensive.truncate(4);
        }
    }

    fn tell(self, errors: &mut ErrorList, at: &Path) {
        if self.cost <= SCHEMA_BUDGET {
            return;
        }
        for (_, place) in &self.expensive {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.forbidden(place, why);
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.forbidden(at, too_expensive(what, self.cost, SCHEMA_BUDGET));
    }
}

/// How many children each value of a schema may have; none: that is not bounded.
fn children_at_most(schema: &JSONSchemaProps) -> Option<u64> {
    let given = match (schema.type_.text(), &schema.additional_properties) {
        ("object", Some(_)) => schema.max_properties,
        ("array", _) => schema.max_items,
        _ => return Some(1),
    };
    given.map(|n| n.max(0).unsigned_abs())
}

fn too_expensive(what: &str, cost: u64, budget: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let factor = cost as f64 / budget as f64;
    let factor = match factor {
        factor if factor > 100.0 => "more than 100x".to_owned(),
        factor if factor < 1.5 => format!("{factor:.6}x"),
        factor => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

fn root_fields(errors: &mut ErrorList, at: &Path, schema: &JSONSchemaProps) {
    let kind = schema.type_.text();
    if !kind.is_empty() && kind != "object" {
        let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.invalid(&at.child("type"), kind, why);
        return;
    }
    let tree = json(schema);
    if NOT_AT_ROOT.iter().any(|field| tree.get(field).is_some()) {
        let why = format!(
            "only {ROOT_FIELDS} fields are allowed at the root of the schema if the status subresource is enabled"
        );
        errors.invalid(at, tree, why);
    }
}

/// Where in a schema we are, as far as it matters for what may stand there.
#[derive(Clone)]
struct Walk<'t> {
    inside_meta: bool,
    no_defaults: Option<String>,
    /// The first place above at which old and new values cannot be told to belong together.
    uncorrelatable: Option<Path>,
    /// How many values there may be here; none: that is not bounded.
    most: Option<u64>,
    is_old: bool,
    total: &'t RefCell<Total>,
}

impl Walk<'_> {
    fn cannot_correlate(&self, at: &Path) -> Self {
        let mut below = self.clone();
        below.uncorrelatable.get_or_insert_with(|| at.clone());
        below
    }

    fn schema(&self, errors: &mut ErrorList, at: &Path, schema: &JSONSchemaProps, root: bool) {
        let before = errors.0.len();
        self.unsupported(errors, at, schema);
        if schema.unique_items.yes() {
            let why =
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            errors.forbidden(&at.child("uniqueItems"), why);
        }
        self.children(errors, at, schema, root);
        extensions(errors, at, schema);
        for (i, rule) in schema.x_kubernetes_validations.items().iter().enumerate() {
            let at = at.child("x-kubernetes-validations").index(i);
            self.rule(errors, &at, rule, schema);
        }
        // Rules are only understood where the schema is.
        if errors.0.len() == before && !schema.x_kubernetes_validations.items().is_empty() {
            self.expressions(errors, at, schema, root);
        }
    }

    fn expressions(&self, errors: &mut ErrorList, at: &Path, schema: &JSONSchemaProps, root: bool) {
        let mut node = Structural::read(&json(schema));
        node.add_meta(root);
        let given = schema.x_kubernetes_validations.items();
        for (i, rule) in node.rules().iter().enumerate() {
            let at = at.child("x-kubernetes-validations").index(i);
            let shown = given.get(i).map(json).unwrap_or_default();
            match rule.compile(&node) {
                Err((is_message, why)) => {
                    let field = if is_message {
                        "messageExpression"
                    } else {
                        "rule"
                    };
                    errors.invalid(&at.child(field), shown, why);
                }
                Ok(compiled) => {
                    self.costs(errors, &at, &compiled, &node);
                    self.about_changes(errors, &at, &compiled, rule);
                }
            }
        }
    }

    /// What a rule may cost, wherever it is looked at.
    fn costs(&self, errors: &mut ErrorList, at: &Path, compiled: &CompiledRule, node: &Structural) {
        let times = self.most.unwrap_or_else(|| cardinality(node));
        for (field, what, cost) in [
            (
                "rule",
                "estimated rule cost",
                compiled.cost.saturating_mul(times),
            ),
            (
                "messageExpression",
                "estimated messageExpression cost",
                compiled.message_cost,
            ),
        ] {
            let at = at.child(field);
            if cost > RULE_BUDGET && !self.is_old {
                errors.forbidden(&at, too_expensive(what, cost, RULE_BUDGET));
            }
            self.total.borrow_mut().add(&at, cost);
        }
    }

    fn about_changes(
        &self,
        errors: &mut ErrorList,
        at: &Path,
        compiled: &CompiledRule,
        rule: &Rule,
    ) {
        match compiled.uses_old {
            true => {
                if let Some(place) = &self.uncorrelatable {
                    let why = format!(
                        "oldSelf cannot be used on the uncorrelatable portion of the schema within {place}"
                    );
                    errors.invalid(&at.child("rule"), rule.rule.as_str(), why);
                }
            }
            false => {
                if let Some(optional) = rule.optional_old_self {
                    let why = "may not be set if oldSelf is not used in rule";
                    errors.invalid(&at.child("optionalOldSelf"), optional, why);
                }
            }
        }
    }

    fn children(&self, errors: &mut ErrorList, at: &Path, schema: &JSONSchemaProps, root: bool) {
        let most = self
            .most
            .zip(children_at_most(schema))
            .map(|(a, b)| a.saturating_mul(b));
        let inner = Self {
            most,
            ..self.clone()
        };
        inner.each_child(errors, at, schema, root);
    }

    fn each_child(&self, errors: &mut ErrorList, at: &Path, schema: &JSONSchemaProps, root: bool) {
        let has_properties = schema.properties.as_ref().is_some_and(|p| !p.is_empty());
        if let Some(more) = &schema.additional_properties {
            let at = at.child("additionalProperties");
            if has_properties && *more != JSONSchemaPropsOrBool::Bool(true) {
                let why = "additionalProperties and properties are mutual exclusive";
                errors.forbidden(&at, why);
            }
            if let JSONSchemaPropsOrBool::Schema(more) = more {
                let mut below = self.clone();
                if self.inside_meta {
                    let why = "inside additionalProperties applying to object metadata";
                    below.no_defaults = Some(why.to_owned());
                }
                below.schema(errors, &at, more, false);
            }
        }
        for (name, property) in schema.properties.iter().flatten() {
            // Fields are told by their names even where a map is one value for those who apply.
            let mut below = self.clone();
            let is_resource = root || schema.x_kubernetes_embedded_resource.yes();
            if is_resource && META_FIELDS.contains(&name.as_str()) {
                below.inside_meta = true;
                if root {
                    below.no_defaults = Some(format!("in top-level {name}"));
                }
            }
            below.schema(errors, &at.child("properties").key(name), property, false);
        }
        if let Some(not) = &schema.not {
            self.schema(errors, &at.child("not"), not, false);
        }
        let lists = [
            ("allOf", &schema.all_of),
            ("oneOf", &schema.one_of),
            ("anyOf", &schema.any_of),
        ];
        for (name, list) in lists {
            for (i, inner) in list.items().iter().enumerate() {
                self.schema(errors, &at.child(name).index(i), inner, false);
            }
        }
        let below = match schema.x_kubernetes_list_type.text() {
            "map" => self.clone(),
            _ => self.cannot_correlate(at),
        };
        match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(items)) => {
                below.schema(errors, &at.child("items"), items, false);
            }
            Some(JSONSchemaPropsOrArray::Schemas(all)) => {
                for (i, items) in all.iter().enumerate() {
                    below.schema(errors, &at.child("items").index(i), items, false);
                }
            }
            None => {}
        }
    }

    fn unsupported(&self, errors: &mut ErrorList, at: &Path, schema: &JSONSchemaProps) {
        let kind = schema.type_.text();
        if !kind.is_empty() {
            errors.one_of(&at.child("type"), kind, &TYPES);
        }
        if let (Some(_), Some(why)) = (&schema.default, &self.no_defaults) {
            errors.forbidden(&at.child("default"), format!("must not be set {why}"));
        }
        let some = |map: &Option<std::collections::BTreeMap<String, JSONSchemaProps>>| {
            map.as_ref().is_some_and(|m| !m.is_empty())
        };
        let refused = [
            ("id", !schema.id.text().is_empty()),
            ("additionalItems", schema.additional_items.is_some()),
            ("patternProperties", some(&schema.pattern_properties)),
            ("definitions", some(&schema.definitions)),
            ("dependencies", schema.dependencies.is_some()),
            ("$ref", schema.ref_path.is_some()),
        ];
        for (field, _) in refused.into_iter().filter(|(_, there)| *there) {
            errors.forbidden(&at.child(field), format!("{field} is not supported"));
        }
        if kind == "null" {
            let why = "type cannot be set to null, use nullable as an alternative";
            errors.forbidden(&at.child("type"), why);
        }
        if let Some(JSONSchemaPropsOrArray::Schemas(_)) = &schema.items {
            let why = "items must be a schema object and not an array";
            errors.forbidden(&at.child("items"), why);
        }
        if self.inside_meta && schema.x_kubernetes_embedded_resource.yes() {
            let why = "must not be used inside of resource meta";
            errors.forbidden(&at.child("x-kubernetes-embedded-resource"), why);
        }
    }

    fn rule(
        &self,
        errors: &mut ErrorList,
        at: &Path,
        rule: &ValidationRule,
        schema: &JSONSchemaProps,
    ) {
        let breaks = |text: &str| text.contains(['\n', '\r']);
        let (text, message) = (rule.rule.trim(), rule.message.text());
        if text.is_empty() {
            errors.required(&at.child("rule"), "rule is not specified");
        } else if !message.is_empty() && message.trim().is_empty() {
            let why = "must be non-empty if specified";
            errors.invalid(&at.child("message"), message, why);
        } else if breaks(message.trim()) {
            let why = "must not contain line breaks";
            errors.invalid(&at.child("message"), message, why);
        } else if breaks(text) && message.trim().is_empty() {
            let why = "message must be specified if rule contains line breaks";
            errors.required(&at.child("message"), why);
        }
        let expression = rule.message_expression.text();
        if !expression.is_empty() && expression.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            errors.required(&at.child("messageExpression"), why);
        }
        if let Some(reason) = rule.reason.as_deref() {
            const REASONS: [&str; 4] = [
                "FieldValueDuplicate",
                "FieldValueForbidden",
                "FieldValueInvalid",
                "FieldValueRequired",
            ];
            errors.one_of(&at.child("reason"), reason, &REASONS);
        }
        let path = rule.field_path.text();
        if path.is_empty() {
            return;
        }
        let at = at.child("fieldPath");
        if path.trim().is_empty() {
            errors.invalid(&at, path, "must be non-empty if specified");
        }
        if breaks(path) {
            errors.invalid(&at, path, "must not contain line breaks");
        }
        let structural = Structural::read(&json(schema));
        if version::field_schema(&structural, path).is_err() {
            errors.invalid(&at, path, "must be a valid path");
        }
    }
}

/// The `x-kubernetes-` extensions of one node.
fn extensions(errors: &mut ErrorList, at: &Path, schema: &JSONSchemaProps) {
    if schema.x_kubernetes_preserve_unknown_fields == Some(false) {
        let at = at.child("x-kubernetes-preserve-unknown-fields");
        errors.invalid(&at, false, "must be true or undefined");
    }
    let kind = schema.type_.text();
    let mut needs = |wanted: &str, extension: &str| {
        let why = format!("must be {wanted} if {extension} is specified");
        match kind {
            "" => errors.required(&at.child("type"), why),
            kind if kind != wanted => errors.invalid(&at.child("type"), kind, why),
            _ => {}
        }
    };
    if schema.x_kubernetes_map_type.is_some() {
        needs("object", "x-kubernetes-map-type");
    }
    if schema.x_kubernetes_list_type.is_some() {
        needs("array", "x-kubernetes-list-type");
    }
    if let Some(map_type) = schema.x_kubernetes_map_type.as_deref() {
        let at = at.child("x-kubernetes-map-type");
        errors.one_of(&at, map_type, &["atomic", "granular"]);
    }
    let list_type = schema.x_kubernetes_list_type.as_deref();
    if let Some(list_type) = list_type {
        let at = at.child("x-kubernetes-list-type");
        errors.one_of(&at, list_type, &["atomic", "set", "map"]);
    }
    let items = match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(&**items),
        _ => None,
    };
    if list_type == Some("set") && kind == "array" {
        set_items(errors, &at.child("items"), items);
    }
    let keys = schema.x_kubernetes_list_map_keys.items();
    if !keys.is_empty() && list_type != Some("map") {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        let at = at.child("x-kubernetes-list-type");
        match list_type {
            None => errors.required(&at, why),
            Some(other) => errors.invalid(&at, other, why),
        }
    }
    if list_type == Some("map") {
        map_keys(errors, at, schema, items);
    }
    if matches!(list_type, Some("map" | "set")) && items.is_some_and(|i| i.nullable.yes()) {
        let why = format!(
            "cannot be nullable when x-kubernetes-list-type is {}",
            list_type.unwrap_or("")
        );
        errors.forbidden(&at.child("items").child("nullable"), why);
    }
}

fn set_items(errors: &mut ErrorList, at: &Path, items: Option<&JSONSchemaProps>) {
    let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let Some(items) = items else { return };
    let list_type = items.x_kubernetes_list_type.as_deref();
    let shown = list_type.map_or(Value::Null, Value::from);
    match items.type_.text() {
        "array" if list_type.is_some_and(|t| t != "atomic") => {
            errors.invalid(&at.child("x-kubernetes-list-type"), shown, why);
        }
        "object" if items.x_kubernetes_map_type.text() != "atomic" => {
            errors.invalid(&at.child("x-kubernetes-map-type"), shown, why);
        }
        _ => {}
    }
}

fn map_keys(
    errors: &mut ErrorList,
    at: &Path,
    schema: &JSONSchemaProps,
    items: Option<&JSONSchemaProps>,
) {
    let keys = schema.x_kubernetes_list_map_keys.items();
    let at_keys = at.child("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        let why = "must not be empty if x-kubernetes-list-type is map";
        errors.required(&at_keys, why);
    }
    let at = at.child("items");
    if schema.items.is_none() {
        let why = "must have a schema if x-kubernetes-list-type is map";
        errors.required(&at, why);
    }
    let Some(items) = items else {
        if schema.items.is_some() {
            let why = "must only have a single schema if x-kubernetes-list-type is map";
            errors.invalid(&at, json(&schema.items), why);
        }
        return;
    };
    if items.type_.text() != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.invalid(&at.child("type"), items.type_.text(), why);
        return;
    }
    let mut seen = BTreeSet::new();
    for key in keys {
        let property = items.properties.as_ref().and_then(|p| p.get(key));
        let Some(property) = property else {
            let why = "entries must all be names of item properties";
            errors.invalid(&at_keys, json(&keys), why);
            continue;
        };
        let at = at.child("properties").key(key);
        if matches!(property.type_.text(), "array" | "object") {
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.invalid(&at.child("type"), "object", why);
        }
        if !seen.insert(key) {
            errors.invalid(&at_keys, json(&keys), "must not contain duplicate entries");
        }
        if !items.required.items().contains(key) && property.default.is_none() {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.required(&at.child("default"), why);
        }
        if property.nullable.yes() {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.forbidden(&at.child("nullable"), why);
        }
    }
}
