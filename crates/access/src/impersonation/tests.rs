use expect_test::{Expect, expect};

use super::*;
use crate::user::{EXTRA_POD_NAME, service_account_name};

fn asking(caller: User) -> Attributes {
    Attributes {
        api_version: "v1".to_owned(),
        namespace: "shop".to_owned(),
        ..Attributes::resource(&caller, "list", "", "pods")
    }
}

fn line(a: &Attributes) -> String {
    let of = format!("{}/{}", a.api_group, a.combined_resource());
    format!("{} {of} {}:{}", a.verb, a.namespace, a.name)
}

fn show(wanted: &User, caller: User) -> String {
    let mut out = String::new();
    for attempt in attempts(wanted, &asking(caller)) {
        out += &format!("{}: {:?}\n", attempt.mode.name(), attempt.user.groups);
        let request = attempt.request.iter().map(line);
        let parts = attempt.parts.iter().map(|part| match part {
            Part::One(one) => line(one),
            Part::Many(all, each) => format!("{}, or {} others", line(all), each.len()),
            Part::Never(error) => error.message.clone(),
        });
        for one in request.chain(parts) {
            out += &format!("    {one}\n");
        }
    }
    out
}

fn check(wanted: &User, caller: User, expected: Expect) {
    expected.assert_eq(&show(wanted, caller));
}

fn bound(node: &str) -> User {
    let mut caller = User::service_account("kube-system", "agent", "u1");
    caller
        .extra
        .insert(EXTRA_NODE_NAME.to_owned(), vec![node.to_owned()]);
    caller
        .extra
        .insert(EXTRA_POD_NAME.to_owned(), vec!["agent-1".to_owned()]);
    caller
}

#[test]
fn a_user_is_acted_for_by_rights_on_each_part_of_him() {
    let mut wanted = User::new("jane", &["devs"]);
    wanted.uid = "u7".to_owned();
    wanted
        .extra
        .insert("example.com/team".to_owned(), vec!["red".to_owned()]);
    let joe = User::new("joe", &[]);
    check(
        &wanted,
        joe,
        expect![[r#"
            user-info: ["devs", "system:authenticated"]
                impersonate-on:user-info:list /pods shop:
                impersonate:user-info authentication.k8s.io/users :jane
                impersonate:user-info authentication.k8s.io/uids :u7
                impersonate:user-info authentication.k8s.io/groups :devs
                impersonate:user-info authentication.k8s.io/userextras/example.com/team :red
            legacy: ["devs", "system:authenticated"]
                impersonate /users :jane
                impersonate authentication.k8s.io/uids :u7
                impersonate /groups :devs
                impersonate authentication.k8s.io/userextras/example.com/team :red
        "#]],
    );
}

#[test]
fn nodes_and_service_accounts_have_ways_of_their_own() {
    check(
        &User::new("system:node:n1", &[]),
        bound("n1"),
        expect![[r#"
            associated-node: ["system:nodes", "system:authenticated"]
                impersonate-on:associated-node:list /pods shop:
                impersonate:associated-node authentication.k8s.io/nodes :*
            arbitrary-node: ["system:nodes", "system:authenticated"]
                impersonate-on:arbitrary-node:list /pods shop:
                impersonate:arbitrary-node authentication.k8s.io/nodes :n1
            legacy: ["system:authenticated"]
                impersonate /users :system:node:n1
        "#]],
    );
    check(
        &User::new(&service_account_name("shop", "bot"), &[]),
        bound("n1"),
        expect![[r#"
            serviceaccount: ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"]
                impersonate-on:serviceaccount:list /pods shop:
                impersonate:serviceaccount authentication.k8s.io/serviceaccounts shop:bot
            legacy: ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"]
                impersonate /serviceaccounts shop:bot
        "#]],
    );
}

#[test]
fn what_no_constrained_way_allows() {
    let mut wanted = User::new("jane", &["a", "b", "c", "system:masters"]);
    wanted.extra.insert("team".to_owned(), vec!["x".to_owned()]);
    check(
        &wanted,
        User::new("joe", &[]),
        expect![[r#"
            user-info: ["a", "b", "c", "system:masters", "system:authenticated"]
                impersonate-on:user-info:list /pods shop:
                impersonate:user-info authentication.k8s.io/users :jane
                groups.authentication.k8s.io "system:masters" is forbidden: User "joe" cannot impersonate:user-info resource "groups" in API group "authentication.k8s.io" at the cluster scope: impersonating the system:masters group is not allowed
                userextras.authentication.k8s.io is forbidden: User "joe" cannot impersonate:user-info resource "userextras" in API group "authentication.k8s.io" at the cluster scope: impersonating an invalid key in extra is not allowed: extra.key: Invalid value: "team": must be a domain-prefixed path (such as "acme.io/foo")
            legacy: ["a", "b", "c", "system:masters", "system:authenticated"]
                impersonate /users :jane
                impersonate /groups :a
                impersonate /groups :b
                impersonate /groups :c
                impersonate /groups :system:masters
                impersonate authentication.k8s.io/userextras/team :x
        "#]],
    );
    wanted.groups.pop();
    wanted.groups.push("d".to_owned());
    let shown = show(&wanted, User::new("joe", &[]));
    assert!(shown.contains("authentication.k8s.io/groups :*, or 4 others"));
}

#[test]
fn success_is_remembered_for_the_same_caller_and_request_only() {
    let node = User::new("system:node:n1", &[]);
    let keys = |wanted: &User, request: &Attributes, mode: Mode| {
        let all = attempts(wanted, request);
        let found = all.iter().find(|a| a.mode == mode).expect("a way");
        found.keys()
    };
    // An agent on every node is one caller.
    let on_one = keys(&node, &asking(bound("n1")), Mode::AssociatedNode);
    let other = User::new("system:node:n2", &[]);
    let on_two = keys(&other, &asking(bound("n2")), Mode::AssociatedNode);
    assert_eq!(on_one, on_two);
    assert!(on_one.is_some());

    let first = keys(&node, &asking(bound("n1")), Mode::ArbitraryNode).expect("keys");
    let mut request = asking(bound("n1"));
    request.name = "p".to_owned();
    let named = keys(&node, &request, Mode::ArbitraryNode).expect("keys");
    assert_ne!(first.0, named.0);
    assert_eq!(first.1, named.1);
    let second = keys(&other, &asking(bound("n1")), Mode::ArbitraryNode).expect("keys");
    assert!(first.0 != second.0 && first.1 != second.1);
    assert_eq!(keys(&node, &asking(bound("n1")), Mode::Legacy), None);
}
