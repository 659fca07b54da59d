//! The things a worker does that take time: sandboxes, containers, hooks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use cri::Error;
use cri::v1::{
    CreateContainerRequest, LinuxContainerResources, RemoveContainerRequest,
    RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest, StopContainerRequest,
    StopPodSandboxRequest, UpdateContainerResourcesRequest,
};
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use pod_lifecycle::config::{self, ContainerInputs};
use pod_lifecycle::field_path::Facts;
use pod_lifecycle::plan::{Kill, Start};
use pod_lifecycle::{Event, env, pod as parts, service_env};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::logs::links;
use crate::measures::Counter;
use crate::objects::Needs;
use crate::probes::{self, Target};
use crate::{images, volumes};

/// A container to start and what is needed to know about its surroundings.
pub(crate) struct StartJob {
    pub(crate) start: Start,
    pub(crate) sandbox_attempt: u32,
    pub(crate) pod_ips: Vec<String>,
    /// Name and id of the pod's containers, newest first.
    pub(crate) containers: Vec<(String, String)>,
    /// The pod is going away: stop waiting for images and hooks.
    pub(crate) cancel: CancellationToken,
}

/// Why a container waits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StartError {
    /// The waiting reason.
    pub(crate) reason: &'static str,
    /// The waiting message.
    pub(crate) message: String,
}

impl StartError {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> StartError {
        StartError {
            reason,
            message: message.into(),
        }
    }
}

/// Runs a call of the runtime to its end even if nobody waits for it any more.
async fn to_the_end<T: Send + 'static>(
    call: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    match tokio::spawn(call).await {
        Ok(done) => done,
        Err(lost) => Err(Error::internal(lost)),
    }
}

/// Makes a sandbox.
pub(crate) async fn create_sandbox(
    context: &Context,
    pod: &Pod,
    attempt: u32,
) -> Result<(), String> {
    let pods: Vec<_> = context.pods.lock().values().map(|m| m.pod()).collect();
    let prepared = context.cgroups.prepare(pod, &pods);
    prepared.map_err(|error| {
        let error = cri::chain(&error);
        format!("unable to ensure pod container exists: {error}")
    })?;
    let config = config::sandbox(pod, attempt, &context.node);
    if let Err(error) = std::fs::create_dir_all(&config.log_directory) {
        return Err(format!("make {}: {error}", config.log_directory));
    }
    let request = RunPodSandboxRequest {
        config: Some(config),
        runtime_handler: String::new(),
    };
    let runtime = Arc::clone(&context.runtime);
    let made = to_the_end(async move { runtime.run_pod_sandbox(request).await }).await;
    let counter = match made {
        Ok(_) => Counter::Pods,
        Err(_) => Counter::PodErrors,
    };
    context.measures.count(counter, String::new());
    made.map(drop).map_err(|error| error.to_string())
}

/// Gives running containers other resources. `settle`: afterwards the pod as a whole has its limits.
pub(crate) async fn resize(
    context: &Context,
    pod: &Pod,
    containers: Vec<(String, LinuxContainerResources)>,
    settle: bool,
) -> Result<(), String> {
    let text = |error: linux::Error| cri::chain(&error);
    context.cgroups.lift(pod).map_err(text)?;
    for (container_id, resources) in containers {
        let request = UpdateContainerResourcesRequest {
            container_id,
            linux: Some(resources),
            ..Default::default()
        };
        let done = context.runtime.update_container_resources(request).await;
        gone_is_fine(done.map(drop)).map_err(|error| error.to_string())?;
    }
    if settle {
        let pods: Vec<_> = context.pods.lock().values().map(|m| m.pod()).collect();
        context.cgroups.prepare(pod, &pods).map_err(text)?;
    }
    Ok(())
}

fn gone_is_fine(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(error) if error.is_not_found() => Ok(()),
        done => done,
    }
}

/// Waits a little after a refusal, so that whoever tries again does not do so at once.
async fn after_pause(done: Result<(), Error>) -> Result<(), Error> {
    const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
    let done = gone_is_fine(done);
    if done.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
    done
}

/// Takes a sandbox's network away.
pub(crate) async fn stop_sandbox(context: &Context, id: &str) -> Result<(), Error> {
    let request = StopPodSandboxRequest {
        pod_sandbox_id: id.to_owned(),
    };
    after_pause(context.runtime.stop_pod_sandbox(request).await.map(drop)).await
}

/// Removes a sandbox and all in it.
pub(crate) async fn remove_sandbox(context: &Context, id: &str) -> Result<(), Error> {
    let request = RemovePodSandboxRequest {
        pod_sandbox_id: id.to_owned(),
    };
    after_pause(context.runtime.remove_pod_sandbox(request).await.map(drop)).await
}

/// Stops a container; answers when it has exited.
pub(crate) async fn stop_container(context: &Context, id: &str, timeout: i64) -> Result<(), Error> {
    let request = StopContainerRequest {
        container_id: id.to_owned(),
        timeout,
    };
    after_pause(context.runtime.stop_container(request).await.map(drop)).await
}

/// Removes a dead container, its log and its last words.
pub(crate) async fn remove_container(
    context: &Context,
    id: &str,
    files: Option<(PathBuf, PathBuf)>,
) -> Result<(), Error> {
    let request = RemoveContainerRequest {
        container_id: id.to_owned(),
    };
    after_pause(context.runtime.remove_container(request).await.map(drop)).await?;
    if let Some((log, words)) = files {
        crate::logs::rotate::remove(&log);
        links::remove(&context.node.log_root, &log);
        if let Err(error) = std::fs::remove_file(&words) {
            tracing::trace!(%error, "no last words to remove");
        }
    }
    Ok(())
}

/// Pulls the image, makes and starts the container, runs its post-start hook.
pub(crate) async fn start(context: &Context, pod: &Pod, job: StartJob) -> Result<(), StartError> {
    let name = &job.start.name;
    let Some(container) = parts::find_container(pod, name) else {
        return Err(StartError::new(
            "CreateContainerConfigError",
            "container not in the spec",
        ));
    };
    let started = tokio::select! {
        () = job.cancel.cancelled() => return Err(cancelled()),
        images = images_of(context, pod, &container) => match images {
            Ok(images) => create_and_start(context, pod, &container, &job, &images).await,
            Err(error) => Err(say_reason(context, pod, name, error)),
        },
    };
    count_start(context, pod, name, started.as_ref().err());
    let id = started?;
    let hook = container
        .lifecycle
        .as_ref()
        .and_then(|l| l.post_start.as_ref());
    if let Some(hook) = hook {
        post_start(context, pod, &container, hook, &job, &id).await?;
    }
    Ok(())
}

/// Counts a container that was started, or why it was not.
fn count_start(context: &Context, pod: &Pod, name: &str, error: Option<&StartError>) {
    let spec = parts::spec(pod);
    let among =
        |containers: &Option<Vec<Container>>| containers.iter().flatten().any(|c| c.name == name);
    let kind = match () {
        () if among(&spec.init_containers) => "init_container",
        () if spec.containers.iter().any(|c| c.name == name) => "container",
        () => "ephemeral_container",
    };
    let measures = &context.measures;
    match error {
        None => measures.count(Counter::Containers, format!("container_type=\"{kind}\"")),
        Some(error) => {
            let labels = format!("code=\"{}\",container_type=\"{kind}\"", error.reason);
            measures.count(Counter::ContainerErrors, labels);
        }
    }
}

/// The image of a container, and those of its volumes that are images.
type Images = (images::Present, BTreeMap<String, String>);

async fn images_of(
    context: &Context,
    pod: &Pod,
    container: &Container,
) -> Result<Images, StartError> {
    let own = images::ensure(context, pod, container).await?;
    let volumes = images::ensure_volumes(context, pod, container).await?;
    Ok((own, volumes))
}

fn cancelled() -> StartError {
    StartError::new("ContainerCreating", "")
}

fn say_reason(context: &Context, pod: &Pod, name: &str, error: StartError) -> StartError {
    let event = Event::warning("Failed", format!("Error: {}", error.reason));
    context.tell(pod, event.about(pod, name));
    error
}

async fn create_and_start(
    context: &Context,
    pod: &Pod,
    container: &Container,
    job: &StartJob,
    images: &Images,
) -> Result<String, StartError> {
    let tell = |event: Event| context.tell(pod, event.about(pod, &container.name));
    let fail = |reason: &'static str, message: String| {
        tell(Event::warning("Failed", format!("Error: {message}")));
        StartError::new(reason, message)
    };
    let config = container_config(context, pod, container, job, images).await;
    let config = config.map_err(|why| fail("CreateContainerConfigError", why))?;
    if job.cancel.is_cancelled() {
        return Err(cancelled());
    }
    let request = CreateContainerRequest {
        pod_sandbox_id: job.start.sandbox_id.clone(),
        config: Some(config),
        sandbox_config: Some(config::sandbox(pod, job.sandbox_attempt, &context.node)),
    };
    let runtime = Arc::clone(&context.runtime);
    let made = to_the_end(async move { runtime.create_container(request).await }).await;
    let id = match made {
        Ok(answer) => answer.container_id,
        Err(error) => return Err(fail("CreateContainerError", error.message)),
    };
    tell(Event::normal("Created", "Container created"));
    let request = StartContainerRequest {
        container_id: id.clone(),
    };
    let runtime = Arc::clone(&context.runtime);
    if let Err(error) = to_the_end(async move { runtime.start_container(request).await }).await {
        return Err(fail("RunContainerError", error.message));
    }
    tell(Event::normal("Started", "Container started"));
    let directory = config::log_directory(&context.node, pod);
    let log = config::log_path(&container.name, job.start.attempt);
    let log = std::path::Path::new(&directory).join(log);
    links::add(&context.node.log_root, pod, &container.name, &id, &log);
    Ok(id)
}

async fn container_config(
    context: &Context,
    pod: &Pod,
    container: &Container,
    job: &StartJob,
    (image, image_volumes): &Images,
) -> Result<cri::v1::ContainerConfig, String> {
    let variables = variables(context, pod, container, &job.pod_ips).await?;
    let mut mounts = volumes::mounts(context, pod, container, &variables, image_volumes).await?;
    let files = volumes::own_files(context, pod, container, job.start.attempt, &job.pod_ips);
    let files = files.map_err(|error| {
        format!(
            "make the files of container \"{}\": {error}",
            container.name
        )
    })?;
    mounts.extend(files.mounts);
    let target = target_id(pod, container, job)?;
    let directory = config::log_directory(&context.node, pod);
    let log = std::path::Path::new(&directory).join(&container.name);
    std::fs::create_dir_all(&log).map_err(|error| {
        let name = &container.name;
        format!("create container log directory for container {name} failed: {error}")
    })?;
    context.rotation.follow(&log);
    let inputs = ContainerInputs {
        attempt: job.start.attempt,
        image_ref: &image.reference,
        image_user: &image.user,
        variables,
        mounts,
        target_id: target.as_deref(),
        termination_file: files.termination.as_deref(),
    };
    config::container(pod, container, &context.node, inputs)
}

/// The container whose processes an ephemeral container wants to see.
fn target_id(pod: &Pod, container: &Container, job: &StartJob) -> Result<Option<String>, String> {
    let ephemeral = parts::ephemeral_containers(pod).iter();
    let wanted = ephemeral
        .filter(|e| e.name == container.name)
        .find_map(|e| e.target_container_name.as_deref().filter(|n| !n.is_empty()));
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    match job.containers.iter().find(|(name, _)| name == wanted) {
        Some((_, id)) => Ok(Some(id.clone())),
        None => Err(format!("unable to find target container {wanted}")),
    }
}

/// The environment of a container.
async fn variables(
    context: &Context,
    pod: &Pod,
    container: &Container,
    pod_ips: &[String],
) -> Result<Vec<cri::v1::KeyValue>, String> {
    let waits = !context.static_pods.is_static(parts::uid(pod)) && !context.services.is_synced();
    if waits && !context.services.synced().await {
        return Err(
            "services have not yet been read at least once, cannot construct envvars".to_owned(),
        );
    }
    let namespace = parts::namespace(pod);
    let links = parts::spec(pod).enable_service_links.unwrap_or(true);
    let list = context.services.list();
    let services = service_env::variables(list.iter().map(|s| &**s), namespace, links);
    let (maps, secrets) = env::references(container);
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    let needs = Needs {
        config_maps: owned(maps),
        secrets: owned(secrets),
        bundles: Vec::new(),
    };
    let sources = context.objects.get(namespace, &needs).await?;
    env::variables(
        pod,
        container,
        &services,
        &sources,
        &facts(context, pod_ips),
    )
}

/// What the pod may learn about itself and its node.
pub(crate) fn facts(context: &Context, pod_ips: &[String]) -> Facts {
    Facts {
        pod_ips: pod_ips.to_vec(),
        host_ips: context.facts.ips.clone(),
        allocatable: context.allocatable.clone(),
    }
}

async fn post_start(
    context: &Context,
    pod: &Pod,
    container: &Container,
    hook: &LifecycleHandler,
    job: &StartJob,
    id: &str,
) -> Result<(), StartError> {
    let target = Target {
        container,
        id,
        ips: &job.pod_ips,
    };
    let message = tokio::select! {
        () = job.cancel.cancelled() => return Ok(()),
        done = probes::hook(context, pod, &target, hook) => match done {
            Ok(()) => return Ok(()),
            Err(message) => message,
        },
    };
    let tell = |event: Event| context.tell(pod, event.about(pod, &container.name));
    tell(Event::warning(
        "FailedPostStartHook",
        "PostStartHook failed",
    ));
    tell(Event::normal("Killing", "FailedPostStartHook"));
    let grace = parts::termination_grace_seconds(pod);
    if let Err(error) = stop_container(context, id, grace).await {
        tracing::warn!(container = id, %error, "cannot stop after its post-start hook");
    }
    Err(StartError::new("PostStartHookError", message))
}

/// Runs the pre-stop hook of a container, for no longer than its grace period.
pub(crate) async fn pre_stop(context: &Context, pod: &Pod, kill: &Kill, pod_ips: &[String]) {
    let Some(container) = parts::find_container(pod, &kill.name) else {
        return;
    };
    let hook = container
        .lifecycle
        .as_ref()
        .and_then(|l| l.pre_stop.as_ref());
    let Some(hook) = hook else { return };
    let target = Target {
        container: &container,
        id: &kill.id,
        ips: pod_ips,
    };
    let limit = std::time::Duration::from_secs(u64::try_from(kill.grace_seconds).unwrap_or(0));
    let done = tokio::time::timeout(limit, probes::hook(context, pod, &target, hook)).await;
    if let Ok(Err(message)) = done {
        tracing::debug!(container = kill.name, message, "pre-stop hook failed");
        let event = Event::warning("FailedPreStopHook", "PreStopHook failed");
        context.tell(pod, event.about(pod, &kill.name));
    }
}
