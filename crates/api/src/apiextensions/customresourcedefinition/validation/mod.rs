//! Everything wrong with a definition.
//!
//! Behaviour and wording: `k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation`. Errors name fields as upstream's
//! internal form has them: what all versions have in common stands above them (`spec.validation`, `spec.subresources` ...).

mod conversion;
mod schema;
mod structural;
mod version;

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionNames, CustomResourceDefinitionSpec,
    CustomResourceDefinitionVersion, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};
use machinery::{ErrorList, Path, names};
use serde_json::Value;

use super::naming::{self, Approval};
use crate::check::{ErrorListExt, json};
use crate::view::{Items, OrEmpty, Yes};
use conversion::Leniency;

/// Everything wrong with a new definition.
pub(super) fn create(new: &CustomResourceDefinition) -> ErrorList {
    let mut errors = ErrorList::new();
    let name = new.metadata.name.text();
    let required = format!("{}.{}", new.spec.names.plural, new.spec.group);
    if !name.is_empty() && name != required {
        let at = Path::new("metadata").child("name");
        errors.invalid(&at, name, "must be spec.names.plural+\".\"+spec.group");
    }
    spec(&mut errors, &new.spec, None, Leniency::NEW);
    status_names(&mut errors, new);
    stored_versions(&mut errors, new);
    approval(&mut errors, new, None);
    errors
}

/// Everything wrong with a changed definition.
pub(super) fn update(new: &CustomResourceDefinition, old: &CustomResourceDefinition) -> ErrorList {
    let mut errors = ErrorList::new();
    let leniency = Leniency::of(old.spec.conversion.as_ref(), is_established(old));
    spec(&mut errors, &new.spec, Some(&old.spec), leniency);
    let at = Path::new("spec");
    let names = at.child("names");
    if is_established(old) {
        errors.immutable(&at.child("scope"), &new.spec.scope, &old.spec.scope);
        let (kind, before) = (&new.spec.names.kind, &old.spec.names.kind);
        errors.immutable(&names.child("kind"), kind, before);
    }
    errors.immutable(&at.child("group"), &new.spec.group, &old.spec.group);
    let (plural, before) = (&new.spec.names.plural, &old.spec.names.plural);
    errors.immutable(&names.child("plural"), plural, before);
    status_names(&mut errors, new);
    stored_versions(&mut errors, new);
    approval(&mut errors, new, Some(old));
    errors
}

/// Everything wrong with a changed status.
pub(super) fn status(new: &CustomResourceDefinition) -> ErrorList {
    let mut errors = ErrorList::new();
    status_names(&mut errors, new);
    errors
}

/// Every schema below this one, and this one.
pub(in super::super) fn each_schema(
    schema: &JSONSchemaProps,
    act: &mut impl FnMut(&JSONSchemaProps),
) {
    act(schema);
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => each_schema(items, act),
        Some(JSONSchemaPropsOrArray::Schemas(all)) => all.iter().for_each(|s| each_schema(s, act)),
        None => {}
    }
    for list in [&schema.all_of, &schema.any_of, &schema.one_of] {
        list.items().iter().for_each(|s| each_schema(s, act));
    }
    schema.not.iter().for_each(|s| each_schema(s, act));
    for map in [&schema.properties, &schema.pattern_properties] {
        map.iter().flatten().for_each(|(_, s)| each_schema(s, act));
    }
    if let Some(JSONSchemaPropsOrBool::Schema(more)) = &schema.additional_properties {
        each_schema(more, act);
    }
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition.status.as_ref().map(|s| s.conditions.items());
    let conditions = conditions.unwrap_or_default();
    conditions
        .iter()
        .any(|c| c.type_ == "Established" && c.status == "True")
}

/// What all versions say alike stands above them.
struct Common {
    schema: bool,
    subresources: bool,
    columns: bool,
    fields: bool,
}

impl Common {
    fn of(spec: &CustomResourceDefinitionSpec) -> Self {
        let all = |same: fn(
            &CustomResourceDefinitionVersion,
            &CustomResourceDefinitionVersion,
        ) -> bool| { spec.versions.iter().all(|v| same(v, &spec.versions[0])) };
        Self {
            schema: all(|a, b| a.schema == b.schema),
            subresources: all(|a, b| a.subresources == b.subresources),
            columns: all(|a, b| {
                a.additional_printer_columns.items() == b.additional_printer_columns.items()
            }),
            fields: all(|a, b| a.selectable_fields.items() == b.selectable_fields.items()),
        }
    }
}

fn spec(
    errors: &mut ErrorList,
    spec: &CustomResourceDefinitionSpec,
    old: Option<&CustomResourceDefinitionSpec>,
    leniency: Leniency,
) {
    let at = Path::new("spec");
    if spec.preserve_unknown_fields.yes() && spec.versions.iter().any(structural::has_defaults) {
        let why = "must be false in order to use defaults in the schema";
        errors.invalid(&at.child("preserveUnknownFields"), true, why);
    }
    group(errors, &at.child("group"), &spec.group);
    match spec.scope.as_str() {
        "" => errors.required(&at.child("scope"), ""),
        scope => errors.one_of(&at.child("scope"), scope, &["Cluster", "Namespaced"]),
    }
    versions(errors, &at, spec, old);
    if spec.preserve_unknown_fields.yes() {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
            spec.versions[*].schema instead";
        errors.invalid(&at.child("preserveUnknownFields"), true, why);
    }
    spec_names(errors, &at.child("names"), &spec.names);
    let conversion = spec.conversion.as_ref();
    conversion::validate(errors, &at.child("conversion"), conversion, leniency);
}

fn group(errors: &mut ErrorList, at: &Path, group: &str) {
    let problems = names::dns1123_subdomain(group);
    if group.is_empty() {
        errors.required(at, "");
    } else if !problems.is_empty() {
        errors.invalid(at, group, problems.join(","));
    } else if !group.contains('.') {
        errors.invalid(at, group, "should be a domain with at least one dot");
    }
}

fn versions(
    errors: &mut ErrorList,
    at: &Path,
    spec: &CustomResourceDefinitionSpec,
    old: Option<&CustomResourceDefinitionSpec>,
) {
    let list = at.child("versions");
    let common = Common::of(spec);
    let mut seen = BTreeSet::new();
    let mut also = ErrorList::new();
    for (i, version) in spec.versions.iter().enumerate() {
        let at = list.index(i);
        let schema = version
            .schema
            .as_ref()
            .and_then(|s| s.open_api_v3_schema.as_ref());
        if schema.is_none() {
            let at = at.child("schema").child("openAPIV3Schema");
            errors.required(&at, "");
        }
        let problems = names::dns1035_label(&version.name);
        if !problems.is_empty() {
            errors.invalid(&at.child("name"), version.name.as_str(), problems.join(","));
            // The first version is also the one of old.
            if i == 0 && !version.name.is_empty() {
                let at = Path::new("spec").child("version");
                also.invalid(&at, version.name.as_str(), problems.join(","));
            }
        }
        version::deprecation(errors, &at.child("deprecationWarning"), version);
        seen.insert(&version.name);
    }
    errors.append(also);
    for (i, version) in spec.versions.iter().enumerate() {
        let own = list.index(i);
        let place = |is_common: bool, name: &str| match is_common {
            true if i == 0 => Some(at.child(name)),
            true => None,
            false => Some(own.child(name)),
        };
        let name = if common.schema {
            "validation"
        } else {
            "schema"
        };
        if let Some(at) = place(common.schema, name) {
            let mut before = old.into_iter().flat_map(|old| &old.versions);
            let before = before.find(|old| old.name == version.name);
            let is_old = before.is_some_and(|old| old.schema == version.schema);
            schema::validation(errors, &at, version, is_old);
        }
        if let Some(at) = place(common.subresources, "subresources") {
            version::subresources(errors, &at, version.subresources.as_ref());
        }
        if let Some(at) = place(common.columns, "additionalPrinterColumns") {
            version::columns(errors, &at, version.additional_printer_columns.items());
        }
        if let Some(at) = place(common.fields, "selectableFields") {
            version::selectable_fields(errors, &at, version);
        }
    }
    if seen.len() != spec.versions.len() {
        errors.invalid(
            &list,
            json(&spec.versions),
            "must contain unique version names",
        );
    }
    if spec.versions.iter().filter(|v| v.storage).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.invalid(&list, json(&spec.versions), why);
    }
}

fn spec_names(errors: &mut ErrorList, at: &Path, names: &CustomResourceDefinitionNames) {
    let required = [
        ("plural", names.plural.as_str()),
        ("singular", names.singular.text()),
        ("kind", names.kind.as_str()),
        ("listKind", names.list_kind.text()),
    ];
    for (field, value) in required {
        errors.required_text(&at.child(field), value, "");
    }
    all_names(errors, at, names);
}

fn all_names(errors: &mut ErrorList, at: &Path, given: &CustomResourceDefinitionNames) {
    let mut label = |at: Path, value: &str, prefix: &str, checked: &str| {
        let problems = names::dns1035_label(checked);
        if !problems.is_empty() {
            errors.invalid(&at, value, format!("{prefix}{}", problems.join(",")));
        }
    };
    for (field, value) in [
        ("plural", given.plural.as_str()),
        ("singular", given.singular.text()),
    ] {
        if !value.is_empty() {
            label(at.child(field), value, "", value);
        }
    }
    let kinds = [
        ("kind", given.kind.as_str()),
        ("listKind", given.list_kind.text()),
    ];
    for (field, value) in kinds.into_iter().filter(|(_, v)| !v.is_empty()) {
        let prefix = "may have mixed case, but should otherwise match: ";
        label(at.child(field), value, prefix, &value.to_lowercase());
    }
    for (i, name) in given.short_names.items().iter().enumerate() {
        label(at.child("shortNames").index(i), name, "", name);
    }
    for (i, name) in given.categories.items().iter().enumerate() {
        label(at.child("categories").index(i), name, "", name);
    }
    let list = given.list_kind.text();
    if !given.kind.is_empty() && given.kind == list {
        let why = "kind and listKind may not be the same";
        errors.invalid(&at.child("listKind"), list, why);
    }
}

fn status_names(errors: &mut ErrorList, definition: &CustomResourceDefinition) {
    let names = definition
        .status
        .as_ref()
        .and_then(|s| s.accepted_names.as_ref());
    if let Some(names) = names {
        all_names(errors, &Path::new("status").child("acceptedNames"), names);
    }
}

fn stored_versions(errors: &mut ErrorList, definition: &CustomResourceDefinition) {
    let at = Path::new("status").child("storedVersions");
    let stored = definition
        .status
        .as_ref()
        .map(|s| s.stored_versions.items());
    let stored = stored.unwrap_or_default();
    if stored.is_empty() {
        return errors.invalid(&at, Value::Null, "must have at least one stored version");
    }
    let versions = &definition.spec.versions;
    for version in versions
        .iter()
        .filter(|v| v.storage && !stored.contains(&v.name))
    {
        let why = format!("must have the storage version {}", version.name);
        errors.invalid(&at, json(&stored), why);
    }
    for (i, name) in stored.iter().enumerate() {
        if !versions.iter().any(|v| v.name == *name) {
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions \
                 until a storage migration ensures no data remains persisted in {name} and removes {name} from \
                 status.storedVersions"
            );
            errors.invalid(&at.index(i), name.as_str(), why);
        }
    }
}

fn approval(
    errors: &mut ErrorList,
    new: &CustomResourceDefinition,
    old: Option<&CustomResourceDefinition>,
) {
    if !naming::is_protected(&new.spec.group) {
        return;
    }
    let annotation = |definition: &CustomResourceDefinition| {
        let all = definition.metadata.annotations.as_ref();
        all.and_then(|a| a.get(naming::APPROVED))
            .cloned()
            .unwrap_or_default()
    };
    let given = annotation(new);
    let (state, why) = naming::approval_of(&given);
    if old.is_some_and(|old| naming::approval_of(&annotation(old)).0 == state) {
        return;
    }
    let at = Path::new("metadata")
        .child("annotations")
        .key(naming::APPROVED);
    match state {
        Approval::Missing => errors.required(&at, why),
        Approval::Invalid => errors.invalid(&at, given, why),
        Approval::Approved | Approval::Bypassed => {}
    }
}
