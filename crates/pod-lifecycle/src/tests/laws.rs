//! Whatever happens to a pod: decisions settle, ended pods stay ended, and no container runs twice at a time.

use proptest::prelude::*;

use super::world::World;
use crate::probe::Kind;
use crate::view::State;

const PODS: &[&str] = &[
    "containers: [{name: a, image: x}, {name: b, image: y, lifecycle: {preStop: {sleep: {seconds: 1}}}}]",
    "containers: [{name: a, image: x}, {name: b, image: y}]\nrestartPolicy: Never",
    "containers: [{name: a, image: x, livenessProbe: {exec: {command: [l]}, failureThreshold: 1}, readinessProbe: {exec: {command: [r]}}}]\nrestartPolicy: OnFailure\nactiveDeadlineSeconds: 400",
    "initContainers: [{name: i, image: x}, {name: s, image: x, restartPolicy: Always, startupProbe: {tcpSocket: {port: 1}}}]\ncontainers: [{name: a, image: x}, {name: b, image: y}]\nterminationGracePeriodSeconds: 5",
];

const NAMES: &[&str] = &["a", "b", "i", "s"];

#[derive(Clone, Debug)]
enum Happens {
    Pass(u16),
    Exit(usize, i32),
    Probed(usize, Kind, bool),
    HookDone(usize),
    SandboxLost,
    NewKubelet,
    Break(usize),
    Mend,
    Deleted(u8),
}

fn happens() -> impl Strategy<Value = Happens> {
    let name = 0..NAMES.len();
    let kind = prop::sample::select(&Kind::ALL);
    prop_oneof![
        (0..700_u16).prop_map(Happens::Pass),
        (name.clone(), 0..2).prop_map(|(n, c)| Happens::Exit(n, c)),
        (name.clone(), kind, any::<bool>()).prop_map(|(n, k, ok)| Happens::Probed(n, k, ok)),
        name.clone().prop_map(Happens::HookDone),
        Just(Happens::SandboxLost),
        Just(Happens::NewKubelet),
        name.prop_map(Happens::Break),
        Just(Happens::Mend),
        (0..30_u8).prop_map(Happens::Deleted),
    ]
}

impl World {
    fn runs(&self, name: &str) -> usize {
        let all = self.containers.iter();
        all.filter(|c| c.name == name && c.state == State::Running)
            .count()
    }

    fn let_happen(&mut self, what: &Happens) {
        match *what {
            Happens::Pass(seconds) => self.pass(seconds.into()),
            Happens::Exit(n, code) if self.runs(NAMES[n]) > 0 => self.exit(NAMES[n], code),
            Happens::Probed(n, kind, success) if self.runs(NAMES[n]) > 0 => {
                let spec = crate::pod::find_container(&self.pod, NAMES[n]);
                if spec.is_some_and(|s| kind.of(&s).is_some()) {
                    self.probe(NAMES[n], kind, success);
                }
            }
            Happens::HookDone(n) => {
                for killing in self.memory.kills.values_mut() {
                    killing.hook_running &= killing.kill.name != NAMES[n];
                }
            }
            Happens::SandboxLost => {
                for name in NAMES
                    .iter()
                    .filter(|n| self.runs(n) > 0)
                    .collect::<Vec<_>>()
                {
                    self.exit(name, 255);
                }
                self.sandboxes.iter_mut().for_each(|s| s.ready = false);
            }
            Happens::NewKubelet => {
                self.memory = crate::Memory {
                    since: Some(self.now),
                    ..Default::default()
                };
            }
            Happens::Break(n) => self.broken.push((NAMES[n], "ErrImagePull", "nowhere")),
            Happens::Mend => self.broken.clear(),
            Happens::Deleted(grace) => self.delete(grace.into()),
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn decisions_settle_whatever_happens(
        pod in prop::sample::select(PODS),
        story in prop::collection::vec(happens(), 0..40),
    ) {
        let mut world = World::new(pod);
        world.settle();
        let mut ended: Option<String> = None;
        for what in &story {
            world.let_happen(what);
            world.settle();
            let phase = world.status.phase.clone().unwrap_or_default();
            if let Some(ended) = &ended {
                prop_assert_eq!(&phase, ended, "after {:?}", what);
            }
            if matches!(phase.as_str(), "Succeeded" | "Failed") {
                ended = Some(phase);
            }
            for name in NAMES {
                prop_assert!(world.runs(name) <= 1, "{} runs twice after {:?}", name, what);
            }
            let dead = world.containers.iter().filter(|c| c.state == State::Exited).count();
            prop_assert!(dead <= NAMES.len(), "dead containers pile up after {:?}", what);
        }
    }

    /// Once deleted and all containers have ended, the object goes.
    #[test]
    fn deletion_comes_to_an_end(
        pod in prop::sample::select(PODS),
        story in prop::collection::vec(happens(), 0..20),
    ) {
        let mut world = World::new(pod);
        world.settle();
        for what in &story {
            world.let_happen(what);
            world.settle();
        }
        world.delete(5);
        for _ in 0..10 {
            world.pass(60);
            world.settle();
            for name in NAMES {
                let stopped = world.memory.kills.values().any(|k| {
                    k.kill.name == *name && k.stopping_until.is_some()
                });
                if stopped && world.runs(name) > 0 {
                    world.exit(name, 137);
                }
            }
        }
        prop_assert!(world.memory.deleting, "{:?}", world.decide().because);
    }
}
