//! What the kernel says of the process that asks: time, memory, descriptors, traffic.

/// What the system says of this process.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Time on processors, user and system.
    pub cpu_seconds: f64,
    /// Descriptors that are open.
    pub open_files: f64,
    /// Memory in RAM.
    pub resident_bytes: f64,
    /// Memory addressed.
    pub virtual_bytes: f64,
    /// When it began, since the epoch.
    pub started_seconds: f64,
    /// How many descriptors may be open.
    pub most_files: f64,
    /// How much memory may be addressed.
    pub most_virtual_bytes: f64,
    /// Received and sent by the network that the process is in.
    pub network_bytes: (f64, f64),
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
    /// Asks the kernel; `None`: `/proc` does not tell.
    pub fn read() -> Option<Self> {
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

    /// Under the names that Prometheus' clients give them: name, type, help, value.
    pub fn figures(&self) -> [(&'static str, &'static str, &'static str, f64); 9] {
        [
            (
                "process_cpu_seconds_total",
                "counter",
                "Total user and system CPU time spent in seconds.",
                self.cpu_seconds,
            ),
            (
                "process_open_fds",
                "gauge",
                "Number of open file descriptors.",
                self.open_files,
            ),
            (
                "process_resident_memory_bytes",
                "gauge",
                "Resident memory size in bytes.",
                self.resident_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "gauge",
                "Virtual memory size in bytes.",
                self.virtual_bytes,
            ),
            (
                "process_max_fds",
                "gauge",
                "Maximum number of open file descriptors.",
                self.most_files,
            ),
            (
                "process_virtual_memory_max_bytes",
                "gauge",
                "Maximum amount of virtual memory available in bytes.",
                self.most_virtual_bytes,
            ),
            (
                "process_network_receive_bytes_total",
                "counter",
                "Number of bytes received by the process over the network.",
                self.network_bytes.0,
            ),
            (
                "process_network_transmit_bytes_total",
                "counter",
                "Number of bytes sent by the process over the network.",
                self.network_bytes.1,
            ),
            (
                "process_start_time_seconds",
                "gauge",
                "Start time of the process since unix epoch in seconds.",
                self.started_seconds,
            ),
        ]
    }
}
