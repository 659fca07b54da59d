//! The calls about pod sandboxes and containers.

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::Error;
use crate::v1::*;

/// What [`RuntimeService::get_container_events`] yields; it ends only with the runtime (or with an
/// error item).
pub type ContainerEvents = BoxStream<'static, Result<ContainerEventResponse, Error>>;

/// Pod sandboxes and containers, as `runtime.v1.RuntimeService` has them.
///
/// All calls are safe to repeat: stopping what is stopped and removing what is gone succeed.
#[async_trait]
pub trait RuntimeService: Send + Sync + 'static {
    /// Names and versions of the runtime and of its API.
    async fn version(&self, request: VersionRequest) -> Result<VersionResponse, Error>;

    /// Makes a pod sandbox (its namespaces and network) and starts it.
    async fn run_pod_sandbox(
        &self,
        request: RunPodSandboxRequest,
    ) -> Result<RunPodSandboxResponse, Error>;

    /// Kills the containers of a sandbox and takes its network away; the sandbox stays listed as
    /// not ready.
    async fn stop_pod_sandbox(
        &self,
        request: StopPodSandboxRequest,
    ) -> Result<StopPodSandboxResponse, Error>;

    /// Removes a sandbox and its containers, running ones by force.
    async fn remove_pod_sandbox(
        &self,
        request: RemovePodSandboxRequest,
    ) -> Result<RemovePodSandboxResponse, Error>;

    /// State and addresses of a sandbox; `NotFound` when there is none.
    async fn pod_sandbox_status(
        &self,
        request: PodSandboxStatusRequest,
    ) -> Result<PodSandboxStatusResponse, Error>;

    /// The sandboxes that match the filter.
    async fn list_pod_sandbox(
        &self,
        request: ListPodSandboxRequest,
    ) -> Result<ListPodSandboxResponse, Error>;

    /// Makes a container in a sandbox, not yet running.
    async fn create_container(
        &self,
        request: CreateContainerRequest,
    ) -> Result<CreateContainerResponse, Error>;

    /// Runs a created container.
    async fn start_container(
        &self,
        request: StartContainerRequest,
    ) -> Result<StartContainerResponse, Error>;

    /// Stops a container: its stop signal, then after `timeout` seconds SIGKILL. Answers when it
    /// has exited.
    async fn stop_container(
        &self,
        request: StopContainerRequest,
    ) -> Result<StopContainerResponse, Error>;

    /// Removes a container, a running one by force.
    async fn remove_container(
        &self,
        request: RemoveContainerRequest,
    ) -> Result<RemoveContainerResponse, Error>;

    /// The containers that match the filter.
    async fn list_containers(
        &self,
        request: ListContainersRequest,
    ) -> Result<ListContainersResponse, Error>;

    /// State, exit code and times of a container; `NotFound` when there is none.
    async fn container_status(
        &self,
        request: ContainerStatusRequest,
    ) -> Result<ContainerStatusResponse, Error>;

    /// Changes the limits of a container that exists.
    async fn update_container_resources(
        &self,
        request: UpdateContainerResourcesRequest,
    ) -> Result<UpdateContainerResourcesResponse, Error>;

    /// Opens the log file of a container anew, after somebody renamed it.
    async fn reopen_container_log(
        &self,
        request: ReopenContainerLogRequest,
    ) -> Result<ReopenContainerLogResponse, Error>;

    /// Runs a command in a container and answers with its output and exit code. The output is
    /// bounded.
    async fn exec_sync(&self, request: ExecSyncRequest) -> Result<ExecSyncResponse, Error>;

    /// Prepares a streaming exec and answers with the URL to open, good for one use.
    async fn exec(&self, request: ExecRequest) -> Result<ExecResponse, Error>;

    /// Prepares a streaming attach and answers with the URL to open, good for one use.
    async fn attach(&self, request: AttachRequest) -> Result<AttachResponse, Error>;

    /// Prepares a port-forward and answers with the URL to open, good for one use.
    async fn port_forward(&self, request: PortForwardRequest)
    -> Result<PortForwardResponse, Error>;

    /// Usage of one container.
    async fn container_stats(
        &self,
        request: ContainerStatsRequest,
    ) -> Result<ContainerStatsResponse, Error>;

    /// Usage of the containers that match the filter.
    async fn list_container_stats(
        &self,
        request: ListContainerStatsRequest,
    ) -> Result<ListContainerStatsResponse, Error>;

    /// Usage of one pod.
    async fn pod_sandbox_stats(
        &self,
        request: PodSandboxStatsRequest,
    ) -> Result<PodSandboxStatsResponse, Error>;

    /// Usage of the pods that match the filter.
    async fn list_pod_sandbox_stats(
        &self,
        request: ListPodSandboxStatsRequest,
    ) -> Result<ListPodSandboxStatsResponse, Error>;

    /// Tells the runtime what the cluster gave to this node (the pod CIDR).
    async fn update_runtime_config(
        &self,
        request: UpdateRuntimeConfigRequest,
    ) -> Result<UpdateRuntimeConfigResponse, Error>;

    /// Whether runtime and network are ready.
    async fn status(&self, request: StatusRequest) -> Result<StatusResponse, Error>;

    /// What the kubelet must do as the runtime does: the cgroup driver.
    async fn runtime_config(
        &self,
        request: RuntimeConfigRequest,
    ) -> Result<RuntimeConfigResponse, Error>;

    /// Everything that happens to containers from now on. This is how the kubelet learns of exits:
    /// nothing polls. Subscribe first, list afterwards, and no exit is missed.
    async fn get_container_events(
        &self,
        request: GetEventsRequest,
    ) -> Result<ContainerEvents, Error>;
}
