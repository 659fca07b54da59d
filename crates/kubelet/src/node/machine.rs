//! What the machine is and has.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::core::v1::NodeSystemInfo;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::config::Config;

/// The version of Kubernetes that this kubelet is one of.
pub(crate) const VERSION: &str = "v1.37.0";
/// What is kept free for the node itself.
const RESERVED_MEMORY: u64 = 100 << 20;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) cpu_milli: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) max_pods: u32,
    /// The name before `://` in container ids.
    pub(crate) runtime_name: String,
}

impl Machine {
    pub(crate) fn of(config: &Config, runtime_name: String) -> Machine {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
        let disk = rustix::fs::statvfs(&config.root_dir);
        Machine {
            cpu_milli: config
                .cpu_milli
                .unwrap_or(u64::try_from(cpus).unwrap_or(1) * 1000),
            memory_bytes: config.memory_bytes.unwrap_or_else(|| memory("MemTotal")),
            disk_bytes: disk.map_or(0, |d| d.f_blocks.saturating_mul(d.f_frsize)),
            max_pods: config.max_pods,
            runtime_name,
        }
    }

    pub(crate) fn capacity(&self) -> BTreeMap<String, Quantity> {
        let cpu = match self.cpu_milli % 1000 {
            0 => (self.cpu_milli / 1000).to_string(),
            _ => format!("{}m", self.cpu_milli),
        };
        self.list(
            cpu,
            self.memory_bytes,
            format!("{}Ki", self.disk_bytes / 1024),
        )
    }

    /// The capacity without what the node needs for itself.
    pub(crate) fn allocatable(&self) -> BTreeMap<String, Quantity> {
        let cpu = self.capacity().remove("cpu").unwrap_or_default().0;
        let memory = self.memory_bytes.saturating_sub(RESERVED_MEMORY);
        let disk = self.disk_bytes / 10 * 9;
        self.list(cpu, memory, disk.to_string())
    }

    fn list(&self, cpu: String, memory: u64, disk: String) -> BTreeMap<String, Quantity> {
        let list = [
            ("cpu", cpu),
            ("memory", format!("{}Ki", memory / 1024)),
            ("ephemeral-storage", disk),
            ("hugepages-1Gi", "0".to_owned()),
            ("hugepages-2Mi", "0".to_owned()),
            ("pods", self.max_pods.to_string()),
        ];
        list.map(|(name, amount)| (name.to_owned(), Quantity(amount)))
            .into()
    }
}

/// A line of `/proc/meminfo` in bytes.
pub(super) fn memory(key: &str) -> u64 {
    let table = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = table.lines().find(|l| l.split(':').next() == Some(key));
    let number = line.and_then(|l| l.split_whitespace().nth(1));
    number.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// What is free of a disk, in bytes; nobody knows: enough.
pub(super) fn free_disk(root: &Path) -> u64 {
    let disk = rustix::fs::statvfs(root);
    disk.map_or(u64::MAX, |d| d.f_bavail.saturating_mul(d.f_frsize))
}

/// The node's system information; `runtime` is name and version of the runtime as `name://version`.
pub(super) fn system_info(runtime: String) -> NodeSystemInfo {
    let read = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.trim().to_owned()
    };
    let uname = rustix::system::uname();
    let machine_id = read("/etc/machine-id");
    let system_uuid = read("/sys/class/dmi/id/product_uuid");
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: runtime,
        kernel_version: uname.release().to_string_lossy().into_owned(),
        // No longer told by kubelets.
        kube_proxy_version: String::new(),
        kubelet_version: VERSION.to_owned(),
        system_uuid: match system_uuid.is_empty() {
            true => machine_id.clone(),
            false => system_uuid,
        },
        machine_id,
        operating_system: "linux".to_owned(),
        os_image: os_image(&match read("/etc/os-release") {
            none if none.is_empty() => read("/usr/lib/os-release"),
            found => found,
        }),
        ..NodeSystemInfo::default()
    }
}

/// The architecture as Go names it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

fn os_image(release: &str) -> String {
    let mut lines = release.lines();
    let name = lines.find_map(|l| l.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}
