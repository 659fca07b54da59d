//! The lessons of other runtimes' vulnerabilities, each named after where it was learned.

use cri::RuntimeService;
use cri::v1::*;
use futures::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::node::{Entry, Node, archive_with, busybox_archive, security, shell};

#[tokio::test]
async fn runc_2024_21626_nothing_of_the_runtimes_is_open_in_a_container() {
    let mut node = Node::new().await;
    let (_, log) = node.script("ls /proc/self/fd", |_| {}).await;
    // Three streams, and the directory that ls itself reads.
    let fds: Vec<_> = log
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(fds, ["0", "1", "2", "3"]);
    let pod = node.run_pod(node.sandbox_config("cwd")).await;
    let mut config = shell("pwd");
    config.working_dir = "/proc/self/fd/7".into();
    let id = node.create(&pod, config).await.unwrap();
    assert!(
        node.start(&id)
            .await
            .unwrap_err()
            .message
            .contains("/proc/self/fd/7")
    );
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn runc_2019_16884_links_in_the_place_of_proc_and_dev_are_refused() {
    let node = Node::new().await;
    for (name, extra) in [
        ("proc", ("proc", Entry::Link("/tmp"))),
        ("dev", ("dev", Entry::Link("/tmp"))),
    ] {
        let tag = format!("docker.io/library/link-{name}:latest");
        let archive = busybox_archive(&tag, &[extra]);
        node.runtime.images().load(archive.as_slice()).unwrap();
        let pod = node.run_pod(node.sandbox_config(name)).await;
        let mut config = shell("true");
        config.image = Some(ImageSpec {
            image: tag,
            ..Default::default()
        });
        let id = node.create(&pod, config).await.unwrap();
        let error = node.start(&id).await.unwrap_err();
        assert!(error.message.contains(&format!("mount /{name}")), "{error}");
        node.remove_pod(&pod).await;
    }
    node.assert_clean().await;
}

#[tokio::test]
async fn runc_2021_30465_mounts_never_land_outside_the_root() {
    let mut node = Node::new().await;
    let outside = node.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let link = outside.display().to_string();
    let climbing = format!("../../../../../../../../..{link}");
    let extra = [
        ("escape", Entry::Link(&link)),
        ("climb", Entry::Link(&climbing)),
    ];
    let tag = "docker.io/library/escape:latest";
    node.runtime
        .images()
        .load(busybox_archive(tag, &extra).as_slice())
        .unwrap();
    let mount = |to: &str| Mount {
        container_path: to.into(),
        host_path: "/etc".into(),
        readonly: true,
        ..Default::default()
    };
    let (_, log) = node
        .script(
            "ls -d /escape/x /climb/y; cat /escape/x/hostname > /dev/null && echo inside",
            |config| {
                config.image = Some(ImageSpec {
                    image: tag.into(),
                    ..Default::default()
                });
                config.mounts = vec![mount("/escape/x"), mount("/climb/y")];
            },
        )
        .await;
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{log}");
    node.assert_clean().await;
}

#[tokio::test]
async fn containerd_2022_23648_a_volume_of_an_image_starts_with_the_images_content() {
    let mut node = Node::new().await;
    let run = serde_json::json!({"Env": ["PATH=/bin"], "Volumes": {"/data": {}, "/stolen": {}}});
    let extra = [
        ("data/file", Entry::File("content\n")),
        ("stolen", Entry::Link("/etc")),
    ];
    let tag = "docker.io/library/volumes:latest";
    node.runtime
        .images()
        .load(archive_with(tag, &extra, run).as_slice())
        .unwrap();
    let script =
        "cat /data/file; echo new > /data/new; ls /stolen; grep -c ' /data ' /proc/self/mountinfo";
    let (_, log) = node
        .script(script, |config| {
            config.image = Some(ImageSpec {
                image: tag.into(),
                ..Default::default()
            });
        })
        .await;
    // Through the link it is the container's own /etc that shows, not the host's.
    assert_eq!(log.lines().next(), Some("stdout F content"), "{log}");
    assert!(!log.contains("shadow"), "{log}");
    node.assert_clean().await;
}

#[tokio::test]
async fn runc_2019_5736_the_runtimes_program_cannot_be_reached() {
    let node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("exe")).await;
    let id = node.run(&pod, shell("sleep 1000")).await;
    // While a command starts, /proc/PID/exe is the runtime's program: it lies on no mount of the
    // container, and what leads there needs ptrace rights over a process with more capabilities.
    let script = "for p in /proc/[0-9]*; do readlink $p/exe; done";
    let (_, out, _) = node.exec(&id, &["sh", "-c", script]).await.unwrap();
    assert!(!out.contains("runtime-test-shim"), "{out}");
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn runc_2022_29162_inheritable_capabilities_are_empty() {
    let mut node = Node::new().await;
    let script = "grep -E 'CapInh|CapAmb' /proc/self/status";
    for privileged in [false, true] {
        let (_, log) = node
            .script(script, |config| security(config).privileged = privileged)
            .await;
        assert_eq!(log.matches("\t0000000000000000").count(), 2, "{log}");
    }
    node.assert_clean().await;
}

#[tokio::test]
async fn runc_2025_31133_an_images_dev_null_masks_nothing() {
    let mut node = Node::new().await;
    let extra = [
        ("dev/null", Entry::Link("/etc/passwd")),
        ("dev/pts", Entry::Link("/etc")),
    ];
    let tag = "docker.io/library/null:latest";
    node.runtime
        .images()
        .load(busybox_archive(tag, &extra).as_slice())
        .unwrap();
    for at_dev in [false, true] {
        let dir = node.dir.path().join(format!("dev-{at_dev}"));
        std::fs::create_dir(&dir).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.join("null")).unwrap();
        let (_, log) = node
            .script(
                "wc -c < /proc/interrupts; wc -c < /proc/kcore || echo none",
                |config| {
                    config.image = Some(ImageSpec {
                        image: tag.into(),
                        ..Default::default()
                    });
                    config.stdin = true;
                    if at_dev {
                        let mount = |container_path: &str, host_path: String| Mount {
                            container_path: container_path.into(),
                            host_path,
                            ..Default::default()
                        };
                        config.mounts = vec![mount("/dev", dir.display().to_string())];
                    }
                },
            )
            .await;
        assert!(log.starts_with("stdout F 0\n"), "{at_dev}: {log}");
    }
    node.assert_clean().await;
}

#[tokio::test]
async fn containerd_2020_15257_no_socket_is_abstract() {
    let node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("abstract")).await;
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
    let ours: Vec<_> = sockets
        .lines()
        .filter(|line| line.contains("shim"))
        .collect();
    assert!(ours.iter().all(|line| !line.contains('@')), "{ours:?}");
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn containerd_2022_23471_who_goes_away_leaves_nothing_open() {
    let node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("leak")).await;
    let mut config = shell("sleep 1000");
    config.stdin = true;
    let id = node.run(&pod, config).await;
    let groups = linux::cgroup::detect().unwrap();
    let shim = groups.group(&format!("{}/kubepods/podleak/{pod}", node.cgroup));
    let open = || -> usize {
        let pids = shim.processes().unwrap();
        let fds = pids.iter().map(|pid| {
            std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero()))
                .unwrap()
                .count()
        });
        fds.sum()
    };
    let before = open();
    for tty in [false, true] {
        let exec = ExecRequest {
            container_id: id.clone(),
            cmd: ["sh", "-c", "cat"].map(String::from).into(),
            tty,
            stdin: true,
            stdout: true,
            stderr: !tty,
        };
        let attach = AttachRequest {
            container_id: id.clone(),
            stdin: true,
            tty: false,
            stdout: true,
            stderr: true,
        };
        for url in [
            node.runtime.exec(exec).await.unwrap().url,
            node.runtime.attach(attach).await.unwrap().url,
        ] {
            let mut request = url.replacen("http", "ws", 1).into_client_request().unwrap();
            let protocol = "v5.channel.k8s.io".parse().unwrap();
            request
                .headers_mut()
                .insert("Sec-WebSocket-Protocol", protocol);
            let (mut client, _) = tokio_tungstenite::connect_async(request).await.unwrap();
            client.send(vec![0, b'x', b'\n'].into()).await.unwrap();
            if url.contains("exec") {
                client.next().await.unwrap().unwrap();
            }
            drop(client);
        }
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while open() > before {
        assert!(
            std::time::Instant::now() < deadline,
            "{} descriptors are left",
            open() - before
        );
        tokio::task::yield_now().await;
    }
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn cri_o_2022_1708_output_of_a_command_is_bounded() {
    let node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("bounded")).await;
    let id = node.run(&pod, shell("sleep 1000")).await;
    let (code, out, _) = node
        .exec(
            &id,
            &[
                "sh",
                "-c",
                "dd if=/dev/zero bs=1M count=20 2>/dev/null | tr '\\0' x",
            ],
        )
        .await
        .unwrap();
    assert_eq!((code, out.len()), (0, 16 * 1024 * 1024));
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn containerd_2023_25173_groups_of_the_image_count() {
    let mut node = Node::new().await;
    let (_, log) = node
        .script("id -G", |config| {
            security(config).run_as_username = "user".into();
            security(config).supplemental_groups = vec![7];
        })
        .await;
    assert_eq!(log, "stdout F 1000 7 2000\n");
    let strict = SupplementalGroupsPolicy::Strict.into();
    let (_, log) = node
        .script("id -G", |config| {
            security(config).run_as_username = "user".into();
            security(config).supplemental_groups_policy = strict;
        })
        .await;
    assert_eq!(log, "stdout F 1000\n");
    node.assert_clean().await;
}

#[tokio::test]
async fn cri_o_2023_6476_annotations_change_no_limit() {
    let node = Node::new().await;
    let mut pod = node.sandbox_config("annotated");
    let annotations = [
        ("io.kubernetes.cri-o.cgroup2-unified", "memory.max=1"),
        ("io.katacontainers.x", "y"),
    ];
    let annotations = annotations.map(|(name, value)| (name.to_owned(), value.to_owned()));
    pod.annotations = annotations.clone().into();
    let pod = node.run_pod(pod).await;
    let mut config = shell("sleep 1000");
    config.annotations = annotations.into();
    let id = node.run(&pod, config).await;
    let group = linux::cgroup::detect().unwrap();
    let group = group.group(&format!("{}/kubepods/podannotated/{id}", node.cgroup));
    assert_eq!(group.usage().memory_limit_bytes, None);
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn cri_o_2024_5154_nothing_is_written_through_links_of_the_image() {
    let mut node = Node::new().await;
    let victim = node.dir.path().join("victim");
    std::fs::write(&victim, "untouched").unwrap();
    let link = victim.display().to_string();
    let extra = [
        ("etc/resolv.conf", Entry::Link(&link)),
        (
            "etc/hostname",
            Entry::Link("../../../../../../../../../etc/hostname-of-whom"),
        ),
        ("etc/mtab", Entry::Link(&link)),
    ];
    let tag = "docker.io/library/links:latest";
    node.runtime
        .images()
        .load(busybox_archive(tag, &extra).as_slice())
        .unwrap();
    let (_, log) = node
        .script("cat /etc/resolv.conf", |config| {
            config.image = Some(ImageSpec {
                image: tag.into(),
                ..Default::default()
            });
        })
        .await;
    assert!(log.contains("nameserver 10.0.0.10"), "{log}");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    assert!(!std::path::Path::new("/etc/hostname-of-whom").exists());
    node.assert_clean().await;
}
