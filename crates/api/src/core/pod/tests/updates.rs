//! What may change of a pod.

use expect_test::expect;

use super::*;

#[test]
fn ephemeral_containers_come_later_and_only_more_of_them() {
    let debug = "ephemeralContainers: [{name: debug, image: busybox, ports: [{containerPort: 1}]}]";
    check(
        &pod(debug),
        expect![[r#"
        spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container
        spec.ephemeralContainers: Forbidden: cannot be set on create
    "#]],
    );
    let part = Part::EphemeralContainers;
    let one = "ephemeralContainers: [{name: debug, image: busybox, targetContainerName: gone}]";
    check_update(
        part,
        &pod(""),
        &pod(one),
        expect![[r#"
        spec.ephemeralContainers[0].targetContainerName: Not found: "gone"
    "#]],
    );
    let old = updated(
        part,
        &created(&pod("")),
        &pod("ephemeralContainers: [{name: d, image: a}]"),
    )
    .0;
    let changed = updated(
        part,
        &old,
        &pod("ephemeralContainers: [{name: d, image: b}]"),
    )
    .1;
    expect![[r#"
        spec.ephemeralContainers: Forbidden: existing ephemeral containers "d" may not be changed
        @@ -1,6 +1,6 @@
         {
          "Name": "d",
        - "Image": "a",
        + "Image": "b",
          "Command": null,
          "Args": null,
          "WorkingDir": "",

    "#]]
    .assert_eq(&changed);
    let removed = updated(part, &old, &pod("")).1;
    expect![[r#"
        spec.ephemeralContainers: Forbidden: existing ephemeral containers "d" may not be removed

    "#]]
    .assert_eq(&removed);
    // Through this door nothing else changes.
    let kept = updated(
        part,
        &old,
        &pod("priority: 5, ephemeralContainers: [{name: d, image: a}]"),
    );
    assert_eq!(kept.1, "");
    assert_eq!(kept.0.at(&["spec", "priority"]), None);
}

#[test]
fn few_fields_of_a_pod_may_change() {
    let old = pod("tolerations: [{key: a, operator: Exists}], terminationGracePeriodSeconds: 5");
    check_update(
        Part::Main,
        &old,
        &pod(
            " containers: [{name: web, image: 'nginx:2'}], activeDeadlineSeconds: 10,
               tolerations: [{key: a, operator: Exists}, {key: b, operator: Exists}],
               terminationGracePeriodSeconds: 5",
        ),
        expect![[r#"
            spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
            @@ -27,7 +27,7 @@
                "Lifecycle": null,
                "TerminationMessagePath": "/dev/termination-log",
                "TerminationMessagePolicy": "File",
            -   "ImagePullPolicy": "Always",
            +   "ImagePullPolicy": "IfNotPresent",
                "SecurityContext": null,
                "Stdin": false,
                "StdinOnce": false,

        "#]],
    );
    check_update(
        Part::Main,
        &old,
        &pod("terminationGracePeriodSeconds: 6"),
        expect![[r#"
            spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds
            spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
            @@ -36,7 +36,7 @@
              ],
              "EphemeralContainers": null,
              "RestartPolicy": "Always",
            - "TerminationGracePeriodSeconds": 5,
            + "TerminationGracePeriodSeconds": 6,
              "ActiveDeadlineSeconds": null,
              "DNSPolicy": "ClusterFirst",
              "NodeSelector": null,

        "#]],
    );
    check_update(
        Part::Main,
        &old,
        &pod(" containers: [{name: web, image: nginx}, {name: b, image: c}]"),
        expect![[r#"
            spec.containers: Forbidden: pod updates may not add or remove containers
        "#]],
    );
    let gated = pod("schedulingGates: [{name: a}], nodeSelector: {x: 'y'}");
    let more = pod("schedulingGates: [{name: b}], nodeSelector: {x: z}");
    check_update(
        Part::Main,
        &gated,
        &more,
        expect![[r#"
        spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'b'
        spec.nodeSelector: Invalid value: {"x":"z"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)
    "#]],
    );
    let open = pod("schedulingGates: [], nodeSelector: {x: 'y', v: w}");
    check_update(Part::Main, &gated, &open, expect![[""]]);
}

#[test]
fn a_resize_changes_compute_resources_only() {
    let old = container("resources: {requests: {cpu: 1, ephemeral-storage: 1Gi}}");
    let part = Part::Resize;
    let more = container("resources: {requests: {cpu: 2, ephemeral-storage: 1Gi}}");
    check_update(part, &old, &more, expect![[""]]);
    let other = container("resources: {requests: {cpu: 2, ephemeral-storage: 2Gi}}");
    check_update(
        part,
        &old,
        &other,
        expect![[r#"
        spec: Forbidden: only cpu and memory resources are mutable
    "#]],
    );
    check_update(
        part,
        &old,
        &container("resources: {}"),
        expect![[r#"
        spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing
        spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed
        spec: Forbidden: only cpu and memory resources are mutable
    "#]],
    );
    let all = container("resources: {requests: {cpu: 1}, limits: {cpu: 1, memory: 1Gi}}");
    check_update(
        part,
        &container("resources: {requests: {cpu: 1}, limits: {cpu: 1}}"),
        &all,
        expect![[r#"
            spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing
        "#]],
    );
}

#[test]
fn a_status_write_makes_sense() {
    let ended = "qosClass: BestEffort, containerStatuses: [{name: web, state: {terminated: {exitCode: 0}}}]";
    let runs = "qosClass: Burstable, containerStatuses: [{name: web, state: {running: {}}}],
                podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.2}, {ip: 10.0.0.3}], hostIP: a, hostIPs: [{ip: b}],
                nominatedNodeName: N_, observedGeneration: -1, conditions: [{type: 'a b', status: 'True'}]";
    let (never, always) = ("restartPolicy: Never", "restartPolicy: Always");
    check_update(
        Part::Status,
        &with_status(never, ended),
        &with_status(never, runs),
        expect![[r#"
            status.conditions[0].Type: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            status.nominatedNodeName: Invalid value: "N_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            status.observedGeneration: Invalid value: -1: must be a non-negative integer
            status.qosClass: Invalid value: "Burstable": field is immutable
            status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state
            status.hostIPs[0].ip: Invalid value: "b": must be equal to `hostIP`
            status.hostIPs[0]: Invalid value: "b": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        "#]],
    );
    let again = "containerStatuses: [{name: web, state: {running: {}}}]";
    check_update(
        Part::Status,
        &with_status(always, ended),
        &with_status(always, again),
        expect![[""]],
    );
}
