//! Limits as writes into cgroup files, for both versions of cgroups.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The limits of a container. Zero or empty means: leave it alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Length of a scheduling period.
    pub cpu_period_us: i64,
    /// Processor time in each period; negative for no limit.
    pub cpu_quota_us: i64,
    /// Weight against others, 2 to 262144.
    pub cpu_shares: i64,
    /// Most memory.
    pub memory_bytes: i64,
    /// Most memory and swap together.
    pub memory_and_swap_bytes: i64,
    /// Processors it may run on, such as `0-3,7`.
    pub cpuset_cpus: String,
    /// Memory nodes it may use.
    pub cpuset_mems: String,
    /// Huge pages by size, such as `2MB`.
    pub hugepages: BTreeMap<String, u64>,
    /// Files of version 2 by name, written as they are.
    pub unified: BTreeMap<String, String>,
    /// The badness that the kernel adds when memory runs out.
    pub oom_score_adj: i64,
}

/// One file to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// Whose hierarchy (version 1); empty on version 2.
    pub controller: String,
    /// The file's name.
    pub file: String,
    /// What to write.
    pub value: String,
    /// True when a machine without that file can do without it.
    pub optional: bool,
}

fn write(controller: &str, file: &str, value: impl ToString) -> Write {
    Write {
        controller: controller.into(),
        file: file.into(),
        value: value.to_string(),
        optional: false,
    }
}

/// The writes for version 1, in order.
pub fn v1(limits: &Limits) -> Vec<Write> {
    let mut writes = Vec::new();
    if limits.cpu_shares > 0 {
        writes.push(write("cpu", "cpu.shares", limits.cpu_shares));
    }
    if limits.cpu_period_us > 0 {
        writes.push(write("cpu", "cpu.cfs_period_us", limits.cpu_period_us));
    }
    if limits.cpu_quota_us != 0 {
        writes.push(write(
            "cpu",
            "cpu.cfs_quota_us",
            limits.cpu_quota_us.max(-1),
        ));
    }
    if limits.memory_bytes > 0 {
        writes.push(write(
            "memory",
            "memory.limit_in_bytes",
            limits.memory_bytes,
        ));
    }
    if limits.memory_and_swap_bytes > 0 {
        let file = "memory.memsw.limit_in_bytes";
        let swap = write("memory", file, limits.memory_and_swap_bytes);
        writes.push(Write {
            optional: true,
            ..swap
        });
    }
    for (file, value) in [
        ("cpuset.cpus", &limits.cpuset_cpus),
        ("cpuset.mems", &limits.cpuset_mems),
    ] {
        if !value.is_empty() {
            writes.push(write("cpuset", file, value));
        }
    }
    for (size, bytes) in &limits.hugepages {
        let huge = write("hugetlb", &format!("hugetlb.{size}.limit_in_bytes"), bytes);
        writes.push(Write {
            optional: *bytes == 0,
            ..huge
        });
    }
    writes
}

/// The writes for version 2, in order. `unified` comes last: it may override.
pub fn v2(limits: &Limits) -> Vec<Write> {
    let mut writes = Vec::new();
    if limits.cpu_shares > 0 {
        writes.push(write("", "cpu.weight", weight(limits.cpu_shares)));
    }
    if limits.cpu_quota_us != 0 || limits.cpu_period_us > 0 {
        let period = if limits.cpu_period_us > 0 {
            limits.cpu_period_us
        } else {
            100_000
        };
        let quota = match limits.cpu_quota_us {
            quota if quota > 0 => quota.to_string(),
            _ => "max".to_owned(),
        };
        writes.push(write("", "cpu.max", format!("{quota} {period}")));
    }
    if limits.memory_bytes > 0 {
        writes.push(write("", "memory.max", limits.memory_bytes));
    }
    if limits.memory_and_swap_bytes > 0 && limits.memory_bytes > 0 {
        let swap = (limits.memory_and_swap_bytes - limits.memory_bytes).max(0);
        writes.push(Write {
            optional: true,
            ..write("", "memory.swap.max", swap)
        });
    }
    for (file, value) in [
        ("cpuset.cpus", &limits.cpuset_cpus),
        ("cpuset.mems", &limits.cpuset_mems),
    ] {
        if !value.is_empty() {
            writes.push(write("", file, value));
        }
    }
    for (size, bytes) in &limits.hugepages {
        let huge = write("", &format!("hugetlb.{size}.max"), bytes);
        writes.push(Write {
            optional: *bytes == 0,
            ..huge
        });
    }
    for (file, value) in &limits.unified {
        // A name is a name: nothing may be written outside the container's own group.
        if !file.contains('/') && file.contains('.') {
            writes.push(write("", file, value));
        }
    }
    writes
}

/// Version 1 shares (2 to 262144, 1024 in the middle) as a version 2 weight (1 to 10000, 100 in the
/// middle), on the curve that keeps 1024 at 100.
fn weight(shares: i64) -> u64 {
    let shares = shares.clamp(2, 262_144) as f64;
    let log = shares.log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    (10f64.powf(exponent)).ceil().clamp(1.0, 10_000.0) as u64
}

/// A device that a container gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Where on the host.
    pub host_path: String,
    /// Where in the container.
    pub container_path: String,
    /// Any of `r`, `w` and `m`.
    pub permissions: String,
}

/// The version 1 device rules every unprivileged container starts with: nothing, but making nodes,
/// and the harmless devices.
pub fn v1_device_rules() -> Vec<Write> {
    let deny = write("devices", "devices.deny", "a");
    let allow = [
        "c *:* m",
        "b *:* m",
        "c 1:3 rwm",
        "c 1:5 rwm",
        "c 1:7 rwm",
        "c 1:8 rwm",
        "c 1:9 rwm",
        "c 5:0 rwm",
        "c 5:2 rwm",
        "c 136:* rwm",
    ];
    std::iter::once(deny)
        .chain(allow.map(|rule| write("devices", "devices.allow", rule)))
        .map(|rule| Write {
            optional: true,
            ..rule
        })
        .collect()
}

/// The rule for one more device of the given numbers.
pub fn v1_device_rule(block: bool, major: u32, minor: u32, permissions: &str) -> Write {
    let kind = if block { 'b' } else { 'c' };
    write(
        "devices",
        "devices.allow",
        format!("{kind} {major}:{minor} {permissions}"),
    )
}

/// A device rule taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Block or character devices.
    pub block: bool,
    /// The major number, or any.
    pub major: Option<u32>,
    /// The minor number, or any.
    pub minor: Option<u32>,
    /// Any of `r`, `w` and `m`.
    pub permissions: String,
}

/// Reads a rule as version 1 writes it, for the filter that version 2 needs; `None` for `a`, the
/// rule about everything.
pub fn parse_device_rule(text: &str) -> Option<DeviceRule> {
    let mut words = text.split(' ');
    let block = match words.next()? {
        "b" => true,
        "c" => false,
        _ => return None,
    };
    let (major, minor) = words.next()?.split_once(':')?;
    Some(DeviceRule {
        block,
        major: major.parse().ok(),
        minor: minor.parse().ok(),
        permissions: words.next()?.to_owned(),
    })
}
