//! Lists: a consistent state of the store, from the watch cache where it is enough, streamed.
//!
//! Behaviour: `k8s.io/apiserver/pkg/storage/cacher/delegator`; an unset resourceVersion waits until the cache has
//! reached the store, `0` takes what is there, `n` waits for `n`. Pages after the first, and exact revisions, come from
//! the store's history.

use std::sync::Arc;
use std::time::Instant;

use http::Response;
use machinery::{ApiError, Object};
use serde_json::{Map, Value, json};

use super::options::ListOptions;
use super::page::{self, PageError, Token};
use super::stream;
use crate::body::Body;
use crate::cache::{Entry, Selection, Snapshot};
use crate::call::Call;
use crate::resource::{Resource, Storage};
use crate::respond;
use crate::shape::Shaper;

const EXPIRED: &str = "The resourceVersion for the provided list is too old.";
const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. \
    You can start a new list without the continue parameter, or use the continue token in this response to retrieve \
    the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that \
    were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// Answers with a list.
pub(crate) async fn list(call: &Call, resource: &Resource) -> Result<Response<Body>, ApiError> {
    let shaper = Shaper::of(call, resource)?;
    let options = ListOptions::parse(call, resource)?;
    let storage = resource.storage("list")?;
    match choose(call, storage, &options).await {
        Ok(chosen) => {
            shaper.check_number(true)?;
            answer(call, &shaper, &options.selection, chosen).await
        }
        Err(Missed::Error(error)) => Err(error),
        Err(Missed::Gone(inconsistent)) => {
            let mut status = ApiError::expired(CONTINUE_EXPIRED).to_status();
            status["metadata"] = json!({"continue": inconsistent});
            Ok(respond::value(410, &call.form, &status))
        }
    }
}

/// What the options of a list choose.
pub(crate) struct Chosen {
    pub(crate) snapshot: Snapshot,
    /// There is more of it.
    more: bool,
}

/// Why nothing can be chosen.
pub(crate) enum Missed {
    Error(ApiError),
    /// The page before this one is of a time that is not known any more; the token for a page of today.
    Gone(String),
}

impl From<ApiError> for Missed {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

impl From<Missed> for ApiError {
    fn from(missed: Missed) -> Self {
        match missed {
            Missed::Error(error) => error,
            Missed::Gone(_) => Self::expired(CONTINUE_EXPIRED),
        }
    }
}

/// Finds what the options of a list choose.
///
/// # Errors
/// See [`Missed`].
pub(crate) async fn choose(
    call: &Call,
    storage: &Storage,
    options: &ListOptions,
) -> Result<Chosen, Missed> {
    if !options.continue_token.is_empty() {
        return next_page(call, storage, options).await;
    }
    let selection = &options.selection;
    let revision = options.revision()?;
    if options.exact {
        let found = page::read(
            &call.server,
            storage,
            selection,
            None,
            revision,
            options.page(),
        )
        .await;
        let (snapshot, more) = found.map_err(|error| match error {
            PageError::Compacted => ApiError::expired(EXPIRED),
            PageError::Other(error) => error,
        })?;
        return Ok(Chosen { snapshot, more });
    }
    let of = (&*storage.group, &*storage.resource);
    let measures = &call.server.metrics().measures;
    let began = Instant::now();
    let fresh = match revision {
        None => storage.cache.wait_fresh().await,
        Some(0) => Ok(()),
        Some(revision) => storage.cache.wait_for(revision).await,
    };
    if revision != Some(0) {
        let consistent = revision.is_none().then_some(fresh.is_ok());
        measures.waited(of, began.elapsed(), consistent);
    }
    fresh?;
    // As upstream: a list that takes any state is never cut into pages.
    let limit = if revision == Some(0) {
        0
    } else {
        options.page()
    };
    let snapshot = storage.cache.snapshot(selection, limit);
    measures.listed(of, snapshot.entries.len());
    let more = snapshot.remaining > 0;
    Ok(Chosen { snapshot, more })
}

async fn next_page(
    call: &Call,
    storage: &Storage,
    options: &ListOptions,
) -> Result<Chosen, Missed> {
    let selection = &options.selection;
    let token = Token::decode(&options.continue_token, selection)?;
    if !matches!(options.resource_version.as_str(), "" | "0") {
        let why = "specifying resource version is not allowed when using continue";
        return Err(ApiError::bad_request(why).into());
    }
    let revision = u64::try_from(token.rv).ok().filter(|rv| *rv > 0);
    let found = page::read(
        &call.server,
        storage,
        selection,
        Some(&token),
        revision,
        options.page(),
    )
    .await;
    match found {
        Ok((snapshot, more)) => Ok(Chosen { snapshot, more }),
        Err(PageError::Other(error)) => Err(error.into()),
        Err(PageError::Compacted) => Err(Missed::Gone(token.inconsistent().encode())),
    }
}

impl Chosen {
    /// The metadata of the list.
    pub(crate) fn metadata(&self, selection: &Selection) -> Value {
        let snapshot = &self.snapshot;
        let mut metadata = Map::new();
        metadata.insert(
            "resourceVersion".into(),
            snapshot.revision.to_string().into(),
        );
        if let (true, Some(last)) = (self.more, snapshot.entries.last()) {
            let rv = i64::try_from(snapshot.revision).unwrap_or(i64::MAX);
            metadata.insert(
                "continue".into(),
                Token::after(&last.key, rv).encode().into(),
            );
            if selection.takes_all() {
                metadata.insert("remainingItemCount".into(), snapshot.remaining.into());
            }
        }
        Value::Object(metadata)
    }
}

async fn answer(
    call: &Call,
    shaper: &Shaper,
    selection: &Selection,
    chosen: Chosen,
) -> Result<Response<Body>, ApiError> {
    let metadata = chosen.metadata(selection);
    let snapshot = chosen.snapshot;
    let entries = &snapshot.entries;
    let may_be_foreign = shaper.resource.kind.converts_elsewhere();
    let is_foreign = may_be_foreign && entries.iter().any(|e| e.is_foreign());
    let as_stored = selection.shown.is_everything() && !is_foreign;
    let Some(wire) = shaper.wire().filter(|_| as_stored) else {
        let objects = shown(call, &shaper.resource, selection, entries).await?;
        let list = shaper.list(metadata, objects);
        return Ok(respond::value(200, &shaper.form, &list));
    };
    let storage = shaper.resource.storage("list")?;
    stream::answer(storage, shaper, wire, &metadata, snapshot.entries).await
}

/// What entries look like in the version of a resource: those that are selected there.
pub(crate) async fn shown(
    call: &Call,
    resource: &Resource,
    selection: &Selection,
    entries: &[Arc<Entry>],
) -> Result<Vec<Object>, ApiError> {
    let Some(converter) = resource.converter() else {
        let objects = entries.iter().filter_map(|entry| entry.decode());
        return Ok(objects.map(|object| resource.in_own_form(object)).collect());
    };
    let mut objects = converter
        .show(&call.server, entries, resource, false)
        .await?;
    objects.retain(|object| selection.chooses_shown(&*resource.kind, object));
    Ok(objects)
}
