//! Text in, plan out: how every controller here is tested.

use control::{Key, Reconciler};
use expect_test::Expect;
use testkit::World;

/// Compares what the controller decides about `key` (`namespace/name` or `name`) in the world of the YAML.
pub(crate) fn check<R: Reconciler>(reconciler: &R, yaml: &str, key: &str, expect: &Expect) {
    check_world(reconciler, &World::from_yaml(yaml), key, expect);
}

/// The same for a world that was made otherwise. Questions are answered, so the plan after them is shown as well.
pub(crate) fn check_world<R: Reconciler>(
    reconciler: &R,
    world: &World,
    key: &str,
    expect: &Expect,
) {
    let key = key_of(key);
    let mut out = String::new();
    match world.plan(reconciler, &key) {
        None => out.push_str("gone\n"),
        Some(plan) => {
            out.push_str(&testkit::show(&plan));
            let answers = world.answer(&plan);
            if !answers.is_empty() {
                let next = world.plan_with(reconciler, &key, &answers);
                out.push_str(&next.map_or("gone\n".to_owned(), |p| testkit::show(&p)));
            }
        }
    }
    expect.assert_eq(&out);
}

/// The key that the text names.
pub(crate) fn key_of(text: &str) -> Key {
    match text.split_once('/') {
        Some((namespace, name)) => Key::new(namespace, name),
        None => Key::cluster(text),
    }
}
