//! What the CRI is told of a container.

use cri::v1::{self, ContainerState};

use crate::shim::protocol::Exited;
use crate::world::{Container, Progress};

impl Container {
    pub(crate) fn state(&self) -> ContainerState {
        let progress = self.progress.borrow();
        match (&progress.exited, &progress.started) {
            (Some(_), _) => ContainerState::ContainerExited,
            (None, Some(_)) => ContainerState::ContainerRunning,
            (None, None) => ContainerState::ContainerCreated,
        }
    }

    pub(crate) fn listed(&self) -> v1::Container {
        let config = &self.record.config;
        v1::Container {
            id: self.record.id.clone(),
            pod_sandbox_id: self.record.sandbox.clone(),
            metadata: config.metadata.clone(),
            image: config.image.clone(),
            image_ref: self.record.image_ref.clone(),
            image_id: self.record.image_id.clone(),
            state: self.state().into(),
            created_at: self.record.created_at,
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        }
    }

    pub(crate) fn status(&self) -> v1::ContainerStatus {
        let config = &self.record.config;
        let progress = self.progress.borrow().clone();
        let (reason, message) = reason(&progress);
        let user = progress.started.as_ref().map(|started| v1::ContainerUser {
            linux: Some(v1::LinuxContainerUser {
                uid: started.user.uid.into(),
                gid: started.user.gid.into(),
                supplemental_groups: started
                    .user
                    .groups
                    .iter()
                    .map(|gid| (*gid).into())
                    .collect(),
            }),
        });
        let linux = config
            .linux
            .as_ref()
            .and_then(|linux| linux.resources.clone());
        let log_dir_known = config.log_path.clone();
        v1::ContainerStatus {
            id: self.record.id.clone(),
            metadata: config.metadata.clone(),
            state: self.state().into(),
            created_at: self.record.created_at,
            started_at: progress.started.as_ref().map_or(0, |started| started.at),
            finished_at: progress.exited.as_ref().map_or(0, |exited| exited.at),
            exit_code: progress.exited.as_ref().map_or(0, |exited| exited.code),
            image: config.image.clone(),
            image_ref: self.record.image_ref.clone(),
            image_id: self.record.image_id.clone(),
            reason,
            message,
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            log_path: log_dir_known,
            resources: Some(v1::ContainerResources {
                linux,
                windows: None,
            }),
            user,
        }
    }
}

/// The word for how a container ended, and what is to be said about it.
fn reason(progress: &Progress) -> (String, String) {
    let Some(exited) = &progress.exited else {
        return Default::default();
    };
    if let Some(failure) = &progress.failure {
        return (failure.reason.clone(), failure.message.clone());
    }
    let reason = match exited {
        Exited {
            out_of_memory: true,
            ..
        } => "OOMKilled",
        Exited { code: 0, .. } => "Completed",
        _ => "Error",
    };
    (reason.to_owned(), String::new())
}
