//! Objects in the versions that their managers wrote them in.
//!
//! Who owns what is said in the version of each manager, and only its kind's owner can bring an object to another
//! version: maybe by asking a program elsewhere. So nothing here converts. A walk that misses an object in some version
//! ends with [`ApplyError::Wants`]; whoever drives it finds that out, has [`Versions`] learn it, and walks again.

use std::collections::BTreeMap;

use serde_json::Value;

use super::managers::Managers;
use super::set::FieldSet;
use super::{ApplyError, Comparison, Writer, compare, typed};
use crate::schema::Schema;

/// An object that is needed in another version.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The object.
    pub object: Value,
    /// The version.
    pub to: String,
}

/// What is known of objects in other versions than the writer's.
#[derive(Debug, Default)]
pub struct Versions {
    /// None: there is no such version.
    schemas: BTreeMap<String, Option<Schema>>,
    views: Vec<(Wanted, Value)>,
}

/// An object in a version, with the schema of that.
pub(super) struct View<'a> {
    pub(super) object: Value,
    pub(super) schema: &'a Schema,
}

impl Versions {
    /// Takes in what came of a wish: the object and its schema, or that there is no such version.
    pub fn learn(&mut self, wanted: Wanted, found: Option<(Value, Schema)>) {
        let Some((object, schema)) = found else {
            self.schemas.insert(wanted.to, None);
            return;
        };
        self.schemas.insert(wanted.to.clone(), Some(schema));
        self.views.push((wanted, object));
    }

    /// An object in a version; none if there is no such version.
    pub(super) fn view<'a>(
        &'a self,
        object: &Value,
        to: &str,
        writer: &Writer<'a>,
    ) -> Result<Option<View<'a>>, ApplyError> {
        let wanted = || Wanted {
            object: object.clone(),
            to: to.to_owned(),
        };
        let schema = match self.schemas.get(to) {
            _ if to == writer.api_version => Some(writer.schema),
            Some(known) => known.as_ref(),
            None => return Err(ApplyError::Wants(Box::new(wanted()))),
        };
        let Some(schema) = schema else {
            return Ok(None);
        };
        if object.get("apiVersion").and_then(Value::as_str) == Some(to) {
            let object = object.clone();
            return Ok(Some(View { object, schema }));
        }
        let known = self.views.iter();
        let mut known = known.filter(|(wish, _)| wish.to == to && wish.object == *object);
        let Some((_, object)) = known.next() else {
            return Err(ApplyError::Wants(Box::new(wanted())));
        };
        let object = object.clone();
        Ok(Some(View { object, schema }))
    }
}

/// What differs between two versions of an object, as each manager sees it.
pub(super) struct Compared<'a> {
    writer: &'a Writer<'a>,
    old: &'a Value,
    new: &'a Value,
    own: Comparison,
    /// None: there is no such version.
    others: BTreeMap<String, Option<Comparison>>,
}

impl<'a> Compared<'a> {
    /// Compares for all these managers.
    pub(super) fn of(
        old: &'a Value,
        new: &'a Value,
        managers: &Managers,
        writer: &'a Writer<'a>,
    ) -> Result<Self, ApplyError> {
        let mut all = Self {
            own: compare(old, new, writer.schema).without(writer.reset_fields),
            writer,
            old,
            new,
            others: BTreeMap::new(),
        };
        for owned in managers.values() {
            let version = owned.api_version.as_str();
            if version != writer.api_version && !all.others.contains_key(version) {
                let there = all.compare_in(version)?;
                all.others.insert(version.to_owned(), there);
            }
        }
        Ok(all)
    }

    fn compare_in(&self, version: &str) -> Result<Option<Comparison>, ApplyError> {
        // Nothing is nothing in every version.
        if self.old.as_object().is_none_or(serde_json::Map::is_empty) {
            return Ok(Some(self.own.clone()));
        }
        let view = |object| self.writer.versions.view(object, version, self.writer);
        let (Some(old), Some(new)) = (view(self.old)?, view(self.new)?) else {
            return Ok(None);
        };
        let there = compare(&old.object, &new.object, new.schema);
        Ok(Some(there.without(self.writer.reset_fields)))
    }

    /// In the writer's version.
    pub(super) fn into_own(self) -> Comparison {
        self.own
    }

    /// In a manager's version; none if there is no such version.
    pub(super) fn at(&self, version: &str) -> Option<&Comparison> {
        match version == self.writer.api_version {
            true => Some(&self.own),
            false => self.others.get(version)?.as_ref(),
        }
    }
}

/// What nobody owns any more, taken away step by step from an object that is seen in one version after the other.
pub(super) struct Shrinking {
    /// The object before.
    pub(super) merged: Value,
    /// What is left of it.
    pub(super) pruned: Value,
}

impl Shrinking {
    /// Gives back what managers own in a version; nothing happens if there is no such version.
    pub(super) fn give_back(
        &mut self,
        version: &str,
        owned: &FieldSet,
        writer: &Writer<'_>,
        without: &dyn Fn(&Value, &FieldSet, &Schema) -> Value,
        fields: &dyn Fn(&Value, &Schema) -> FieldSet,
    ) -> Result<(), ApplyError> {
        let view = |object| writer.versions.view(object, version, writer);
        let (Some(merged), Some(pruned)) = (view(&self.merged)?, view(&self.pruned)?) else {
            return Ok(());
        };
        let schema = merged.schema;
        let all = fields(&merged.object, schema);
        let kept = fields(&pruned.object, schema).union(&owned.with_named_fields(schema));
        self.pruned = without(&merged.object, &all.difference(&kept), schema);
        self.merged = merged.object;
        Ok(())
    }
}

/// An object in the version that it was last applied in.
pub(super) fn as_last_applied<'a>(
    merged: &Value,
    version: &str,
    writer: &Writer<'a>,
) -> Result<Option<View<'a>>, ApplyError> {
    let view = writer.versions.view(merged, version, writer)?;
    if let Some(view) = view.as_ref().filter(|_| version != writer.api_version) {
        typed::check(&view.object, view.schema).map_err(|why| {
            let step = "failed to convert merged object to last applied version";
            ApplyError::Invalid(format!("failed to prune fields: {step}: {why}"))
        })?;
    }
    Ok(view)
}
