//! The CRI's runtime service: each call checked and handed to where it is done.

use async_trait::async_trait;
use cri::v1::*;
use cri::{ContainerEvents, Error, RuntimeService};

use crate::Runtime;

/// How the runtime names itself.
const NAME: &str = "oxikube";

fn options(
    tty: bool,
    stdin: bool,
    stdout: bool,
    stderr: bool,
) -> Result<streaming::StreamOptions, Error> {
    if !(stdin || stdout || stderr) {
        return Err(Error::invalid(
            "one of `stdin`, `stdout`, or `stderr` must be set",
        ));
    }
    if tty && stderr {
        return Err(Error::invalid("tty and stderr cannot both be set"));
    }
    Ok(streaming::StreamOptions {
        stdin,
        stdout,
        stderr,
        tty,
    })
}

fn condition(kind: &str, problem: Option<String>) -> RuntimeCondition {
    let (reason, message) = match &problem {
        None => (String::new(), String::new()),
        Some(message) => (
            format!("{}NotReady", kind.trim_end_matches("Ready")),
            message.clone(),
        ),
    };
    RuntimeCondition {
        r#type: kind.to_owned(),
        status: problem.is_none(),
        reason,
        message,
    }
}

#[async_trait]
impl RuntimeService for Runtime {
    async fn version(&self, _: VersionRequest) -> Result<VersionResponse, Error> {
        Ok(VersionResponse {
            version: "0.1.0".into(),
            runtime_name: NAME.into(),
            runtime_version: env!("CARGO_PKG_VERSION").into(),
            runtime_api_version: cri::API_VERSION.into(),
        })
    }

    async fn run_pod_sandbox(
        &self,
        request: RunPodSandboxRequest,
    ) -> Result<RunPodSandboxResponse, Error> {
        let pod_sandbox_id = self.shared()?.run_sandbox(request).await?;
        Ok(RunPodSandboxResponse { pod_sandbox_id })
    }

    async fn stop_pod_sandbox(
        &self,
        request: StopPodSandboxRequest,
    ) -> Result<StopPodSandboxResponse, Error> {
        self.stop_sandbox(&request.pod_sandbox_id).await?;
        Ok(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(
        &self,
        request: RemovePodSandboxRequest,
    ) -> Result<RemovePodSandboxResponse, Error> {
        self.remove_sandbox(&request.pod_sandbox_id).await?;
        Ok(RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        request: PodSandboxStatusRequest,
    ) -> Result<PodSandboxStatusResponse, Error> {
        let sandbox = self.sandbox(&request.pod_sandbox_id)?;
        let containers = self.containers_of(&sandbox.record.id);
        Ok(PodSandboxStatusResponse {
            status: Some(sandbox.status()),
            info: Default::default(),
            containers_statuses: containers
                .iter()
                .map(crate::world::Container::status)
                .collect(),
            timestamp: crate::events::now(),
        })
    }

    async fn list_pod_sandbox(
        &self,
        request: ListPodSandboxRequest,
    ) -> Result<ListPodSandboxResponse, Error> {
        Ok(ListPodSandboxResponse {
            items: self.list_sandboxes(&request.filter.unwrap_or_default()),
        })
    }

    async fn create_container(
        &self,
        request: CreateContainerRequest,
    ) -> Result<CreateContainerResponse, Error> {
        Ok(CreateContainerResponse {
            container_id: self.create(request)?,
        })
    }

    async fn start_container(
        &self,
        request: StartContainerRequest,
    ) -> Result<StartContainerResponse, Error> {
        self.start(&request.container_id).await?;
        Ok(StartContainerResponse {})
    }

    async fn stop_container(
        &self,
        request: StopContainerRequest,
    ) -> Result<StopContainerResponse, Error> {
        match self.container(&request.container_id) {
            Ok(container) => {
                let seconds = u64::try_from(request.timeout).unwrap_or(0);
                let grace = std::time::Duration::from_secs(seconds);
                Runtime::stop_container(self, &container, grace).await?;
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        Ok(StopContainerResponse {})
    }

    async fn remove_container(
        &self,
        request: RemoveContainerRequest,
    ) -> Result<RemoveContainerResponse, Error> {
        match self.container(&request.container_id) {
            Ok(container) => Runtime::remove_container(self, &container).await?,
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        Ok(RemoveContainerResponse {})
    }

    async fn list_containers(
        &self,
        request: ListContainersRequest,
    ) -> Result<ListContainersResponse, Error> {
        Ok(ListContainersResponse {
            containers: self.list(&request.filter.unwrap_or_default()),
        })
    }

    async fn container_status(
        &self,
        request: ContainerStatusRequest,
    ) -> Result<ContainerStatusResponse, Error> {
        let container = self.container(&request.container_id)?;
        let mut status = container.status();
        // The kubelet finds the log by this: it must be the whole path.
        if let Ok(sandbox) = self.sandbox(&container.record.sandbox) {
            let dir = std::path::Path::new(&sandbox.record.config.log_directory);
            if !status.log_path.is_empty() {
                status.log_path = dir.join(&status.log_path).display().to_string();
            }
        }
        Ok(ContainerStatusResponse {
            status: Some(status),
            info: Default::default(),
        })
    }

    async fn update_container_resources(
        &self,
        request: UpdateContainerResourcesRequest,
    ) -> Result<UpdateContainerResourcesResponse, Error> {
        self.update(&request.container_id, request.linux)?;
        Ok(UpdateContainerResourcesResponse {})
    }

    async fn reopen_container_log(
        &self,
        request: ReopenContainerLogRequest,
    ) -> Result<ReopenContainerLogResponse, Error> {
        let container = self.container(&request.container_id)?;
        let live = self.live(&container.record.sandbox)?;
        let call = crate::shim::protocol::Call::ReopenLog {
            container: container.record.id.clone(),
        };
        live.shim.call(call, &[]).await?;
        Ok(ReopenContainerLogResponse {})
    }

    async fn exec_sync(&self, request: ExecSyncRequest) -> Result<ExecSyncResponse, Error> {
        self.run_exec_sync(request).await
    }

    async fn exec(&self, request: ExecRequest) -> Result<ExecResponse, Error> {
        let options = options(request.tty, request.stdin, request.stdout, request.stderr)?;
        let container_id = self.container(&request.container_id)?.record.id.clone();
        let prepared = streaming::ExecRequest {
            container_id,
            command: request.cmd,
            options,
        };
        let url = self
            .streaming()?
            .exec_url(prepared)
            .map_err(Error::internal)?;
        Ok(ExecResponse { url })
    }

    async fn attach(&self, request: AttachRequest) -> Result<AttachResponse, Error> {
        let options = options(request.tty, request.stdin, request.stdout, request.stderr)?;
        let container_id = self.container(&request.container_id)?.record.id.clone();
        let prepared = streaming::AttachRequest {
            container_id,
            options,
        };
        let url = self
            .streaming()?
            .attach_url(prepared)
            .map_err(Error::internal)?;
        Ok(AttachResponse { url })
    }

    async fn port_forward(
        &self,
        request: PortForwardRequest,
    ) -> Result<PortForwardResponse, Error> {
        let sandbox_id = self.sandbox(&request.pod_sandbox_id)?.record.id.clone();
        self.live(&sandbox_id)?;
        let ports = request
            .port
            .iter()
            .map(|port| u16::try_from(*port))
            .collect::<Result<_, _>>();
        let ports = ports.map_err(|_| Error::invalid("ports must be between 0 and 65535"))?;
        let prepared = streaming::PortForwardRequest { sandbox_id, ports };
        let url = self
            .streaming()?
            .portforward_url(prepared)
            .map_err(Error::internal)?;
        Ok(PortForwardResponse { url })
    }

    async fn container_stats(
        &self,
        request: ContainerStatsRequest,
    ) -> Result<ContainerStatsResponse, Error> {
        let container = self.container(&request.container_id)?;
        let stats = self
            .blocking(move |runtime| Ok(runtime.stats_of(&container)))
            .await?;
        Ok(ContainerStatsResponse { stats: Some(stats) })
    }

    async fn list_container_stats(
        &self,
        request: ListContainerStatsRequest,
    ) -> Result<ListContainerStatsResponse, Error> {
        let filter = request.filter.unwrap_or_default();
        let stats = self
            .blocking(move |runtime| Ok(runtime.list_stats(&filter)))
            .await?;
        Ok(ListContainerStatsResponse { stats })
    }

    async fn pod_sandbox_stats(
        &self,
        request: PodSandboxStatsRequest,
    ) -> Result<PodSandboxStatsResponse, Error> {
        let sandbox = self.sandbox(&request.pod_sandbox_id)?;
        let stats = self
            .blocking(move |runtime| runtime.pod_stats(&sandbox))
            .await?;
        Ok(PodSandboxStatsResponse { stats: Some(stats) })
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: ListPodSandboxStatsRequest,
    ) -> Result<ListPodSandboxStatsResponse, Error> {
        let filter = request.filter.unwrap_or_default();
        let filter = PodSandboxFilter {
            id: filter.id,
            label_selector: filter.label_selector,
            state: Some(PodSandboxStateValue {
                state: PodSandboxState::SandboxReady.into(),
            }),
        };
        let stats = self.blocking(move |runtime| {
            let ids = runtime
                .list_sandboxes(&filter)
                .into_iter()
                .map(|sandbox| sandbox.id);
            ids.filter_map(|id| runtime.sandbox(&id).ok())
                .map(|one| runtime.pod_stats(&one))
                .collect()
        });
        Ok(ListPodSandboxStatsResponse {
            stats: stats.await?,
        })
    }

    async fn update_runtime_config(
        &self,
        request: UpdateRuntimeConfigRequest,
    ) -> Result<UpdateRuntimeConfigResponse, Error> {
        let network = request
            .runtime_config
            .and_then(|config| config.network_config);
        if let Some(network) = network.filter(|network| !network.pod_cidr.is_empty()) {
            let set = self.config.network.set_pod_cidr(&network.pod_cidr).await;
            set.map_err(|error| Error::new(cri::Code::Internal, cri::chain(error.as_ref())))?;
        }
        Ok(UpdateRuntimeConfigResponse {})
    }

    async fn status(&self, _: StatusRequest) -> Result<StatusResponse, Error> {
        let conditions = vec![
            condition("RuntimeReady", None),
            condition("NetworkReady", self.config.network.ready().err()),
        ];
        let features = RuntimeHandlerFeatures {
            recursive_read_only_mounts: true,
            user_namespaces: false,
        };
        Ok(StatusResponse {
            status: Some(RuntimeStatus { conditions }),
            info: Default::default(),
            runtime_handlers: vec![RuntimeHandler {
                name: String::new(),
                features: Some(features),
            }],
            features: Some(RuntimeFeatures {
                supplemental_groups_policy: true,
            }),
        })
    }

    async fn runtime_config(
        &self,
        _: RuntimeConfigRequest,
    ) -> Result<RuntimeConfigResponse, Error> {
        let cgroup_driver = CgroupDriver::Cgroupfs.into();
        Ok(RuntimeConfigResponse {
            linux: Some(LinuxRuntimeConfiguration { cgroup_driver }),
        })
    }

    async fn get_container_events(&self, _: GetEventsRequest) -> Result<ContainerEvents, Error> {
        Ok(self.events.subscribe())
    }
}
