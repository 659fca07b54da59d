//! Containers that go before others: init containers and sidecars.

use expect_test::expect;

use super::check;
use super::world::World;
use crate::probe::Kind;

const SIDECARS: &str = "
initContainers:
- {name: setup, image: x}
- {name: log, image: x, restartPolicy: Always, startupProbe: {tcpSocket: {port: 80}, periodSeconds: 1, failureThreshold: 3}}
- {name: mesh, image: x, restartPolicy: Always}
containers: [{name: app, image: nginx}]
terminationGracePeriodSeconds: 30";

#[test]
fn init_containers_and_sidecars_start_in_order_and_stop_in_reverse() {
    let mut w = World::new(SIDECARS);
    let mut told = w.settle();
    w.exit("setup", 0);
    told += &w.settle();
    w.probe("log", Kind::Startup, true);
    told += &w.settle();
    told += "-- deleted\n";
    w.delete(30);
    told += &w.settle();
    w.exit("app", 0);
    told += &w.settle();
    w.exit("mesh", 0);
    told += &w.settle();
    w.exit("log", 0);
    told += &w.settle();
    check(
        told,
        expect![[r#"
        MountVolumes
        CreateSandbox { attempt: 0 }
        start setup #0
        = Pending
          !Initialized ContainersNotInitialized containers with incomplete status: [setup log mesh]
          !Ready ContainersNotReady containers with unready status: [log mesh app]
          !ContainersReady ContainersNotReady containers with unready status: [log mesh app]
          setup: running, restarts 0, started
          log: waiting PodInitializing, restarts 0
          mesh: waiting PodInitializing, restarts 0
          app: waiting PodInitializing, restarts 0  [at 0s]
        start log #0
        probe Startup of log
        = Pending
          !Initialized ContainersNotInitialized containers with incomplete status: [log mesh]
          !Ready ContainersNotReady containers with unready status: [log mesh app]
          !ContainersReady ContainersNotReady containers with unready status: [log mesh app]
          setup: terminated 0 Completed, restarts 0, ready
          log: running, restarts 0
          mesh: waiting PodInitializing, restarts 0
          app: waiting PodInitializing, restarts 0  [at 0s]
        start mesh #0
        start app #0
        = Running
          setup: terminated 0 Completed, restarts 0, ready
          log: running, restarts 0, started, ready
          mesh: running, restarts 0, started, ready
          app: running, restarts 0, started, ready  [at 0s]
        -- deleted
        kill app: Stopping container app [grace 30]
        kill mesh: Stopping container mesh [grace 30]
        kill log: Stopping container log [grace 30]
        stop app within 30s
        = Running
          setup: terminated 0 Completed, restarts 0, ready
          log: running, restarts 0, started, ready
          mesh: running, restarts 0, started, ready
          app: running, restarts 0, started, ready
          look again in 30s  [at 0s]
        stop mesh within 30s
        = Running
          !Ready ContainersNotReady containers with unready status: [app]
          !ContainersReady ContainersNotReady containers with unready status: [app]
          setup: terminated 0 Completed, restarts 0, ready
          log: running, restarts 0, started, ready
          mesh: running, restarts 0, started, ready
          app: terminated 0 Completed, restarts 0
          look again in 30s  [at 0s]
        stop log within 30s
        = Running
          !Ready ContainersNotReady containers with unready status: [mesh app]
          !ContainersReady ContainersNotReady containers with unready status: [mesh app]
          setup: terminated 0 Completed, restarts 0, ready
          log: running, restarts 0, started, ready
          mesh: terminated 0 Completed, restarts 0
          app: terminated 0 Completed, restarts 0  [at 0s]
        StopSandbox { id: "s0" }
        UnmountVolumes
        PublishFinal
        DeletePod
        = Succeeded
          !PodReadyToStartContainers PodSandboxNotReady pod sandbox is not ready
          !Ready PodCompleted
          !ContainersReady PodCompleted
          setup: terminated 0 Completed, restarts 0, ready
          log: terminated 0 Completed, restarts 0
          mesh: terminated 0 Completed, restarts 0
          app: terminated 0 Completed, restarts 0  [at 0s]
    "#]],
    );
}

#[test]
fn a_failed_init_container_fails_the_pod_that_never_restarts() {
    let mut w = World::new(
        "initContainers: [{name: setup, image: x}]\ncontainers: [{name: app, image: y}]\nrestartPolicy: Never",
    );
    w.settle();
    w.exit("setup", 2);
    check(
        w.settle(),
        expect![[r#"
        StopSandbox { id: "s0" }
        UnmountVolumes
        PublishFinal
        = Failed
          !PodReadyToStartContainers PodSandboxNotReady pod sandbox is not ready
          !Initialized ContainersNotInitialized containers with incomplete status: [setup]
          !Ready PodFailed
          !ContainersReady PodFailed
          setup: terminated 2 Error, restarts 0
          app: waiting PodInitializing, restarts 0  [at 0s]
    "#]],
    );
}

#[test]
fn a_failed_init_container_is_tried_again() {
    let mut w = World::new(
        "initContainers: [{name: setup, image: x}]\ncontainers: [{name: app, image: y}]",
    );
    w.settle();
    w.exit("setup", 2);
    let mut told = w.settle();
    w.exit("setup", 2);
    told += &w.settle();
    check(
        told,
        expect![[r#"
        start setup #1
        = Pending
          !Initialized ContainersNotInitialized containers with incomplete status: [setup]
          !Ready ContainersNotReady containers with unready status: [app]
          !ContainersReady ContainersNotReady containers with unready status: [app]
          setup: running, last 2, restarts 1, started
          app: waiting PodInitializing, restarts 0  [at 0s]
        warning BackOff: Back-off restarting failed container setup in pod web_shop(u1)
        RemoveContainer { id: "c1" }
        = Pending
          !Initialized ContainersNotInitialized containers with incomplete status: [setup]
          !Ready ContainersNotReady containers with unready status: [app]
          !ContainersReady ContainersNotReady containers with unready status: [app]
          setup: waiting CrashLoopBackOff (back-off 10s restarting failed container=setup pod=web_shop(u1)), last 2, restarts 1
          app: waiting PodInitializing, restarts 0
          look again in 10s  [at 0s]
    "#]],
    );
}
