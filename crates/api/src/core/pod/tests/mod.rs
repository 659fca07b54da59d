use expect_test::expect;
use machinery::Object;

use super::*;
use crate::testing::{check, check_row, check_update, created, object, updated};

mod updates;
mod validation;

/// A pod whose specification is this YAML, in flow style, with a container when it gives none.
fn pod(spec: &str) -> String {
    let containers = match spec.contains("containers: [") && !spec.contains("initContainers: [{")
        || spec.contains(" containers: [")
    {
        true => String::new(),
        false => "containers: [{name: web, image: nginx}], ".to_owned(),
    };
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: web-0, namespace: default}}, \
         spec: {{{containers}{spec}}}}}"
    )
}

/// A pod of one container with these fields more.
fn container(fields: &str) -> String {
    pod(&format!(
        " containers: [{{name: web, image: nginx, {fields}}}]"
    ))
}

/// A pod with this status.
fn with_status(spec: &str, status: &str) -> String {
    let pod = pod(spec);
    format!("{}, status: {{{status}}}}}", &pod[..pod.len() - 1])
}

#[test]
fn the_class_follows_requests_and_limits() {
    let class = |fields: &str| {
        created(&container(fields))
            .str_at(&["status", "qosClass"])
            .to_owned()
    };
    assert_eq!(class(""), "BestEffort");
    assert_eq!(class("resources: {requests: {cpu: 1}}"), "Burstable");
    assert_eq!(
        class("resources: {limits: {cpu: 1, memory: 1Gi}}"),
        "Guaranteed"
    );
    assert_eq!(
        class("resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 500m}}"),
        "Burstable"
    );
    assert_eq!(class("resources: {limits: {cpu: 1}}"), "Burstable");
}

#[test]
fn defaults_fill_what_is_unset() {
    let pod = created(&pod(
        " containers: [{name: web, image: 'registry:5000/web@sha256:abc', ports: [{containerPort: 80}],
            livenessProbe: {httpGet: {port: 80}}, resources: {limits: {cpu: 0.1, memory: 1024Mi}},
            env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}},
                  {name: B, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]}],
          hostNetwork: true, serviceAccount: old,
          volumes: [{name: a}, {name: b, hostPath: {path: /x}}, {name: c, projected: {sources: [
            {serviceAccountToken: {path: t}}, {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]}}]",
    ));
    let spec = pod.0.get("spec").unwrap();
    expect![[r#"
        containers:
        - env:
          - name: A
            valueFrom:
              fieldRef:
                apiVersion: v1
                fieldPath: metadata.name
          - name: B
            valueFrom:
              resourceFieldRef:
                divisor: "0"
                resource: limits.cpu
          image: registry:5000/web@sha256:abc
          imagePullPolicy: IfNotPresent
          livenessProbe:
            failureThreshold: 3
            httpGet:
              path: /
              port: 80
              scheme: HTTP
            periodSeconds: 10
            successThreshold: 1
            timeoutSeconds: 1
          name: web
          ports:
          - containerPort: 80
            hostPort: 80
            protocol: TCP
          resources:
            limits:
              cpu: 100m
              memory: 1Gi
            requests:
              cpu: 100m
              memory: 1Gi
          terminationMessagePath: /dev/termination-log
          terminationMessagePolicy: File
        dnsPolicy: ClusterFirst
        enableServiceLinks: true
        hostNetwork: true
        restartPolicy: Always
        schedulerName: default-scheduler
        securityContext: {}
        serviceAccount: old
        serviceAccountName: old
        terminationGracePeriodSeconds: 30
        volumes:
        - emptyDir: {}
          name: a
        - hostPath:
            path: /x
            type: ""
          name: b
        - name: c
          projected:
            defaultMode: 420
            sources:
            - serviceAccountToken:
                expirationSeconds: 3600
                path: t
            - downwardAPI:
                items:
                - fieldRef:
                    apiVersion: v1
                    fieldPath: metadata.name
                  path: name
    "#]]
    .assert_eq(&machinery::codec::encode_yaml(spec).unwrap());
}

#[test]
fn what_may_move_is_always_pulled() {
    let always = [
        "nginx",
        "nginx:latest",
        "localhost:5000/a__b/c-d.e",
        "[::1]:5000/a:latest",
        "a.b/c",
    ];
    for image in always {
        assert_eq!(defaults::pull_policy(image), "Always", "{image}");
    }
    let digest = format!("nginx@sha256:{}", "0".repeat(64));
    for image in [
        "nginx:1",
        "a:5000/b:1",
        "",
        "Nginx",
        "a//b",
        "-a",
        "a..b",
        &digest,
    ] {
        assert_eq!(defaults::pull_policy(image), "IfNotPresent", "{image}");
    }
}

#[test]
fn a_pod_with_limits_of_its_own_gets_requests() {
    let pod = |more: &str| {
        let pod = created(&pod(&format!(
            " containers: [{{name: a, image: b, resources: {{requests: {{cpu: 1}}}}}}, {{name: c, image: d}}],
              initContainers: [{{name: i, image: b, resources: {{requests: {{cpu: 3}}}}}}],
              resources: {{{more}}}"
        )));
        (
            pod.at(&["spec", "resources"]).unwrap().to_string(),
            pod.str_at(&["status", "qosClass"]).to_owned(),
        )
    };
    expect![[r#"("{\"limits\":{\"cpu\":\"4\",\"memory\":\"1Gi\"},\"requests\":{\"cpu\":\"3\",\"memory\":\"1Gi\"}}", "Burstable")"#]].assert_eq(&format!("{:?}", pod("limits: {cpu: 4, memory: 1Gi}")));
    expect![[r#"("{\"requests\":{\"cpu\":\"4\"}}", "Burstable")"#]]
        .assert_eq(&format!("{:?}", pod("requests: {cpu: 4}")));
}

#[test]
fn fields_behind_closed_gates_are_dropped() {
    let pod = created(&pod(
        " containers: [{name: a, image: b, lifecycle: {stopSignal: SIGHUP, preStop: {httpGet: {port: 1, protocol: HTTP2}}},
             volumeMounts: [{name: v, mountPath: /v, bindMountOptions: [noexec]}]}],
          volumes: [{name: v, emptyDir: {mode: 448}}, {name: w, secret: {secretName: s, defaultUser: 1, items: [{key: a, path: b, user: 2}]}}],
          evictionResponders: []",
    ));
    let text = serde_json::to_string(&pod.into_value()).unwrap();
    for gone in [
        "stopSignal",
        "protocol",
        "bindMountOptions",
        "mode\":",
        "User",
        "user",
        "eviction",
    ] {
        assert!(!text.contains(gone), "{gone}: {text}");
    }
}

#[test]
fn label_keys_become_part_of_selectors() {
    let mut pod = object(&pod(
        "topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule,
           matchLabelKeys: [hash], labelSelector: {matchLabels: {app: web}}}]",
    ));
    pod.object_at_mut(&["metadata", "labels"])
        .insert("hash".into(), "abc".into());
    Pod::prepare_create(&crate::testing::context(), &mut pod);
    let constraints = pod.at(&["spec", "topologySpreadConstraints"]).unwrap();
    expect![[r#"[{"labelSelector":{"matchExpressions":[{"key":"hash","operator":"In","values":["abc"]}],"matchLabels":{"app":"web"}},"matchLabelKeys":["hash"],"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule"}]"#]].assert_eq(&constraints.to_string());
}

#[test]
fn a_delete_waits_only_for_what_runs() {
    let grace = |yaml: &str, requested| Pod::grace_period(&object(yaml), requested);
    let bound = pod("nodeName: a, terminationGracePeriodSeconds: 30");
    assert_eq!(grace(&bound, None), Some(30));
    assert_eq!(grace(&bound, Some(5)), Some(5));
    assert_eq!(grace(&bound, Some(-5)), Some(1));
    assert_eq!(
        grace(&pod("terminationGracePeriodSeconds: 30"), Some(5)),
        Some(0)
    );
    let ended = with_status(
        "nodeName: a, terminationGracePeriodSeconds: 30",
        "phase: Succeeded",
    );
    assert_eq!(grace(&ended, None), Some(0));
}

#[test]
fn rows_say_what_the_pod_is_doing() {
    let row =
        |status: &str, expected| check_row(&with_status("nodeName: node-1", status), expected);
    row(
        "phase: Pending",
        expect!["web-0 | 0/1 | Pending | 0 | <unknown> | <none> | node-1 | <none> | <none>"],
    );
    row(
        "phase: Running, podIPs: [{ip: 10.1.0.5}], conditions: [{type: Ready, status: 'True'}],
         containerStatuses: [{name: web, ready: true, restartCount: 2, state: {running: {}},
           lastState: {terminated: {exitCode: 1, finishedAt: '2026-01-02T02:59:05Z'}}}]",
        expect![
            "web-0 | 1/1 | Running | 2 (5m ago) | <unknown> | 10.1.0.5 | node-1 | <none> | <none>"
        ],
    );
    row(
        "phase: Running, containerStatuses: [{name: web, restartCount: 1, state: {waiting: {reason: CrashLoopBackOff}}}]",
        expect![
            "web-0 | 0/1 | CrashLoopBackOff | 1 | <unknown> | <none> | node-1 | <none> | <none>"
        ],
    );
    row(
        "phase: Succeeded, containerStatuses: [{name: web, state: {terminated: {exitCode: 0, reason: Completed}}}]",
        expect!["web-0 | 0/1 | Completed | 0 | <unknown> | <none> | node-1 | <none> | <none>"],
    );
    row(
        "phase: Failed, containerStatuses: [{name: web, state: {terminated: {exitCode: 137, signal: 9}}}]",
        expect!["web-0 | 0/1 | Signal:9 | 0 | <unknown> | <none> | node-1 | <none> | <none>"],
    );
    row(
        "phase: Failed, reason: Evicted",
        expect!["web-0 | 0/1 | Evicted | 0 | <unknown> | <none> | node-1 | <none> | <none>"],
    );
    let init = "initContainers: [{name: a, image: x}, {name: b, image: x, restartPolicy: Always}]";
    let waiting = "phase: Pending, initContainerStatuses: [
       {name: a, state: {terminated: {exitCode: 0}}}, {name: b, state: {waiting: {reason: PodInitializing}}}]";
    check_row(
        &with_status(init, waiting),
        expect!["web-0 | 0/2 | Init:1/2 | 0 | <unknown> | <none> | <none> | <none> | <none>"],
    );
    let failed = "phase: Pending, initContainerStatuses: [{name: a, restartCount: 3, state: {terminated: {exitCode: 2}}}]";
    check_row(
        &with_status(init, failed),
        expect![
            "web-0 | 0/2 | Init:ExitCode:2 | 3 | <unknown> | <none> | <none> | <none> | <none>"
        ],
    );
    let deleted = with_status("", "phase: Running").replace(
        "namespace: default",
        "namespace: default, creationTimestamp: '2026-01-02T03:03:00Z', deletionTimestamp: '2026-01-02T03:04:00Z'",
    );
    check_row(
        &deleted,
        expect!["web-0 | 0/1 | Terminating | 0 | 65s | <none> | <none> | <none> | <none>"],
    );
}

#[test]
fn warnings_tell_what_is_probably_wrong() {
    let pod = pod(" containers: [{name: a, image: b, env: [{name: A, value: x}, {name: A, value: z}],
                     ports: [{containerPort: 1, hostIP: 1.2.3.4}], resources: {limits: {memory: 100m}}}],
                   nodeSelector: {beta.kubernetes.io/os: linux}, imagePullSecrets: [{name: s}, {name: s}],
                   volumes: [{name: g, gitRepo: {repository: x}},
                     {name: m, configMap: {name: c, items: [{key: a, path: x/y}, {key: b, path: x}]}},
                     {name: p, projected: {sources: [{}, {serviceAccountToken: {path: t/}},
                       {secret: {name: s, items: [{key: a, path: t}]}}]}}]");
    let warnings = crate::testing::kind_of(&object(&pod)).warnings(&object(&pod));
    expect![[r#"
        spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead
        spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+
        volume "m" (ConfigMap "c"): overlapping paths: "x" with "x/y"
        volume "p" (Projected): overlapping paths: "t" (Secret "s") with "t" (ServiceAccountToken)
        volume "p" (Projected) has no sources provided
        spec.imagePullSecrets[1].name: duplicate name "s"
        spec.containers[0].resources.limits[memory]: fractional byte value "100m" is invalid, must be an integer
        spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply
        spec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:1 Protocol: HostIP:1.2.3.4}"#]].assert_eq(&warnings.join("\n"));
}

#[test]
fn a_pod_of_another_shape_has_a_row_too() {
    let mut tree = Object::default();
    tree.set_type("v1", "Pod");
    tree.set_meta_str("name", "odd");
    tree.0.insert("spec".into(), "text".into());
    let row = crate::testing::kind_of(&tree).row(&tree, crate::testing::now());
    assert_eq!(row.cells[0], "odd");
}
