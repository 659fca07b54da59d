//! The checks of the level `baseline`: known ways to gain privileges.

use serde_json::Value;

use super::checks::{Pod, Refusal, Texts, containers, items, join, plural, setters, text};
use crate::quote::quote;

const APP_ARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

pub(super) fn app_armor(pod: Pod) -> Option<Refusal> {
    let mut bad = Texts::new();
    let wrong = |of: &Value| {
        let profile = &of["securityContext"]["appArmorProfile"];
        !profile.is_null() && !matches!(text(&profile["type"]), "RuntimeDefault" | "Localhost")
    };
    let on_pod = wrong(pod.spec);
    let names = pod.named(wrong);
    for of in [pod.spec].into_iter().chain(pod.containers()) {
        if wrong(of) {
            bad.insert(text(&of["securityContext"]["appArmorProfile"]["type"]));
        }
    }
    let annotations = pod.metadata["annotations"].as_object();
    let mut annotated: Vec<String> = annotations
        .into_iter()
        .flatten()
        .filter(|(key, value)| {
            let value = text(value);
            let good =
                value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
            key.starts_with(APP_ARMOR_ANNOTATION) && !good
        })
        .map(|(key, value)| format!("{key}={}", quote(text(value))))
        .collect();
    annotated.sort();
    let mut who: Vec<String> = setters(on_pod, &names).into_iter().collect();
    if !annotated.is_empty() {
        who.push(plural("annotation", "annotations", annotated.len()).to_owned());
    }
    let count = bad.len() + annotated.len();
    let what = join(bad.iter().map(|b| (*b).to_owned()).chain(annotated));
    let reason = plural(
        "forbidden AppArmor profile",
        "forbidden AppArmor profiles",
        count,
    );
    (!who.is_empty())
        .then(|| {
            let who = who.join(" and ");
            Refusal::new(
                reason,
                format!("{who} must not set AppArmor profile type to {what}"),
            )
        })
        .flatten()
}

pub(super) fn capabilities(pod: Pod) -> Option<Refusal> {
    const DEFAULT: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let mut added = Texts::new();
    let names = pod.named(|container| {
        let all = items(&container["securityContext"]["capabilities"], "add").map(text);
        let bad: Vec<&str> = all.filter(|c| !DEFAULT.contains(c)).collect();
        added.extend(&bad);
        !bad.is_empty()
    });
    if names.is_empty() {
        return None;
    }
    let (who, what) = (containers(&names), join(added));
    let detail = format!("{who} must not include {what} in securityContext.capabilities.add");
    Refusal::new("non-default capabilities", detail)
}

pub(super) fn host_namespaces(pod: Pod) -> Option<Refusal> {
    let all = ["hostNetwork", "hostPID", "hostIPC"].into_iter();
    let used: Vec<String> = all
        .filter(|field| pod.spec[*field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    match used.is_empty() {
        true => None,
        false => Refusal::new("host namespaces", used.join(", ")),
    }
}

pub(super) fn host_paths(pod: Pod) -> Option<Refusal> {
    let all = items(pod.spec, "volumes").filter(|volume| !volume["hostPath"].is_null());
    let names: Vec<&str> = all.map(|volume| text(&volume["name"])).collect();
    if names.is_empty() {
        return None;
    }
    let what = plural("volume", "volumes", names.len());
    Refusal::new("hostPath volumes", format!("{what} {}", join(names)))
}

pub(super) fn host_ports(pod: Pod) -> Option<Refusal> {
    let mut ports = std::collections::BTreeSet::new();
    let names = pod.named(|container| {
        let all = items(container, "ports").filter_map(|port| port["hostPort"].as_i64());
        let used: Vec<String> = all.filter(|p| *p != 0).map(|p| p.to_string()).collect();
        let any = !used.is_empty();
        ports.extend(used);
        any
    });
    if names.is_empty() {
        return None;
    }
    let use_ = plural("uses", "use", names.len());
    let what = plural("hostPort", "hostPorts", ports.len());
    let ports = ports.into_iter().collect::<Vec<_>>().join(", ");
    Refusal::new(
        "hostPort",
        format!("{} {use_} {what} {ports}", containers(&names)),
    )
}

pub(super) fn probe_hosts(pod: Pod) -> Option<Refusal> {
    let mut hosts = Texts::new();
    let mut names = Texts::new();
    for container in pod.containers() {
        let lifecycle = &container["lifecycle"];
        let handlers = [
            &container["livenessProbe"],
            &container["readinessProbe"],
            &container["startupProbe"],
            &lifecycle["postStart"],
            &lifecycle["preStop"],
        ];
        let named = handlers
            .iter()
            .flat_map(|h| [&h["httpGet"]["host"], &h["tcpSocket"]["host"]])
            .map(text)
            .filter(|host| !host.is_empty());
        for host in named {
            hosts.insert(host);
            names.insert(text(&container["name"]));
        }
    }
    if names.is_empty() {
        return None;
    }
    let names: Vec<&str> = names.into_iter().collect();
    let use_ = plural("uses", "use", names.len());
    let what = plural(
        "probe or lifecycle host",
        "probe or lifecycle hosts",
        hosts.len(),
    );
    let detail = format!("{} {use_} {what} {}", containers(&names), join(hosts));
    Refusal::new("probe or lifecycle host", detail)
}

pub(super) fn privileged(pod: Pod) -> Option<Refusal> {
    let names = pod.named(|container| container["securityContext"]["privileged"] == true);
    if names.is_empty() {
        return None;
    }
    let who = containers(&names);
    Refusal::new(
        "privileged",
        format!("{who} must not set securityContext.privileged=true"),
    )
}

pub(super) fn proc_mount(pod: Pod) -> Option<Refusal> {
    let mut kinds = Texts::new();
    let names = pod.named(|container| {
        let kind = container["securityContext"]["procMount"].as_str();
        let bad = kind.filter(|kind| *kind != "Default");
        kinds.extend(bad);
        bad.is_some()
    });
    if names.is_empty() {
        return None;
    }
    let (who, what) = (containers(&names), join(kinds));
    Refusal::new(
        "procMount",
        format!("{who} must not set securityContext.procMount to {what}"),
    )
}

pub(super) fn proc_mount_of_own_users(pod: Pod) -> Option<Refusal> {
    if pod.has_own_users() {
        return None;
    }
    proc_mount(pod)
}

const SELINUX_TYPES: [&str; 5] = [
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];

pub(super) fn selinux(pod: Pod) -> Option<Refusal> {
    selinux_of(pod, &SELINUX_TYPES[..4])
}

pub(super) fn selinux_31(pod: Pod) -> Option<Refusal> {
    selinux_of(pod, &SELINUX_TYPES)
}

fn selinux_of(pod: Pod, allowed: &[&str]) -> Option<Refusal> {
    let mut types = Texts::new();
    let (mut user, mut role) = (false, false);
    let mut bad = |options: &Value| {
        let set = |key: &str| !text(&options[key]).is_empty();
        user |= set("user");
        role |= set("role");
        !allowed.contains(&text(&options["type"])) || set("user") || set("role")
    };
    let mut bad = |of: &Value| bad(&of["securityContext"]["seLinuxOptions"]);
    let on_pod = bad(pod.spec);
    let names = pod.named(&mut bad);
    for of in [pod.spec].into_iter().chain(pod.containers()) {
        let kind = text(&of["securityContext"]["seLinuxOptions"]["type"]);
        // What is not there at all has the empty type, which is allowed.
        if !allowed.contains(&kind) {
            types.insert(kind);
        }
    }
    let who = setters(on_pod, &names)?;
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!(
            "{} {}",
            plural("type", "types", types.len()),
            join(types)
        ));
    }
    if user {
        what.push("user may not be set".to_owned());
    }
    if role {
        what.push("role may not be set".to_owned());
    }
    let what = what.join("; ");
    let detail = format!("{who} set forbidden securityContext.seLinuxOptions: {what}");
    Refusal::new("seLinuxOptions", detail)
}

/// Before there was a field, annotations said it.
pub(super) fn seccomp_annotations(pod: Pod) -> Option<Refusal> {
    let of_containers = pod
        .containers()
        .map(|c| format!("{SECCOMP_CONTAINER}{}", text(&c["name"])));
    let keys = [SECCOMP_POD.to_owned()].into_iter().chain(of_containers);
    let bad: std::collections::BTreeSet<String> = keys
        .filter_map(|key| {
            let value = pod.metadata["annotations"][&key].as_str()?;
            let good = matches!(value, "runtime/default" | "docker/default")
                || value.starts_with("localhost/");
            (!good).then(|| format!("{key}={}", quote(value)))
        })
        .collect();
    if bad.is_empty() {
        return None;
    }
    let what = plural("annotation", "annotations", bad.len());
    let bad = bad.into_iter().collect::<Vec<_>>().join(", ");
    Refusal::new("seccompProfile", format!("forbidden {what} {bad}"))
}

/// A profile that is none of the good ones.
fn is_bad_seccomp(profile: &Value) -> bool {
    !profile.is_null() && !matches!(text(&profile["type"]), "RuntimeDefault" | "Localhost")
}

pub(super) fn seccomp(pod: Pod) -> Option<Refusal> {
    let bad = |of: &Value| is_bad_seccomp(&of["securityContext"]["seccompProfile"]);
    let on_pod = bad(pod.spec);
    let names = pod.named(bad);
    let who = setters(on_pod, &names)?;
    let all = [pod.spec].into_iter().chain(pod.containers());
    let types: Texts = all
        .map(|of| &of["securityContext"]["seccompProfile"])
        .filter(|profile| is_bad_seccomp(profile))
        .map(|profile| text(&profile["type"]))
        .collect();
    let what = join(types);
    let detail = format!("{who} must not set securityContext.seccompProfile.type to {what}");
    Refusal::new("seccompProfile", detail)
}

/// In the order in which releases came to allow them.
const SYSCTLS: [&str; 14] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_notsent_lowat",
];

pub(super) fn sysctls(pod: Pod) -> Option<Refusal> {
    sysctls_of(pod, 5)
}

pub(super) fn sysctls_27(pod: Pod) -> Option<Refusal> {
    sysctls_of(pod, 6)
}

pub(super) fn sysctls_29(pod: Pod) -> Option<Refusal> {
    sysctls_of(pod, 10)
}

pub(super) fn sysctls_32(pod: Pod) -> Option<Refusal> {
    sysctls_of(pod, 12)
}

pub(super) fn sysctls_37(pod: Pod) -> Option<Refusal> {
    sysctls_of(pod, 14)
}

fn sysctls_of(pod: Pod, allowed: usize) -> Option<Refusal> {
    let names = items(&pod.spec["securityContext"], "sysctls").map(|s| text(&s["name"]));
    let bad: Vec<&str> = names.filter(|n| !SYSCTLS[..allowed].contains(n)).collect();
    match bad.is_empty() {
        true => None,
        false => Refusal::new("forbidden sysctls", bad.join(", ")),
    }
}

pub(super) fn host_process(pod: Pod) -> Option<Refusal> {
    let bad = |of: &Value| of["securityContext"]["windowsOptions"]["hostProcess"] == true;
    let who = setters(bad(pod.spec), &pod.named(bad))?;
    let detail = format!("{who} must not set securityContext.windowsOptions.hostProcess=true");
    Refusal::new("hostProcess", detail)
}
