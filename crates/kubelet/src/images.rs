//! Images: present, or pulled as their policy says, a few at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cri::v1::{AuthConfig, Image, ImageSpec, ImageStatusRequest, PullImageRequest};
use k8s_openapi::api::core::v1::{Container, Pod};
use pod_lifecycle::image::{self, PullPolicy};
use pod_lifecycle::security::ImageUser;
use pod_lifecycle::{Event, pod as parts};
use tokio::sync::Semaphore;

use crate::context::Context;
use crate::objects::Needs;
use crate::operations::StartError;

/// How many images are pulled at a time.
pub(crate) const PARALLEL: usize = 4;

/// Lets a few pulls through at a time.
pub(crate) struct Puller {
    permits: Arc<Semaphore>,
}

impl Default for Puller {
    fn default() -> Puller {
        Puller {
            permits: Arc::new(Semaphore::new(PARALLEL)),
        }
    }
}

/// An image that is on this node.
pub(crate) struct Present {
    /// As the runtime names it.
    pub(crate) reference: String,
    /// Whom it wants to run as.
    pub(crate) user: ImageUser,
}

/// Sees to it that the image of a container is on this node.
pub(crate) async fn ensure(
    context: &Context,
    pod: &Pod,
    container: &Container,
) -> Result<Present, StartError> {
    let wanted = container.image.as_deref().unwrap_or_default();
    let tell = |event: Event| context.tell(pod, event.about(pod, &container.name));
    let full = image::with_tag(wanted).map_err(|why| {
        let message = format!("Failed to apply default image tag \"{wanted}\": {why}");
        tell(Event::warning("InspectFailed", message.clone()));
        StartError::new("InvalidImageName", message)
    })?;
    let policy = image::pull_policy(container);
    let inspect_failed = |error: cri::Error| {
        let message = format!("Failed to inspect image \"{wanted}\": {error}");
        tell(Event::warning("InspectFailed", message.clone()));
        StartError::new("ImageInspectError", message)
    };
    if policy != PullPolicy::Always {
        let found = find(context, &full).await.map_err(&inspect_failed)?;
        if let Some(found) = found {
            tell(Event::normal(
                "Pulled",
                format!(
                    "Container image \"{wanted}\" already present on machine and can be accessed by the pod"
                ),
            ));
            return Ok(present(found));
        }
        if policy == PullPolicy::Never {
            let message =
                format!("Container image \"{wanted}\" is not present with pull policy of Never");
            tell(Event::warning("ErrImageNeverPull", message.clone()));
            return Err(StartError::new("ErrImageNeverPull", message));
        }
    }
    tell(Event::normal(
        "Pulling",
        format!("Pulling image \"{wanted}\""),
    ));
    let begun = Instant::now();
    let pulled = pull(context, pod, &full).await;
    let (reference, took) = pulled.map_err(|message| {
        let text = format!("Failed to pull image \"{wanted}\": {message}");
        tell(Event::warning("Failed", text));
        pull_error(wanted, message)
    })?;
    let found = find(context, &reference).await.map_err(&inspect_failed)?;
    let found = found.ok_or_else(|| {
        let message = format!("image \"{wanted}\" is gone after it was pulled");
        StartError::new("ImageInspectError", message)
    })?;
    context.node_changed.notify_one();
    let (took, waited, size) = (duration(took), duration(begun.elapsed()), found.size);
    tell(Event::normal(
        "Pulled",
        format!(
            "Successfully pulled image \"{wanted}\" in {took} ({waited} including waiting). Image size: {size} bytes."
        ),
    ));
    Ok(present(found))
}

/// Sees to it that the images are there that a container mounts as volumes; by the volume's name.
pub(crate) async fn ensure_volumes(
    context: &Context,
    pod: &Pod,
    container: &Container,
) -> Result<BTreeMap<String, String>, StartError> {
    let mut images = BTreeMap::new();
    for volume in parts::spec(pod).volumes.iter().flatten() {
        let mut mounts = container.volume_mounts.iter().flatten();
        let Some(source) = volume.image.as_ref() else {
            continue;
        };
        if !mounts.any(|mount| mount.name == volume.name) {
            continue;
        }
        // Its image is asked for like that of the container.
        let holder = Container {
            name: container.name.clone(),
            image: source.reference.clone(),
            image_pull_policy: source.pull_policy.clone(),
            ..Container::default()
        };
        let image = ensure(context, pod, &holder).await?;
        images.insert(volume.name.clone(), image.reference);
    }
    Ok(images)
}

/// Some failures of a registry have a name of their own.
fn pull_error(image: &str, message: String) -> StartError {
    let why = [
        ("RegistryUnavailable", "the registry is unavailable"),
        (
            "SignatureValidationFailed",
            "the signature validation failed",
        ),
    ];
    for (reason, text) in why {
        if let Some(rest) = message.strip_prefix(reason) {
            let message = format!("image pull failed for {image} because {text}{rest}");
            return StartError::new(reason, message);
        }
    }
    StartError::new("ErrImagePull", message)
}

/// A duration the way Go prints one that was cut to milliseconds: `12ms`, `1.234s`, `1m2.5s`.
pub(crate) fn duration(took: Duration) -> String {
    let millis = took.as_millis();
    if millis < 1000 {
        return if millis == 0 {
            "0s".to_owned()
        } else {
            format!("{millis}ms")
        };
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let seconds = format!("{}.{:03}", rest / 1000, rest % 1000);
    let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, m) => format!("{m}m{seconds}s"),
        (h, m) => format!("{h}h{m}m{seconds}s"),
    }
}

fn present(image: Image) -> Present {
    // Neither a number nor a name: root.
    let root = image.uid.is_none() && image.username.is_empty();
    Present {
        user: ImageUser {
            uid: image.uid.map(|u| u.value).or(root.then_some(0)),
            name: image.username,
        },
        reference: image.id,
    }
}

async fn find(context: &Context, name: &str) -> Result<Option<Image>, cri::Error> {
    let request = ImageStatusRequest {
        image: Some(spec(name)),
        verbose: false,
    };
    Ok(context.images.image_status(request).await?.image)
}

fn spec(name: &str) -> ImageSpec {
    ImageSpec {
        image: name.to_owned(),
        user_specified_image: name.to_owned(),
        ..Default::default()
    }
}

/// Pulls with every credential that fits until one works; without any if there is none.
async fn pull(context: &Context, pod: &Pod, name: &str) -> Result<(String, Duration), String> {
    let mut credentials = credentials(context, pod, name).await;
    credentials.push(AuthConfig::default());
    if credentials.len() > 1 {
        credentials.pop();
    }
    let permit = context.puller.permits.acquire().await;
    let begun = Instant::now();
    let mut last = String::new();
    for auth in credentials {
        let anonymous = auth == AuthConfig::default();
        let request = PullImageRequest {
            image: Some(spec(name)),
            auth: (!anonymous).then_some(auth),
            sandbox_config: None,
        };
        match context.images.pull_image(request).await {
            Ok(answer) => return Ok((answer.image_ref, begun.elapsed())),
            Err(error) => last = error.message,
        }
    }
    drop(permit);
    Err(last)
}

async fn credentials(context: &Context, pod: &Pod, image: &str) -> Vec<AuthConfig> {
    let references = parts::spec(pod).image_pull_secrets.iter().flatten();
    let names: Vec<String> = references.map(|r| r.name.clone()).collect();
    let mut secrets = Vec::new();
    let mut missing = Vec::new();
    for name in names.into_iter().filter(|n| !n.is_empty()) {
        let needs = Needs {
            secrets: [name.clone()].into(),
            ..Needs::default()
        };
        let found = context.objects.get(parts::namespace(pod), &needs).await;
        let secret = found
            .ok()
            .and_then(|s| s.secrets.get(&name).cloned().flatten());
        match secret {
            Some(secret) => secrets.push(secret),
            None => missing.push(name),
        }
    }
    if !missing.is_empty() {
        let message = format!(
            "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
            missing.join(", ")
        );
        context.tell(
            pod,
            Event::warning("FailedToRetrieveImagePullSecret", message),
        );
    }
    image::credentials(image, &secrets)
}
