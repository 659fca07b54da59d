//! Pods as a whole: from the sandbox to its removal, and over a restart of the runtime.

use cri::RuntimeService;
use cri::v1::*;

use crate::node::{Node, shell};

#[tokio::test]
async fn a_container_runs_logs_and_ends() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("first")).await;
    let id = node
        .run(
            &pod,
            shell("echo out; echo err >&2; printf unfinished; exit 3"),
        )
        .await;
    let status = node.wait_exit(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
    assert!(status.created_at <= status.started_at && status.started_at <= status.finished_at);
    let mut lines: Vec<_> = node.log(&id).await.lines().map(String::from).collect();
    lines.sort();
    assert_eq!(
        lines,
        ["stderr F err", "stdout F out", "stdout P unfinished"]
    );
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn the_pod_has_its_own_name_and_resolver() {
    let mut node = Node::new().await;
    let script = "hostname; cat /etc/hostname /etc/resolv.conf; echo $HOSTNAME $FROM_IMAGE; ls /sys/class/net";
    let (code, log) = node.script(script, |_| {}).await;
    expect_test::expect![[r#"
        stdout F script-0
        stdout F script-0
        stdout F search svc.cluster.local
        stdout F nameserver 10.0.0.10
        stdout F options ndots:5
        stdout F script-0 yes
        stdout F lo
    "#]]
    .assert_eq(&log);
    assert_eq!(code, 0);
    node.assert_clean().await;
}

#[tokio::test]
async fn stopping_asks_first_and_kills_later() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("stop")).await;
    let script = "trap 'echo asked; exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    let polite = node.run(&pod, shell(script)).await;
    while !node.log(&polite).await.contains("ready") {
        tokio::task::yield_now().await;
    }
    node.stop(&polite, 30).await;
    assert_eq!(node.wait_exit(&polite).await.exit_code, 7);
    let mut config = shell("trap '' TERM; while :; do sleep 0.1; done");
    config.log_path = "stubborn/0.log".into();
    let stubborn = node.run(&pod, config).await;
    node.stop(&stubborn, 1).await;
    let status = node.wait_exit(&stubborn).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
    node.stop(&stubborn, 1).await;
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn containers_run_on_while_the_runtime_is_away() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("away")).await;
    let running = node
        .run(&pod, shell("echo before; cat /tmp/go; sleep 1000"))
        .await;
    let mut config = shell("read line; echo got $line; exit 5");
    config.log_path = "ends/0.log".into();
    config.stdin = true;
    let ends = node.run(&pod, config).await;
    let before = node.status(&running).await;

    node.restart().await;
    let after = node.status(&running).await;
    assert_eq!(after, before);
    let (code, out, _) = node.exec(&running, &["echo", "still here"]).await.unwrap();
    assert_eq!((code, out.as_str()), (0, "still here\n"));

    // It ends while nobody looks: the shim notes it.
    let pid = first_pid(&node, &ends);
    let process = linux::process::Process::open(rustix::process::Pid::from_raw(pid).unwrap());
    let process = process.unwrap();
    let Node { dir, cgroup, .. } = &node;
    let (dir, cgroup) = (dir.path().to_owned(), cgroup.clone());
    drop(std::mem::replace(
        &mut node.runtime,
        crate::node::open(&dir, &cgroup).await,
    ));
    process.kill().unwrap();
    assert!(
        process
            .wait_exit(Some(std::time::Duration::from_secs(10)))
            .unwrap()
    );
    node.restart().await;
    let status = node.wait_exit(&ends).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
    assert_eq!(
        node.status(&running).await.state,
        ContainerState::ContainerRunning as i32
    );
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

fn first_pid(node: &Node, container: &str) -> i32 {
    let cgroup = linux::cgroup::detect().unwrap();
    let group = cgroup.group(&format!("{}/kubepods/podaway/{container}", node.cgroup));
    let pids = group.processes().unwrap();
    pids.iter()
        .map(|pid| pid.as_raw_nonzero().get())
        .min()
        .unwrap()
}

#[tokio::test]
async fn a_pod_whose_shim_is_killed_is_not_ready_and_its_containers_are_gone() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("killed")).await;
    let id = node.run(&pod, shell("sleep 1000")).await;
    let group = linux::cgroup::detect().unwrap();
    let group = group.group(&format!("{}/kubepods/podkilled/{pod}", node.cgroup));
    group.kill(std::time::Duration::from_secs(10)).unwrap();
    let status = node.wait_exit(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"));
    let request = PodSandboxStatusRequest {
        pod_sandbox_id: pod.clone(),
        verbose: false,
    };
    let status = node
        .runtime
        .pod_sandbox_status(request)
        .await
        .unwrap()
        .status
        .unwrap();
    assert_eq!(status.state, PodSandboxState::SandboxNotready as i32);
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}

#[tokio::test]
async fn power_off_is_noticed() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.sandbox_config("power")).await;
    let id = node.run(&pod, shell("sleep 1000")).await;
    let group = linux::cgroup::detect().unwrap().group(&node.cgroup);
    let Node { dir, cgroup, .. } = &node;
    let (dir, cgroup) = (dir.path().to_owned(), cgroup.clone());
    group.kill(std::time::Duration::from_secs(10)).unwrap();
    node.runtime = crate::node::open(&dir, &cgroup).await;
    let status = node.status(&id).await;
    assert_eq!(status.state, ContainerState::ContainerExited as i32);
    node.remove_pod(&pod).await;
    node.assert_clean().await;
}
