//! What must be true of every controller, whatever it does.

use control::{Action, Answers, Key, Plan, Reconciler, Target};
use serde_json::Value;

use crate::world::World;

/// Rounds after which a controller must have come to rest.
const ROUNDS: usize = 60;

/// Asserts all laws for one item of one world: the same look gives the same plan, plans come to rest, also after a
/// crash between any two actions, and only the root, what it owns and what it adopts is touched.
///
/// # Panics
/// A law is broken.
pub fn hold<R: Reconciler>(reconciler: &R, world: &World, key: &Key, root: &Target) {
    same_input_same_plan(reconciler, world, key);
    let rest = settle(reconciler, world.clone(), key, root);
    crashes_converge(reconciler, world, key, root, &rest);
}

/// The same observation gives the same plan.
///
/// # Panics
/// It does not.
pub fn same_input_same_plan<R: Reconciler>(reconciler: &R, world: &World, key: &Key) {
    let (first, second) = (world.plan(reconciler, key), world.plan(reconciler, key));
    assert_eq!(first, second, "{} decides by more than it sees", R::NAME);
}

/// Applies plans until nothing is left to do; checks on the way what they touch.
///
/// # Panics
/// It never comes to rest, or touches what is not its own.
pub fn settle<R: Reconciler>(reconciler: &R, world: World, key: &Key, root: &Target) -> World {
    settle_checked(reconciler, world, key, Some(root))
}

/// The same for a controller whose objects are its own by name or label instead of by owner.
///
/// # Panics
/// It never comes to rest.
pub fn settle_loosely<R: Reconciler>(reconciler: &R, world: World, key: &Key) -> World {
    settle_checked(reconciler, world, key, None)
}

fn settle_checked<R: Reconciler>(
    reconciler: &R,
    mut world: World,
    key: &Key,
    root: Option<&Target>,
) -> World {
    let mut answers = Answers::new();
    for _ in 0..ROUNDS {
        let Some(plan) = world.plan_with(reconciler, key, &answers) else {
            return world;
        };
        if plan.is_idle() {
            let Some(after) = plan.requeue_after else {
                return world;
            };
            world.since = plan.since;
            // Time passes only while nothing else can happen.
            world.now += after;
            if world.plan(reconciler, key).is_none_or(|p| p.is_idle()) {
                return world;
            }
            continue;
        }
        if let Some(root) = root {
            touches_only_its_own(&world, root, &plan);
        }
        answers = world.answer(&plan);
        world.apply_plan(&plan);
        world.seed += 1;
    }
    panic!("{} does not come to rest", R::NAME);
}

fn crashes_converge<R: Reconciler>(
    reconciler: &R,
    world: &World,
    key: &Key,
    root: &Target,
    rest: &World,
) {
    let Some(plan) = world.plan(reconciler, key) else {
        return;
    };
    for prefix in 0..=plan.actions.len() {
        let mut crashed = world.clone();
        for action in &plan.actions[..prefix] {
            // A refusal is a race that was lost; the next round sees what is there.
            let _ = crashed.apply(action);
        }
        crashed.seed += 1000;
        let converged = settle(reconciler, crashed, key, root);
        assert_eq!(
            converged.census(),
            rest.census(),
            "{} ends elsewhere after a crash behind action {prefix} of {:#?}",
            R::NAME,
            plan.actions
        );
    }
}

fn touches_only_its_own(world: &World, root: &Target, plan: &Plan) {
    let root_uid = world.objects.get(root).map(uid_of).unwrap_or_default();
    let owns = |object: &Value| {
        let owners = object["metadata"]["ownerReferences"].as_array();
        owners.into_iter().flatten().any(|o| o["uid"] == *root_uid)
    };
    let mut adopted: Vec<&Target> = Vec::new();
    for action in &plan.actions {
        let (target, adopts) = match action {
            Action::Update { target, object, .. } => (target, owns(object)),
            Action::Patch { target, patch, .. } => (target, owns(patch.body())),
            Action::Delete { target, uid, .. } => {
                let there = world.objects.get(target).map(uid_of);
                assert!(
                    there.is_none_or(|u| u == *uid),
                    "{action} names another UID"
                );
                (target, false)
            }
            _ => continue,
        };
        if adopts {
            adopted.push(target);
        }
        let own = target == root || world.objects.get(target).is_some_and(owns);
        let own = own || adopted.contains(&target);
        assert!(own, "{action} touches what {root} does not own");
    }
    if let Some(status) = &plan.status {
        assert_eq!(status.target, *root, "a status that is not the root's");
    }
}

fn uid_of(object: &Value) -> String {
    object["metadata"]["uid"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}
