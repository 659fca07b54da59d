//! The face of a kind: the tree on one side, typed views on the other.

use std::borrow::Cow;
use std::marker::PhantomData;

use jiff::Timestamp;
use machinery::table::{ColumnOf, Row};
use machinery::{ErrorList, Object};
use serde_json::{Map, Value};

use super::says::says;
use super::told::show_empties;
use super::{
    AnyKind, Context, Dependents, Kind, Named, Part, ScalePaths, Scope, Subresource, Verb, Words,
    keep_metadata, name_and_age,
};

/// Gives a [`Kind`] its object-safe face.
pub struct Erased<K>(PhantomData<K>);

impl<K> Erased<K> {
    /// The face of `K`; const, for the static table.
    #[expect(
        clippy::new_without_default,
        reason = "only the static table makes these"
    )]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K: Kind> AnyKind for Erased<K> {
    fn names(&self) -> Named<'_> {
        K::NAMES
    }
    fn scope(&self) -> Scope {
        K::SCOPE
    }
    fn verbs(&self) -> &'static [Verb] {
        K::VERBS
    }
    fn subresources(&self) -> &'static [Subresource] {
        K::SUBRESOURCES
    }
    fn columns(&self) -> Vec<ColumnOf<'_>> {
        K::COLUMNS.to_vec()
    }
    fn scale(&self) -> Option<ScalePaths> {
        let owned = |path: &[&str]| path.iter().map(|p| (*p).into()).collect();
        K::SUBRESOURCES.iter().find_map(|s| match s {
            Subresource::Scale {
                spec_replicas,
                status_replicas,
                selector,
            } => Some(ScalePaths {
                spec_replicas: owned(spec_replicas),
                status_replicas: owned(status_replicas),
                selector: owned(selector),
            }),
            _ => None,
        })
    }
    fn has_generation(&self) -> bool {
        K::HAS_GENERATION
    }
    fn generation_counts(&self) -> &'static [&'static str] {
        match (
            K::GENERATION_COUNTS_ANNOTATIONS,
            K::GENERATION_COUNTS_LABELS,
        ) {
            (true, _) => &["annotations"],
            (false, true) => &["labels"],
            (false, false) => &[],
        }
    }
    fn resets(&self, part: Part) -> &'static [&'static [&'static str]] {
        match part {
            Part::Status => K::STATUS_RESETS,
            Part::Approval => &[&["spec"], &["status", "certificate"]],
            _ if K::SUBRESOURCES.contains(&Subresource::Part(Part::Status)) => K::RESETS,
            _ => &[],
        }
    }
    fn dependents(&self) -> Dependents {
        K::DEPENDENTS
    }
    fn grace_period_seconds(&self, object: &Object) -> Option<i64> {
        K::grace_period_seconds(object)
    }
    fn grace_period(&self, object: &Object, requested: Option<i64>) -> Option<i64> {
        K::grace_period(object, requested)
    }
    fn create_on_update(&self) -> bool {
        K::CREATE_ON_UPDATE
    }
    fn unconditional_update(&self) -> bool {
        K::UNCONDITIONAL_UPDATE
    }
    fn returns_deleted(&self) -> bool {
        K::RETURNS_DELETED
    }
    fn from_stored(&self, object: &mut Object) {
        K::from_stored(object);
    }
    fn to_stored(&self, object: &mut Object) {
        K::to_stored(object);
    }
    fn default(&self, object: &mut Object) -> Result<(), serde_json::Error> {
        crate::nulls::settle(object, &K::NAMES);
        K::read(object);
        crate::nulls::settle_conditions(object, &K::NAMES);
        let mut view: K::Object = object.view().map_err(as_go)?;
        K::default(&mut view);
        let tree = Value::Object(std::mem::take(&mut object.0));
        let is_done = says(&view, &tree);
        if let Value::Object(fields) = tree {
            object.0 = fields;
        }
        if is_done {
            return Ok(());
        }
        let before: K::Object = object.view()?;
        let after = serde_json::to_value(&view)?;
        if view == before {
            if let Value::Object(after) = after {
                settle_map(&mut object.0, after);
            }
            return Ok(());
        }
        let before = serde_json::to_value(&before)?;
        if let (Value::Object(before), Value::Object(after)) = (before, after) {
            overlay_map(&mut object.0, Some(&before), after);
        }
        Ok(())
    }
    fn prepare_create(&self, context: &Context, new: &mut Object) {
        K::prepare_create(context, new);
    }
    fn prepare_update(&self, context: &Context, part: Part, new: &mut Object, old: &Object) {
        K::prepare_update(context, part, new, old);
        if part == Part::Status && K::STATUS_RESETS.contains(&["metadata"].as_slice()) {
            keep_metadata(new, old);
        }
    }
    fn prepare_delete(&self, context: &Context, new: &mut Object) -> bool {
        K::prepare_delete(context, new)
    }
    fn validate_create(
        &self,
        context: &Context,
        new: &Object,
    ) -> Result<ErrorList, serde_json::Error> {
        let mut errors = K::validate_create(context, &new.view()?);
        correct::<K>(&mut errors, new);
        crate::go::show(&mut errors, || self.schema());
        Ok(errors)
    }
    fn validate_update(
        &self,
        context: &Context,
        part: Part,
        new: &Object,
        old: &Object,
    ) -> Result<ErrorList, serde_json::Error> {
        let mut errors = K::validate_update(context, part, &new.view()?, &old.view()?);
        correct::<K>(&mut errors, new);
        crate::go::show(&mut errors, || self.schema());
        Ok(errors)
    }
    fn warnings(&self, new: &Object) -> Vec<String> {
        if !K::MAY_WARN {
            return Vec::new();
        }
        new.view()
            .map(|view| K::warnings(&view))
            .unwrap_or_default()
    }
    fn update_warnings(&self, part: Part, new: &Object, old: &Object) -> Vec<String> {
        if !K::MAY_WARN || !K::WARNS_ON.contains(&part) {
            return Vec::new();
        }
        match (new.view(), old.view()) {
            (Ok(new), Ok(old)) => K::update_warnings(part, &new, &old),
            _ => Vec::new(),
        }
    }
    fn unprepared_warnings(&self, new: &Object) -> Vec<String> {
        K::unprepared_warnings(new)
    }
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        K::validate_name(name, prefix)
    }
    fn selectable_fields(&self, object: &Object) -> Vec<(Cow<'static, str>, String)> {
        let fields = K::selectable_fields(object).into_iter();
        fields.map(|(name, value)| (name.into(), value)).collect()
    }
    fn selectable(&self) -> Words<'_> {
        Words::Fixed(K::SELECTABLE)
    }
    fn stored_field(&self, field: &str) -> Option<&'static str> {
        K::stored_field(field)
    }
    fn row(&self, object: &Object, now: Timestamp) -> Row {
        match object.view() {
            Ok(view) => K::row(&view, object, now),
            Err(_) => name_and_age(object, now),
        }
    }
    fn mark_rows(&self, objects: &[Object], rows: &mut [Row]) {
        K::mark_rows(objects, rows);
    }
    fn deprecation(&self) -> Option<String> {
        K::DEPRECATION.map(str::to_owned)
    }
    fn schema_name(&self) -> String {
        <K::Object as schemars::JsonSchema>::schema_name().into_owned()
    }
}

/// Says what Go's own decoders of a few types say.
fn as_go(error: serde_json::Error) -> serde_json::Error {
    match error
        .to_string()
        .ends_with("expected JSONSchemaPropsOrBool")
    {
        true => serde::de::Error::custom("boolean or JSON schema expected"),
        false => error,
    }
}

/// Tells errors by what was written.
fn correct<K: Kind>(errors: &mut ErrorList, new: &Object) {
    if !errors.is_empty() {
        K::correct(errors, new);
        show_empties(errors, new);
    }
}

/// Brings what is there to the form that its view gives it, where nothing was defaulted.
fn settle_map(there: &mut Map<String, Value>, view: Map<String, Value>) {
    for (key, value) in view {
        if let Some(slot) = there.get_mut(&key) {
            settle(slot, value);
        }
    }
}

fn settle(there: &mut Value, view: Value) {
    match (there, view) {
        (Value::Object(there), Value::Object(view)) => settle_map(there, view),
        (Value::Array(there), Value::Array(view)) if there.len() == view.len() => {
            (there.iter_mut().zip(view)).for_each(|(slot, value)| settle(slot, value));
        }
        (slot, value) => settle_leaf(slot, value),
    }
}

fn settle_leaf(there: &mut Value, view: Value) {
    match (there, view) {
        // A whole number stays one where the view knows floats.
        (Value::Number(slot), Value::Number(value)) if slot.as_f64() == value.as_f64() => {}
        (slot, value) if *slot != value => *slot = value,
        _ => {}
    }
}

/// Brings the tree to what defaulting made of its view: `before` became `after`. What the view does not know, or holds
/// empty, stays as it was written; a scalar takes the view's form (a default for an empty string, a quantity in canonical
/// form). A field that the view merely makes up because its type has no way to be absent is not written.
fn overlay_map(
    there: &mut Map<String, Value>,
    before: Option<&Map<String, Value>>,
    after: Map<String, Value>,
) {
    for key in before.into_iter().flat_map(Map::keys) {
        if !after.contains_key(key) {
            there.remove(key);
        }
    }
    for (key, value) in after {
        let was = before.and_then(|b| b.get(&key));
        match there.get_mut(&key) {
            Some(slot) => overlay_value(slot, was, value),
            None if was == Some(&value) => {}
            None => drop(there.insert(key, value)),
        }
    }
}

fn overlay_value(there: &mut Value, before: Option<&Value>, after: Value) {
    match (there, after) {
        (Value::Object(there), Value::Object(after)) => {
            overlay_map(there, before.and_then(Value::as_object), after);
        }
        (Value::Array(there), Value::Array(after)) if there.len() == after.len() => {
            let before = before.and_then(Value::as_array);
            for (i, (slot, value)) in there.iter_mut().zip(after).enumerate() {
                overlay_value(slot, before.and_then(|b| b.get(i)), value);
            }
        }
        (slot, value) => settle_leaf(slot, value),
    }
}
