//! From nothing to running, to the end, and again: restarts, deletion, probes.

use expect_test::expect;

use super::world::World;
use super::{ONE, check};
use crate::probe::Kind;

#[test]
fn one_container_from_nothing_to_running() {
    let mut w = World::new(ONE);
    check(
        w.settle(),
        expect![[r#"
        MountVolumes
        CreateSandbox { attempt: 0 }
        start app #0
        = Running
          app: running, restarts 0, started, ready  [at 0s]
    "#]],
    );
}

#[test]
fn a_crash_loop_backs_off_and_forgets() {
    let mut w = World::new(ONE);
    w.settle();
    let mut told = String::new();
    for wait in [1, 1, 11, 21] {
        w.pass(wait);
        if w.containers
            .iter()
            .any(|c| c.state == crate::view::State::Running)
        {
            w.exit("app", 1);
        }
        told += &w.settle();
    }
    w.pass(20);
    told += &w.settle();
    told += "-- runs well for long\n";
    w.pass(700);
    w.exit("app", 1);
    told += &w.settle();
    check(
        told,
        expect![[r#"
        start app #1
        = Running
          app: running, last 1, restarts 1, started, ready  [at 1s]
        warning BackOff: Back-off restarting failed container app in pod web_shop(u1)
        RemoveContainer { id: "c1" }
        = Running
          !Ready ContainersNotReady containers with unready status: [app]
          !ContainersReady ContainersNotReady containers with unready status: [app]
          app: waiting CrashLoopBackOff (back-off 10s restarting failed container=app pod=web_shop(u1)), last 1, restarts 1
          look again in 10s  [at 2s]
        start app #2
        = Running
          app: running, last 1, restarts 2, started, ready  [at 13s]
        warning BackOff: Back-off restarting failed container app in pod web_shop(u1)
        RemoveContainer { id: "c2" }
        = Running
          !Ready ContainersNotReady containers with unready status: [app]
          !ContainersReady ContainersNotReady containers with unready status: [app]
          app: waiting CrashLoopBackOff (back-off 20s restarting failed container=app pod=web_shop(u1)), last 1, restarts 2
          look again in 20s  [at 34s]
        start app #3
        = Running
          app: running, last 1, restarts 3, started, ready  [at 54s]
        -- runs well for long
        start app #4
        RemoveContainer { id: "c3" }
        = Running
          app: running, last 1, restarts 4, started, ready  [at 754s]
    "#]],
    );
}

#[test]
fn a_job_pod_succeeds_and_stays() {
    let mut w = World::new("containers: [{name: app, image: nginx}]\nrestartPolicy: Never");
    w.settle();
    w.exit("app", 0);
    let mut told = w.settle();
    w.delete(0);
    told += &w.settle();
    w.removed = true;
    told += &w.settle();
    check(
        told,
        expect![[r#"
        StopSandbox { id: "s0" }
        UnmountVolumes
        PublishFinal
        = Succeeded
          !PodReadyToStartContainers PodSandboxNotReady pod sandbox is not ready
          !Ready PodCompleted
          !ContainersReady PodCompleted
          app: terminated 0 Completed, restarts 0  [at 0s]
        DeletePod
        = Succeeded
          !PodReadyToStartContainers PodSandboxNotReady pod sandbox is not ready
          !Ready PodCompleted
          !ContainersReady PodCompleted
          app: terminated 0 Completed, restarts 0  [at 0s]
        RemoveSandbox { id: "s0" }
        finished
        = Succeeded
          !PodReadyToStartContainers PodSandboxNotReady no pod sandbox exists
          !Ready PodCompleted
          !ContainersReady PodCompleted
          app: terminated 0 Completed, restarts 0  [at 0s]
    "#]],
    );
}

#[test]
fn on_failure_restarts_only_failures() {
    let mut w = World::new(
        "containers: [{name: a, image: x}, {name: b, image: y}]\nrestartPolicy: OnFailure",
    );
    w.settle();
    w.exit("a", 0);
    w.exit("b", 3);
    let mut told = w.settle();
    w.exit("b", 0);
    told += &w.settle();
    check(
        told,
        expect![[r#"
        start b #1
        = Running
          !Ready ContainersNotReady containers with unready status: [a]
          !ContainersReady ContainersNotReady containers with unready status: [a]
          a: terminated 0 Completed, restarts 0
          b: running, last 3, restarts 1, started, ready  [at 0s]
        StopSandbox { id: "s0" }
        RemoveContainer { id: "c2" }
        UnmountVolumes
        PublishFinal
        = Succeeded
          !PodReadyToStartContainers PodSandboxNotReady pod sandbox is not ready
          !Ready PodCompleted
          !ContainersReady PodCompleted
          a: terminated 0 Completed, restarts 0
          b: terminated 0 Completed, last 3, restarts 1  [at 0s]
    "#]],
    );
}

#[test]
fn deletion_runs_the_hook_and_then_stops_within_the_grace() {
    let mut w = World::new(
        "containers: [{name: app, image: nginx, lifecycle: {preStop: {sleep: {seconds: 5}}}}]\nterminationGracePeriodSeconds: 30",
    );
    w.settle();
    w.delete(30);
    let mut told = w.settle();
    w.pass(5);
    w.hook_done("app");
    told += &w.settle();
    w.pass(1);
    w.delete(3);
    told += &w.settle();
    w.exit("app", 137);
    told += &w.settle();
    check(
        told,
        expect![[r#"
        kill app: Stopping container app [grace 30, hook]
        = Running
          app: running, restarts 0, started, ready
          look again in 30s  [at 0s]
        stop app within 25s
        = Running
          app: running, restarts 0, started, ready  [at 5s]
        stop app within 2s
        = Running
          app: running, restarts 0, started, ready  [at 6s]
        StopSandbox { id: "s0" }
        UnmountVolumes
        PublishFinal
        DeletePod
        = Failed
          !PodReadyToStartContainers PodSandboxNotReady pod sandbox is not ready
          !Ready PodFailed
          !ContainersReady PodFailed
          app: terminated 137 Error, restarts 0  [at 6s]
    "#]],
    );
}

#[test]
fn liveness_restarts_and_readiness_gates() {
    let mut w = World::new(
        "containers: [{name: app, image: x, livenessProbe: {exec: {command: [a]}, periodSeconds: 5, failureThreshold: 2}, readinessProbe: {exec: {command: [b]}, initialDelaySeconds: 3, periodSeconds: 5}}]\nterminationGracePeriodSeconds: 10",
    );
    let mut told = w.settle();
    w.probe("app", Kind::Liveness, true);
    w.pass(3);
    told += &w.settle();
    w.probe("app", Kind::Readiness, true);
    told += &w.settle();
    w.probe("app", Kind::Liveness, false);
    told += &w.settle();
    w.probe("app", Kind::Liveness, false);
    told += &w.settle();
    w.exit("app", 137);
    told += &w.settle();
    check(
        told,
        expect![[r#"
        MountVolumes
        CreateSandbox { attempt: 0 }
        start app #0
        probe Liveness of app
        = Running
          !Ready ContainersNotReady containers with unready status: [app]
          !ContainersReady ContainersNotReady containers with unready status: [app]
          app: running, restarts 0, started
          look again in 3s  [at 0s]
        probe Readiness of app
        = Running
          !Ready ContainersNotReady containers with unready status: [app]
          !ContainersReady ContainersNotReady containers with unready status: [app]
          app: running, restarts 0, started
          look again in 2s  [at 3s]
        = Running
          app: running, restarts 0, started, ready
          look again in 2s  [at 3s]
        = Running
          app: running, restarts 0, started, ready
          look again in 2s  [at 3s]
        kill app: Container app failed liveness probe, will be restarted [grace 10]
        stop app within 10s
        = Running
          app: running, restarts 0, started, ready  [at 3s]
        start app #1
        probe Liveness of app
        = Running
          !Ready ContainersNotReady containers with unready status: [app]
          !ContainersReady ContainersNotReady containers with unready status: [app]
          app: running, last 137, restarts 1, started
          look again in 3s  [at 3s]
    "#]],
    );
}
