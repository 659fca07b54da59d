//! Brings objects of a custom kind from one version to another by asking a webhook.
//!
//! Contract: what a cache holds stays in the version that it was stored in; it is converted on its way out. Several objects
//! go in one question, as many as its bounds allow, and few questions are under way at once for one list. What lists
//! and watches have been shown lately is remembered, and of many watchers that wait for the same change one asks. Reads of one
//! object and writes always ask. Objects that are in the right version already are never sent.
//!
//! The question and its answer are decided in `api::apiextensions::conversion`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::apiextensions::conversion::{self, CALL_FAILURE, Failure, Question};
use api::apiextensions::custom::Definition;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::WebhookConversion;
use machinery::{ApiError, Object};
use parking_lot::Mutex;
use store::Revision;

use crate::cache::Entry;
use crate::outbound::{Destination, Hook, Message};
use crate::resource::Resource;
use crate::server::Server;
use crate::write::create::new_uid;

/// As upstream's client of these webhooks.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Objects in one question ...
const BATCH: usize = 500;
/// ... and about how many bytes of them.
const BATCH_BYTES: usize = 1 << 20;
/// Questions of one list that are under way at once.
const UNDER_WAY: usize = 4;
/// A converted object is seldom so many times as long as it was.
const ANSWER_BYTES: usize = 16 << 20;
/// So much of one definition's objects is remembered as other versions show it.
const REMEMBERED_BYTES: usize = 8 << 20;

/// The webhook of one definition.
pub(crate) struct Converter {
    definition: Arc<Definition>,
    /// The definition's name.
    name: String,
    webhook: WebhookConversion,
    remembered: Mutex<Remembered>,
    /// Watchers ask one after the other, so that the second finds what the first was told.
    turn: tokio::sync::Mutex<()>,
}

impl Converter {
    /// For a definition that has a webhook.
    pub(super) fn of(definition: &Arc<Definition>) -> Option<Self> {
        Some(Self {
            name: format!("{}.{}", definition.plural(), definition.group),
            webhook: definition.conversion.clone()?,
            definition: definition.clone(),
            remembered: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Objects as a version shows them, in their order.
    ///
    /// # Errors
    /// The webhook cannot be asked or does not convert them.
    pub(crate) async fn convert(
        &self,
        server: &Server,
        objects: Vec<Object>,
        to: &api::KindRef,
    ) -> Result<Vec<Object>, ApiError> {
        let wanted = to.names().api_version();
        let mut foreign = Vec::new();
        for (place, object) in objects.iter().enumerate() {
            if object.api_version() != wanted {
                self.check_version(place, object, objects.len())?;
                foreign.push(place);
            }
        }
        if foreign.is_empty() {
            return Ok(objects);
        }
        let mut objects: Vec<Option<Object>> = objects.into_iter().map(Some).collect();
        // As upstream, where what is stored is converted before anybody says its version.
        let mut versions = Vec::new();
        let moved = foreign.iter().filter_map(|place| objects[*place].take());
        let moved = moved.map(|mut object| {
            versions.push(object.resource_version().to_owned());
            object.metadata_mut().remove("resourceVersion");
            object
        });
        let questions = batches(moved.collect()).into_iter();
        let answers = questions.map(|batch| self.ask(server, batch, &wanted));
        let answers = futures::stream::iter(answers).buffered(UNDER_WAY);
        let answers: Vec<Vec<Object>> = answers.try_collect().await?;
        let converted = answers.into_iter().flatten().zip(versions);
        for (place, (mut object, version)) in foreign.into_iter().zip(converted) {
            if !version.is_empty() {
                object.set_meta_str("resourceVersion", &version);
            }
            // A webhook may give fields that the version does not have.
            let _ = to.check_fields(&mut object, &[]);
            objects[place] = Some(object);
        }
        Ok(objects.into_iter().flatten().collect())
    }

    fn check_version(&self, place: usize, object: &Object, count: usize) -> Result<(), ApiError> {
        let version = object.api_version();
        if self.definition.has_version(version) {
            return Ok(());
        }
        let why = match count {
            1 => format!("request to convert CR from an invalid group/version: {version}"),
            _ => format!(
                "request to convert CR list failed, list index {place} has invalid group/version: {version}"
            ),
        };
        Err(ApiError::new(500, "", why))
    }

    /// What entries of the cache look like in the version of a resource; `shared` when others are about to ask the same.
    ///
    /// # Errors
    /// As [`Converter::convert`].
    pub(crate) async fn show(
        &self,
        server: &Server,
        entries: &[Arc<Entry>],
        to: &Resource,
        shared: bool,
    ) -> Result<Vec<Object>, ApiError> {
        let version = to.names().version.to_owned();
        let wanted = to.names().api_version();
        if let Some(all) = self.recall_all(entries, &version) {
            return Ok(all);
        }
        let turn = match shared {
            true => Some(self.turn.lock().await),
            false => None,
        };
        let mut shown: Vec<Option<Object>> = entries
            .iter()
            .map(|entry| self.recall(entry, &version))
            .collect();
        let missing: Vec<usize> = (0..shown.len()).filter(|i| shown[*i].is_none()).collect();
        let objects = missing
            .iter()
            .map(|i| entries[*i].decode().unwrap_or_default());
        let objects: Vec<Object> = objects.map(|object| to.in_own_form(object)).collect();
        let asked: Vec<bool> = objects.iter().map(|o| o.api_version() != wanted).collect();
        let converted = self.convert(server, objects, &to.kind).await?;
        for ((place, object), asked) in missing.into_iter().zip(converted).zip(asked) {
            if asked {
                self.remember(&entries[place], &version, &object);
            }
            shown[place] = Some(object);
        }
        drop(turn);
        Ok(shown.into_iter().flatten().collect())
    }

    /// Asks about some objects.
    async fn ask(
        &self,
        server: &Server,
        objects: Vec<Object>,
        wanted: &str,
    ) -> Result<Vec<Object>, ApiError> {
        let known = &self.webhook.conversion_review_versions;
        let version = conversion::review_version(known)
            .ok_or_else(|| ApiError::new(500, "", "no supported conversion review versions"))?;
        let uid = new_uid();
        let question = Question {
            version,
            uid: &uid,
            wanted,
            objects: &objects,
        };
        let started = Instant::now();
        let answer = match self.send(server, &question).await {
            Ok(body) => question.read(&body),
            Err(failure) => Err(failure),
        };
        let from = objects.first().map_or("", |o| o.api_version());
        let versions = (version_of(from), version_of(wanted));
        let result = answer.as_ref().map(drop).map_err(|failure| failure.counted);
        server
            .metrics()
            .webhooks
            .converted(&self.name, versions, started.elapsed(), result);
        answer.map_err(|failure| {
            tracing::warn!(definition = self.name, %failure, "objects were not converted");
            ApiError::new(500, "", failure.to_string())
        })
    }

    async fn send(
        &self,
        server: &Server,
        question: &Question<'_>,
    ) -> Result<bytes::Bytes, Failure> {
        let failed = |why: String| question.failure(format!("failed: {why}"), CALL_FAILURE);
        let (destination, path) = self.destination().map_err(failed)?;
        let seconds = TIMEOUT.as_secs();
        let message = Message {
            answer_limit: ANSWER_BYTES,
            ..Message::json(
                format!("{path}?timeout={seconds}s"),
                question.encode().into(),
                TIMEOUT,
            )
        };
        let answer = server
            .outbound()
            .exchange(server, &destination, message)
            .await;
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        answer.success().map_err(|error| failed(error.message))
    }

    fn destination(&self) -> Result<(Destination, String), String> {
        let missing = || "webhook configuration must have either service or URL".to_owned();
        let client = self.webhook.client_config.as_ref().ok_or_else(missing)?;
        let service = client.service.as_ref();
        let hook = Hook {
            url: client.url.as_deref(),
            service: service.map(|s| (s.namespace.as_str(), s.name.as_str(), s.port)),
            path: service.and_then(|s| s.path.as_deref()),
            authorities: client.ca_bundle.as_ref().map_or(&[], |bundle| &bundle.0),
        };
        hook.destination()
    }

    fn recall_all(&self, entries: &[Arc<Entry>], version: &str) -> Option<Vec<Object>> {
        entries
            .iter()
            .map(|entry| self.recall(entry, version))
            .collect()
    }

    fn recall(&self, entry: &Entry, version: &str) -> Option<Object> {
        let object = self.remembered.lock().get(entry, version)?;
        Some(Object::clone(&object))
    }

    fn remember(&self, entry: &Entry, version: &str, object: &Object) {
        let object = Arc::new(object.clone());
        self.remembered.lock().put(entry, version, object);
    }
}

fn version_of(api_version: &str) -> &str {
    api_version.rsplit('/').next().unwrap_or(api_version)
}

/// Objects in lots that are not too big.
fn batches(objects: Vec<Object>) -> Vec<Vec<Object>> {
    let mut batches = vec![Vec::new()];
    let mut bytes = 0;
    for object in objects {
        let own = object.encode().len();
        let full = batches.last().is_some_and(|b: &Vec<Object>| {
            b.len() == BATCH || (!b.is_empty() && bytes + own > BATCH_BYTES)
        });
        if full {
            batches.push(Vec::new());
            bytes = 0;
        }
        bytes += own;
        if let Some(batch) = batches.last_mut() {
            batch.push(object);
        }
    }
    batches
}

/// Version, object and revision.
type Place = (Box<str>, Arc<str>, Revision);

/// What objects looked like in other versions; the oldest go first.
#[derive(Default)]
struct Remembered {
    bytes: usize,
    objects: HashMap<Place, (Arc<Object>, usize)>,
    order: VecDeque<Place>,
}

impl Remembered {
    fn get(&self, entry: &Entry, version: &str) -> Option<Arc<Object>> {
        let place = (version.into(), entry.key.clone(), entry.revision);
        self.objects.get(&place).map(|(object, _)| object.clone())
    }

    fn put(&mut self, entry: &Entry, version: &str, object: Arc<Object>) {
        let place: Place = (version.into(), entry.key.clone(), entry.revision);
        // A tree takes several times the room of its text.
        let cost = entry.len() * 4;
        if self.objects.insert(place.clone(), (object, cost)).is_some() {
            return;
        }
        self.order.push_back(place);
        self.bytes += cost;
        while self.bytes > REMEMBERED_BYTES {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if let Some((_, cost)) = self.objects.remove(&oldest) {
                self.bytes -= cost;
            }
        }
    }
}
