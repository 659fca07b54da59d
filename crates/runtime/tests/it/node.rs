//! A node for one test: a runtime on temporary directories and a cgroup of its own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use cri::v1::*;
use cri::{ContainerEvents, ImageService, RuntimeService};
use futures::StreamExt;
use linux::namespace::Namespace;
use runtime::{Config, NetworkError, PodNetwork, PodSandboxNetwork, Runtime};
use sha2::{Digest, Sha256};

/// A network of one address: the loopback.
struct Loopback;

#[async_trait]
impl PodNetwork for Loopback {
    async fn attach(
        &self,
        _: &PodSandboxNetwork,
        _: &Namespace,
    ) -> Result<Vec<IpAddr>, NetworkError> {
        Ok(vec![IpAddr::from([127, 0, 0, 1])])
    }

    async fn detach(&self, _: &PodSandboxNetwork) -> Result<(), NetworkError> {
        Ok(())
    }

    async fn adopt(&self, _: &PodSandboxNetwork, _: &[IpAddr]) -> Result<(), NetworkError> {
        Ok(())
    }

    async fn set_pod_cidr(&self, _: &str) -> Result<(), NetworkError> {
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}

/// The node; dropping it removes everything, also after a failed test.
pub(crate) struct Node {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) events: ContainerEvents,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) cgroup: String,
    scripts: u32,
}

impl Node {
    /// A fresh node with the image `busybox`.
    pub(crate) async fn new() -> Node {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = tempfile::tempdir().unwrap();
        let cgroup = format!("oxikube-test-runtime-{}-{number}", std::process::id());
        let runtime = open(dir.path(), &cgroup).await;
        let archive = busybox_archive("docker.io/library/busybox:latest", &[]);
        let names = runtime.images().load(archive.as_slice()).unwrap();
        assert_eq!(names, ["docker.io/library/busybox:latest"]);
        let events = runtime
            .get_container_events(GetEventsRequest {})
            .await
            .unwrap();
        Node {
            runtime,
            events,
            dir,
            cgroup,
            scripts: 0,
        }
    }

    /// What a restart of the program does: the old runtime is gone, a new one opens the same
    /// directories.
    pub(crate) async fn restart(&mut self) {
        self.runtime = open(self.dir.path(), &self.cgroup).await;
        self.events = self
            .runtime
            .get_container_events(GetEventsRequest {})
            .await
            .unwrap();
    }

    pub(crate) fn sandbox_config(&self, name: &str) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.into(),
                uid: format!("uid-{name}"),
                namespace: "default".into(),
                attempt: 0,
            }),
            hostname: name.into(),
            log_directory: self
                .dir
                .path()
                .join("logs")
                .join(name)
                .display()
                .to_string(),
            dns_config: Some(DnsConfig {
                servers: vec!["10.0.0.10".into()],
                searches: vec!["svc.cluster.local".into()],
                options: vec!["ndots:5".into()],
            }),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/kubepods/pod{name}"),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub(crate) async fn run_pod(&self, config: PodSandboxConfig) -> String {
        let config = Some(config);
        let request = RunPodSandboxRequest {
            config,
            ..Default::default()
        };
        self.runtime
            .run_pod_sandbox(request)
            .await
            .unwrap()
            .pod_sandbox_id
    }

    pub(crate) async fn create(
        &self,
        pod: &str,
        config: ContainerConfig,
    ) -> Result<String, cri::Error> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.into(),
            config: Some(config),
            sandbox_config: None,
        };
        Ok(self.runtime.create_container(request).await?.container_id)
    }

    /// Creates and starts a container.
    pub(crate) async fn run(&self, pod: &str, config: ContainerConfig) -> String {
        let id = self.create(pod, config).await.unwrap();
        self.start(&id).await.unwrap();
        id
    }

    pub(crate) async fn start(&self, container: &str) -> Result<(), cri::Error> {
        let request = StartContainerRequest {
            container_id: container.into(),
        };
        self.runtime.start_container(request).await.map(drop)
    }

    pub(crate) async fn status(&self, container: &str) -> ContainerStatus {
        let request = ContainerStatusRequest {
            container_id: container.into(),
            verbose: false,
        };
        self.runtime
            .container_status(request)
            .await
            .unwrap()
            .status
            .unwrap()
    }

    /// Waits for a container's end as the kubelet does: by its event.
    pub(crate) async fn wait_exit(&mut self, container: &str) -> ContainerStatus {
        let exited = ContainerState::ContainerExited as i32;
        loop {
            let status = self.status(container).await;
            if status.state == exited {
                return status;
            }
            let event =
                tokio::time::timeout(std::time::Duration::from_secs(30), self.events.next());
            event
                .await
                .expect("an event in time")
                .expect("events go on")
                .unwrap();
        }
    }

    pub(crate) async fn exec(
        &self,
        container: &str,
        command: &[&str],
    ) -> Result<(i32, String, String), cri::Error> {
        let request = ExecSyncRequest {
            container_id: container.into(),
            cmd: command.iter().map(|word| (*word).to_owned()).collect(),
            timeout: 20,
        };
        let response = self.runtime.exec_sync(request).await?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((
            response.exit_code,
            text(response.stdout),
            text(response.stderr),
        ))
    }

    /// Runs a shell script in a fresh container of a fresh pod to its end: exit code and output
    /// without times.
    pub(crate) async fn script(
        &mut self,
        script: &str,
        change: impl FnOnce(&mut ContainerConfig),
    ) -> (i32, String) {
        let pod = self
            .run_pod(self.sandbox_config(&format!("script-{}", self.scripts)))
            .await;
        self.scripts += 1;
        let mut config = shell(script);
        change(&mut config);
        let id = self.run(&pod, config).await;
        let status = self.wait_exit(&id).await;
        let log = self.log(&id).await;
        self.remove_pod(&pod).await;
        (status.exit_code, log)
    }

    /// The log of a container without times.
    pub(crate) async fn log(&self, container: &str) -> String {
        let path = self.status(container).await.log_path;
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(|line| {
            let (time, rest) = line.split_once(' ').unwrap();
            assert_eq!(time.len(), "2026-01-01T00:00:00.000000000Z".len(), "{line}");
            format!("{rest}\n")
        });
        lines.collect()
    }

    pub(crate) async fn stop(&self, container: &str, timeout: i64) {
        let request = StopContainerRequest {
            container_id: container.into(),
            timeout,
        };
        RuntimeService::stop_container(&*self.runtime, request)
            .await
            .unwrap();
    }

    pub(crate) async fn remove_pod(&self, pod: &str) {
        let request = StopPodSandboxRequest {
            pod_sandbox_id: pod.into(),
        };
        self.runtime.stop_pod_sandbox(request).await.unwrap();
        let request = RemovePodSandboxRequest {
            pod_sandbox_id: pod.into(),
        };
        self.runtime.remove_pod_sandbox(request).await.unwrap();
    }

    /// Asserts that nothing of the node is left but its images.
    pub(crate) async fn assert_clean(self) {
        let cgroup = linux::cgroup::detect().unwrap().group(&self.cgroup);
        assert_eq!(cgroup.processes().unwrap(), []);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = self.dir.path().display().to_string();
        assert!(!mounts.contains(&ours), "mounts are left:\n{mounts}");
        let list = |dir: &str| {
            std::fs::read_dir(self.dir.path().join(dir))
                .unwrap()
                .count()
        };
        assert_eq!((list("state/sandboxes"), list("root/containers")), (0, 0));
        let sandboxes = self
            .runtime
            .list_pod_sandbox(ListPodSandboxRequest::default())
            .await;
        assert_eq!(sandboxes.unwrap().items, []);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let group = linux::cgroup::detect().unwrap().group(&self.cgroup);
        let _ = group.kill(std::time::Duration::from_secs(10));
        let _ = group.remove();
        for pod in std::fs::read_dir(self.dir.path().join("state/sandboxes"))
            .into_iter()
            .flatten()
        {
            let _ = linux::mount::unmount(&pod.unwrap().path().join("shm"));
        }
    }
}

pub(crate) async fn open(dir: &Path, cgroup: &str) -> Arc<Runtime> {
    let config = Config {
        root: dir.join("root"),
        state_dir: dir.join("state"),
        cgroup_parent: format!("/{cgroup}"),
        network: Arc::new(Loopback),
        shim: vec![env!("CARGO_BIN_EXE_runtime-test-shim").into()],
        pull: images::PullOptions::default(),
    };
    Runtime::open(config).await.unwrap()
}

/// A container that runs a shell script.
pub(crate) fn shell(script: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: "main".into(),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image: "busybox".into(),
            ..Default::default()
        }),
        command: ["sh", "-c", script].map(String::from).into(),
        log_path: "main/0.log".into(),
        linux: Some(LinuxContainerConfig {
            resources: None,
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(NamespaceOption {
                    pid: NamespaceMode::Container.into(),
                    ..Default::default()
                }),
                masked_paths: MASKED.iter().map(|path| (*path).to_owned()).collect(),
                readonly_paths: READ_ONLY.iter().map(|path| (*path).to_owned()).collect(),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

/// The security context of a container made by [`shell`].
pub(crate) fn security(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    config
        .linux
        .as_mut()
        .unwrap()
        .security_context
        .as_mut()
        .unwrap()
}

/// What the kubelet passes for the default `procMount`.
const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// What an image of the tests may have beyond busybox.
pub(crate) type Extra<'a> = &'a [(&'a str, Entry<'a>)];

#[derive(Clone, Copy)]
pub(crate) enum Entry<'a> {
    File(&'a str),
    Link(&'a str),
}

/// `docker save` of an image with busybox in it.
pub(crate) fn busybox_archive(tag: &str, extra: Extra<'_>) -> Vec<u8> {
    let labels = HashMap::from([("Env", serde_json::json!(["PATH=/bin", "FROM_IMAGE=yes"]))]);
    archive_with(tag, extra, serde_json::json!(labels))
}

/// [`busybox_archive`] with a run configuration.
pub(crate) fn archive_with(tag: &str, extra: Extra<'_>, run: serde_json::Value) -> Vec<u8> {
    let layer = busybox_layer(extra);
    let diff_id = format!("sha256:{}", hex::encode(Sha256::digest(&layer)));
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": run,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in [
        ("config.json", config.to_string().into_bytes()),
        ("layer.tar", layer),
        ("manifest.json", manifest.to_string().into_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        archive
            .append_data(&mut header, name, bytes.as_slice())
            .unwrap();
    }
    archive.into_inner().unwrap()
}

/// The only layer of such an image.
fn busybox_layer(extra: Extra<'_>) -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    let mut header =
        |path: &str, kind: tar::EntryType, mode: u32, bytes: &[u8], link: Option<&str>| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(bytes.len() as u64);
            match link {
                Some(link) => layer.append_link(&mut header, path, link).unwrap(),
                None => layer.append_data(&mut header, path, bytes).unwrap(),
            }
        };
    for dir in ["bin/", "etc/", "tmp/", "root/", "home/user/"] {
        let mode = if dir == "tmp/" { 0o1777 } else { 0o755 };
        header(dir, tar::EntryType::Directory, mode, b"", None);
    }
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    header(
        "bin/busybox",
        tar::EntryType::Regular,
        0o755,
        &busybox,
        None,
    );
    for applet in APPLETS {
        header(
            &format!("bin/{applet}"),
            tar::EntryType::Symlink,
            0o777,
            b"",
            Some("busybox"),
        );
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
    header(
        "etc/passwd",
        tar::EntryType::Regular,
        0o644,
        passwd.as_bytes(),
        None,
    );
    let group = "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n";
    header(
        "etc/group",
        tar::EntryType::Regular,
        0o644,
        group.as_bytes(),
        None,
    );
    for (path, entry) in extra {
        match entry {
            Entry::File(text) => {
                header(path, tar::EntryType::Regular, 0o644, text.as_bytes(), None)
            }
            Entry::Link(to) => header(path, tar::EntryType::Symlink, 0o777, b"", Some(to)),
        }
    }
    layer.into_inner().unwrap()
}

const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "ls", "sleep", "id", "env", "true", "false", "hostname", "mount", "touch",
    "dd", "tail", "kill", "ps", "grep", "readlink", "nc", "stty", "head", "wc", "mkdir", "stat",
    "pwd", "seq", "tr", "cut", "date", "printf", "ping", "mknod", "tty", "rm", "sort", "chmod",
];

/// The image service, for tests that need it.
pub(crate) fn images(node: &Node) -> &dyn ImageService {
    &*node.runtime
}
