//! Containers: planned, started, stopped, removed, described.

use std::sync::Arc;
use std::time::Duration;

use cri::v1::{self, ContainerEventType, ContainerState};
use cri::{Code, Error};
use oci::ContainerPlan;
use tokio::sync::watch;

use crate::client::CallError;
use crate::container_plan::{limits, merge_limits, set_upper_mode, stop_signal};
use crate::events::now;
use crate::records::{self, ContainerRecord, Failure, RECORD};
use crate::sandboxes::{has_labels, join, new_id};
use crate::shim::protocol::{Answer, CONTAINER_PLAN, Call, EXITED, Exited};
use crate::world::{self, Container, Progress, Runtime, Sandbox};

/// How long a killed container may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(60);

impl Runtime {
    pub(crate) fn create(&self, request: v1::CreateContainerRequest) -> Result<String, Error> {
        let config = request
            .config
            .ok_or_else(|| Error::invalid("container config is required"))?;
        if config.metadata.is_none() {
            return Err(Error::invalid("container config must include metadata"));
        }
        let sandbox = self.sandbox(&request.pod_sandbox_id)?;
        self.live(&sandbox.record.id)?;
        let wanted = config.image.clone().unwrap_or_default().image;
        let image = self.images.status(&wanted);
        let image = image.ok_or_else(|| Error::not_found(format!("image {wanted:?} not found")))?;
        let id = new_id();
        let record = ContainerRecord {
            sandbox: sandbox.record.id.clone(),
            created_at: now(),
            image_id: image.id.clone(),
            image_ref: crate::image_service::reference(&image),
            stop_signal: stop_signal(&image.config.config.stop_signal),
            cgroup: join(&sandbox.record.cgroup_parent, &id),
            id,
            config,
        };
        self.images
            .hold(&record.id, &image.id)
            .map_err(Error::internal)?;
        match self.write_container(&sandbox, record, &image) {
            Ok(id) => Ok(id),
            Err((id, error)) => {
                self.images.release(&id).map_err(Error::internal)?;
                world::remove_dir(&self.data_dir(&id))?;
                world::remove_dir(&sandbox.dir.join("containers").join(&id))?;
                Err(error)
            }
        }
    }

    fn write_container(
        &self,
        sandbox: &Sandbox,
        record: ContainerRecord,
        image: &images::Image,
    ) -> Result<String, (String, Error)> {
        let id = record.id.clone();
        let write = || -> Result<Container, Error> {
            let plan = self.plan(sandbox, &record, image)?;
            // Volumes may be images, too.
            self.images.hold_layers(&record.id, &plan.layers());
            for dir in [&plan.root.upper, &plan.root.work, &plan.root.at] {
                std::fs::create_dir_all(dir).map_err(Error::internal)?;
            }
            set_upper_mode(&plan)?;
            let dir = sandbox.dir.join("containers").join(&record.id);
            world::make_private(&dir)?;
            records::write(&dir, CONTAINER_PLAN, &plan)?;
            records::write(&dir, RECORD, &record)?;
            Ok(Container {
                dir,
                record: Arc::new(record),
                progress: Arc::new(watch::channel(Progress::default()).0),
            })
        };
        let container = write().map_err(|error| (id.clone(), error))?;
        self.world().containers.insert(id.clone(), container);
        self.tell(
            ContainerEventType::ContainerCreatedEvent,
            &sandbox.record.id,
            &id,
        );
        Ok(id)
    }

    pub(crate) async fn start(&self, id: &str) -> Result<(), Error> {
        let container = self.container(id)?;
        let id = &container.record.id;
        let first = container
            .progress
            .send_if_modified(|progress| !std::mem::replace(&mut progress.starting, true));
        if !first {
            return Err(Error::failed_precondition(format!(
                "container {id:?} was started before"
            )));
        }
        let live = self.live(&container.record.sandbox);
        let live = live.inspect_err(|error| self.never_started(&container, &error.message))?;
        let call = Call::Start {
            container: id.clone(),
            dir: container.dir.clone(),
        };
        let reply = live.shim.call(call, &[]).await.map(|reply| reply.result);
        match reply {
            Ok(Ok(Answer::Started(started))) => {
                container
                    .progress
                    .send_modify(|progress| progress.started = Some(started));
                let sandbox = &container.record.sandbox;
                self.tell(ContainerEventType::ContainerStartedEvent, sandbox, id);
                Ok(())
            }
            Err(CallError::Failed(message)) => {
                self.never_started(&container, &message);
                Err(Error::new(
                    Code::Unknown,
                    format!("failed to start container {id:?}: {message}"),
                ))
            }
            Err(error) => {
                self.never_started(&container, &error.to_string());
                Err(error.into())
            }
            Ok(_) => Err(Error::new(Code::Internal, "the shim gave a strange answer")),
        }
    }

    /// Notes that a container could not be started, as its end.
    fn never_started(&self, container: &Container, message: &str) {
        let failure = Failure {
            reason: "StartError".into(),
            message: message.to_owned(),
        };
        let exited = Exited {
            code: 128,
            at: now(),
            out_of_memory: false,
        };
        let _ = records::write(&container.dir, records::FAILURE, &failure);
        let _ = records::write(&container.dir, EXITED, &exited);
        container.progress.send_modify(|progress| {
            // The shim may have reported the failed child already; how it is to be understood is
            // known only here.
            progress.exited = None;
            progress.failure = Some(failure);
        });
        self.container_exited(&container.record.id, exited, None);
    }

    /// Asks a container to stop, waits for `grace`, and kills it. Returns when it is gone.
    pub(crate) async fn stop_container(
        &self,
        container: &Container,
        grace: Duration,
    ) -> Result<(), Error> {
        let id = &container.record.id;
        let progress = container.progress.borrow().clone();
        if progress.exited.is_some() || !progress.starting {
            return Ok(());
        }
        let live = match self.live(&container.record.sandbox) {
            Ok(live) => live,
            // Without its shim it is gone, or about to be noted as gone.
            Err(_) => return self.wait_exit(container, KILL_TIMEOUT).await,
        };
        if !grace.is_zero() {
            let signal = container.record.stop_signal;
            let call = Call::Signal {
                container: id.clone(),
                signal,
            };
            match live.shim.call(call, &[]).await {
                Ok(_) | Err(CallError::NotRunning | CallError::Gone | CallError::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
            if self.wait_exit(container, grace).await.is_ok() {
                return Ok(());
            }
        }
        match live
            .shim
            .call(
                Call::Kill {
                    container: id.clone(),
                },
                &[],
            )
            .await
        {
            Ok(_) | Err(CallError::NotRunning | CallError::Gone | CallError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        self.wait_exit(container, KILL_TIMEOUT).await
    }

    async fn wait_exit(&self, container: &Container, timeout: Duration) -> Result<(), Error> {
        let mut progress = container.progress.subscribe();
        let exited = progress.wait_for(|progress| progress.exited.is_some());
        match tokio::time::timeout(timeout, exited).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let message = format!("container {:?} did not stop in time", container.record.id);
                Err(Error::new(Code::DeadlineExceeded, message))
            }
        }
    }

    pub(crate) async fn remove_container(&self, container: &Container) -> Result<(), Error> {
        let id = &container.record.id;
        self.stop_container(container, Duration::ZERO).await?;
        if let Ok(live) = self.live(&container.record.sandbox) {
            let _ = live
                .shim
                .call(
                    Call::Forget {
                        container: id.clone(),
                    },
                    &[],
                )
                .await;
        }
        let (data, dir) = (self.data_dir(id), container.dir.clone());
        let images = Arc::clone(&self.images);
        let holder = id.clone();
        let removed = tokio::task::spawn_blocking(move || {
            // The record goes last: what is half-removed is found and removed again.
            world::remove_dir(&data)?;
            world::remove_dir(&dir)?;
            images.release(&holder).map_err(Error::internal)
        });
        removed.await.map_err(Error::internal)??;
        let known = self.world().containers.remove(id).is_some();
        if known {
            self.tell(
                ContainerEventType::ContainerDeletedEvent,
                &container.record.sandbox,
                id,
            );
        }
        Ok(())
    }

    pub(crate) fn list(&self, filter: &v1::ContainerFilter) -> Vec<v1::Container> {
        let state = filter.state.as_ref().map(|state| state.state);
        let world = self.world();
        let all = world.containers.values().filter(|one| {
            one.record.id.starts_with(&filter.id)
                && one.record.sandbox.starts_with(&filter.pod_sandbox_id)
                && state.is_none_or(|state| state == one.state() as i32)
                && has_labels(&one.record.config.labels, &filter.label_selector)
        });
        all.map(Container::listed).collect()
    }

    pub(crate) fn update(
        &self,
        id: &str,
        resources: Option<v1::LinuxContainerResources>,
    ) -> Result<(), Error> {
        let container = self.container(id)?;
        let Some(resources) = resources else {
            return Ok(());
        };
        let limits = limits(&resources);
        let plan: Option<ContainerPlan> = records::read(&container.dir, CONTAINER_PLAN);
        if let Some(plan) = plan {
            let merged = merge_limits(plan.limits.clone(), limits.clone());
            records::write(
                &container.dir,
                CONTAINER_PLAN,
                &ContainerPlan {
                    limits: merged,
                    ..plan
                },
            )?;
        }
        self.remember(&container, &resources)?;
        if container.state() != ContainerState::ContainerRunning {
            return Ok(());
        }
        let group = self.hierarchies.group(&container.record.cgroup);
        let mut writes = match group.is_v2() {
            true => oci::limits::v2(&limits),
            false => oci::limits::v1(&limits),
        };
        // Growing both limits of version 1, the one that includes swap must grow first.
        if crate::shim::apply_limits(&group, &writes).is_err() {
            writes.reverse();
            crate::shim::apply_limits(&group, &writes).map_err(Error::internal)?;
        }
        Ok(())
    }

    /// Lets the status of a container tell the resources that it has now.
    fn remember(
        &self,
        container: &Container,
        resources: &v1::LinuxContainerResources,
    ) -> Result<(), Error> {
        let mut record = ContainerRecord::clone(&container.record);
        let linux = record.config.linux.get_or_insert_default();
        let known = linux.resources.get_or_insert_default();
        let numbers = [
            (&mut known.cpu_period, resources.cpu_period),
            (&mut known.cpu_quota, resources.cpu_quota),
            (&mut known.cpu_shares, resources.cpu_shares),
            (
                &mut known.memory_limit_in_bytes,
                resources.memory_limit_in_bytes,
            ),
        ];
        for (known, now) in numbers {
            if now != 0 {
                *known = now;
            }
        }
        records::write(&container.dir, RECORD, &record)?;
        if let Some(kept) = self.world().containers.get_mut(&record.id) {
            kept.record = Arc::new(record);
        }
        Ok(())
    }
}
