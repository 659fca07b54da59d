//! Asks one webhook about one write.

use std::time::{Duration, Instant};

use access::admission::review::{self, Answer, Question, Unusable};
use access::admission::webhook::Webhook;
use k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;
use machinery::{ApiError, Object, names};
use serde_json::Value;

use super::write::{Write, name};
use crate::call::Call;
use crate::decode;
use crate::metrics::webhooks::Outcome;
use crate::outbound::{Destination, Hook, Message};
use crate::write::create::new_uid;

/// Why a write does not go on.
pub(super) enum Failure {
    /// The webhook refuses it.
    Denied(ApiError),
    /// The server refuses it on the webhook's behalf.
    Refused(ApiError),
    /// The webhook could not be asked, or its answer is none; the code is what that is counted as.
    Calling { why: String, code: u16 },
}

impl Failure {
    fn calling(code: u16, why: impl Into<String>) -> Self {
        let why = why.into();
        Self::Calling { why, code }
    }

    /// What comes of it: the write goes on, or the client gets an error.
    fn outcome(&self, webhook: &Webhook) -> Outcome {
        match self {
            Self::Denied(error) => Outcome::Denied(error.code),
            Self::Refused(_) => Outcome::Refused,
            Self::Calling { code, .. } => Outcome::Uncalled {
                code: *code,
                tolerated: webhook.ignores_failure(),
            },
        }
    }
}

/// What became of a write at a webhook.
#[derive(Default)]
pub(super) struct Asked {
    /// The object after the webhook's patch.
    pub(super) object: Option<Object>,
    /// That patch.
    pub(super) patch: Option<Value>,
}

/// Asks a webhook about a write under one of its resource's names, and counts that.
pub(super) async fn ask(
    write: &Write<'_>,
    webhook: &Webhook,
    place: usize,
    mutating: bool,
) -> Result<Asked, Failure> {
    let started = Instant::now();
    let result = ask_uncounted(write, webhook, place, mutating).await;
    let outcome = match &result {
        Ok(_) => Outcome::Allowed,
        Err(failure) => failure.outcome(webhook),
    };
    let counters = &write.operation.call().server.metrics().webhooks;
    counters.asked(write.counted(webhook, mutating), started.elapsed(), outcome);
    result
}

async fn ask_uncounted(
    write: &Write<'_>,
    webhook: &Webhook,
    place: usize,
    mutating: bool,
) -> Result<Asked, Failure> {
    let (operation, name) = (write.operation, &webhook.spec.name);
    if operation.is_dry_run() && !webhook.allows_dry_run() {
        let why = format!("admission webhook {name:?} does not support dry run");
        return Err(Failure::Refused(ApiError::bad_request(why)));
    }
    let versions = &webhook.spec.admission_review_versions;
    let version = review::version(versions).ok_or_else(|| {
        let why = "webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        Failure::calling(400, format!("could not create admission objects: {why}"))
    })?;
    let object = write.object_in(place).await.map_err(Failure::Refused)?;
    let old = write.old_in(place).await.map_err(Failure::Refused)?;
    let uid = new_uid();
    let states = (object.as_ref(), old.as_ref());
    let question = encode(write, place, states, &uid, version);
    let body = send(write, webhook, question, mutating).await?;
    let answer = Answer::read(&body, version, &uid, mutating);
    let answer = answer.map_err(|unusable| match unusable {
        Unusable::Undecodable(why) => {
            Failure::calling(503, format!("failed to call webhook: {why}"))
        }
        Unusable::Invalid(why) => {
            Failure::calling(503, format!("received invalid webhook response: {why}"))
        }
    })?;
    for (key, value) in &answer.audit_annotations {
        annotate(operation.call(), &format!("{name}/{key}"), value);
    }
    for warning in &answer.warnings {
        operation.call().warn(warning.as_str());
    }
    if !answer.allowed {
        return Err(Failure::Denied(answer.refusal(name)));
    }
    match (answer.patch, object) {
        (None, _) => Ok(Asked::default()),
        (Some(patch), None) => refuse_patch(webhook, &patch),
        (Some(patch), Some(object)) => patched(write, place, object, &patch).await,
    }
}

/// What a webhook wants written down; a key that is none is left out.
fn annotate(call: &Call, key: &str, value: &str) {
    if key.matches('/').count() == 1 && names::qualified_name(key).is_empty() {
        call.annotate(key, value);
    }
}

fn encode(
    write: &Write<'_>,
    place: usize,
    (object, old): (Option<&Object>, Option<&Object>),
    uid: &str,
    version: &str,
) -> Vec<u8> {
    let operation = write.operation;
    let (kind, request_kind) = (write.kind(place), write.kind(0));
    let options = operation.options();
    let question = Question {
        uid,
        resource: name(&write.resources[place]),
        kind: (&kind.0, &kind.1, &kind.2),
        request_resource: name(&write.resources[0]),
        request_kind: (&request_kind.0, &request_kind.1, &request_kind.2),
        subresource: &operation.call().info.subresource,
        name: write.name(),
        namespace: write.namespace(),
        operation: operation.kind_of_write(),
        user: &operation.call().user,
        object,
        old,
        dry_run: operation.is_dry_run(),
        options: &options,
    };
    question.encode(version)
}

async fn send(
    write: &Write<'_>,
    webhook: &Webhook,
    question: Vec<u8>,
    mutating: bool,
) -> Result<Vec<u8>, Failure> {
    let call = write.operation.call();
    let (mut destination, path) = destination(&webhook.spec.client_config)
        .map_err(|why| Failure::calling(500, format!("could not get REST client: {why}")))?;
    let users = call.server.gates().hook_users(mutating);
    destination.show_as(users);
    let own = webhook.spec.timeout_seconds.unwrap_or(10).unsigned_abs();
    let timeout = Duration::from_secs(own.into()).min(call.time_left());
    // Whole seconds, rounded up.
    let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
    let message = Message::json(
        format!("{path}?timeout={seconds}s"),
        question.into(),
        timeout,
    );
    let server = &*call.server;
    let failed =
        |code, why: String| Failure::calling(code, format!("failed to call webhook: {why}"));
    let answer = server
        .outbound()
        .exchange(server, &destination, message)
        .await;
    let answer = answer.map_err(|error| failed(503, error.to_string()))?;
    let body = answer
        .success()
        .map_err(|error| failed(error.code, error.message))?;
    Ok(body.into())
}

/// Where a webhook is, and what is asked for there.
fn destination(client: &WebhookClientConfig) -> Result<(Destination, String), String> {
    let service = client.service.as_ref();
    let hook = Hook {
        url: client.url.as_deref(),
        service: service.map(|s| (s.namespace.as_str(), s.name.as_str(), s.port)),
        path: service.and_then(|s| s.path.as_deref()),
        authorities: client.ca_bundle.as_ref().map_or(&[], |bundle| &bundle.0),
    };
    hook.destination()
}

fn parse(patch: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(patch).map_err(|error| {
        Failure::calling(
            503,
            format!("received undecodable patch in webhook response: {error}"),
        )
    })
}

fn is_empty(patch: &Value) -> bool {
    patch.as_array().is_some_and(Vec::is_empty)
}

/// A patch for something that is not there.
fn refuse_patch(webhook: &Webhook, patch: &[u8]) -> Result<Asked, Failure> {
    if is_empty(&parse(patch)?) {
        return Ok(Asked::default());
    }
    let why = format!(
        "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
        webhook.spec.name
    );
    Err(Failure::Refused(ApiError::internal(why)))
}

/// The object after a patch: pruned and defaulted as if the client had sent it.
async fn patched(
    write: &Write<'_>,
    place: usize,
    object: Object,
    patch: &[u8],
) -> Result<Asked, Failure> {
    let patch = parse(patch)?;
    if is_empty(&patch) {
        return Ok(Asked::default());
    }
    let internal = |why: String| Failure::Refused(ApiError::internal(why));
    let mut value = object.into_value();
    machinery::patch::json::apply(&mut value, &patch).map_err(|e| internal(e.to_string()))?;
    let object = Object::from_value(value);
    let mut object = object.map_err(|_| internal("the patch leaves no object".to_owned()))?;
    let resource = &write.resources[place];
    if write.operation.kind() == resource.names().kind {
        let report = resource.kind.check_fields(&mut object, &[]);
        if let Some(why) = report.type_error {
            return Err(internal(why.to_string()));
        }
        decode::default(resource, &mut object).map_err(Failure::Refused)?;
    }
    let object = write.out_of_form(&object, place).await;
    Ok(Asked {
        object: Some(object.map_err(Failure::Refused)?),
        patch: Some(patch),
    })
}
