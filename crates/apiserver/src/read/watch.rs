//! Watches: the changes of a resource as they happen, from the watch cache.
//!
//! Contract: every change after the revision that the client named, once and in order; or an ERROR event with code 410
//! when some of them are no longer kept. Changes that enter or leave the selection are ADDED or DELETED. The encoded
//! event is shared between watchers. Bookmarks are sent when the client asked for them: at the end of the initial
//! events, before the watch ends, and after a minute's worth of changes that were not for this watcher; an idle watch
//! has no timer but its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use machinery::{ApiError, Object};
use rand::RngExt;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::converted::Converting;
use super::options::ListOptions;
use crate::body::{Body, BoxError};
use crate::cache::{
    Cache, Change, Cursor, Entry, Selection, Step, Subscription, Told, Wire, write_event,
    write_value_event,
};
use crate::call::Call;
use crate::metrics::WatchGuard;
use crate::resource::Resource;
use crate::shape::Shaper;

/// No watch lives longer, whatever it asks for.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
const STEP: usize = 128;
const CHUNK_BYTES: usize = 32 * 1024;

/// Answers with a stream of changes.
pub(crate) async fn watch(
    call: &Arc<Call>,
    resource: &Resource,
) -> Result<Response<Body>, ApiError> {
    let shaper = Shaper::of(call, resource)?;
    let options = ListOptions::parse(call, resource)?;
    let storage = resource.storage("watch")?;
    let cache = storage.cache.clone();
    let lifetime = match options.timeout_seconds {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds).min(MAX_LIFETIME),
        _ => (call.server.limits().min_request_timeout).mul_f64(1.0 + rand::rng().random::<f64>()),
    };
    let began = Instant::now();
    let subscription = Subscription::new(&cache, &options.selection);
    let mut start = start(&cache, &options).await?;
    if let Place::Initial(_, cursor, _) | Place::Following(cursor) = &mut start.place {
        cursor.listen(&subscription);
    }
    let content_type = shaper.form.media.as_stream();
    let watcher = Watcher {
        deadline: Instant::now() + lifetime,
        bookmarks: options.bookmarks,
        subscription,
        cache,
        selection: options.selection,
        shaper,
        first: true,
        last_bookmark: Instant::now(),
        revision: start.revision,
        told_revision: start.revision,
        shutdown: call.server.shutdown_token(),
        closed: storage.closed.clone(),
        counted: call.server.metrics().watch(&resource.names()),
        began,
        converting: Converting::of(&call.server, resource),
        place: start.place,
    };
    let frames = futures::stream::unfold(watcher, |mut watcher| async move {
        let next = watcher.next().await?;
        Some((Ok::<Bytes, BoxError>(next), watcher))
    });
    let mut response = Response::new(Body::stream(frames));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(response)
}

struct Start {
    place: Place,
    revision: u64,
}

/// What comes next.
enum Place {
    /// The state at the beginning, and whether a bookmark ends it.
    Initial(VecDeque<Arc<Entry>>, Cursor, bool),
    Following(Cursor),
    /// Only this error is left to tell.
    Failed(ApiError),
    Over,
}

/// As upstream: what a list calls a bad request, is an error of the server here.
fn unreadable(error: ApiError) -> ApiError {
    let why = error
        .message
        .trim_start_matches("invalid resource version: ");
    ApiError::new(500, "", why)
}

async fn start(cache: &Cache, options: &ListOptions) -> Result<Start, ApiError> {
    let revision = options.revision().map_err(unreadable)?;
    let initial = options.send_initial_events;
    let state_first = initial.unwrap_or(matches!(revision, None | Some(0)));
    match revision {
        // A watch list without a revision is as consistent as a list; an old style watch too.
        None if initial == Some(false) => {}
        None => cache.wait_fresh().await?,
        Some(0) => {}
        Some(wanted) if initial == Some(true) => cache.wait_for(wanted).await?,
        Some(_) => {}
    }
    if state_first {
        let (snapshot, cursor) = cache.snapshot_and_cursor(&options.selection);
        let ends = initial == Some(true) && options.bookmarks;
        let place = Place::Initial(snapshot.entries.into(), cursor, ends);
        return Ok(Start {
            place,
            revision: snapshot.revision,
        });
    }
    match revision {
        None | Some(0) => {
            cache.wait_fresh().await?;
            let nothing = Selection::namespace("\0");
            let (snapshot, cursor) = cache.snapshot_and_cursor(&nothing);
            Ok(Start {
                place: Place::Following(cursor),
                revision: snapshot.revision,
            })
        }
        Some(revision) => {
            // Told inside the stream, as upstream does.
            let place = match cache.cursor_after(revision) {
                Ok(cursor) => Place::Following(cursor),
                Err(error) => Place::Failed(error),
            };
            Ok(Start { place, revision })
        }
    }
}

struct Watcher {
    cache: Arc<Cache>,
    subscription: Subscription,
    selection: Selection,
    shaper: Shaper,
    place: Place,
    /// Nothing was sent yet: a table still has to define its columns.
    first: bool,
    bookmarks: bool,
    last_bookmark: Instant,
    /// Everything up to here was told or is not for this watcher.
    revision: u64,
    /// The newest revision that the client knows.
    told_revision: u64,
    deadline: Instant,
    shutdown: CancellationToken,
    /// The kind has become another one.
    closed: CancellationToken,
    counted: WatchGuard,
    began: Instant,
    /// Where objects come to this version by asking somebody.
    converting: Option<Converting>,
}

impl Watcher {
    /// The next bytes for the client; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match std::mem::replace(&mut self.place, Place::Over) {
                Place::Over => return None,
                Place::Failed(error) => return Some(self.error_frame(&error)),
                Place::Initial(entries, cursor, ends) => {
                    if let Some(bytes) = self.initial(entries, cursor, ends).await {
                        return Some(bytes);
                    }
                }
                Place::Following(cursor) => {
                    if let Some(bytes) = self.follow(cursor).await {
                        return Some(bytes);
                    }
                }
            }
        }
    }

    async fn initial(
        &mut self,
        mut entries: VecDeque<Arc<Entry>>,
        cursor: Cursor,
        ends: bool,
    ) -> Option<Bytes> {
        let mut out = Vec::new();
        if let Some(converting) = self.converting_entries(&entries) {
            let batch: Vec<_> = entries.drain(..entries.len().min(STEP)).collect();
            let shown = converting.initial(&self.selection, &batch);
            match self.unless_over(shown).await {
                Ok(shown) => self.write_shown(&mut out, shown),
                Err(place) => {
                    self.place = place;
                    return None;
                }
            }
        }
        while self.converting_entries(&entries).is_none() && out.len() < CHUNK_BYTES {
            let Some(entry) = entries.pop_front() else {
                break;
            };
            self.write(&mut out, self.shaper.wire(), Told::Added, &entry);
        }
        if entries.is_empty() {
            if ends {
                self.write_bookmark(&mut out, true);
                let scope = match self.selection.key_prefix.is_empty() {
                    true => "cluster",
                    false => "namespace",
                };
                self.counted.listed(scope, self.began.elapsed());
            }
            self.place = Place::Following(cursor);
        } else {
            self.place = Place::Initial(entries, cursor, ends);
        }
        (!out.is_empty()).then(|| Bytes::from(out))
    }

    async fn follow(&mut self, mut cursor: Cursor) -> Option<Bytes> {
        self.subscription.changed.borrow_and_update();
        let (changes, complete) = match self.cache.advance(&mut cursor, STEP) {
            Step::Changes(changes, complete) => (changes, complete),
            Step::Lost => {
                let why = format!("too old resource version: {}", self.revision);
                self.place = Place::Failed(ApiError::expired(why));
                return None;
            }
        };
        let idle = changes.is_empty();
        let told = match &self.converting {
            Some(converting) if converting.is_needed(&self.selection, &changes) => {
                self.tell_converted(&changes).await
            }
            _ => Ok(self.tell(&changes)),
        };
        let out = match told {
            Ok(out) => out,
            Err(place) => {
                self.place = place;
                return None;
            }
        };
        // A client may have named a revision that is still to come.
        self.revision = self.revision.max(complete);
        if let Some(out) = out {
            self.told_revision = self.revision;
            self.place = Place::Following(cursor);
            return Some(out);
        }
        if self.bookmarks
            && self.last_bookmark.elapsed() >= BOOKMARK_EVERY
            && self.revision > self.told_revision
        {
            let mut out = Vec::new();
            self.write_bookmark(&mut out, false);
            self.place = Place::Following(cursor);
            return Some(out.into());
        }
        if !idle {
            self.place = Place::Following(cursor);
            return None;
        }
        self.wait(cursor).await
    }

    /// Waits for more, or for the end.
    async fn wait(&mut self, mut cursor: Cursor) -> Option<Bytes> {
        let (shutdown, closed) = (self.shutdown.clone(), self.closed.clone());
        tokio::select! {
            changed = self.subscription.changed.changed() => {
                if changed.is_ok() {
                    self.place = Place::Following(cursor);
                }
                None
            }
            () = tokio::time::sleep_until(self.deadline) => {
                // The last bookmark spares the client a list when it comes back.
                match self.cache.advance(&mut cursor, STEP) {
                    Step::Changes(changes, complete) if changes.is_empty() && self.bookmarks => {
                        self.revision = self.revision.max(complete);
                        let mut out = Vec::new();
                        self.write_bookmark(&mut out, false);
                        Some(out.into())
                    }
                    _ => None,
                }
            }
            () = shutdown.cancelled() => None,
            () = closed.cancelled() => None,
        }
    }

    fn tell(&mut self, changes: &[Arc<Change>]) -> Option<Bytes> {
        let from = self.revision;
        let told = changes.iter().filter(|c| c.revision > from);
        let mut told = told
            .filter_map(|c| Some((c, c.told(&self.selection)?)))
            .peekable();
        let (first, what) = told.next()?;
        let wire = self.shaper.wire();
        if let (None, Some(wire)) = (told.peek(), wire) {
            let frame = first.frame(&self.cache, wire, what);
            self.counted.tell(frame.len());
            return Some(frame);
        }
        let rest: Vec<_> = std::iter::once((first, what)).chain(told).collect();
        let mut out = Vec::new();
        for (change, what) in rest {
            match wire {
                Some(wire) => {
                    let frame = change.frame(&self.cache, wire, what);
                    self.counted.tell(frame.len());
                    out.extend_from_slice(&frame);
                }
                None => self.write(&mut out, None, what, &change.state(what)),
            }
        }
        Some(out.into())
    }

    fn write(&mut self, out: &mut Vec<u8>, wire: Option<Wire>, told: Told, entry: &Arc<Entry>) {
        let before = out.len();
        if let Some(wire) = wire {
            write_event(out, &self.cache, wire, told, entry);
            return self.counted.tell(out.len() - before);
        }
        let Some(object) = entry.decode() else { return };
        let object = self.shaper.resource.in_own_form(object);
        let object = self.shaper.event(object, std::mem::take(&mut self.first));
        write_value_event(out, self.shaper.form.media, told.as_str(), object);
        self.counted.tell(out.len() - before);
    }

    /// Who converts the next objects that the watch begins with, if they are to be.
    fn converting_entries(&self, entries: &VecDeque<Arc<Entry>>) -> Option<&Converting> {
        let converting = self.converting.as_ref()?;
        let (next, _) = entries.as_slices();
        let next = &next[..next.len().min(STEP)];
        converting
            .is_needed_for(&self.selection, next)
            .then_some(converting)
    }

    async fn tell_converted(&mut self, changes: &[Arc<Change>]) -> Result<Option<Bytes>, Place> {
        let Some(converting) = &self.converting else {
            return Ok(None);
        };
        let news: Vec<&Arc<Change>> = changes
            .iter()
            .filter(|c| c.revision > self.revision)
            .collect();
        let shown = converting.changes(&self.selection, &news);
        let shown = self.unless_over(shown).await?;
        let mut out = Vec::new();
        self.write_shown(&mut out, shown);
        Ok((!out.is_empty()).then(|| out.into()))
    }

    /// Waits for objects; the watch may be over before they are there.
    async fn unless_over<T>(
        &self,
        work: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, Place> {
        tokio::select! {
            done = work => done.map_err(Place::Failed),
            () = self.shutdown.cancelled() => Err(Place::Over),
            () = self.closed.cancelled() => Err(Place::Over),
        }
    }

    fn write_shown(&mut self, out: &mut Vec<u8>, shown: Vec<(Told, Object)>) {
        for (told, object) in shown {
            let object = self.shaper.event(object, std::mem::take(&mut self.first));
            let before = out.len();
            write_value_event(out, self.shaper.form.media, told.as_str(), object);
            self.counted.tell(out.len() - before);
        }
    }

    fn error_frame(&self, error: &ApiError) -> Bytes {
        let mut out = Vec::new();
        let media = self.shaper.form.media;
        write_value_event(&mut out, media, "ERROR", error.to_status());
        out.into()
    }

    fn write_bookmark(&mut self, out: &mut Vec<u8>, initial_end: bool) {
        let names = self.shaper.resource.names();
        let mut metadata = json!({
            "resourceVersion": self.revision.to_string(), "creationTimestamp": null,
        });
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match &self.shaper.form.shape {
            crate::negotiate::Shape::Table(version) => json!({
                "kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": metadata, "columnDefinitions": null, "rows": [],
            }),
            crate::negotiate::Shape::Partial(version) => json!({
                "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": metadata,
            }),
            crate::negotiate::Shape::Object => json!({
                "kind": names.kind, "apiVersion": names.api_version(), "metadata": metadata,
            }),
        };
        let before = out.len();
        write_value_event(out, self.shaper.form.media, "BOOKMARK", object);
        self.counted.tell(out.len() - before);
        self.last_bookmark = Instant::now();
        self.told_revision = self.revision;
    }
}
