use expect_test::{Expect, expect};

use super::world::World;
use crate::probe::Kind;

fn check(got: String, want: Expect) {
    want.assert_eq(&got);
}

const ONE: &str = "containers: [{name: app, image: nginx}]\nterminationGracePeriodSeconds: 30";

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

#[test]
fn a_changed_image_replaces_the_container() {
    let mut w = World::new(ONE);
    w.settle();
    w.pod.spec.as_mut().unwrap().containers[0].image = Some("nginx:2".into());
    let mut told = w.settle();
    w.exit("app", 0);
    told += &w.settle();
    check(
        told,
        expect![[r#"
        kill app: Container app definition changed, will be restarted [grace 30]
        stop app within 30s
        = Running
          app: running, restarts 0, started, ready  [at 0s]
        start app #1
        = Running
          app: running, last 0, restarts 1, started, ready  [at 0s]
    "#]],
    );
}

#[test]
fn an_ephemeral_container_joins() {
    let mut w = World::new(ONE);
    w.settle();
    w.pod.spec.as_mut().unwrap().ephemeral_containers =
        serde_saphyr::from_str("[{name: debug, image: busybox}]").unwrap();
    check(
        w.settle(),
        expect![[r#"
        start debug #0
        = Running
          app: running, restarts 0, started, ready  [at 0s]
    "#]],
    );
}

const TWO_SIZES: &str = "containers: [{name: a, image: x, resources: {requests: {cpu: 100m}, limits: {cpu: 200m, memory: 2Mi}}}, \
     {name: b, image: y, resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}], resources: {limits: {memory: 1Mi}}}]";

impl World {
    /// Another limit for a container.
    fn limit(&mut self, container: usize, name: &str, amount: &str) {
        let spec = self.pod.spec.as_mut().expect("a spec");
        let resources = spec.containers[container].resources.get_or_insert_default();
        let limits = resources.limits.get_or_insert_default();
        let amount = k8s_openapi::apimachinery::pkg::api::resource::Quantity(amount.to_owned());
        limits.insert(name.to_owned(), amount);
    }

    fn resize_conditions(&self) -> Vec<String> {
        let conditions = self.status.conditions.iter().flatten();
        let of_resize = conditions.filter(|c| c.type_.starts_with("PodResize"));
        of_resize
            .map(|c| format!("{} {}", c.type_, c.reason.as_deref().unwrap_or_default()))
            .collect()
    }
}

#[test]
fn a_container_is_given_other_resources_while_it_runs() {
    let mut w = World::new(TWO_SIZES);
    w.settle();
    w.limit(0, "cpu", "300m");
    let plan = w.decide();
    w.status = plan.status;
    assert_eq!(w.resize_conditions(), ["PodResizeInProgress "]);
    let resources = w.status.container_statuses.as_ref().expect("statuses")[0].clone();
    let limits = resources.resources.and_then(|r| r.limits).expect("limits");
    assert_eq!(limits["cpu"].0, "200m");
    check(
        w.settle(),
        expect![[r#"
        Resize { containers: [("c1", LinuxContainerResources { cpu_period: 100000, cpu_quota: 30000, cpu_shares: 102, memory_limit_in_bytes: 2097152, oom_score_adj: 0, cpuset_cpus: "", cpuset_mems: "", hugepage_limits: [], unified: {}, memory_swap_limit_in_bytes: 0 })], settle: true }
        = Running
          a: running, restarts 0, started, ready
          b: running, restarts 0, started, ready  [at 0s]
    "#]],
    );
    assert!(w.resize_conditions().is_empty());
}

#[test]
fn a_container_is_made_anew_where_its_policy_wants_it() {
    let mut w = World::new(TWO_SIZES);
    w.settle();
    w.limit(1, "memory", "3Mi");
    check(
        w.settle(),
        expect![[r#"
        kill b: Container b resize requires restart [grace 2]
        Resize { containers: [], settle: false }
        stop b within 2s
        = Running
          a: running, restarts 0, started, ready
          b: running, restarts 0, started, ready  [at 0s]
    "#]],
    );
    w.exit("b", 137);
    check(
        w.settle(),
        expect![[r#"
        Resize { containers: [], settle: true }
        start b #1
        = Running
          a: running, restarts 0, started, ready
          b: running, last 137, restarts 1, started, ready  [at 0s]
    "#]],
    );
    assert!(w.resize_conditions().is_empty());
}

#[test]
fn a_resize_that_the_node_refuses_changes_nothing() {
    let mut w = World::new(TWO_SIZES);
    w.settle();
    w.limit(0, "cpu", "64");
    w.memory.resize_refused = Some(crate::admission::Rejection {
        reason: "Infeasible".to_owned(),
        message: "Node didn't have enough capacity".to_owned(),
    });
    check(
        w.settle(),
        expect![[r#"
        = Running
          a: running, restarts 0, started, ready
          b: running, restarts 0, started, ready  [at 0s]
    "#]],
    );
    assert_eq!(w.resize_conditions(), ["PodResizePending Infeasible"]);
    let allocated = crate::resize::allocated(&w.pod, &w.status);
    let resources = allocated.spec.expect("a spec").containers[0]
        .resources
        .clone();
    let limits = resources.and_then(|r| r.limits).expect("limits");
    assert_eq!(limits["cpu"].0, "200m");
}
