//! The security context of a container: its own over the pod's, checked against the image.

use cri::v1::{
    Capability, Int64Value, LinuxContainerSecurityContext, NamespaceMode, NamespaceOption,
    SeLinuxOption, SecurityProfile, SupplementalGroupsPolicy, security_profile::ProfileType,
};
use k8s_openapi::api::core::v1::{
    Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext,
};

use crate::pod;

/// The user an image wants to run as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageUser {
    /// Its number, if it is one.
    pub uid: Option<i64>,
    /// Its name, if it is none.
    pub name: String,
}

/// Paths of `/proc` and `/sys` that a container does not see.
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

/// Paths of `/proc` that a container may not write to.
const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Whether `runAsNonRoot` lets the container run. Asked before every start, whether the image was pulled now or long ago.
pub fn check_non_root(pod: &Pod, container: &Container, image: &ImageUser) -> Result<(), String> {
    let (own, shared) = contexts(pod, container);
    let wanted = own.and_then(|c| c.run_as_non_root);
    if wanted.or(shared.and_then(|c| c.run_as_non_root)) != Some(true) {
        return Ok(());
    }
    let place = format!(
        "(pod: \"{}\", container: {})",
        pod::describe(pod),
        container.name
    );
    if let Some(user) = run_as_user(pod, container) {
        return match user {
            0 => Err(format!(
                "container's runAsUser breaks non-root policy {place}"
            )),
            _ => Ok(()),
        };
    }
    match image.uid {
        None if !image.name.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {place}",
            image.name
        )),
        None | Some(0) => Err(format!(
            "container has runAsNonRoot and image will run as root {place}"
        )),
        Some(uid) if !(0..=i64::from(i32::MAX)).contains(&uid) => Err(format!(
            "container has runAsNonRoot and image has an invalid user id ({uid}). (Must be 1-({})): must be between 0 and 2147483647, inclusive {place}",
            i32::MAX
        )),
        Some(_) => Ok(()),
    }
}

fn contexts<'a>(
    pod: &'a Pod,
    container: &'a Container,
) -> (Option<&'a SecurityContext>, Option<&'a PodSecurityContext>) {
    (
        container.security_context.as_ref(),
        pod::spec(pod).security_context.as_ref(),
    )
}

fn run_as_user(pod: &Pod, container: &Container) -> Option<i64> {
    let (own, shared) = contexts(pod, container);
    let own = own.and_then(|c| c.run_as_user);
    own.or(shared.and_then(|c| c.run_as_user))
}

/// The context the runtime gets. `seccomp_root` is where profiles of the node lie.
pub fn of_container(
    pod: &Pod,
    container: &Container,
    image: &ImageUser,
    target_id: Option<&str>,
    seccomp_root: &str,
) -> Result<LinuxContainerSecurityContext, String> {
    let (own, shared) = contexts(pod, container);
    let user = run_as_user(pod, container);
    let group = own.and_then(|c| c.run_as_group);
    let group = group.or(shared.and_then(|c| c.run_as_group));
    let linux = own.and_then(|c| c.se_linux_options.as_ref());
    let linux = linux.or(shared.and_then(|c| c.se_linux_options.as_ref()));
    let profile = own.and_then(|c| c.seccomp_profile.as_ref());
    let profile = profile.or(shared.and_then(|c| c.seccomp_profile.as_ref()));
    let unmasked = own.and_then(|c| c.proc_mount.as_deref()) == Some("Unmasked");
    let paths = |list: &[&str]| match unmasked {
        true => Vec::new(),
        false => list.iter().map(|p| (*p).to_owned()).collect(),
    };
    let privileged = own.and_then(|c| c.privileged).unwrap_or(false);
    Ok(LinuxContainerSecurityContext {
        capabilities: own
            .and_then(|c| c.capabilities.as_ref())
            .map(|c| Capability {
                add_capabilities: c.add.clone().unwrap_or_default(),
                drop_capabilities: c.drop.clone().unwrap_or_default(),
                add_ambient_capabilities: Vec::new(),
            }),
        privileged,
        namespace_options: Some(namespaces(pod, target_id)),
        selinux_options: linux.map(selinux),
        run_as_user: user.or(image.uid).map(|value| Int64Value { value }),
        run_as_username: match user {
            None => image.name.clone(),
            Some(_) => String::new(),
        },
        run_as_group: group.map(|value| Int64Value { value }),
        readonly_rootfs: own
            .and_then(|c| c.read_only_root_filesystem)
            .unwrap_or(false),
        supplemental_groups: groups(shared),
        supplemental_groups_policy: groups_policy(shared).into(),
        no_new_privs: own.and_then(|c| c.allow_privilege_escalation) == Some(false),
        masked_paths: paths(MASKED),
        readonly_paths: paths(READ_ONLY),
        seccomp: Some(seccomp(profile, seccomp_root)?),
        ..Default::default()
    })
}

/// The further groups of every process of the pod: that of its volumes, then those asked for.
pub fn groups(shared: Option<&PodSecurityContext>) -> Vec<i64> {
    let Some(shared) = shared else {
        return Vec::new();
    };
    let asked = shared.supplemental_groups.iter().flatten().copied();
    shared.fs_group.into_iter().chain(asked).collect()
}

/// Whether the groups of the image count too.
pub fn groups_policy(shared: Option<&PodSecurityContext>) -> SupplementalGroupsPolicy {
    match shared.and_then(|s| s.supplemental_groups_policy.as_deref()) {
        Some("Strict") => SupplementalGroupsPolicy::Strict,
        _ => SupplementalGroupsPolicy::Merge,
    }
}

/// Which namespaces the containers of a pod share with whom.
pub fn namespaces(pod: &Pod, target_id: Option<&str>) -> NamespaceOption {
    let spec = pod::spec(pod);
    let node_or = |node: Option<bool>, other: NamespaceMode| match node {
        Some(true) => NamespaceMode::Node,
        _ => other,
    };
    let shared = match spec.share_process_namespace {
        Some(true) => NamespaceMode::Pod,
        _ => NamespaceMode::Container,
    };
    let pid = match target_id {
        Some(_) => NamespaceMode::Target,
        None => node_or(spec.host_pid, shared),
    };
    NamespaceOption {
        network: node_or(spec.host_network, NamespaceMode::Pod).into(),
        ipc: node_or(spec.host_ipc, NamespaceMode::Pod).into(),
        pid: pid.into(),
        target_id: target_id.unwrap_or_default().to_owned(),
        userns_options: None,
    }
}

/// SELinux options as the runtime takes them.
pub fn selinux(options: &SELinuxOptions) -> SeLinuxOption {
    SeLinuxOption {
        user: options.user.clone().unwrap_or_default(),
        role: options.role.clone().unwrap_or_default(),
        r#type: options.type_.clone().unwrap_or_default(),
        level: options.level.clone().unwrap_or_default(),
    }
}

fn seccomp(profile: Option<&SeccompProfile>, root: &str) -> Result<SecurityProfile, String> {
    let (kind, path) = match profile.map(|p| p.type_.as_str()) {
        Some("RuntimeDefault") => (ProfileType::RuntimeDefault, String::new()),
        Some("Localhost") => {
            let name = profile.and_then(|p| p.localhost_profile.as_deref());
            let name = name
                .filter(|n| !n.is_empty())
                .ok_or("localhostProfile must be set if seccompProfile type is Localhost.")?;
            if name.split('/').any(|part| part == "..") {
                return Err(format!("localhostProfile \"{name}\" must not contain '..'"));
            }
            (ProfileType::Localhost, format!("{root}/{name}"))
        }
        _ => (ProfileType::Unconfined, String::new()),
    };
    Ok(SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: path,
    })
}
