//! Security contexts of pods and containers, profiles, sysctls, user name spaces, operating systems.

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};
use machinery::{ErrorList, Path, names};

use super::{Scope, local_descending_path};
use crate::check::{self, ErrorListExt};
use crate::core::pod::app_armor;
use crate::view::{Items, Yes};
use crate::visit;

const TYPES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const SYSCTL_REGEX: &str =
    "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
const SYSCTL_MAX: usize = 253;
const PATH_MAX: usize = 4095;

fn id(errors: &mut ErrorList, path: &Path, value: Option<i64>) {
    let Some(value) = value else { return };
    for message in names::user_id(value) {
        errors.invalid(path, value, message);
    }
}

pub(super) fn pod_context(errors: &mut ErrorList, spec_path: &Path, scope: &Scope<'_>) {
    let path = spec_path.child("securityContext");
    let Some(context) = &scope.spec.security_context else {
        return;
    };
    id(errors, &path.child("fsGroup"), context.fs_group);
    id(errors, &path.child("runAsUser"), context.run_as_user);
    id(errors, &path.child("runAsGroup"), context.run_as_group);
    for (i, group) in context.supplemental_groups.items().iter().enumerate() {
        id(
            errors,
            &path.child("supplementalGroups").index(i),
            Some(*group),
        );
    }
    sysctls(errors, &path.child("sysctls"), context, scope.spec);
    if let Some(policy) = &context.fs_group_change_policy {
        errors.one_of(
            &path.child("fsGroupChangePolicy"),
            policy,
            &["Always", "OnRootMismatch"],
        );
    }
    seccomp(
        errors,
        &path.child("seccompProfile"),
        context.seccomp_profile.as_ref(),
    );
    app_armor_profile(
        errors,
        &path.child("appArmorProfile"),
        context.app_armor_profile.as_ref(),
    );
    if let Some(policy) = &context.supplemental_groups_policy {
        errors.one_of(
            &path.child("supplementalGroupsPolicy"),
            policy,
            &["Merge", "Strict"],
        );
    }
    if let Some(policy) = &context.se_linux_change_policy {
        errors.one_of(
            &path.child("seLinuxChangePolicy"),
            policy,
            &["MountOption", "Recursive"],
        );
    }
}

pub(super) fn container_context(
    errors: &mut ErrorList,
    path: &Path,
    container: &Container,
    scope: &Scope<'_>,
) {
    let Some(context) = &container.security_context else {
        return;
    };
    id(errors, &path.child("runAsUser"), context.run_as_user);
    id(errors, &path.child("runAsGroup"), context.run_as_group);
    if let Some(mount) = &context.proc_mount {
        let path = path.child("procMount");
        errors.one_of(&path, mount, &["Default", "Unmasked"]);
        if mount == "Unmasked" && scope.spec.host_users.unwrap_or(true) {
            errors.invalid(
                &path,
                mount.as_str(),
                "`hostUsers` must be false to use `Unmasked`",
            );
        }
    }
    seccomp(
        errors,
        &path.child("seccompProfile"),
        context.seccomp_profile.as_ref(),
    );
    escalation(errors, path, context, scope);
    app_armor_profile(
        errors,
        &path.child("appArmorProfile"),
        context.app_armor_profile.as_ref(),
    );
}

fn escalation(errors: &mut ErrorList, path: &Path, context: &SecurityContext, scope: &Scope<'_>) {
    if context.allow_privilege_escalation != Some(false) {
        return;
    }
    if context.privileged.yes() {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        errors.invalid(path, check::json(context), detail);
    }
    // An object that already says so may go on saying so.
    if scope.old.is_some_and(grants_admin_without_escalation) {
        return;
    }
    let added = context.capabilities.iter().flat_map(|c| c.add.items());
    for _ in added.filter(|c| *c == "CAP_SYS_ADMIN") {
        let detail =
            "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        errors.invalid(path, check::json(context), detail);
    }
}

fn grants_admin_without_escalation(spec: &PodSpec) -> bool {
    visit::containers(spec)
        .filter_map(visit::AnyContainer::security_context)
        .any(|context| {
            let mut added = context.capabilities.iter().flat_map(|c| c.add.items());
            context.allow_privilege_escalation == Some(false) && added.any(|c| c == "CAP_SYS_ADMIN")
        })
}

fn seccomp(errors: &mut ErrorList, path: &Path, profile: Option<&SeccompProfile>) {
    let Some(profile) = profile else { return };
    let at = path.child("type");
    if errors.required_text(
        &at,
        &profile.type_,
        "type is required when seccompProfile is set",
    ) {
        errors.one_of(&at, &profile.type_, TYPES);
    }
    let at = path.child("localhostProfile");
    match (&profile.localhost_profile, profile.type_ == "Localhost") {
        (None, true) => errors.required(&at, "must be set when seccomp type is Localhost"),
        (Some(file), true) => {
            // An empty profile must never come to mean "unconfined" (CVE-2023-2431).
            errors.required_text(&at, file, "must be set when seccomp type is Localhost");
            local_descending_path(errors, &at, file);
        }
        (Some(_), false) => {
            let detail = "can only be set when seccomp type is Localhost";
            errors.invalid(&at, check::json(profile), detail);
        }
        (None, false) => {}
    }
}

fn app_armor_profile(errors: &mut ErrorList, path: &Path, profile: Option<&AppArmorProfile>) {
    const NEEDED: &str = "must be set when AppArmor type is Localhost";
    let Some(profile) = profile else { return };
    let at = path.child("localhostProfile");
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", None) => errors.required(&at, NEEDED),
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                errors.invalid(&at, name.as_str(), "must not be padded with whitespace");
            } else {
                errors.required_text(&at, name, NEEDED);
            }
            if name.len() > PATH_MAX {
                errors.too_long(&at, PATH_MAX);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            let detail = "can only be set when AppArmor type is Localhost";
            errors.invalid(&at, name.as_str(), detail);
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => {
            errors.required(
                &path.child("type"),
                "type is required when appArmorProfile is set",
            );
        }
        (other, _) => errors.not_supported(&path.child("type"), other, TYPES),
    }
}

fn sysctls(errors: &mut ErrorList, path: &Path, context: &PodSecurityContext, spec: &PodSpec) {
    let all = context.sysctls.items();
    for (i, sysctl) in all.iter().enumerate() {
        let at = path.index(i).child("name");
        let name = sysctl.name.as_str();
        if errors.required_text(&at, name, "") {
            if !is_sysctl(name) {
                let detail = format!(
                    "must have at most {SYSCTL_MAX} characters and match regex {SYSCTL_REGEX}"
                );
                errors.invalid(&at, name, detail);
            } else if all[..i].iter().any(|s| s.name == name) {
                errors.duplicate(&at, name);
            }
        }
        let dotted = name.replace('/', ".");
        if spec.host_network.yes() && dotted.starts_with("net.") {
            errors.invalid(&at, name, "may not be specified when 'hostNetwork' is true");
        } else if spec.host_ipc.yes() && is_ipc(&dotted) {
            errors.invalid(&at, name, "may not be specified when 'hostIPC' is true");
        }
    }
}

fn is_ipc(name: &str) -> bool {
    name.starts_with("kernel.shm")
        || name.starts_with("kernel.msg")
        || name.starts_with("fs.mqueue.")
        || name == "kernel.sem"
}

fn is_sysctl(name: &str) -> bool {
    let segment = |s: &str| {
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = s.as_bytes();
        edge(bytes.first())
            && edge(bytes.last())
            && bytes
                .iter()
                .all(|b| edge(Some(b)) || matches!(b, b'-' | b'_'))
    };
    name.len() <= SYSCTL_MAX && name.split(['.', '/']).all(segment)
}

/// A profile is named for a container that is there, as profiles are named.
pub(super) fn app_armor_annotation(
    errors: &mut ErrorList,
    path: &Path,
    (key, profile): (&String, &String),
    spec: &PodSpec,
) {
    let Some(name) = key.strip_prefix(app_armor::PREFIX) else {
        return;
    };
    if !visit::containers(spec).any(|container| container.name() == name) {
        errors.invalid(&path.key(key), name, "container not found");
    }
    let known = ["", "runtime/default", "unconfined"].contains(&profile.as_str());
    if !known && !profile.starts_with("localhost/") {
        let why = format!("invalid AppArmor profile name: {profile:?}");
        errors.invalid(&path.key(key), profile.as_str(), why);
    }
}

/// Annotations and fields about seccomp must not contradict each other in a new pod.
pub(super) fn annotations_match(errors: &mut ErrorList, pod: &Pod) {
    let Some(spec) = pod.spec.as_ref() else {
        return;
    };
    let annotation = |key: &str| pod.metadata.annotations.as_ref().and_then(|a| a.get(key));
    let path = Path::new("spec");
    let own = spec
        .security_context
        .as_ref()
        .and_then(|c| c.seccomp_profile.as_ref());
    if let (Some(profile), Some(value)) = (own, annotation(SECCOMP_POD)) {
        seccomp_matches(errors, &path.child("securityContext"), profile, value);
    }
    for (at, container) in visit::containers_with_path(spec, &path) {
        let profile = container
            .security_context()
            .and_then(|c| c.seccomp_profile.as_ref());
        let value = annotation(&format!("{SECCOMP_CONTAINER}{}", container.name()));
        if let (Some(profile), Some(value)) = (profile, value) {
            seccomp_matches(errors, &at.child("securityContext"), profile, value);
        }
    }
}

fn seccomp_matches(errors: &mut ErrorList, path: &Path, profile: &SeccompProfile, value: &str) {
    let path = path.child("seccompProfile");
    let same_type = match profile.type_.as_str() {
        "Unconfined" => value == "unconfined",
        "RuntimeDefault" => matches!(value, "runtime/default" | "docker/default"),
        "Localhost" => value.starts_with("localhost/"),
        _ => return,
    };
    if !same_type {
        let detail = "seccomp type in annotation and field must match";
        errors.forbidden(&path.child("type"), detail);
    } else if let Some(file) = value.strip_prefix("localhost/")
        && profile.localhost_profile.as_deref() != Some(file)
    {
        let detail = "seccomp profile in annotation and field must match";
        errors.forbidden(&path.child("localhostProfile"), detail);
    }
}

/// The annotations that seccomp had before it had fields.
pub(super) fn seccomp_annotation(errors: &mut ErrorList, path: &Path, key: &str, value: &str) {
    if key != SECCOMP_POD && !key.starts_with(SECCOMP_CONTAINER) {
        return;
    }
    let path = path.child(key);
    match value.strip_prefix("localhost/") {
        Some(file) => local_descending_path(errors, &path, file),
        None if matches!(value, "runtime/default" | "docker/default" | "unconfined") => {}
        None => errors.invalid(&path, value, "must be a valid seccomp profile"),
    }
}

/// A pod in a user name space of its own shares no other name space with the host.
pub(super) fn host_users(errors: &mut ErrorList, path: &Path, spec: &PodSpec) {
    const WHY: &str = "when `hostUsers` is false";
    if spec.host_users != Some(false) {
        return;
    }
    let shared = [
        ("hostNetwork", spec.host_network),
        ("HostPID", spec.host_pid),
        ("HostIPC", spec.host_ipc),
    ];
    for (key, _) in shared.into_iter().filter(|(_, set)| set.yes()) {
        errors.forbidden(&path.child(key), WHY);
    }
    let lists = [
        ("initContainers", spec.init_containers.items()),
        ("containers", &spec.containers[..]),
    ];
    for (key, list) in lists {
        for (i, container) in list.iter().enumerate() {
            if !container.volume_devices.items().is_empty() {
                errors.forbidden(&path.child(key).index(i).child("volumeDevices"), WHY);
            }
        }
    }
}

pub(super) fn operating_system(errors: &mut ErrorList, path: &Path, spec: &PodSpec) {
    let Some(os) = &spec.os else { return };
    let at = path.child("os");
    if !errors.required_text(&at.child("name"), &os.name, "") {
        return;
    }
    errors.one_of(&at, &os.name, &["linux", "windows"]);
    match os.name.as_str() {
        "linux" => linux(errors, path, spec),
        "windows" => windows(errors, path, spec),
        _ => {}
    }
}

fn linux(errors: &mut ErrorList, path: &Path, spec: &PodSpec) {
    const WHY: &str = "windows options cannot be set for a linux pod";
    if spec
        .security_context
        .as_ref()
        .is_some_and(|c| c.windows_options.is_some())
    {
        errors.forbidden(&path.child("securityContext").child("windowsOptions"), WHY);
    }
    for (at, container) in visit::containers_with_path(spec, path) {
        if container
            .security_context()
            .is_some_and(|c| c.windows_options.is_some())
        {
            errors.forbidden(&at.child("securityContext").child("windowsOptions"), WHY);
        }
    }
}

fn windows(errors: &mut ErrorList, path: &Path, spec: &PodSpec) {
    const WHY: &str = "cannot be set for a windows pod";
    let mut forbid = |at: Path, list: &[(&str, bool)]| {
        for (key, _) in list.iter().filter(|(_, set)| *set) {
            errors.forbidden(&at.child(key), WHY);
        }
    };
    if let Some(c) = &spec.security_context {
        let set = [
            ("appArmorProfile", c.app_armor_profile.is_some()),
            ("seLinuxOptions", c.se_linux_options.is_some()),
            ("seccompProfile", c.seccomp_profile.is_some()),
            ("fsGroup", c.fs_group.is_some()),
            ("fsGroupChangePolicy", c.fs_group_change_policy.is_some()),
            ("sysctls", !c.sysctls.items().is_empty()),
            ("runAsUser", c.run_as_user.is_some()),
            ("runAsGroup", c.run_as_group.is_some()),
            ("supplementalGroups", c.supplemental_groups.is_some()),
            (
                "supplementalGroupsPolicy",
                c.supplemental_groups_policy.is_some(),
            ),
        ];
        forbid(path.child("securityContext"), &set);
    }
    let set = [
        (
            "shareProcessNamespace",
            spec.share_process_namespace.is_some(),
        ),
        ("hostUsers", spec.host_users.is_some()),
        ("hostPID", spec.host_pid.yes()),
        ("hostIPC", spec.host_ipc.yes()),
    ];
    forbid(path.clone(), &set);
    for (at, container) in visit::containers_with_path(spec, path) {
        let Some(c) = container.security_context() else {
            continue;
        };
        let set = [
            ("appArmorProfile", c.app_armor_profile.is_some()),
            ("seLinuxOptions", c.se_linux_options.is_some()),
            ("seccompProfile", c.seccomp_profile.is_some()),
            ("capabilities", c.capabilities.is_some()),
            (
                "readOnlyRootFilesystem",
                c.read_only_root_filesystem.is_some(),
            ),
            ("privileged", c.privileged.is_some()),
            (
                "allowPrivilegeEscalation",
                c.allow_privilege_escalation.is_some(),
            ),
            ("procMount", c.proc_mount.is_some()),
            ("runAsUser", c.run_as_user.is_some()),
            ("runAsGroup", c.run_as_group.is_some()),
        ];
        forbid(at.child("securityContext"), &set);
    }
}
