//! What a watch tells of objects that a webhook brings to the version that is watched.
//!
//! Contract: the changes of one step go in one question. Fields that only the shown version has are looked at here: an object
//! that enters such a selection is ADDED, one that leaves it is DELETED, as everywhere.

use std::collections::HashMap;
use std::sync::Arc;

use machinery::{ApiError, Object};
use store::EventKind;

use crate::cache::{Change, Entry, Selection, Told};
use crate::resource::Resource;
use crate::server::Server;

/// Converts for one watch.
pub(super) struct Converting {
    server: Arc<Server>,
    resource: Resource,
}

/// The states of an object before and after a change, where they are selected as far as the cache can say.
struct States<'a> {
    change: &'a Change,
    before: Option<Arc<Entry>>,
    after: Option<Arc<Entry>>,
}

impl Converting {
    /// For a watch of a resource whose objects somebody converts.
    pub(super) fn of(server: &Arc<Server>, resource: &Resource) -> Option<Self> {
        resource.converter()?;
        Some(Self {
            server: server.clone(),
            resource: resource.clone(),
        })
    }

    /// Whether changes have to be shown in another form than the cache's.
    pub(super) fn is_needed(&self, selection: &Selection, changes: &[Arc<Change>]) -> bool {
        let foreign = |change: &Arc<Change>| {
            change.object.is_foreign() || change.previous.as_ref().is_some_and(|p| p.is_foreign())
        };
        self.resource.is_converted()
            || !selection.shown.is_everything()
            || changes.iter().any(foreign)
    }

    /// Whether entries have to be.
    pub(super) fn is_needed_for(&self, selection: &Selection, entries: &[Arc<Entry>]) -> bool {
        self.resource.is_converted()
            || !selection.shown.is_everything()
            || entries.iter().any(|entry| entry.is_foreign())
    }

    /// The objects that a watch begins with.
    ///
    /// # Errors
    /// They are not converted.
    pub(super) async fn initial(
        &self,
        selection: &Selection,
        entries: &[Arc<Entry>],
    ) -> Result<Vec<(Told, Object)>, ApiError> {
        let objects = self.show(entries).await?;
        let chosen = objects.into_iter().filter(|o| self.chosen(selection, o));
        Ok(chosen.map(|object| (Told::Added, object)).collect())
    }

    /// What is told of changes.
    ///
    /// # Errors
    /// They are not converted.
    pub(super) async fn changes(
        &self,
        selection: &Selection,
        changes: &[&Arc<Change>],
    ) -> Result<Vec<(Told, Object)>, ApiError> {
        let states: Vec<States<'_>> = changes
            .iter()
            .map(|change| States::of(change, selection))
            .collect();
        let whole = selection.shown.is_everything();
        let wanted = states.iter().flat_map(|s| s.wanted(whole));
        let wanted: Vec<Arc<Entry>> = wanted.cloned().collect();
        let objects = self.show(&wanted).await?;
        let places = wanted.iter().map(Arc::as_ptr);
        let shown: HashMap<*const Entry, Object> = places.zip(objects).collect();
        let told = states.iter().filter_map(|states| {
            let find = |entry: &Option<Arc<Entry>>| {
                let object = shown.get(&Arc::as_ptr(entry.as_ref()?))?;
                self.chosen(selection, object).then_some(object)
            };
            let (before, after) = match whole {
                // Where nothing else is asked of the state before, it need not be looked at.
                true if states.after.is_some() => (None, find(&states.after)),
                _ => (find(&states.before), find(&states.after)),
            };
            let was = before.is_some() || whole && states.before.is_some();
            states.told(was, before, after)
        });
        Ok(told.collect())
    }

    async fn show(&self, entries: &[Arc<Entry>]) -> Result<Vec<Object>, ApiError> {
        match self.resource.converter() {
            Some(converter) if !entries.is_empty() => {
                converter
                    .show(&self.server, entries, &self.resource, true)
                    .await
            }
            _ => Ok(Vec::new()),
        }
    }

    fn chosen(&self, selection: &Selection, object: &Object) -> bool {
        selection.chooses_shown(&*self.resource.kind, object)
    }
}

impl<'a> States<'a> {
    fn of(change: &'a Change, selection: &Selection) -> Self {
        let selected = |entry: &&Arc<Entry>| entry.matches(selection);
        let after = (change.kind == EventKind::Put).then_some(&change.object);
        Self {
            change,
            before: change.previous.as_ref().filter(selected).cloned(),
            after: after.filter(selected).cloned(),
        }
    }

    /// The states that have to be converted to say what is told.
    fn wanted(&self, whole: bool) -> impl Iterator<Item = &Arc<Entry>> {
        let before = self.before.as_ref();
        let before = before.filter(|_| !whole || self.after.is_none());
        before.into_iter().chain(&self.after)
    }

    fn told(
        &self,
        was: bool,
        before: Option<&Object>,
        after: Option<&Object>,
    ) -> Option<(Told, Object)> {
        match (was, after) {
            (false, Some(object)) => Some((Told::Added, object.clone())),
            (true, Some(object)) => Some((Told::Modified, object.clone())),
            (true, None) => {
                // The last state that was seen, under the revision at which it was over.
                let mut object = before?.clone();
                object.set_meta_str("resourceVersion", &self.change.revision.to_string());
                Some((Told::Deleted, object))
            }
            (false, None) => None,
        }
    }
}
