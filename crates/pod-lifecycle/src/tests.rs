//! Stories of pods: YAML in, plans and statuses out, on a clock of our own.

mod certificates;
mod changes;
mod laws;
mod lifecycle;
mod order;
mod parts;
mod trouble;
mod world;

use expect_test::Expect;

/// A pod of one container.
const ONE: &str = "containers: [{name: app, image: nginx}]\nterminationGracePeriodSeconds: 30";

fn check(got: String, want: Expect) {
    want.assert_eq(&got);
}
