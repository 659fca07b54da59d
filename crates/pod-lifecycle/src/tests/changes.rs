//! Changes of a pod that runs: images, ephemeral containers, resources.

use expect_test::expect;

use super::world::World;
use super::{ONE, check};

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
