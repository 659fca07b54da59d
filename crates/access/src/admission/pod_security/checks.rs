//! The table of checks, and how they are asked: each counts from a release on, a stricter one may stand for a milder one.
//!
//! Behaviour: `k8s.io/pod-security-admission/policy`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::policy::{Level, LevelVersion, Version};
use super::{baseline, restricted};

/// The latest release in which a check changed; what is newer is checked as there.
const NEWEST: u32 = 37;

/// A pod, or the template of one.
#[derive(Clone, Copy)]
pub(super) struct Pod<'a> {
    pub(super) metadata: &'a Value,
    pub(super) spec: &'a Value,
}

impl<'a> Pod<'a> {
    /// All containers, whatever they are for: one walk for every check (security lessons 2023-2727, 2024-3177).
    pub(super) fn containers(self) -> impl Iterator<Item = &'a Value> {
        let keys = ["initContainers", "containers", "ephemeralContainers"];
        keys.into_iter().flat_map(move |key| items(self.spec, key))
    }

    /// The names of the containers for which something holds.
    pub(super) fn named(self, mut bad: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        let found = self.containers().filter(|container| bad(container));
        found.map(|c| text(&c["name"])).collect()
    }

    pub(super) fn is_windows(self) -> bool {
        self.spec["os"]["name"] == "windows"
    }

    /// The pod's users are not the node's.
    pub(super) fn has_own_users(self) -> bool {
        self.spec["hostUsers"] == false
    }
}

/// The items of a list that may not be there.
pub(super) fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// A text, empty when there is none.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What a check says against a pod.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reason: &'static str,
    pub(super) detail: String,
}

impl Refusal {
    pub(super) fn new(reason: &'static str, detail: impl Into<String>) -> Option<Self> {
        let detail = detail.into();
        Some(Self { reason, detail })
    }
}

/// `"a", "b"`
pub(super) fn join<S: AsRef<str>>(all: impl IntoIterator<Item = S>) -> String {
    let quoted = all.into_iter().map(|one| format!("\"{}\"", one.as_ref()));
    quoted.collect::<Vec<_>>().join(", ")
}

/// One word for one, another for several.
pub(super) fn plural<'a>(one: &'a str, several: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { several }
}

/// `container "a"`, `containers "a", "b"`
pub(super) fn containers(names: &[&str]) -> String {
    let what = plural("container", "containers", names.len());
    format!("{what} {}", join(names))
}

/// `pod and containers "a", "b"`: who sets something, or nothing when nobody does.
pub(super) fn setters(pod: bool, names: &[&str]) -> Option<String> {
    let mut all = Vec::new();
    if pod {
        all.push("pod".to_owned());
    }
    if !names.is_empty() {
        all.push(containers(names));
    }
    (!all.is_empty()).then(|| all.join(" and "))
}

/// Sorted texts, each once.
pub(super) type Texts<'a> = BTreeSet<&'a str>;

type Test = fn(Pod) -> Option<Refusal>;

/// A check with its revisions, each from a release on.
struct Check {
    name: &'static str,
    level: Level,
    revisions: &'static [(u32, Test)],
    /// The milder check that needs not be asked where this one is.
    instead_of: &'static str,
}

const fn of(
    level: Level,
    name: &'static str,
    revisions: &'static [(u32, Test)],
    instead_of: &'static str,
) -> Check {
    Check {
        name,
        level,
        revisions,
        instead_of,
    }
}

/// All checks, in the order of what they say.
static CHECKS: &[Check] = &[
    of(
        Level::Baseline,
        "appArmorProfile",
        &[(0, baseline::app_armor)],
        "",
    ),
    of(
        Level::Baseline,
        "capabilities_baseline",
        &[(0, baseline::capabilities)],
        "",
    ),
    of(
        Level::Baseline,
        "hostNamespaces",
        &[(0, baseline::host_namespaces)],
        "",
    ),
    of(
        Level::Baseline,
        "hostPathVolumes",
        &[(0, baseline::host_paths)],
        "",
    ),
    of(
        Level::Baseline,
        "hostPorts",
        &[(0, baseline::host_ports)],
        "",
    ),
    of(
        Level::Baseline,
        "hostProbesAndHostLifecycle",
        &[(34, baseline::probe_hosts)],
        "",
    ),
    of(
        Level::Baseline,
        "privileged",
        &[(0, baseline::privileged)],
        "",
    ),
    of(
        Level::Baseline,
        "procMount",
        &[
            (0, baseline::proc_mount),
            (35, baseline::proc_mount_of_own_users),
        ],
        "",
    ),
    of(
        Level::Baseline,
        "seLinuxOptions",
        &[(0, baseline::selinux), (31, baseline::selinux_31)],
        "",
    ),
    of(
        Level::Baseline,
        "seccompProfile_baseline",
        &[(0, baseline::seccomp_annotations), (19, baseline::seccomp)],
        "",
    ),
    of(
        Level::Baseline,
        "sysctls",
        &[
            (0, baseline::sysctls),
            (27, baseline::sysctls_27),
            (29, baseline::sysctls_29),
            (32, baseline::sysctls_32),
            (37, baseline::sysctls_37),
        ],
        "",
    ),
    of(
        Level::Baseline,
        "windowsHostProcess",
        &[(0, baseline::host_process)],
        "",
    ),
    of(
        Level::Restricted,
        "allowPrivilegeEscalation",
        &[(8, restricted::escalation), (25, restricted::escalation_25)],
        "",
    ),
    of(
        Level::Restricted,
        "capabilities_restricted",
        &[
            (22, restricted::capabilities),
            (25, restricted::capabilities_25),
        ],
        "capabilities_baseline",
    ),
    of(
        Level::Restricted,
        "procMount_restricted",
        &[(35, baseline::proc_mount)],
        "procMount",
    ),
    of(
        Level::Restricted,
        "restrictedVolumes",
        &[(0, restricted::volumes)],
        "hostPathVolumes",
    ),
    of(
        Level::Restricted,
        "runAsNonRoot",
        &[(0, restricted::non_root), (35, restricted::non_root_35)],
        "",
    ),
    of(
        Level::Restricted,
        "runAsUser",
        &[(23, restricted::user), (35, restricted::user_35)],
        "",
    ),
    of(
        Level::Restricted,
        "seccompProfile_restricted",
        &[(19, restricted::seccomp), (25, restricted::seccomp_25)],
        "seccompProfile_baseline",
    ),
];

/// All that is said against a pod.
pub(super) struct Findings(Vec<Refusal>);

impl Findings {
    /// Asks the checks of a level and release.
    pub(super) fn of(asked: LevelVersion, pod: Pod) -> Self {
        let minor = match asked.version {
            Version::Minor(minor) => minor.min(NEWEST),
            Version::Latest => NEWEST,
        };
        let revision = |check: &Check| {
            let mut revisions = check.revisions.iter().rev();
            let wanted = check.level <= asked.level && asked.level != Level::Privileged;
            revisions
                .find(|(since, _)| wanted && *since <= minor)
                .map(|(_, test)| *test)
        };
        let stands_for = |stricter: &Check, name: &str| {
            stricter.instead_of == name && revision(stricter).is_some()
        };
        let asked = CHECKS
            .iter()
            .filter(|check| !CHECKS.iter().any(|other| stands_for(other, check.name)));
        Self(asked.filter_map(|check| revision(check)?(pod)).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is wrong, shortly.
    pub(super) fn reasons(&self) -> String {
        let reasons: Vec<&str> = self.0.iter().map(|one| one.reason).collect();
        reasons.join(", ")
    }

    /// What is wrong, and where.
    pub(super) fn details(&self) -> String {
        let all = self.0.iter().map(|one| match one.detail.as_str() {
            "" => one.reason.to_owned(),
            detail => format!("{} ({detail})", one.reason),
        });
        all.collect::<Vec<_>>().join(", ")
    }
}
