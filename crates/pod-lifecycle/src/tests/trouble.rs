//! What keeps a pod from running: images, volumes, sandboxes, deadlines, refusals, lost machines.

use expect_test::expect;

use super::world::World;
use super::{ONE, check};
use crate::probe::Kind;

#[test]
fn an_image_that_cannot_be_pulled() {
    let mut w = World::new(ONE);
    w.broken.push(("app", "ErrImagePull", "no such host"));
    let mut told = w.settle();
    w.pass(3);
    told += &w.settle();
    w.pass(7);
    told += &w.settle();
    w.broken.clear();
    w.pass(20);
    told += &w.settle();
    check(
        told,
        expect![[r#"
        MountVolumes
        CreateSandbox { attempt: 0 }
        start app #0
        = Pending
          !Ready ContainersNotReady containers with unready status: [app]
          !ContainersReady ContainersNotReady containers with unready status: [app]
          app: waiting ErrImagePull (no such host), restarts 0
          look again in 2s  [at 0s]
        event BackOff: Back-off pulling image "nginx"
        warning Failed: Error: ImagePullBackOff
        = Pending
          !Ready ContainersNotReady containers with unready status: [app]
          !ContainersReady ContainersNotReady containers with unready status: [app]
          app: waiting ImagePullBackOff (Back-off pulling image "nginx": ErrImagePull: no such host), restarts 0
          look again in 7s  [at 3s]
        start app #0
        = Pending
          !Ready ContainersNotReady containers with unready status: [app]
          !ContainersReady ContainersNotReady containers with unready status: [app]
          app: waiting ErrImagePull (no such host), restarts 0
          look again in 2s  [at 10s]
        start app #0
        = Running
          app: running, restarts 0, started, ready  [at 30s]
    "#]],
    );
}

#[test]
fn a_missing_config_map_is_waited_for() {
    let mut w = World::new(ONE);
    w.broken.push((
        "app",
        "CreateContainerConfigError",
        "configmap \"settings\" not found",
    ));
    let mut told = w.settle();
    w.broken.clear();
    w.pass(1);
    w.memory.retry_starts(w.now);
    told += &w.settle();
    check(
        told,
        expect![[r#"
        MountVolumes
        CreateSandbox { attempt: 0 }
        start app #0
        = Pending
          !Ready ContainersNotReady containers with unready status: [app]
          !ContainersReady ContainersNotReady containers with unready status: [app]
          app: waiting CreateContainerConfigError (configmap "settings" not found), restarts 0
          look again in 10s  [at 0s]
        start app #0
        = Running
          app: running, restarts 0, started, ready  [at 1s]
    "#]],
    );
}

#[test]
fn power_off_gives_new_sandboxes_and_one_more_restart() {
    let mut w = World::new(
        "initContainers: [{name: setup, image: x}]\ncontainers: [{name: app, image: y}]",
    );
    w.settle();
    w.exit("setup", 0);
    w.settle();
    w.exit("app", 255);
    w.sandboxes[0].ready = false;
    w.memory = crate::Memory::default();
    w.pass(60);
    let mut told = w.settle();
    w.exit("setup", 0);
    told += &w.settle();
    check(
        told,
        expect![[r#"
        MountVolumes
        StopSandbox { id: "s0" }
        event SandboxChanged: Pod sandbox changed, it will be killed and re-created.
        CreateSandbox { attempt: 1 }
        start setup #1
        = Pending
          !Ready ContainersNotReady containers with unready status: [app]
          !ContainersReady ContainersNotReady containers with unready status: [app]
          setup: running, last 0, restarts 1, started
          app: terminated 255 Error, restarts 0  [at 60s]
        start app #1
        RemoveContainer { id: "c1" }
        = Running
          setup: terminated 0 Completed, last 0, restarts 1, ready
          app: running, last 255, restarts 1, started, ready  [at 60s]
    "#]],
    );
}

#[test]
fn a_new_kubelet_takes_running_pods_as_they_are() {
    let mut w = World::new(
        "containers: [{name: app, image: y, startupProbe: {tcpSocket: {port: 1}}, readinessProbe: {tcpSocket: {port: 1}}}]",
    );
    w.settle();
    w.probe("app", Kind::Startup, true);
    w.settle();
    w.probe("app", Kind::Readiness, true);
    w.settle();
    w.pass(100);
    w.memory = crate::Memory {
        since: Some(w.now),
        ..Default::default()
    };
    check(
        w.settle(),
        expect![[r#"
            probe Readiness of app
            MountVolumes
            = Running
              app: running, restarts 0, started, ready  [at 100s]
        "#]],
    );
}

#[test]
fn the_active_deadline_ends_the_pod() {
    let mut w = World::new(
        "containers: [{name: app, image: y}]\nactiveDeadlineSeconds: 60\nterminationGracePeriodSeconds: 5",
    );
    w.settle();
    w.pass(60);
    let mut told = w.settle();
    w.exit("app", 143);
    told += &w.settle();
    check(
        told,
        expect![[r#"
        event DeadlineExceeded: Pod was active on the node longer than the specified deadline
        kill app: Stopping container app [grace 5]
        stop app within 5s
        = Failed DeadlineExceeded
          !Ready PodFailed
          !ContainersReady PodFailed
          app: running, restarts 0, started, ready  [at 60s]
        StopSandbox { id: "s0" }
        UnmountVolumes
        PublishFinal
        = Failed DeadlineExceeded
          !PodReadyToStartContainers PodSandboxNotReady pod sandbox is not ready
          !Ready PodFailed
          !ContainersReady PodFailed
          app: terminated 143 Error, restarts 0  [at 60s]
    "#]],
    );
}

#[test]
fn a_refused_pod_fails() {
    let mut w = World::new(ONE);
    w.memory.rejection = Some((
        "OutOfcpu".into(),
        "Node didn't have enough resource: cpu, requested: 9000, used: 0, capacity: 2000".into(),
    ));
    let told = w.settle() + w.status.message.as_deref().unwrap_or_default();
    check(
        told,
        expect![[r#"
        UnmountVolumes
        PublishFinal
        = Failed OutOfcpu  [at 0s]
        Pod was rejected: Node didn't have enough resource: cpu, requested: 9000, used: 0, capacity: 2000"#]],
    );
}

#[test]
fn a_sandbox_that_cannot_be_made_is_tried_again() {
    let mut w = World::new(ONE);
    w.broken.push(("sandbox", "", "no addresses left"));
    let mut told = w.settle();
    w.broken.clear();
    w.pass(1);
    told += &w.settle();
    check(
        told,
        expect![[r#"
        MountVolumes
        CreateSandbox { attempt: 0 }
        = Pending
          !PodReadyToStartContainers PodSandboxNotReady no pod sandbox exists
          !Ready ContainersNotReady containers with unready status: [app]
          !ContainersReady ContainersNotReady containers with unready status: [app]
          app: waiting ContainerCreating, restarts 0
          look again in 1s  [at 0s]
        CreateSandbox { attempt: 0 }
        start app #0
        = Running
          app: running, restarts 0, started, ready  [at 1s]
    "#]],
    );
}
