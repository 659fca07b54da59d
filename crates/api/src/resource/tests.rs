use expect_test::expect;

use crate::kind::Part;
use crate::testing::{check, check_row, check_update, created, updated};

const CLAIM: &str = "
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: gpu, namespace: default}
spec:
  devices:
    requests:
    - {name: one, exactly: {deviceClassName: gpus}}
    - name: some
      firstAvailable: [{name: big, deviceClassName: gpus}, {name: small, deviceClassName: gpus, count: 2}]
";

fn with_status(status: &str) -> String {
    format!("{CLAIM}status:\n{status}")
}

const ALLOCATED: &str = "
  allocation:
    devices:
      results:
      - {request: one, driver: dra.example.com, pool: n1, device: gpu-0}
    nodeSelector:
      nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}]
";

#[test]
fn a_claim_asks_for_one_device_unless_it_says_more() {
    let claim = created(CLAIM);
    let requests = claim.at(&["spec", "devices", "requests"]).unwrap();
    assert_eq!(requests[0]["exactly"]["count"], 1);
    assert_eq!(requests[0]["exactly"]["allocationMode"], "ExactCount");
    assert_eq!(requests[1]["firstAvailable"][1]["count"], 2);
}

#[test]
fn what_is_wrong_with_a_claim_is_told() {
    check(
        r#"
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: gpu, namespace: default}
spec:
  devices:
    requests:
    - {name: one}
    - name: One
      exactly:
        deviceClassName: ""
        allocationMode: All
        count: 2
        adminAccess: true
        selectors: [{}, {cel: {expression: "device.driver == 1"}}, {cel: {expression: "device.driver"}}]
        tolerations: [{operator: Exists, value: a}, {}]
    - name: one
      exactly: {deviceClassName: gpus, allocationMode: Some}
    constraints:
    - {requests: [one, one, two, a/b/c], matchAttribute: model}
    - {}
    config:
    - requests: [two]
    - opaque: {driver: Dra_x, parameters: [1]}
"#,
        expect![[r#"
            spec.devices.requests[1].adminAccess: Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace
            spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required
            spec.devices.requests[1].name: Invalid value: "One": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.devices.requests[1].exactly.deviceClassName: Required value
            spec.devices.requests[1].exactly.selectors[0].cel: Required value
            spec.devices.requests[1].exactly.selectors[1].cel.expression: Invalid value: "device.driver == 1": compilation failed: ERROR: <input>:1:15: found no matching overload for '_==_' applied to '(string, int)'
             | device.driver == 1
             | ..............^
            spec.devices.requests[1].exactly.selectors[2].cel.expression: Invalid value: "device.driver": must evaluate to bool or the unknown type
            spec.devices.requests[1].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'
            spec.devices.requests[1].exactly.tolerations[0].value: Invalid value: "a": must be empty for operator `Exists`
            spec.devices.requests[2].exactly.allocationMode: Unsupported value: "Some": supported values: "All", "ExactCount"
            spec.devices.requests[2]: Duplicate value: "one"
            spec.devices.constraints[0].requests[2]: Invalid value: "two": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
            spec.devices.constraints[0].requests[3]: Invalid value: "a/b/c": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
            spec.devices.constraints[0].requests[1]: Duplicate value: "one"
            spec.devices.constraints[0].matchAttribute: Invalid value: "model": a fully qualified name must be a domain and a name separated by a slash
            spec.devices.constraints[1]: Required value: exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set
            spec.devices.config[0].requests[0]: Invalid value: "two": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
            spec.devices.config[0].opaque: Required value
            spec.devices.config[1].opaque.driver: Invalid value: "Dra_x": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.devices.config[1].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object
        "#]],
    );
}

#[test]
fn a_class_selects_by_expressions() {
    check(
        r#"
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: gpus}
spec:
  extendedResourceName: cpu
  selectors:
  - cel: {expression: 'device.driver == "dra.example.com" && device.attributes["dra.example.com"].family == "a"'}
  - cel: {expression: 'device.capacity["dra.example.com"].memory.compareTo(quantity("1Gi")) > 0'}
  - cel: {expression: 'nothing'}
"#,
        expect![[r#"
            spec.selectors[2].cel.expression: Invalid value: "nothing": compilation failed: ERROR: <input>:1:1: undeclared reference to 'nothing' (in container '')
             | nothing
             | ^
            spec.extendedResourceName: Invalid value: "cpu": a name must be a domain-prefixed path, such as 'example.com/my-prop'
        "#]],
    );
}

#[test]
fn the_specification_of_a_claim_never_changes() {
    let other = CLAIM.replace("count: 2", "count: 3");
    check_update(
        Part::Main,
        CLAIM,
        &other,
        expect![[r#"
            spec: Invalid value: null: field is immutable
        "#]],
    );
}

#[test]
fn a_claim_is_allocated_once() {
    check_update(Part::Status, CLAIM, &with_status(ALLOCATED), expect![[""]]);
    let moved = with_status(&ALLOCATED.replace("gpu-0", "gpu-1"));
    check_update(
        Part::Status,
        &with_status(ALLOCATED),
        &moved,
        expect![[r#"
            status.allocation: Invalid value: {"Devices":{"Results":[{"Request":"one","Driver":"dra.example.com","Pool":"n1","Device":"gpu-1","AdminAccess":null,"Tolerations":null,"BindingConditions":null,"BindingFailureConditions":null,"ShareID":null,"ConsumedCapacity":null,"SkipNodeOperations":null}],"Config":null},"NodeSelector":{"NodeSelectorTerms":[{"MatchExpressions":null,"MatchFields":[{"Key":"metadata.name","Operator":"In","Values":["n1"]}]}]},"AllocationTimestamp":null}: field is immutable
        "#]],
    );
    let wrong = with_status(
        "
  reservedFor: [{resource: pods, name: a, uid: u1}, {uid: u1}]
",
    );
    check_update(
        Part::Status,
        CLAIM,
        &wrong,
        expect![[r#"
        status.reservedFor[1].resource: Required value
        status.reservedFor[1].name: Required value
        status.reservedFor[1]: Duplicate value: "u1"
        status.reservedFor: Forbidden: may not be specified when `allocated` is not set
    "#]],
    );
    let unknown = with_status(&ALLOCATED.replace("request: one", "request: three"));
    check_update(
        Part::Status,
        CLAIM,
        &unknown,
        expect![[r#"
        status.allocation.devices.results[0].request: Invalid value: "three": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
    "#]],
    );
}

#[test]
fn drivers_write_the_state_of_their_own_devices_only() {
    let old = with_status(ALLOCATED);
    let own = format!(
        "{old}
  devices:
  - driver: dra.example.com
    pool: n1
    device: gpu-0
    networkData: {{ips: [10.0.0.1/24, 10.0.0.1]}}
"
    );
    check_update(
        Part::Status,
        &old,
        &own,
        expect![[r#"
        status.devices[0].networkData.ips[1]: Invalid value: "10.0.0.1": must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)
    "#]],
    );
    let foreign = own.replace("- driver: dra.example.com", "- driver: other.example.com");
    check_update(
        Part::Status,
        &old,
        &foreign,
        expect![[r#"
        status.devices: Forbidden: changing status.devices requires resource="resourceclaims/driver", verb="[arbitrary-node:update]" permission: no arbitrary-node:update of driver other.example.com
        status.devices[0]: Invalid value: {"Driver":"other.example.com","Pool":"n1","Device":"gpu-0","ShareID":""}: must be an allocated device in the claim
        status.devices[0].networkData.ips[1]: Invalid value: "10.0.0.1": must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)
    "#]],
    );
}

#[test]
fn the_state_of_a_device_goes_with_its_allocation() {
    let old = format!(
        "{}
  devices:
  - {{driver: dra.example.com, pool: n1, device: gpu-0}}
",
        with_status(ALLOCATED)
    );
    let old = crate::testing::object(&old);
    let new = with_status(
        "
  devices:
  - {driver: dra.example.com, pool: n1, device: gpu-0}
",
    );
    let (new, errors) = updated(Part::Status, &old, &new);
    assert_eq!(errors, "");
    assert_eq!(new.at(&["status", "devices"]), None);
}

#[test]
fn rows_show_the_state_of_claims_and_where_slices_are() {
    check_row(CLAIM, expect!["gpu | pending | <unknown>"]);
    let reserved = format!(
        "{}  reservedFor: [{{resource: pods, name: a, uid: u1}}]\n",
        with_status(ALLOCATED)
    );
    check_row(&reserved, expect!["gpu | allocated,reserved | <unknown>"]);
    check_row(SLICE, expect!["s | n1 | dra.example.com | n1 | <unknown>"]);
}

const SLICE: &str = "
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: s}
spec:
  driver: dra.example.com
  nodeName: n1
  pool: {name: n1, generation: 1, resourceSliceCount: 1}
  devices:
  - name: gpu-0
    attributes: {model: {string: a}, dra.example.com/version: {version: 1.2.3}}
    capacity: {memory: {value: 1Gi}}
";

#[test]
fn a_slice_stays_with_its_node_driver_and_pool() {
    let other = SLICE
        .replace("nodeName: n1", "nodeName: n2")
        .replace("{name: n1,", "{name: n2,");
    check_update(
        Part::Main,
        SLICE,
        &other,
        expect![[r#"
        spec.pool.name: Invalid value: "n2": field is immutable
        spec.nodeName: Invalid value: "n2": field is immutable
    "#]],
    );
}

#[test]
fn what_is_wrong_with_a_slice_is_told() {
    check(
        "
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: s}
spec:
  driver: ''
  nodeName: n1
  allNodes: true
  pool: {name: a//b, generation: -1, resourceSliceCount: 0}
  sharedCounters: [{name: a, counters: {}}]
  devices:
  - name: gpu_0
    nodeName: n1
    attributes: {1x: {string: a}, v: {version: '1'}, none: {}}
    taints: [{key: a, effect: Never}]
    bindingConditions: [a, a]
    consumesCounters: [{counterSet: '', counters: {a: {value: 1}}}]
    capacity:
      memory: {value: 1Gi, requestPolicy: {default: 1}}
  - name: gpu-1
    allowMultipleAllocations: true
    capacity:
      list: {value: 10, requestPolicy: {default: 3, validValues: [4, 2, 20]}}
      range: {value: 10, requestPolicy: {default: 3, validRange: {min: 2, max: 11, step: 2}}}
",
        expect![[r#"
            spec.driver: Required value
            spec.pool.name: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero
            spec.pool.generation: Invalid value: -1: must be greater than or equal to zero
            spec: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set
            spec: Invalid value: "": only one of `sharedCounters` or `devices` is allowed
            spec.devices[0].name: Invalid value: "gpu_0": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.devices[0].attributes: Invalid value: "1x": a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')
            spec.devices[0].attributes[none]: Invalid value: "": exactly one value must be specified
            spec.devices[0].attributes[v].version: Invalid value: "1": must be a string compatible with semver.org spec 2.0.0
            spec.devices[0].capacity[memory].requestPolicy: Forbidden: allowMultipleAllocations must be true
            spec.devices[0].taints[0].effect: Unsupported value: "Never": supported values: "NoExecute", "NoSchedule", "None"
            spec.devices[0].consumesCounters[0].counterSet: Required value
            spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec
            spec.devices[0].bindingConditions[1]: Duplicate value: "a"
            spec.devices[0].bindingFailureConditions: Invalid value: []: bindingFailureConditions are required to use bindingConditions
            spec.devices[1].capacity[list].requestPolicy.validValues[1]: Invalid value: "2": values must be sorted in ascending order
            spec.devices[1].capacity[list].requestPolicy.validValues[2]: Invalid value: "20": option is larger than capacity value: 10
            spec.devices[1].capacity[list].requestPolicy.validValues: Invalid value: "3": default value is not valid according to the requestPolicy
            spec.devices[1].capacity[range].requestPolicy.validRange.max: Invalid value: "11": max is larger than capacity value: 10
            spec.devices[1].capacity[range].requestPolicy.validRange.step: Invalid value: "3": value is not a multiple of a given step (2) from (2)
            spec.devices[1].capacity[range].requestPolicy.validRange.step: Invalid value: "11": value is not a multiple of a given step (2) from (2)
            spec.sharedCounters[0].counters: Required value
        "#]],
    );
}

#[test]
fn the_time_of_a_taint_follows_its_effect() {
    let rule = "
apiVersion: resource.k8s.io/v1
kind: DeviceTaintRule
metadata: {name: r}
spec:
  taint: {key: a, effect: None, timeAdded: '2020-01-01T00:00:00Z'}
";
    let old = created(rule);
    let (new, errors) = updated(Part::Main, &old, &rule.replace("None", "NoExecute"));
    assert_eq!(errors, "");
    let added = new.str_at(&["spec", "taint", "timeAdded"]);
    assert_eq!(added, crate::testing::NOW);
}
