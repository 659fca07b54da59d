//! What the program and its process are.

use std::fmt::Write as _;

use super::{head, line};

/// Adds what the program and its process are.
pub(crate) fn render_process(out: &mut String) {
    let name = "kubernetes_build_info";
    let help = "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.";
    head(out, name, "gauge", "BETA", help);
    let labels = "build_date=\"1970-01-01T00:00:00Z\",compiler=\"rustc\",git_commit=\"\",git_tree_state=\"clean\",git_version=\"v1.37.0\",go_version=\"none\",major=\"1\",minor=\"37\"";
    let platform = crate::paths::platform();
    line(out, name, &format!("{labels},platform=\"{platform}\""), 1);
    let name = "version_info";
    let help = "Provides the compatibility version info of the component. The component label is the name of the component, usually kube, but is relevant for aggregated-apiservers.";
    head(out, name, "gauge", "ALPHA", help);
    let labels = "binary=\"1.37.0\",component=\"kube\",emulation=\"1.37\",min_compat=\"1.36\"";
    line(out, name, labels, 1);
    render_own(out);
}

fn render_own(out: &mut String) {
    let Some(process) = Process::own() else {
        return;
    };
    let figures = [
        (
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            process.cpu_seconds,
        ),
        (
            "process_open_fds",
            "gauge",
            "Number of open file descriptors.",
            process.open_files,
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes.",
            process.resident_bytes,
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory size in bytes.",
            process.virtual_bytes,
        ),
        (
            "process_max_fds",
            "gauge",
            "Maximum number of open file descriptors.",
            process.most_files,
        ),
        (
            "process_virtual_memory_max_bytes",
            "gauge",
            "Maximum amount of virtual memory available in bytes.",
            process.most_virtual_bytes,
        ),
        (
            "process_network_receive_bytes_total",
            "counter",
            "Number of bytes received by the process over the network.",
            process.network_bytes.0,
        ),
        (
            "process_network_transmit_bytes_total",
            "counter",
            "Number of bytes sent by the process over the network.",
            process.network_bytes.1,
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
            process.started_seconds,
        ),
    ];
    for (name, kind, help, value) in figures {
        let _ = writeln!(
            out,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
        );
    }
}

/// What the system says of this process.
struct Process {
    cpu_seconds: f64,
    open_files: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    started_seconds: f64,
    most_files: f64,
    most_virtual_bytes: f64,
    /// Received and sent by the network that the process is in.
    network_bytes: (f64, f64),
}

/// A limit as `/proc/self/limits` tells it; what is unlimited is the greatest number, as in Go.
fn limit(limits: &str, name: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX as f64),
        number => number.parse().ok(),
    }
}

/// What all interfaces have received and sent, after `/proc/self/net/netstat`.
fn network(netstat: &str) -> Option<(f64, f64)> {
    let mut lines = netstat
        .lines()
        .filter_map(|line| line.strip_prefix("IpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let of = |name: &str| {
        let at = names.split_whitespace().position(|n| n == name)?;
        values.split_whitespace().nth(at)?.parse().ok()
    };
    Some((of("InOctets")?, of("OutOctets")?))
}

impl Process {
    fn own() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name before them may hold spaces; times are in hundredths of a second.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |at: usize| fields.get(at)?.parse::<f64>().ok();
        let boot = std::fs::read_to_string("/proc/stat").ok()?;
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
        let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
        let netstat = std::fs::read_to_string("/proc/self/net/netstat").ok()?;
        let page = rustix::param::page_size() as f64;
        Some(Self {
            cpu_seconds: (field(11)? + field(12)?) / 100.0,
            open_files: std::fs::read_dir("/proc/self/fd").ok()?.count() as f64,
            resident_bytes: field(21)? * page,
            virtual_bytes: field(20)?,
            most_files: limit(&limits, "Max open files")?,
            most_virtual_bytes: limit(&limits, "Max address space")?,
            network_bytes: network(&netstat)?,
            started_seconds: boot.trim().parse::<f64>().ok()? + field(19)? / 100.0,
        })
    }
}
