//! The face of a custom kind.

use std::borrow::Cow;

use jiff::Timestamp;
use machinery::schema::{FieldReport, Schema};
use machinery::structural::{drop_nulls, fill_defaults, prune};
use machinery::table::{ColumnOf, Row};
use machinery::{ErrorList, Object};
use serde_json::{Map, Value};

use super::{Custom, Version, columns, embedded, validation};
use crate::kind::{
    AnyKind, Context, KindRef, METADATA_AND_SPEC, Named, Part, ScalePaths, Scope, Subresource,
    Verb, Words, keep_other_part, set_or_remove,
};
use crate::view::OrEmpty;

/// In the order of upstream's discovery.
const VERBS: &[Verb] = &[
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Create,
    Verb::Update,
    Verb::Watch,
];
const STATUS: Subresource = Subresource::Part(Part::Status);
const SCALE: Subresource = Subresource::Scale {
    spec_replicas: &[],
    status_replicas: &[],
    selector: &[],
};

/// Takes a part of the tree as a value of its own for a while.
fn as_value(object: &mut Object, act: impl FnOnce(&mut Value)) {
    let mut value = Value::Object(std::mem::take(&mut object.0));
    act(&mut value);
    if let Value::Object(map) = value {
        object.0 = map;
    }
}

impl Version {
    /// Brings an object into the form of this version's schema; the fields that go are given.
    fn settle(&self, object: &mut Object) -> Vec<String> {
        let schema = self.structural();
        let mut unknown = Vec::new();
        as_value(object, |value| {
            unknown = prune(value, schema, true);
            drop_nulls(value, Some(schema));
        });
        unknown
    }

    fn default(&self, object: &mut Object) {
        as_value(object, |value| fill_defaults(value, self.structural()));
    }
}

impl Custom {
    /// What was stored before generations were counted is of the first.
    fn count_generation(object: &mut Object) {
        if object.generation() == 0 {
            object.metadata_mut().insert("generation".into(), 1.into());
        }
    }
}

impl AnyKind for Custom {
    fn names(&self) -> Named<'_> {
        let definition = &*self.definition;
        Named {
            group: &definition.group,
            version: &self.version().name,
            kind: &definition.names.kind,
            list_kind: definition.list_kind(),
            plural: &definition.names.plural,
            singular: definition.names.singular.text(),
            short: Words::Owned(&definition.short),
            categories: Words::Owned(&definition.categories),
            stored_as: (!self.is_storage()).then_some((&definition.group, definition.plural())),
        }
    }
    fn scope(&self) -> Scope {
        match self.definition.namespaced {
            true => Scope::Namespaced,
            false => Scope::Cluster,
        }
    }
    fn verbs(&self) -> &'static [Verb] {
        VERBS
    }
    fn subresources(&self) -> &'static [Subresource] {
        match (self.version().has_status, self.version().scale.is_some()) {
            (true, true) => &[STATUS, SCALE],
            (true, false) => &[STATUS],
            (false, true) => &[SCALE],
            (false, false) => &[],
        }
    }
    fn columns(&self) -> Vec<ColumnOf<'_>> {
        let own = self
            .version()
            .columns
            .iter()
            .map(columns::Column::definition);
        std::iter::once(crate::columns::NAME).chain(own).collect()
    }
    fn scale(&self) -> Option<ScalePaths> {
        self.version().scale.clone()
    }
    fn has_generation(&self) -> bool {
        true
    }
    fn resets(&self, part: Part) -> &'static [&'static [&'static str]] {
        match part {
            Part::Status => METADATA_AND_SPEC,
            _ if self.version().has_status => &[&["status"]],
            _ => &[],
        }
    }
    fn grace_period_seconds(&self, _object: &Object) -> Option<i64> {
        None
    }
    fn grace_period(&self, _object: &Object, _requested: Option<i64>) -> Option<i64> {
        None
    }
    fn create_on_update(&self) -> bool {
        false
    }
    fn unconditional_update(&self) -> bool {
        false
    }
    fn returns_deleted(&self) -> bool {
        false
    }
    fn from_stored(&self, object: &mut Object) {
        let stored = object.api_version().rsplit('/').next().unwrap_or("");
        let stored = self.definition.version(stored);
        let stored = stored.unwrap_or(&self.definition.versions[self.definition.storage]);
        stored.settle(object);
        stored.default(object);
        Self::count_generation(object);
        if self.converts_elsewhere() {
            return;
        }
        let names = self.names();
        if *stored.name != *names.version {
            object.set_type(&names.api_version(), names.kind);
            self.version().settle(object);
        }
    }
    fn to_stored(&self, object: &mut Object) {
        self.definition.versions[self.definition.storage].settle(object);
    }
    fn may_be_outdated(&self) -> bool {
        true
    }
    fn merges_strategically(&self) -> bool {
        false
    }
    fn check_fields(&self, object: &mut Object, duplicates: &[String]) -> FieldReport {
        let mut found = embedded::Found::default();
        let pruned = self.version().settle(object);
        found.clean(&mut object.0, self.version().structural());
        let unknown = found.unknown.into_iter().chain(pruned);
        let unknown = unknown.map(|path| format!("unknown field \"{path}\""));
        FieldReport {
            unknown: duplicates.iter().cloned().chain(unknown).collect(),
            type_error: found.type_error,
            lists_bytes: false,
        }
    }
    fn schema(&self) -> Option<Schema> {
        Some(self.version().merge_schema(&self.schema_name()))
    }
    fn default(&self, object: &mut Object) -> Result<(), serde_json::Error> {
        object.0.values_mut().for_each(whole_numbers);
        embedded::Found::default().clean(&mut object.0, self.version().structural());
        self.version().settle(object);
        self.version().default(object);
        Ok(())
    }
    fn prepare_create(&self, _context: &Context, new: &mut Object) {
        if self.version().has_status {
            new.0.remove("status");
        }
    }
    fn prepare_update(&self, _context: &Context, part: Part, new: &mut Object, old: &Object) {
        match part {
            Part::Status => {
                let status = new.0.remove("status");
                let managed = new.metadata().and_then(|m| m.get("managedFields")).cloned();
                let version = new.resource_version().to_owned();
                new.0.clone_from(&old.0);
                new.set_meta_str("resourceVersion", &version);
                let metadata = new.metadata_mut();
                match managed {
                    Some(managed) => drop(metadata.insert("managedFields".into(), managed)),
                    None => drop(metadata.remove("managedFields")),
                }
                set_or_remove(new, "status", status);
            }
            part if self.version().has_status => keep_other_part(part, new, old),
            _ => {}
        }
    }
    fn prepare_delete(&self, _context: &Context, _new: &mut Object) -> bool {
        false
    }
    fn validate_create(
        &self,
        _context: &Context,
        new: &Object,
    ) -> Result<ErrorList, serde_json::Error> {
        Ok(validation::validate(self, Part::Main, new, None))
    }
    fn validate_update(
        &self,
        _context: &Context,
        part: Part,
        new: &Object,
        old: &Object,
    ) -> Result<ErrorList, serde_json::Error> {
        Ok(validation::validate(self, part, new, Some(old)))
    }
    fn update_warnings(&self, _part: Part, _new: &Object, _old: &Object) -> Vec<String> {
        Vec::new()
    }
    fn warnings(&self, _new: &Object) -> Vec<String> {
        Vec::new()
    }
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        crate::kind::dns_subdomain(name, prefix)
    }
    fn selectable_fields(&self, object: &Object) -> Vec<(Cow<'static, str>, String)> {
        // Where versions differ in their name only, what is cached has the fields of all of them.
        let versions: &[Version] = match self.converts_elsewhere() {
            true => std::slice::from_ref(self.version()),
            false => &self.definition.versions,
        };
        if versions.iter().all(|v| v.selectable.is_empty()) {
            return Vec::new();
        }
        let tree = Value::Object(Map::clone(&object.0));
        let fields = versions
            .iter()
            .flat_map(|v| v.selectable.iter().zip(&v.selectable_paths));
        let mut values: Vec<(Cow<'static, str>, String)> = Vec::new();
        for (name, path) in fields {
            if values.iter().all(|(known, _)| **known != **name) {
                let found = path.find(&tree);
                let text = found.first().map(|v| columns::text(v));
                values.push((name.to_string().into(), text.unwrap_or_default()));
            }
        }
        values
    }
    fn selectable(&self) -> Words<'_> {
        Words::Owned(&self.version().selectable)
    }
    fn row(&self, object: &Object, now: Timestamp) -> Row {
        columns::row(&self.version().columns, object, now)
    }
    fn schema_name(&self) -> String {
        let names = self.names();
        let group: Vec<&str> = names.group.split('.').rev().collect();
        format!("{}.{}.{}", group.join("."), names.version, names.kind)
    }
    fn openapi_schema(&self) -> Option<Value> {
        let mut json = self.version().schema_json();
        if !json.is_object() {
            json = serde_json::json!({"type": "object"});
        }
        super::version::add_meta(&mut json, true);
        Some(json)
    }
    fn refuses_create(&self) -> Option<&'static str> {
        let why = "create not allowed while custom resource definition is terminating";
        self.definition.terminating.then_some(why)
    }
    fn converts_elsewhere(&self) -> bool {
        self.definition.conversion.is_some()
    }
    fn in_version(&self, api_version: &str) -> Option<KindRef> {
        let (group, name) = api_version.split_once('/')?;
        let versions = &self.definition.versions;
        let index = versions.iter().position(|v| &*v.name == name)?;
        (group == &*self.definition.group).then(|| self.definition.kind(index))
    }
    fn deprecation(&self) -> Option<String> {
        let own = self.version().deprecation.as_ref()?;
        let names = self.names();
        Some(match own {
            Some(text) => text.to_string(),
            None => format!("{} {} is deprecated", names.api_version(), names.kind),
        })
    }
}

/// Writes `5.0` as `5`: Go does so with every number that it has read.
fn whole_numbers(value: &mut Value) {
    // Beyond this not every whole number is one of floating point.
    const MOST: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            let whole = number
                .as_f64()
                .filter(|n| n.fract() == 0.0 && n.abs() < MOST);
            // Formatted without a fraction, it is the number itself.
            if let Some(whole) = whole.and_then(|n| format!("{n:.0}").parse::<i64>().ok()) {
                *value = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        _ => {}
    }
}
