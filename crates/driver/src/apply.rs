//! Carries a plan out, in its order: creations start slowly and then run side by side, deletions run side by side,
//! everything else one after the other. The first failure ends the actions; the status is written all the same.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use client::events::Recorder;
use control::caches::Written;
use control::store::version_of;
use control::{
    Action, Answer, Answers, Caches, Event, EventType, Failure, Plan, Question, Resource,
    StatusWrite, Target, Verb,
};
use futures::future::join_all;
use http::Method;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Client;
use serde_json::{Value, json};

use crate::items::{Counters, Pending};
use crate::request::{self, RequestError};

/// Deletions that run side by side.
const DELETIONS: usize = 16;
/// Creations of the last and largest slow-start batch that run side by side.
const CREATIONS: usize = 64;

/// Objects that are listed in one go.
const PAGE: usize = 500;
/// Only the metadata of what is listed.
const METADATA: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// What came of a plan.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Writes whose echo must be awaited.
    pub(crate) pending: Vec<Pending>,
    /// Answers to what was asked.
    pub(crate) answers: Answers,
    /// The first failure.
    pub(crate) failure: Option<Failure>,
    /// Whether that failure is only that somebody else was faster.
    pub(crate) lost_race: bool,
}

/// Carries plans of one controller out.
pub(crate) struct Applier<'a> {
    /// With the controller's identity.
    pub(crate) client: &'a Client,
    /// For events.
    pub(crate) recorder: &'a Recorder,
    /// For what to wait for.
    pub(crate) caches: &'a Caches,
    /// For counting.
    pub(crate) counters: &'a Counters,
}

/// One request's result: what was written, or what went wrong with which verb on which kind.
type Step = Result<Option<Pending>, (RequestError, Verb, Resource)>;

impl Applier<'_> {
    /// Carries out all of it, or as much as works.
    pub(crate) async fn apply(&self, plan: &Plan) -> Outcome {
        let mut outcome = Outcome::default();
        let mut rest = plan.actions.as_slice();
        while !rest.is_empty() && outcome.failure.is_none() {
            let run = run_length(rest);
            let (batch, after) = rest.split_at(run);
            rest = after;
            match &batch[0] {
                Action::Create { .. } => self.create_slowly(batch, &mut outcome).await,
                Action::Confirm(question) => self.ask(question, &mut outcome).await,
                _ => {
                    for chunk in batch.chunks(DELETIONS) {
                        let steps = join_all(chunk.iter().map(|a| self.act(a))).await;
                        outcome.take(steps);
                    }
                }
            }
        }
        if let Some(status) = &plan.status {
            let step = self.write_status(status).await;
            outcome.take([step]);
        }
        outcome
    }

    /// One, two, four ... at a time; a batch with a failure is the last.
    async fn create_slowly(&self, actions: &[Action], outcome: &mut Outcome) {
        let (mut rest, mut size) = (actions, 1);
        while !rest.is_empty() && outcome.failure.is_none() {
            let (batch, after) = rest.split_at(size.min(rest.len()));
            rest = after;
            size = (size * 2).min(CREATIONS);
            let steps = join_all(batch.iter().map(|a| self.act(a))).await;
            outcome.take(steps);
        }
    }

    /// One action, with its report.
    async fn act(&self, action: &Action) -> Step {
        let step = self.request(action).await;
        let Some(report) = action.report() else {
            return step;
        };
        match &step {
            Ok(Some(_)) => {
                if let Some((reason, message)) = &report.success {
                    self.tell(report, EventType::Normal, reason, message.clone());
                }
            }
            Ok(None) => {}
            Err((error, ..)) if error.is_conflict() => {}
            Err((error, ..)) => {
                if let Some((reason, prefix)) = &report.failure {
                    let message = format!("{prefix}{error}");
                    self.tell(report, EventType::Warning, reason, message);
                }
            }
        }
        step
    }

    fn tell(&self, report: &control::Report, event_type: EventType, reason: &str, message: String) {
        self.record(&Event {
            about: report.about.clone(),
            event_type,
            reason: reason.to_owned(),
            message,
        });
    }

    fn record(&self, event: &Event) {
        self.recorder.record(client::events::Event {
            about: event.about.clone(),
            event_type: match event.event_type {
                EventType::Normal => client::events::EventType::Normal,
                EventType::Warning => client::events::EventType::Warning,
            },
            reason: event.reason.clone(),
            action: String::new(),
            message: event.message.clone(),
        });
    }

    async fn request(&self, action: &Action) -> Step {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        match action {
            Action::Create { target, object, .. } => self.create(target, object).await,
            Action::Update {
                target,
                object,
                subresource,
                ..
            } => {
                let path = with_subresource(target, *subresource);
                let body = Some(("application/json", object));
                let verb = (Method::PUT, Verb::Update);
                self.write(verb, &target.resource, &path, body).await
            }
            Action::Patch {
                target,
                patch,
                subresource,
                ..
            } => {
                let path = with_subresource(target, *subresource);
                let body = Some((patch.media_type(), patch.body()));
                let verb = (Method::PATCH, Verb::Update);
                self.write(verb, &target.resource, &path, body).await
            }
            Action::Delete { .. } => self.delete(action).await,
            Action::Touch {
                target,
                resource_version,
            } => self.touch(target, resource_version).await,
            Action::DeleteCollection {
                resource,
                namespace,
            } => self.delete_all(resource, namespace).await,
            Action::Event(event) => {
                self.record(event);
                Ok(None)
            }
            Action::Confirm(_) => Ok(None),
        }
    }

    async fn create(&self, target: &Target, object: &Value) -> Step {
        let path = target.resource.collection_path(&target.key.namespace);
        let body = Some(("application/json", object));
        let verb = (Method::POST, Verb::Create);
        match self.write(verb, &target.resource, &path, body).await {
            // Nothing can be created any more, and nobody needs to hear about it.
            Err((error, ..)) if error.is_namespace_terminating() => Ok(None),
            step => step,
        }
    }

    async fn delete(&self, action: &Action) -> Step {
        let Action::Delete {
            target,
            uid,
            resource_version,
            propagation,
            grace_seconds,
            ..
        } = action
        else {
            return Ok(None);
        };
        let mut preconditions = json!({ "uid": uid });
        if let Some(version) = resource_version {
            preconditions["resourceVersion"] = version.as_str().into();
        }
        let mut options = json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions,
        });
        if let Some(propagation) = propagation {
            options["propagationPolicy"] = propagation.as_str().into();
        }
        if let Some(seconds) = grace_seconds {
            options["gracePeriodSeconds"] = (*seconds).into();
        }
        let body = Some(("application/json", &options));
        let sent = self.send(Method::DELETE, &target.path(), body).await;
        let written = match sent {
            Ok(answer) if answer["metadata"]["deletionTimestamp"].is_string() => {
                Written::At(version_in(&answer))
            }
            Ok(_) => Written::Deleted {
                key: target.key.clone(),
                uid: uid.clone(),
            },
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err((error, Verb::Delete, target.resource.clone())),
        };
        Ok(Some(self.pending(&target.resource, written)))
    }

    async fn touch(&self, target: &Target, version: &str) -> Step {
        let resource = &target.resource;
        let patch = json!({
            "apiVersion": resource.api_version(), "kind": resource.kind,
            "metadata": { "resourceVersion": version },
        });
        let body = Some(("application/merge-patch+json", &patch));
        match self.send(Method::PATCH, &target.path(), body).await {
            Ok(_) => Ok(None),
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(None),
            Err(error) => Err((error, Verb::Update, resource.clone())),
        }
    }

    async fn delete_all(&self, resource: &Resource, namespace: &str) -> Step {
        let path = resource.collection_path(namespace);
        let options = json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background",
        });
        let body = Some(("application/json", &options));
        match self.send(Method::DELETE, &path, body).await {
            Ok(_) => Ok(None),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err((error, Verb::Delete, resource.clone())),
        }
    }

    async fn write_status(&self, status: &StatusWrite) -> Step {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let path = format!("{}/status", status.target.path());
        let body = Some(("application/json", &status.object));
        let verb = (Method::PUT, Verb::Update);
        self.write(verb, &status.target.resource, &path, body).await
    }

    async fn write(
        &self,
        (method, verb): (Method, Verb),
        resource: &Resource,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Step {
        match self.send(method, path, body).await {
            Ok(answer) => {
                let written = Written::At(version_in(&answer));
                Ok(Some(self.pending(resource, written)))
            }
            Err(error) => Err((error, verb, resource.clone())),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Value, RequestError> {
        request::send(self.client, method, path, body, "application/json").await
    }

    fn pending(&self, resource: &Resource, written: Written) -> Pending {
        Pending {
            resource: resource.clone(),
            written,
            lists: self.caches.find(resource).map_or(0, |s| s.lists()),
        }
    }

    /// Asks the API whether the user of this review may do what stands in it.
    async fn review(&self, spec: &str) -> Result<Value, RequestError> {
        let spec: Value = serde_json::from_str(spec).unwrap_or_default();
        let body = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec,
        });
        let path = Resource::of::<SubjectAccessReview>().collection_path("");
        let json = "application/json";
        request::send(self.client, Method::POST, &path, Some((json, &body)), json).await
    }

    /// The metadata of all objects of a kind, page by page.
    async fn list_all(&self, resource: &Resource) -> Result<Value, RequestError> {
        let path = format!("{}?limit={PAGE}", resource.collection_path(""));
        let mut all = Vec::new();
        let mut next = String::new();
        loop {
            let path = format!("{path}&continue={next}");
            let mut page = request::send(self.client, Method::GET, &path, None, METADATA).await?;
            if let Value::Array(items) = page["items"].take() {
                all.extend(items);
            }
            // Tokens are made of letters that a URL takes as they are.
            next = page["metadata"]["continue"]
                .as_str()
                .unwrap_or("")
                .to_owned();
            if next.is_empty() {
                return Ok(json!({ "items": all }));
            }
        }
    }

    async fn ask(&self, question: &Question, outcome: &mut Outcome) {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let reviews = Resource::of::<SubjectAccessReview>();
        let (resource, asked) = match question {
            Question::Get(target) => {
                let path = target.path();
                (&target.resource, request::get(self.client, &path).await)
            }
            Question::List {
                resource,
                namespace,
            } => {
                let path = format!("{}?limit=500", resource.collection_path(namespace));
                (resource, request::get(self.client, &path).await)
            }
            Question::Latest(resource) => {
                let path = format!("{}?limit=1", resource.collection_path(""));
                (resource, request::get(self.client, &path).await)
            }
            Question::All(resource) => (resource, self.list_all(resource).await),
            Question::Access(spec) => (&reviews, self.review(spec).await),
        };
        let answer = match asked {
            Ok(value) if matches!(question, Question::Latest(_)) => {
                let version = &value["metadata"]["resourceVersion"];
                Answer::Version(version.as_str().unwrap_or_default().to_owned())
            }
            Ok(mut value) if matches!(question, Question::List { .. } | Question::All(_)) => {
                Answer::Items(match value["items"].take() {
                    Value::Array(items) => items.into_iter().map(metadata_of).collect(),
                    _ => Vec::new(),
                })
            }
            Ok(value) => Answer::Present(value),
            Err(error) if error.is_not_found() => Answer::Absent,
            Err(error) => {
                outcome.take([Err((error, Verb::Read, resource.clone()))]);
                return;
            }
        };
        outcome.answers.insert(question.clone(), answer);
    }
}

impl Outcome {
    fn take(&mut self, steps: impl IntoIterator<Item = Step>) {
        for step in steps {
            match step {
                Ok(Some(pending)) => self.pending.push(pending),
                Ok(None) => {}
                Err((error, verb, resource)) => {
                    if self.failure.is_none() {
                        self.lost_race = error.is_conflict();
                        self.failure = Some(error.to_failure(verb, &resource));
                    }
                }
            }
        }
        self.thin_out();
    }

    /// Of all versions written of one kind only the newest needs to be awaited.
    fn thin_out(&mut self) {
        let mut newest: BTreeMap<Resource, u64> = BTreeMap::new();
        for pending in &self.pending {
            if let Written::At(version) = pending.written {
                let known = newest.entry(pending.resource.clone()).or_default();
                *known = (*known).max(version);
            }
        }
        self.pending.retain(|pending| match pending.written {
            Written::At(version) => newest.get(&pending.resource) == Some(&version),
            Written::Deleted { .. } => true,
        });
    }
}

/// How many actions from the start belong together: creations of one kind, or deletions.
fn run_length(actions: &[Action]) -> usize {
    let same = |action: &&Action| match (&actions[0], action) {
        (Action::Create { target: first, .. }, Action::Create { target, .. }) => {
            first.resource == target.resource
        }
        (Action::Delete { .. }, Action::Delete { .. })
        | (Action::Touch { .. }, Action::Touch { .. }) => true,
        _ => false,
    };
    actions.iter().take_while(same).count().max(1)
}

fn with_subresource(target: &Target, subresource: Option<&str>) -> String {
    match subresource {
        Some(subresource) => format!("{}/{subresource}", target.path()),
        None => target.path(),
    }
}

fn version_in(answer: &Value) -> u64 {
    version_of(answer["metadata"]["resourceVersion"].as_str())
}

/// Only the metadata of an object in a list.
fn metadata_of(mut object: Value) -> Value {
    json!({ "metadata": object["metadata"].take() })
}
