//! Asks one webhook about one write.

use std::time::Duration;

use access::admission::review::{self, Answer, Question, Unusable};
use access::admission::webhook::Webhook;
use k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;
use machinery::{ApiError, Object};
use serde_json::Value;

use super::write::{Write, name};
use crate::decode;
use crate::outbound::{Destination, Message, Place, Trust};
use crate::write::create::new_uid;

/// Why a write does not go on.
pub(super) enum Failure {
    /// The webhook, or the server on its behalf, refuses it.
    Refused(ApiError),
    /// The webhook could not be asked, or its answer is none.
    Calling(String),
}

/// Asks a webhook about a write under one of its resource's names; gives the object that it makes of it, if it does.
pub(super) async fn ask(
    write: &Write<'_>,
    webhook: &Webhook,
    place: usize,
    mutating: bool,
) -> Result<Option<Object>, Failure> {
    let operation = write.operation;
    if operation.is_dry_run() && !webhook.allows_dry_run() {
        let why = format!(
            "admission webhook {:?} does not support dry run",
            webhook.spec.name
        );
        return Err(Failure::Refused(ApiError::bad_request(why)));
    }
    let versions = &webhook.spec.admission_review_versions;
    let version = review::version(versions).ok_or_else(|| {
        let why = "webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        Failure::Calling(format!("could not create admission objects: {why}"))
    })?;
    let object = write.object.map(|object| write.in_form(object, place));
    let uid = new_uid();
    let question = encode(write, place, object.as_ref(), &uid, version);
    let body = send(write, webhook, question).await?;
    let answer =
        Answer::read(&body, version, &uid, mutating).map_err(|unusable| match unusable {
            Unusable::Undecodable(why) => {
                Failure::Calling(format!("failed to call webhook: {why}"))
            }
            Unusable::Invalid(why) => {
                Failure::Calling(format!("received invalid webhook response: {why}"))
            }
        })?;
    for warning in &answer.warnings {
        operation.call().warn(warning.as_str());
    }
    if !answer.allowed {
        return Err(Failure::Refused(answer.refusal(&webhook.spec.name)));
    }
    let Some(patch) = answer.patch else {
        return Ok(None);
    };
    let Some(object) = object else {
        return refuse_patch(webhook, &patch);
    };
    patched(write, place, object, &patch)
}

fn encode(
    write: &Write<'_>,
    place: usize,
    object: Option<&Object>,
    uid: &str,
    version: &str,
) -> Vec<u8> {
    let operation = write.operation;
    let old = write.old.map(|old| write.in_form(old, place));
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
        old: old.as_ref(),
        dry_run: operation.is_dry_run(),
        options,
    };
    question.encode(version)
}

async fn send(write: &Write<'_>, webhook: &Webhook, question: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let call = write.operation.call();
    let (destination, path) = destination(&webhook.spec.client_config)
        .map_err(|why| Failure::Calling(format!("could not get REST client: {why}")))?;
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
    let failed = |why: String| Failure::Calling(format!("failed to call webhook: {why}"));
    let answer = server
        .outbound()
        .exchange(server, &destination, message)
        .await;
    let answer = answer.map_err(|error| failed(error.to_string()))?;
    let body = answer.success().map_err(|error| failed(error.message))?;
    Ok(body.into())
}

/// Where a webhook is, and what is asked for there.
fn destination(client: &WebhookClientConfig) -> Result<(Destination, String), String> {
    let bundle = client
        .ca_bundle
        .as_ref()
        .map_or(&[][..], |bundle| &bundle.0);
    let (place, path) = match (&client.service, &client.url) {
        (Some(service), _) => {
            let port = service.port.unwrap_or(443);
            let port = u16::try_from(port).map_err(|_| format!("invalid port {port}"))?;
            let place = Place::service(&service.namespace, &service.name, port);
            (place, service.path.clone().unwrap_or_default())
        }
        (None, Some(url)) => Place::of_url(url).map_err(|e| e.to_string())?,
        (None, None) => return Err("webhook configuration must have either service or URL".into()),
    };
    let path = match path.starts_with('/') {
        true => path,
        false => format!("/{path}"),
    };
    Ok((Destination::new(place, Trust::bundle(bundle)), path))
}

fn parse(patch: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(patch).map_err(|error| {
        Failure::Calling(format!(
            "received undecodable patch in webhook response: {error}"
        ))
    })
}

fn is_empty(patch: &Value) -> bool {
    patch.as_array().is_some_and(Vec::is_empty)
}

/// A patch for something that is not there.
fn refuse_patch(webhook: &Webhook, patch: &[u8]) -> Result<Option<Object>, Failure> {
    if is_empty(&parse(patch)?) {
        return Ok(None);
    }
    let why = format!(
        "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
        webhook.spec.name
    );
    Err(Failure::Refused(ApiError::internal(why)))
}

/// The object after a patch: pruned and defaulted as if the client had sent it.
fn patched(
    write: &Write<'_>,
    place: usize,
    object: Object,
    patch: &[u8],
) -> Result<Option<Object>, Failure> {
    let patch = parse(patch)?;
    if is_empty(&patch) {
        return Ok(None);
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
    Ok(Some(write.out_of_form(&object, place)))
}
