//! What a container may and may not, and how it ends.

use std::time::Duration;

use cri::v1::*;
use cri::{Code, RuntimeService};

use crate::node::{Entry, Node, archive_with, busybox_archive, images, security, shell};

#[tokio::test]
async fn running_out_of_memory_is_told() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("oom")).await;
    let mut config = shell("tail /dev/zero");
    config.linux.as_mut().unwrap().resources = Some(LinuxContainerResources {
        memory_limit_in_bytes: 16 * 1024 * 1024,
        memory_swap_limit_in_bytes: 16 * 1024 * 1024,
        cpu_shares: 512,
        cpu_period: 100_000,
        cpu_quota: 200_000,
        ..Default::default()
    });
    let id = node.run(&pod, config).await;
    let status = node.wait_exit(&id).await;
    assert_eq!(
        (status.exit_code, status.reason.as_str()),
        (137, "OOMKilled")
    );
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_start_error() {
    let node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("missing")).await;
    let mut config = shell("");
    config.command = vec!["no-such-program".into()];
    let id = node.create(&pod, config).await.unwrap();
    let error = node.start(&id).await.unwrap_err();
    let expected = "exec: \"no-such-program\": executable file not found in $PATH";
    assert!(error.message.contains(expected), "{error}");
    let status = node.status(&id).await;
    assert_eq!(
        (status.exit_code, status.reason.as_str()),
        (128, "StartError")
    );
    assert!(status.message.contains(expected));
    assert!(node.start(&id).await.is_err());
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn commands_run_inside_and_are_bounded_in_time() {
    let node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("exec")).await;
    let id = node.run(&pod, shell("sleep 1000")).await;
    let (code, out, err) = node
        .exec(
            &id,
            &[
                "sh",
                "-c",
                "echo out; echo err >&2; cat /proc/1/comm; exit 4",
            ],
        )
        .await
        .unwrap();
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (4, "out\nsleep\n", "err\n")
    );
    let error = node.exec(&id, &["no-such-program"]).await.unwrap_err();
    assert!(
        error.message.contains("executable file not found in $PATH"),
        "{error}"
    );
    let request = ExecSyncRequest {
        container_id: id.clone(),
        cmd: ["sleep", "1000"].map(String::from).into(),
        timeout: 1,
    };
    let error = node.runtime.exec_sync(request).await.unwrap_err();
    assert_eq!(error.code, Code::DeadlineExceeded);
    node.remove_pod(&pod).await;
    let error = node.exec(&id, &["true"]).await.unwrap_err();
    assert!(error.is_not_found());
    node.assert_clean().await;
}

#[tokio::test]
async fn users_groups_and_capabilities_are_as_asked() {
    let mut node = Node::new().await;
    let (_, log) = node
        .script(
            "id; pwd; echo $HOME; grep -E 'Cap|NoNew' /proc/self/status",
            |_| {},
        )
        .await;
    expect_test::expect![[r#"
        stdout F uid=0(root) gid=0(root) groups=0(root)
        stdout F /
        stdout F /root
        stdout F CapInh:	0000000000000000
        stdout F CapPrm:	00000000a80405fb
        stdout F CapEff:	00000000a80405fb
        stdout F CapBnd:	00000000a80405fb
        stdout F CapAmb:	0000000000000000
        stdout F NoNewPrivs:	0
    "#]]
    .assert_eq(&log);
    let as_user = |config: &mut ContainerConfig| {
        config.working_dir = "/home/made/here".into();
        let security = security(config);
        security.run_as_user = Some(Int64Value { value: 1000 });
        security.supplemental_groups = vec![3000];
        security.no_new_privs = true;
        security.capabilities = Some(Capability {
            drop_capabilities: vec!["ALL".into()],
            ..Default::default()
        });
    };
    let script = "id; pwd; echo $HOME; grep -E 'Cap|NoNew' /proc/self/status";
    let (_, log) = node.script(script, as_user).await;
    expect_test::expect![[r#"
        stdout F uid=1000(user) gid=1000(user) groups=1000(user),2000(extra),3000
        stdout F /home/made/here
        stdout F /home/user
        stdout F CapInh:	0000000000000000
        stdout F CapPrm:	0000000000000000
        stdout F CapEff:	0000000000000000
        stdout F CapBnd:	0000000000000000
        stdout F CapAmb:	0000000000000000
        stdout F NoNewPrivs:	1
    "#]]
    .assert_eq(&log);
    node.assert_clean().await;
}

#[tokio::test]
async fn the_file_system_is_the_containers_own() {
    let mut node = Node::new().await;
    let script = "
        echo own > /new && cat /new
        echo x > /proc/sys/kernel/hostname || echo sys is read-only
        mkdir /sys/x 2>/dev/null || echo sysfs is read-only
        wc -c < /proc/interrupts; ls -A /sys/firmware | wc -l
        ls /dev; readlink /dev/ptmx; stat -c '%t:%T %a' /dev/null
        mkdir /sys/fs/cgroup/memory/x 2>/dev/null || echo cgroups are read-only
        echo x > /dev/shm/x && stat -f -c %T /dev/shm
    ";
    let (_, log) = node.script(script, |_| {}).await;
    let text: String = log
        .lines()
        .filter(|line| !line.contains("stderr"))
        .map(|l| format!("{}\n", &l[9..]))
        .collect();
    expect_test::expect![[r#"
        own
        sys is read-only
        sysfs is read-only
        0
        0
        fd
        full
        mqueue
        null
        ptmx
        pts
        random
        shm
        stdin
        stdout
        tty
        urandom
        zero
        pts/ptmx
        1:3 666
        cgroups are read-only
        tmpfs
    "#]]
    .assert_eq(&text);
    let (_, log) = node
        .script(
            "touch /new || echo root is read-only; touch /dev/shm/x && echo but not shm",
            |config| {
                security(config).readonly_rootfs = true;
            },
        )
        .await;
    assert!(
        log.contains("root is read-only") && log.contains("but not shm"),
        "{log}"
    );
    node.assert_clean().await;
}

#[tokio::test]
async fn mounts_are_bound_and_protected() {
    let mut node = Node::new().await;
    let host = node.dir.path().join("volume");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "from the host\n").unwrap();
    let mount = |to: &str, from: &std::path::Path, readonly| Mount {
        container_path: to.into(),
        host_path: from.display().to_string(),
        readonly,
        ..Default::default()
    };
    let mounts = vec![
        mount("/rw/deep", &host, false),
        mount("/ro", &host, true),
        mount("/etc/single", &host.join("file"), true),
        mount("/dev/termination-log", &host.join("file"), false),
    ];
    let script = "
        cat /ro/file /etc/single; echo back > /rw/deep/written
        touch /ro/x || echo read-only; echo bye > /dev/termination-log
    ";
    let (_, log) = node.script(script, |config| config.mounts = mounts).await;
    assert_eq!(log.matches("from the host").count(), 2, "{log}");
    assert!(log.contains("stdout F read-only"), "{log}");
    assert_eq!(
        std::fs::read_to_string(host.join("written")).unwrap(),
        "back\n"
    );
    assert_eq!(std::fs::read_to_string(host.join("file")).unwrap(), "bye\n");
    let pod = node.run_pod(node.sandbox_config("missing")).await;
    let mut config = shell("true");
    config.mounts = vec![mount("/x", &host.join("file/missing"), false)];
    assert!(
        node.create(&pod, config)
            .await
            .unwrap_err()
            .message
            .contains("failed to stat")
    );
    let mut config = shell("true");
    config.mounts = vec![mount("/x", &host.join("missing"), false)];
    node.create(&pod, config).await.unwrap();
    assert!(host.join("missing").is_dir());
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn containers_of_a_pod_can_share_their_processes() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("shared")).await;
    let in_pod = |script: &str, log: &str| {
        let mut config = shell(script);
        config.log_path = log.into();
        let options = security(&mut config).namespace_options.as_mut().unwrap();
        options.pid = NamespaceMode::Pod.into();
        config
    };
    let first = node
        .run(&pod, in_pod("(sleep 1000 &); sleep 2000", "a/0.log"))
        .await;
    let second = node.run(&pod, in_pod("ps -o pid,comm", "b/0.log")).await;
    node.wait_exit(&second).await;
    let log = node.log(&second).await;
    assert!(
        log.contains("1 pause") && log.matches("sleep").count() >= 1,
        "{log}"
    );
    node.stop(&first, 0).await;
    let hierarchies = linux::cgroup::detect().unwrap();
    let left = hierarchies.group(&format!("{}/kubepods/podshared/{first}", node.cgroup));
    assert!(left.processes().unwrap().is_empty() && !left.exists());
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn the_default_filter_holds_in_a_container() {
    let mut node = Node::new().await;
    let filtered = |config: &mut ContainerConfig| {
        let runtime_default = security_profile::ProfileType::RuntimeDefault.into();
        let security = security(config);
        security.seccomp = Some(SecurityProfile {
            profile_type: runtime_default,
            localhost_ref: String::new(),
        });
        security.capabilities = Some(Capability {
            add_capabilities: vec!["SYS_TIME".into()],
            ..Default::default()
        });
    };
    let script = "grep Seccomp: /proc/self/status; mount -t tmpfs x /tmp 2>&1 || echo no; echo yes";
    let (code, log) = node.script(script, filtered).await;
    assert!(
        log.contains("Seccomp:\t2") && log.contains("no\n") && log.contains("yes"),
        "{log}"
    );
    assert_eq!(code, 0);
    let pod = node.run_pod(node.sandbox_config("localhost")).await;
    for (path, code) in [
        ("", Code::InvalidArgument),
        ("profile.json", Code::Unimplemented),
    ] {
        let mut config = shell("true");
        let localhost = security_profile::ProfileType::Localhost.into();
        security(&mut config).seccomp = Some(SecurityProfile {
            profile_type: localhost,
            localhost_ref: path.into(),
        });
        assert_eq!(
            node.create(&pod, config).await.unwrap_err().code,
            code,
            "kubelet 2023-2431"
        );
    }
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn a_privileged_container_has_the_hosts_devices() {
    let mut node = Node::new().await;
    let script =
        "test -w /proc/sys && test -e /dev/kmsg && echo yes; grep CapEff /proc/self/status";
    let (_, log) = node
        .script(
            &format!("{script}; mount -t tmpfs x /tmp && echo mounted"),
            |config| {
                security(config).privileged = true;
            },
        )
        .await;
    assert!(log.contains("mounted"), "{log}");
    node.assert_clean().await;
}

#[tokio::test]
async fn images_are_described_for_run_as_non_root() {
    let node = Node::new().await;
    for (user, uid, name) in [
        ("", Some(0), ""),
        ("web", None, "web"),
        ("7:8", Some(7), ""),
        ("4294967296", Some(0), ""),
    ] {
        let tag = "docker.io/library/user:latest";
        let archive = archive_with(tag, &[], serde_json::json!({"User": user}));
        node.runtime.images().load(archive.as_slice()).unwrap();
        let image = Some(ImageSpec {
            image: "user".into(),
            ..Default::default()
        });
        let request = ImageStatusRequest {
            image,
            verbose: false,
        };
        let found = images(&node)
            .image_status(request)
            .await
            .unwrap()
            .image
            .unwrap();
        assert_eq!(found.uid.map(|uid| uid.value), uid, "{user}");
        assert_eq!(found.username, name, "{user}");
    }
}

#[tokio::test]
async fn usage_is_counted() {
    let node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("stats")).await;
    let id = node
        .run(
            &pod,
            shell("dd if=/dev/zero of=/file bs=1M count=3 2>/dev/null; sleep 1000"),
        )
        .await;
    node.exec(&id, &["sh", "-c", "while ! test -s /file; do :; done"])
        .await
        .unwrap();
    let request = ContainerStatsRequest {
        container_id: id.clone(),
    };
    let stats = node
        .runtime
        .container_stats(request)
        .await
        .unwrap()
        .stats
        .unwrap();
    assert!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
    assert!(stats.memory.unwrap().working_set_bytes.unwrap().value > 0);
    assert!(stats.writable_layer.unwrap().used_bytes.unwrap().value >= 1 << 20);
    let request = PodSandboxStatsRequest {
        pod_sandbox_id: pod.clone(),
    };
    let stats = node
        .runtime
        .pod_sandbox_stats(request)
        .await
        .unwrap()
        .stats
        .unwrap();
    assert_eq!(stats.linux.unwrap().containers.len(), 1);
    let resources = LinuxContainerResources {
        memory_limit_in_bytes: 64 << 20,
        ..Default::default()
    };
    let request = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(resources),
        ..Default::default()
    };
    node.runtime
        .update_container_resources(request)
        .await
        .unwrap();
    let request = ContainerStatsRequest { container_id: id };
    let stats = node
        .runtime
        .container_stats(request)
        .await
        .unwrap()
        .stats
        .unwrap();
    assert!(stats.memory.unwrap().available_bytes.unwrap().value < 64 << 20);
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn a_log_goes_on_in_a_new_file() {
    let node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("log")).await;
    let mut config = shell("echo one; read x; echo two; sleep 1000");
    config.stdin = true;
    let id = node.run(&pod, config).await;
    let path = node.status(&id).await.log_path;
    wait_for(|| std::fs::read_to_string(&path).is_ok_and(|text| text.contains("one"))).await;
    std::fs::rename(&path, format!("{path}.1")).unwrap();
    let request = ReopenContainerLogRequest {
        container_id: id.clone(),
    };
    node.runtime.reopen_container_log(request).await.unwrap();
    node.exec(&id, &["sh", "-c", "echo go > /proc/1/fd/0"])
        .await
        .unwrap();
    wait_for(|| std::fs::read_to_string(&path).is_ok_and(|text| text.contains("two"))).await;
    assert!(
        !std::fs::read_to_string(format!("{path}.1"))
            .unwrap()
            .contains("two")
    );
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

async fn wait_for(mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(
            std::time::Instant::now() < deadline,
            "it did not happen in time"
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_user_owns_its_streams_and_nothing_of_the_hosts() {
    let mut node = Node::new().await;
    let script =
        "echo out > /dev/stdout; echo err > /dev/stderr; chmod 600 /dev/stdin && echo changed";
    let host = || std::os::unix::fs::MetadataExt::mode(&std::fs::metadata("/dev/null").unwrap());
    let before = host();
    for uid in [0, 1000] {
        let (_, log) = node
            .script(script, |config| {
                security(config).run_as_user = Some(Int64Value { value: uid })
            })
            .await;
        assert!(
            log.contains("stdout F out") && log.contains("stderr F err"),
            "{uid}: {log}"
        );
    }
    assert_eq!(host(), before, "/dev/null of the host");
    let pod = node.run_pod(node.sandbox_config("exec")).await;
    let id = node.run(&pod, shell("sleep 1000")).await;
    let (code, _, _) = node
        .exec(&id, &["chmod", "600", "/proc/self/fd/0"])
        .await
        .unwrap();
    assert_eq!((code, host()), (0, before));
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn exec_is_the_same_user_whatever_becomes_of_the_user_database() {
    let node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("user")).await;
    let mut config = shell("sleep 1000");
    security(&mut config).run_as_username = "user".into();
    let id = node.run(&pod, config).await;
    let upper = node
        .dir
        .path()
        .join("root/containers")
        .join(&id)
        .join("upper/etc");
    let passwd = "user:x:0:0::/:/bin/sh\n";
    node.exec(&id, &["true"]).await.unwrap();
    std::fs::create_dir_all(&upper).unwrap();
    std::fs::write(upper.join("passwd"), passwd).unwrap();
    let (_, out, _) = node
        .exec(
            &id,
            &[
                "sh",
                "-c",
                "id -u; id -g; cat /proc/1/status | grep ^Groups",
            ],
        )
        .await
        .unwrap();
    assert_eq!(out.replace(' ', ""), "1000\n1000\nGroups:\t10002000\n");
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn confinement_that_is_not_supported_is_refused() {
    let node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("refused")).await;
    let localhost = security_profile::ProfileType::Localhost.into();
    let mut config = shell("true");
    security(&mut config).apparmor = Some(SecurityProfile {
        profile_type: localhost,
        localhost_ref: "mine".into(),
    });
    assert_eq!(
        node.create(&pod, config).await.unwrap_err().code,
        Code::Unimplemented
    );
    let mut config = shell("true");
    let options = security(&mut config).namespace_options.as_mut().unwrap();
    options.userns_options = Some(UserNamespace {
        mode: NamespaceMode::Pod.into(),
        ..Default::default()
    });
    assert_eq!(
        node.create(&pod, config).await.unwrap_err().code,
        Code::Unimplemented
    );
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn an_image_can_be_mounted_and_an_image_can_be_empty() {
    let mut node = Node::new().await;
    let (_, log) = node
        .script(
            "ls /image/bin/sh && touch /image/x || echo read-only",
            |config| {
                let image = Some(ImageSpec {
                    image: "busybox".into(),
                    ..Default::default()
                });
                let mount = Mount {
                    container_path: "/image".into(),
                    image,
                    ..Default::default()
                };
                config.mounts = vec![mount];
            },
        )
        .await;
    let pod = node.run_pod(node.sandbox_config("held")).await;
    let tag = "docker.io/library/volume:latest";
    let archive = busybox_archive(tag, &[("held", Entry::File("still here\n"))]);
    node.runtime.images().load(archive.as_slice()).unwrap();
    let mut config = shell("sleep 1000");
    let image = Some(ImageSpec {
        image: tag.into(),
        ..Default::default()
    });
    let mount = Mount {
        container_path: "/image".into(),
        image: image.clone(),
        ..Default::default()
    };
    config.mounts = vec![mount];
    let id = node.run(&pod, config).await;
    images(&node)
        .remove_image(RemoveImageRequest { image })
        .await
        .unwrap();
    let (_, out, _) = node.exec(&id, &["cat", "/image/held"]).await.unwrap();
    assert_eq!(out, "still here\n");
    let layers = || {
        std::fs::read_dir(node.dir.path().join("root/images/layers"))
            .unwrap()
            .count()
    };
    assert_eq!(layers(), 2);
    node.remove_pod(&pod).await;
    assert_eq!(layers(), 1);
    assert!(
        log.contains("/image/bin/sh") && log.contains("stdout F read-only"),
        "{log}"
    );
    node.assert_clean().await;
}
