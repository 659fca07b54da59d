use expect_test::expect;

use crate::kind::Part;
use crate::testing::{check, check_row, check_update};

fn node(fields: &str) -> String {
    format!("{{apiVersion: v1, kind: Node, metadata: {{name: node-1}}, {fields}}}")
}

#[test]
fn taints_addresses_and_amounts_are_looked_at() {
    check(
        &node(
            "spec: {podCIDRs: [10.0.0.0/24, 10.0.1.0/33],
                    taints: [{key: 'a b', value: '-', effect: ''}, {key: a, effect: Never},
                             {key: b, effect: NoExecute}, {key: b, effect: NoExecute}]},
             status: {capacity: {cpu: -1, example.com/gpu: 100m, pods: 1.5}}",
        ),
        expect![[r#"
            metadata.taints[0].key: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            metadata.taints[0].value: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            metadata.taints[0].effect: Required value
            metadata.taints[1].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
            metadata.taints[3]: Duplicate value: {"effect":"NoExecute","key":"b"}: taints must be unique by key and effect pair
            status.capacity.cpu: Invalid value: "-1": must be greater than or equal to 0
            status.capacity.example.com/gpu: Invalid value: "100m": must be an integer
            status.capacity.pods: Invalid value: "1500m": must be an integer
            status.allocatable.cpu: Invalid value: "-1": must be greater than or equal to 0
            status.allocatable.example.com/gpu: Invalid value: "100m": must be an integer
            status.allocatable.pods: Invalid value: "1500m": must be an integer
            spec.podCIDRs[1]: Invalid value: "10.0.1.0/33": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
            spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.0.1.0/33"]: may specify no more than one CIDR for each IP family
        "#]],
    );
}

#[test]
fn some_fields_are_set_once() {
    let old = node("spec: {podCIDR: 10.0.0.0/24, podCIDRs: [10.0.0.0/24], providerID: a://b}");
    let new = "spec: {podCIDR: 10.0.1.0/24, podCIDRs: [10.0.1.0/24], providerID: a://c}";
    check_update(
        Part::Main,
        &old,
        &node(new),
        expect![[r#"
        spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid
        spec.providerID: Invalid value: null: field cannot be modified once set
    "#]],
    );
    check_update(
        Part::Main,
        &old,
        &node("spec: {podCIDRs: [10.0.0.0/24]}"),
        expect![[r#"
            spec.providerID: Invalid value: null: field cannot be cleared once set
        "#]],
    );
    let addresses = "{type: InternalIP, address: 1.1.1.1}, {type: InternalIP, address: 1.1.1.1}";
    let twice = node(&format!("status: {{addresses: [{addresses}]}}"));
    check_update(
        Part::Status,
        &node("status: {}"),
        &twice,
        expect![[r#"
            status.addresses[1]: Duplicate value: {"Type":"InternalIP","Address":"1.1.1.1"}
        "#]],
    );
}

#[test]
fn rows_show_roles_and_versions() {
    check_row(
        &node("spec: {unschedulable: true}"),
        expect![
            "node-1 | Unknown,SchedulingDisabled | <none> | <unknown> |  | <none> | <none> | <unknown> | <unknown> | <unknown>"
        ],
    );
    let full = node(
        "spec: {}, status: {conditions: [{type: Ready, status: 'True'}],
           addresses: [{type: Hostname, address: h}, {type: InternalIP, address: 10.0.0.2}],
           nodeInfo: {kubeletVersion: v1.37.0, osImage: Debian GNU/Linux 13, kernelVersion: 6.12.0,
                      containerRuntimeVersion: oxikube://0.1.0, architecture: amd64}}",
    );
    let labels = "name: node-1, labels: {node-role.kubernetes.io/control-plane: '', kubernetes.io/role: worker}";
    check_row(
        &full.replace("name: node-1", labels),
        expect![
            "node-1 | Ready | control-plane,worker | <unknown> | v1.37.0 | 10.0.0.2 | <none> | Debian GNU/Linux 13 | 6.12.0 (amd64) | oxikube://0.1.0"
        ],
    );
    check_row(
        &node("status: {conditions: [{type: Ready, status: Unknown}]}"),
        expect![
            "node-1 | NotReady | <none> | <unknown> |  | <none> | <none> | <unknown> | <unknown> | <unknown>"
        ],
    );
}
