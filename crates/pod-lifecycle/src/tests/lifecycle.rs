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
    check(w.settle(), expect![[""]]);
}

#[test]
fn a_crash_loop_backs_off_and_forgets() {
    let mut w = World::new(ONE);
    w.settle();
    let mut told = String::new();
    for wait in [1, 1, 11, 21] {
        w.pass(wait);
        if w.containers.iter().any(|c| c.state == crate::view::State::Running) {
            w.exit("app", 1);
        }
        told += &w.settle();
    }
    w.pass(700);
    w.exit("app", 1);
    told += &w.settle();
    check(told, expect![[""]]);
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
    check(told, expect![[""]]);
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
    check(told, expect![[""]]);
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
    check(told, expect![[""]]);
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
    check(told, expect![[""]]);
}

#[test]
fn a_failed_init_container_fails_the_pod_that_never_restarts() {
    let mut w = World::new(
        "initContainers: [{name: setup, image: x}]\ncontainers: [{name: app, image: y}]\nrestartPolicy: Never",
    );
    w.settle();
    w.exit("setup", 2);
    check(w.settle(), expect![[""]]);
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
    check(told, expect![[""]]);
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
    check(told, expect![[""]]);
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
    check(told, expect![[""]]);
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
    check(told, expect![[""]]);
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
    check(told, expect![[""]]);
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
    check(w.settle(), expect![[""]]);
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
    check(told, expect![[""]]);
}

#[test]
fn a_refused_pod_fails() {
    let mut w = World::new(ONE);
    w.memory.rejection = Some((
        "OutOfcpu".into(),
        "Node didn't have enough resource: cpu, requested: 9000, used: 0, capacity: 2000".into(),
    ));
    let told = w.settle() + w.status.message.as_deref().unwrap_or_default();
    check(told, expect![[""]]);
}

#[test]
fn a_sandbox_that_cannot_be_made_is_tried_again() {
    let mut w = World::new(ONE);
    w.broken.push(("sandbox", "", "no addresses left"));
    let mut told = w.settle();
    w.broken.clear();
    w.pass(1);
    told += &w.settle();
    check(told, expect![[""]]);
}

#[test]
fn a_changed_image_replaces_the_container() {
    let mut w = World::new(ONE);
    w.settle();
    w.pod.spec.as_mut().unwrap().containers[0].image = Some("nginx:2".into());
    let mut told = w.settle();
    w.exit("app", 0);
    told += &w.settle();
    check(told, expect![[""]]);
}

#[test]
fn an_ephemeral_container_joins() {
    let mut w = World::new(ONE);
    w.settle();
    w.pod.spec.as_mut().unwrap().ephemeral_containers =
        serde_saphyr::from_str("[{name: debug, image: busybox}]").unwrap();
    check(w.settle(), expect![[""]]);
}
