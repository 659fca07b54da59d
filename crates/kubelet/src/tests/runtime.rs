//! A container runtime without containers.

use std::collections::HashMap;

use async_trait::async_trait;
use cri::v1::*;
use cri::{ContainerEvents, Error, ImageService, RuntimeService};
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

pub(super) struct Runtime {
    state: Mutex<State>,
    events: broadcast::Sender<ContainerEventResponse>,
}

#[derive(Default)]
struct State {
    next: u32,
    sandboxes: Vec<(PodSandboxStatus, PodSandboxConfig)>,
    containers: Vec<(ContainerStatus, String, ContainerConfig)>,
    images: Vec<String>,
    calls: Vec<String>,
    /// Where streams are served.
    streams: String,
    /// Exit codes of commands run in containers.
    exec: HashMap<String, i32>,
}

impl Runtime {
    pub(super) fn new() -> Runtime {
        Runtime {
            state: Mutex::default(),
            events: broadcast::Sender::new(256),
        }
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }

    pub(super) fn set_streams(&self, url: String) {
        self.state.lock().streams = url;
    }

    /// Writes to the log of the newest container.
    pub(super) fn log(&self, text: &str) {
        let path = self
            .state
            .lock()
            .containers
            .last()
            .unwrap()
            .0
            .log_path
            .clone();
        std::fs::write(path, text).unwrap();
    }

    pub(super) fn set_exec(&self, command: &str, code: i32) {
        self.state.lock().exec.insert(command.to_owned(), code);
    }

    pub(super) fn config(&self, container: &str) -> Option<ContainerConfig> {
        let state = self.state.lock();
        let mut all = state.containers.iter().rev();
        let name = |c: &ContainerStatus| c.metadata.clone().unwrap_or_default().name;
        all.find(|(c, ..)| name(c) == container)
            .map(|(_, _, config)| config.clone())
    }

    /// Lets the running container of that name end.
    pub(super) fn exit(&self, container: &str, code: i32) {
        let id = {
            let state = self.state.lock();
            let found = state.containers.iter().find(|(c, ..)| {
                let name = c.metadata.clone().unwrap_or_default().name;
                name == container && c.state == ContainerState::ContainerRunning as i32
            });
            found.expect("it runs").0.id.clone()
        };
        self.end(&id, code);
    }

    fn end(&self, id: &str, code: i32) {
        let mut state = self.state.lock();
        for (container, ..) in &mut state.containers {
            if container.id == id && container.state == ContainerState::ContainerRunning as i32 {
                container.state = ContainerState::ContainerExited as i32;
                container.exit_code = code;
                container.finished_at = now();
            }
        }
        drop(state);
        self.tell(id, ContainerEventType::ContainerStoppedEvent);
    }

    fn tell(&self, id: &str, kind: ContainerEventType) {
        let state = self.state.lock();
        let sandbox = state
            .containers
            .iter()
            .find(|(c, ..)| c.id == id)
            .map(|c| c.1.clone());
        let sandbox = sandbox.unwrap_or_else(|| id.to_owned());
        let status = state.sandboxes.iter().find(|(s, _)| s.id == sandbox);
        let event = ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: now(),
            pod_sandbox_status: status.map(|(s, _)| s.clone()),
            containers_statuses: Vec::new(),
        };
        // Nobody listens yet, maybe.
        drop(self.events.send(event));
    }

    fn call(&self, text: String) -> u32 {
        let mut state = self.state.lock();
        state.calls.push(text);
        state.next += 1;
        state.next
    }
}

fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap()
}

fn chosen(labels: &HashMap<String, String>, selector: Option<HashMap<String, String>>) -> bool {
    selector
        .into_iter()
        .flatten()
        .all(|(k, v)| labels.get(&k) == Some(&v))
}

#[async_trait]
impl RuntimeService for Runtime {
    async fn version(&self, _: VersionRequest) -> Result<VersionResponse, Error> {
        Ok(VersionResponse {
            runtime_name: "fake".into(),
            runtime_version: "1".into(),
            ..Default::default()
        })
    }

    async fn run_pod_sandbox(
        &self,
        request: RunPodSandboxRequest,
    ) -> Result<RunPodSandboxResponse, Error> {
        let config = request.config.unwrap();
        let metadata = config.metadata.clone().unwrap();
        let number = self.call(format!("sandbox {} #{}", metadata.name, metadata.attempt));
        let id = format!("s{number}");
        let status = PodSandboxStatus {
            id: id.clone(),
            metadata: Some(metadata),
            state: PodSandboxState::SandboxReady.into(),
            created_at: now(),
            network: Some(PodSandboxNetworkStatus {
                ip: "127.0.0.1".into(),
                ..Default::default()
            }),
            labels: config.labels.clone(),
            ..Default::default()
        };
        self.state.lock().sandboxes.push((status, config));
        Ok(RunPodSandboxResponse { pod_sandbox_id: id })
    }

    async fn stop_pod_sandbox(
        &self,
        request: StopPodSandboxRequest,
    ) -> Result<StopPodSandboxResponse, Error> {
        self.call("stop sandbox".into());
        for (sandbox, _) in &mut self.state.lock().sandboxes {
            if sandbox.id == request.pod_sandbox_id {
                sandbox.state = PodSandboxState::SandboxNotready.into();
            }
        }
        Ok(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(
        &self,
        request: RemovePodSandboxRequest,
    ) -> Result<RemovePodSandboxResponse, Error> {
        self.call("remove sandbox".into());
        let mut state = self.state.lock();
        state
            .sandboxes
            .retain(|(s, _)| s.id != request.pod_sandbox_id);
        state
            .containers
            .retain(|(_, s, _)| *s != request.pod_sandbox_id);
        Ok(RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        request: PodSandboxStatusRequest,
    ) -> Result<PodSandboxStatusResponse, Error> {
        let state = self.state.lock();
        let found = state
            .sandboxes
            .iter()
            .find(|(s, _)| s.id == request.pod_sandbox_id);
        let found = found.ok_or_else(|| Error::not_found("no such sandbox"))?;
        Ok(PodSandboxStatusResponse {
            status: Some(found.0.clone()),
            ..Default::default()
        })
    }

    async fn list_pod_sandbox(
        &self,
        request: ListPodSandboxRequest,
    ) -> Result<ListPodSandboxResponse, Error> {
        let selector = request.filter.map(|f| f.label_selector);
        let state = self.state.lock();
        let found = state
            .sandboxes
            .iter()
            .filter(|(s, _)| chosen(&s.labels, selector.clone()));
        let items = found.map(|(s, _)| PodSandbox {
            id: s.id.clone(),
            metadata: s.metadata.clone(),
            state: s.state,
            ..Default::default()
        });
        Ok(ListPodSandboxResponse {
            items: items.collect(),
        })
    }

    async fn create_container(
        &self,
        request: CreateContainerRequest,
    ) -> Result<CreateContainerResponse, Error> {
        let config = request.config.unwrap();
        let metadata = config.metadata.clone().unwrap();
        let number = self.call(format!("create {} #{}", metadata.name, metadata.attempt));
        let id = format!("c{number}");
        let log_directory = request.sandbox_config.unwrap().log_directory;
        let status = ContainerStatus {
            id: id.clone(),
            metadata: Some(metadata),
            state: ContainerState::ContainerCreated.into(),
            created_at: now(),
            image: config.image.clone(),
            image_ref: "sha256:1".into(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            log_path: format!("{log_directory}/{}", config.log_path),
            ..Default::default()
        };
        std::fs::write(&status.log_path, "").unwrap();
        self.state
            .lock()
            .containers
            .push((status, request.pod_sandbox_id, config));
        Ok(CreateContainerResponse { container_id: id })
    }

    async fn start_container(
        &self,
        request: StartContainerRequest,
    ) -> Result<StartContainerResponse, Error> {
        for (container, ..) in &mut self.state.lock().containers {
            if container.id == request.container_id {
                container.state = ContainerState::ContainerRunning.into();
                container.started_at = now();
            }
        }
        self.tell(
            &request.container_id,
            ContainerEventType::ContainerStartedEvent,
        );
        Ok(StartContainerResponse {})
    }

    async fn stop_container(
        &self,
        request: StopContainerRequest,
    ) -> Result<StopContainerResponse, Error> {
        self.call(format!("stop within {}s", request.timeout));
        self.end(&request.container_id, 143);
        Ok(StopContainerResponse {})
    }

    async fn remove_container(
        &self,
        request: RemoveContainerRequest,
    ) -> Result<RemoveContainerResponse, Error> {
        self.call("remove container".into());
        self.state
            .lock()
            .containers
            .retain(|(c, ..)| c.id != request.container_id);
        Ok(RemoveContainerResponse {})
    }

    async fn list_containers(
        &self,
        request: ListContainersRequest,
    ) -> Result<ListContainersResponse, Error> {
        let selector = request.filter.map(|f| f.label_selector);
        let state = self.state.lock();
        let found = state
            .containers
            .iter()
            .filter(|(c, ..)| chosen(&c.labels, selector.clone()));
        let containers = found.map(|(c, sandbox, _)| Container {
            id: c.id.clone(),
            pod_sandbox_id: sandbox.clone(),
            state: c.state,
            ..Default::default()
        });
        Ok(ListContainersResponse {
            containers: containers.collect(),
        })
    }

    async fn container_status(
        &self,
        request: ContainerStatusRequest,
    ) -> Result<ContainerStatusResponse, Error> {
        let state = self.state.lock();
        let found = state
            .containers
            .iter()
            .find(|(c, ..)| c.id == request.container_id);
        let found = found.ok_or_else(|| Error::not_found("no such container"))?;
        Ok(ContainerStatusResponse {
            status: Some(found.0.clone()),
            ..Default::default()
        })
    }

    async fn update_container_resources(
        &self,
        _: UpdateContainerResourcesRequest,
    ) -> Result<UpdateContainerResourcesResponse, Error> {
        Err(Error::unimplemented("not here"))
    }

    async fn reopen_container_log(
        &self,
        _: ReopenContainerLogRequest,
    ) -> Result<ReopenContainerLogResponse, Error> {
        Err(Error::unimplemented("not here"))
    }

    async fn exec_sync(&self, request: ExecSyncRequest) -> Result<ExecSyncResponse, Error> {
        let command = request.cmd.join(" ");
        self.call(format!("exec {command}"));
        let exit_code = self.state.lock().exec.get(&command).copied().unwrap_or(0);
        Ok(ExecSyncResponse {
            stdout: b"said so".to_vec(),
            exit_code,
            ..Default::default()
        })
    }

    async fn exec(&self, request: ExecRequest) -> Result<ExecResponse, Error> {
        self.call(format!("stream {}", request.cmd.join(" ")));
        let url = self.state.lock().streams.clone();
        Ok(ExecResponse { url })
    }

    async fn attach(&self, _: AttachRequest) -> Result<AttachResponse, Error> {
        Err(Error::unimplemented("not here"))
    }

    async fn port_forward(&self, _: PortForwardRequest) -> Result<PortForwardResponse, Error> {
        Err(Error::unimplemented("not here"))
    }

    async fn container_stats(
        &self,
        _: ContainerStatsRequest,
    ) -> Result<ContainerStatsResponse, Error> {
        Ok(ContainerStatsResponse::default())
    }

    async fn list_container_stats(
        &self,
        _: ListContainerStatsRequest,
    ) -> Result<ListContainerStatsResponse, Error> {
        Ok(ListContainerStatsResponse::default())
    }

    async fn pod_sandbox_stats(
        &self,
        _: PodSandboxStatsRequest,
    ) -> Result<PodSandboxStatsResponse, Error> {
        Ok(PodSandboxStatsResponse::default())
    }

    async fn list_pod_sandbox_stats(
        &self,
        _: ListPodSandboxStatsRequest,
    ) -> Result<ListPodSandboxStatsResponse, Error> {
        Ok(ListPodSandboxStatsResponse::default())
    }

    async fn update_runtime_config(
        &self,
        request: UpdateRuntimeConfigRequest,
    ) -> Result<UpdateRuntimeConfigResponse, Error> {
        let network = request.runtime_config.unwrap().network_config.unwrap();
        self.call(format!("pods in {}", network.pod_cidr));
        Ok(UpdateRuntimeConfigResponse {})
    }

    async fn status(&self, _: StatusRequest) -> Result<StatusResponse, Error> {
        let ready = |kind: &str| RuntimeCondition {
            r#type: kind.into(),
            status: true,
            ..Default::default()
        };
        Ok(StatusResponse {
            status: Some(RuntimeStatus {
                conditions: vec![ready("RuntimeReady"), ready("NetworkReady")],
            }),
            ..Default::default()
        })
    }

    async fn runtime_config(
        &self,
        _: RuntimeConfigRequest,
    ) -> Result<RuntimeConfigResponse, Error> {
        Ok(RuntimeConfigResponse::default())
    }

    async fn get_container_events(&self, _: GetEventsRequest) -> Result<ContainerEvents, Error> {
        let events = BroadcastStream::new(self.events.subscribe());
        let events = events.map(|e| e.map_err(Error::internal));
        Ok(events.boxed())
    }
}

#[async_trait]
impl ImageService for Runtime {
    async fn list_images(&self, _: ListImagesRequest) -> Result<ListImagesResponse, Error> {
        Ok(ListImagesResponse::default())
    }

    async fn image_status(
        &self,
        request: ImageStatusRequest,
    ) -> Result<ImageStatusResponse, Error> {
        let name = request.image.unwrap().image;
        let here = self.state.lock().images.contains(&name) || name == "sha256:1";
        let image = here.then(|| Image {
            id: "sha256:1".into(),
            size: 42,
            uid: Some(Int64Value { value: 0 }),
            ..Default::default()
        });
        Ok(ImageStatusResponse {
            image,
            ..Default::default()
        })
    }

    async fn pull_image(&self, request: PullImageRequest) -> Result<PullImageResponse, Error> {
        let name = request.image.unwrap().image;
        self.call(format!("pull {name}"));
        if name.contains("missing") {
            return Err(Error::not_found(format!("{name}: not found")));
        }
        self.state.lock().images.push(name);
        Ok(PullImageResponse {
            image_ref: "sha256:1".into(),
        })
    }

    async fn remove_image(&self, _: RemoveImageRequest) -> Result<RemoveImageResponse, Error> {
        Ok(RemoveImageResponse {})
    }

    async fn image_fs_info(&self, _: ImageFsInfoRequest) -> Result<ImageFsInfoResponse, Error> {
        Ok(ImageFsInfoResponse::default())
    }
}
