//! The small kinds of the core group.

use expect_test::expect;

use crate::kind::Part;
use crate::testing::{check, check_row, check_update, context, created, kind_of, object};

#[test]
fn namespaces_are_labels_and_keep_their_finalizer() {
    check(
        "{apiVersion: v1, kind: Namespace, metadata: {name: a.b}, spec: {finalizers: [mine]}}",
        expect![[r#"
            metadata.name: Invalid value: "a.b": must not contain dots
            spec.finalizers: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified
        "#]],
    );
    let namespace =
        "{apiVersion: v1, kind: Namespace, metadata: {name: a}, status: {phase: Terminating}}";
    check_update(
        Part::Status,
        namespace,
        namespace,
        expect![[r#"
        status.Phase: Invalid value: "Terminating": may only be 'Active' if `deletionTimestamp` is empty
    "#]],
    );
    let finalized =
        "{apiVersion: v1, kind: Namespace, metadata: {name: a}, spec: {finalizers: [x!]}}";
    check_update(
        Part::Finalize,
        namespace,
        finalized,
        expect![[r#"
        spec.finalizers[0]: Invalid value: "x!": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.finalizers[0]: Invalid value: "x!": name is neither a standard finalizer name nor is it fully qualified
    "#]],
    );
    // Only the sub-resource takes finalizers away.
    let old = created(namespace);
    let mut new = object(namespace);
    kind_of(&new).prepare_update(&context(), Part::Main, &mut new, &old);
    assert_eq!(
        new.at(&["spec", "finalizers"]),
        old.at(&["spec", "finalizers"])
    );
    check_row(namespace, expect!["a | Terminating | <unknown>"]);
}

#[test]
fn config_maps_have_keys_and_a_size() {
    check(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: b},
          data: {'a b': c, d: e, ..: x}, binaryData: {d: aGk=}}",
        expect![[r#"
            data[..]: Invalid value: "..": must not be '..'
            data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
            data[d]: Invalid value: "d": duplicate of key present in binaryData
        "#]],
    );
    let big = "x".repeat(1024 * 1024 + 1);
    let big = format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: a, namespace: b}}, data: {{k: {big}}}}}"
    );
    check(
        &big,
        expect![[r#"
            []: Too long: may not be more than 1048576 bytes
        "#]],
    );
    let fixed = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: b}, immutable: true, data: {k: v}}";
    let changed = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: b}, data: {k: w}, binaryData: {x: aGk=}}";
    check_update(
        Part::Main,
        fixed,
        changed,
        expect![[r#"
        immutable: Forbidden: field is immutable when `immutable` is set
        data: Forbidden: field is immutable when `immutable` is set
        binaryData: Forbidden: field is immutable when `immutable` is set
    "#]],
    );
    check_row(fixed, expect!["a | 1 | <unknown>"]);
}

#[test]
fn secrets_hold_what_their_type_needs() {
    let secret = |fields: &str| {
        format!("{{apiVersion: v1, kind: Secret, metadata: {{name: a, namespace: b}}, {fields}}}")
    };
    check(
        &secret("type: kubernetes.io/service-account-token"),
        expect![[r#"
            metadata.annotations[kubernetes.io/service-account.name]: Required value
        "#]],
    );
    check(
        &secret("type: kubernetes.io/dockerconfigjson"),
        expect![[r#"
            data[.dockerconfigjson]: Required value
        "#]],
    );
    check(
        &secret("type: kubernetes.io/dockercfg, stringData: {.dockercfg: 'secret!'}"),
        expect![[r#"
            data[.dockercfg]: Invalid value: "<secret contents redacted>": invalid character 's' looking for beginning of value
        "#]],
    );
    check(
        &secret("type: kubernetes.io/basic-auth"),
        expect![[r#"
        data[username]: Required value
        data[password]: Required value
    "#]],
    );
    check(
        &secret("type: kubernetes.io/ssh-auth, stringData: {ssh-privatekey: ''}"),
        expect![[r#"
            data[ssh-privatekey]: Required value
        "#]],
    );
    check(
        &secret("type: kubernetes.io/tls, stringData: {tls.crt: x, 'a b': c}"),
        expect![[r#"
            data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
            data[tls.key]: Required value
        "#]],
    );
    let fixed = secret("immutable: true, stringData: {k: v}");
    check_update(
        Part::Main,
        &fixed,
        &secret("type: Other, stringData: {k: w}"),
        expect![[r#"
            type: Invalid value: "Other": field is immutable
            immutable: Forbidden: field is immutable when `immutable` is set
            data: Forbidden: field is immutable when `immutable` is set
        "#]],
    );
    check_row(
        &secret("type: Opaque, data: {a: aGk=, b: aGk=}"),
        expect!["a | Opaque | 2 | <unknown>"],
    );
}

#[test]
fn endpoints_have_addresses_of_their_own() {
    let endpoints = |subsets: &str| {
        format!(
            "{{apiVersion: v1, kind: Endpoints, metadata: {{name: a, namespace: b}}, subsets: [{subsets}]}}"
        )
    };
    check(
        &endpoints(
            "{ports: [{port: 80}, {port: 0, name: A, protocol: X, appProtocol: 'a b'}]},
             {addresses: [{ip: 127.0.0.1}, {ip: 169.254.169.254}, {ip: 224.0.0.1}, {ip: '::ffff:127.0.0.1'},
               {ip: x, hostname: A, nodeName: B_}]}",
        ),
        expect![[r#"
            subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`
            subsets[0].ports[0].name: Required value
            subsets[0].ports[1].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            subsets[0].ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive
            subsets[0].ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"
            subsets[0].ports[1].appProtocol: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            subsets[1].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            subsets[1].addresses[1].ip: Invalid value: "169.254.169.254": may not be in the link-local range (169.254.0.0/16, fe80::/10)
            subsets[1].addresses[2].ip: Invalid value: "224.0.0.1": may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)
            subsets[1].addresses[3].ip: Invalid value: "::ffff:127.0.0.1": must not be an IPv4-mapped IPv6 address
            subsets[1].addresses[3].ip: Invalid value: "::ffff:127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            subsets[1].addresses[4].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            subsets[1].addresses[4].hostname: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            subsets[1].addresses[4].nodeName: Invalid value: "B_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            subsets[1].addresses[4].ip: Invalid value: "x": must be a valid IP address
        "#]],
    );
    // What is stored may stay.
    let old = endpoints("{addresses: [{ip: 127.0.0.1}]}");
    check_update(Part::Main, &old, &old, expect![[""]]);
    let many = "{addresses: [{ip: 10.0.0.1}, {ip: 10.0.0.2}], ports: [{port: 80}, {port: 81}]}";
    check_row(
        &endpoints(many),
        expect!["a | 10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more... | <unknown>"],
    );
    check_row(
        &endpoints("{addresses: [{ip: 'fd00::1'}], ports: [{port: 80}]}"),
        expect!["a | [fd00::1]:80 | <unknown>"],
    );
    check_row(&endpoints(""), expect!["a | <none> | <unknown>"]);
}

#[test]
fn replication_controllers_select_their_own_pods() {
    let controller = |spec: &str| {
        format!(
            "{{apiVersion: v1, kind: ReplicationController, metadata: {{name: a, namespace: b}}, spec: {{{spec}}}}}"
        )
    };
    let template =
        "template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: d}]}}";
    check(
        &controller("replicas: -1"),
        expect![[r#"
        spec.selector: Required value
        spec.replicas: Invalid value: -1: must be greater than or equal to 0
        spec.template: Required value
    "#]],
    );
    check(
        &controller(&format!(
            "selector: {{a: c}}, minReadySeconds: -1, {template}"
        )),
        expect![[r#"
            spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0
            spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`
        "#]],
    );
    let once = template.replace(
        "spec: {",
        "spec: {restartPolicy: Never, activeDeadlineSeconds: 5, ",
    );
    check(
        &controller(&once),
        expect![[r#"
        spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
        spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicationController is not Supported
    "#]],
    );
    let with = |status: &str| {
        let base = controller(template);
        format!("{}, status: {{{status}}}}}", &base[..base.len() - 1])
    };
    check_update(
        Part::Status,
        &with("replicas: 1"),
        &with("replicas: 1, readyReplicas: 2, availableReplicas: 3, fullyLabeledReplicas: -1"),
        expect![[r#"
            status.fullyLabeledReplicas: Invalid value: -1: must be greater than or equal to 0
            status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas
            status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas
            status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas
        "#]],
    );
    check_row(
        &controller(&format!("replicas: 2, selector: {{a: b}}, {template}")),
        expect!["a | 2 | 0 | 0 | <unknown> | c | d | a=b"],
    );
}

#[test]
fn events_agree_about_their_namespace() {
    let event = |fields: &str| {
        format!("{{apiVersion: v1, kind: Event, metadata: {{name: a, namespace: b}}, {fields}}}")
    };
    check(
        &event("involvedObject: {namespace: c}"),
        expect![[r#"
        involvedObject.namespace: Invalid value: "c": does not match event.namespace
    "#]],
    );
    check(
        &event(
            "involvedObject: {namespace: b}, eventTime: '2026-01-01T00:00:00.000000Z', reason: ''",
        ),
        expect![[r#"
            reportingComponent: Required value
            reportingComponent: Invalid value: "": name part must be non-empty
            reportingComponent: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            reportingInstance: Required value
            action: Required value
            reason: Required value
        "#]],
    );
    let strict = |fields: &str| {
        format!(
            "{{apiVersion: events.k8s.io/v1, kind: Event, metadata: {{name: a, namespace: b}}, {fields}}}"
        )
    };
    check(
        &strict(
            "regarding: {namespace: b}, deprecatedCount: 2, deprecatedSource: {host: x}, type: Odd, series: {count: 1, lastObservedTime: '2026-01-01T00:00:00.000000Z'}",
        ),
        expect![[r#"
            series.count: Invalid value: "": should be at least 2
            eventTime: Required value
            type: Invalid value: "": has invalid value: Odd
            count: Invalid value: "": needs to be unset
            source: Invalid value: "": needs to be unset
        "#]],
    );
    let good = "regarding: {namespace: b, name: p, kind: Pod}, eventTime: '2026-01-02T03:00:05.000000Z', type: Normal,
                reportingController: kubelet, reportingInstance: n1, action: Start, reason: Started, note: hello";
    let other = good.replace(
        "note: hello",
        "note: bye, series: {count: 3, lastObservedTime: '2026-01-02T03:04:00.000000Z'}",
    );
    check_update(
        Part::Main,
        &strict(good),
        &strict(&other),
        expect![[r#"
        message: Invalid value: "bye": field is immutable
    "#]],
    );
    check_row(
        &strict(&other),
        expect!["5s | Normal | Started | pod/p |  | kubelet, n1 | bye | 4m | 3 | a"],
    );
    check_row(
        &event("involvedObject: {kind: Pod, name: p}, type: Warning, reason: BackOff, message: ' x ', count: 4,
                source: {component: kubelet, host: n1}, firstTimestamp: '2026-01-02T02:04:05Z',
                lastTimestamp: '2026-01-02T03:03:05Z'"),
        expect!["60s | Warning | BackOff | pod/p |  | kubelet, n1 | x | 60m | 4 | a"],
    );
    // The two forms of one stored object.
    let mut stored = created(&strict(good));
    let kind = kind_of(&stored);
    let shown = stored.clone();
    kind.to_stored(&mut stored);
    assert_eq!(stored.str_at(&["involvedObject", "name"]), "p");
    assert_eq!(stored.str_at(&["message"]), "hello");
    assert_eq!(kind_of(&stored).names().group, "");
    kind.from_stored(&mut stored);
    assert_eq!(stored, shown);
}

#[test]
fn bindings_name_a_node() {
    check(
        "{apiVersion: v1, kind: Binding, target: {kind: Pod}}",
        expect![[r#"
            target.kind: Unsupported value: "Pod": supported values: "Node", "<empty>"
            target.name: Required value
        "#]],
    );
    check(
        "{apiVersion: v1, kind: Binding, target: {name: N_}}",
        expect![[r#"
            target.name: Invalid value: "N_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        "#]],
    );
}
