//! The clients of other languages, unmodified.

use cluster_tests::Cluster;

const PYTHON: &str = include_str!("../../clients/walk.py");
const JAVASCRIPT: &str = include_str!("../../clients/walk.mjs");

#[test]
fn the_python_client_lists_watches_applies_and_executes() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("python", 36);
    let said = cluster.script("python3", PYTHON, &[space.name()]);
    assert_eq!(said.ok(), "done\n");
}

#[test]
fn the_javascript_client_lists_watches_applies_and_executes() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("javascript", 36);
    let said = cluster.script("node", JAVASCRIPT, &[space.name()]);
    assert_eq!(said.ok(), "done\n");
}
