//! What a pod may be.

use expect_test::expect;

use super::*;

#[test]
fn a_pod_needs_containers_with_names_and_images() {
    check(
        &pod(" containers: []"),
        expect![[r#"
        spec.containers: Required value
    "#]],
    );
    check(
        &pod(
            " containers: [{name: Web, image: ''}, {name: a, image: ' x'}, {name: a, image: x}],
              initContainers: [{name: a, image: x, lifecycle: {}, readinessProbe: {}}],
              restartPolicy: Sometimes, dnsPolicy: Nope, activeDeadlineSeconds: 0",
        ),
        expect![[r#"
            spec.containers[0].name: Invalid value: "Web": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.containers[0].image: Required value
            spec.containers[2].name: Duplicate value: "a"
            spec.initContainers[0].name: Duplicate value: "a"
            spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always
            spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
            spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"
            spec.dnsPolicy: Unsupported value: "Nope": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"
            spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive
            spec.containers[1].image: Invalid value: " x": must not have leading or trailing whitespace
        "#]],
    );
}

#[test]
fn fields_of_containers_are_looked_at() {
    check(
        &container(
            "imagePullPolicy: Later, terminationMessagePolicy: None,
             ports: [{name: WWW, containerPort: 0}, {name: a, containerPort: 70000, hostPort: -1},
                     {name: a, containerPort: 1, protocol: ICMP}],
             env: [{name: ''}, {name: 'a=b', value: x, valueFrom: {fieldRef: {fieldPath: spec.volumes}}},
                   {name: A, valueFrom: {}},
                   {name: B, valueFrom: {fieldRef: {fieldPath: status.phase}}},
                   {name: L, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['a b']\"}}},
                   {name: C, valueFrom: {resourceFieldRef: {resource: limits.gpu}}},
                   {name: D, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 5}}},
                   {name: E, valueFrom: {secretKeyRef: {name: X_, key: ''}}}],
             envFrom: [{}, {prefix: 'a=', configMapRef: {name: ''}, secretRef: {name: s}}]",
        ),
        expect![[r#"
            spec.containers[0].terminationMessagePolicy: Unsupported value: "None": supported values: "File", "FallbackToLogsOnError"
            spec.containers[0].ports[0].name: Invalid value: "WWW": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
            spec.containers[0].ports[0].name: Invalid value: "WWW": must contain at least one letter (a-z)
            spec.containers[0].ports[0].containerPort: Required value
            spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
            spec.containers[0].ports[1].hostPort: Invalid value: -1: must be between 1 and 65535, inclusive
            spec.containers[0].ports[2].name: Duplicate value: "a"
            spec.containers[0].ports[2].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"
            spec.containers[0].env[0].name: Required value
            spec.containers[0].env[1].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
            spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Invalid value: "spec.volumes": error converting fieldPath: field label not supported: spec.volumes
            spec.containers[0].env[1].valueFrom: Invalid value: "": may not be specified when `value` is not empty
            spec.containers[0].env[2].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`
            spec.containers[0].env[3].valueFrom.fieldRef.fieldPath: Unsupported value: "status.phase": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"
            spec.containers[0].env[4].valueFrom.fieldRef: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.containers[0].env[5].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.gpu": supported values: "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"
            spec.containers[0].env[6].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor's values 1m and 1 are supported with the cpu resource
            spec.containers[0].env[7].valueFrom.secretKeyRef.name: Invalid value: "X_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.containers[0].env[7].valueFrom.secretKeyRef.key: Required value
            spec.containers[0].envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`
            spec.containers[0].envFrom[1].prefix: Invalid value: "a=": a valid environment variable name must consist only of printable ASCII characters other than '='
            spec.containers[0].envFrom[1].configMapRef.name: Required value
            spec.containers[0].envFrom: Invalid value: "": may not have more than one field specified at a time
            spec.containers[0].imagePullPolicy: Unsupported value: "Later": supported values: "Always", "IfNotPresent", "Never"
        "#]],
    );
}

#[test]
fn resources_are_quantities_that_fit_each_other() {
    check(
        &container(
            "resources: {requests: {cpu: 2, memory: -1, example.com/gpu: 1500m, rocks: 1, hugepages-2Mi: 3Mi},
                         limits: {cpu: 1, memory: 1x, kubernetes.io/x: 1}}",
        ),
        expect![[r#"
            spec.containers[0].resources.limits[memory]: Invalid value: "1x": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
            spec.containers[0].resources.requests[example.com/gpu]: Invalid value: "1500m": must be an integer
            spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources
            spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi
            spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources
            spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0
            spec.containers[0].resources.requests[rocks]: Invalid value: "rocks": must be a standard resource type or fully qualified
            spec.containers[0].resources.requests[rocks]: Invalid value: "rocks": must be a standard resource for containers
        "#]],
    );
    check(
        &container("resources: {limits: {example.com/gpu: 1}}"),
        expect![[""]],
    );
}

#[test]
fn probes_and_hooks_have_one_handler() {
    check(
        &container(
            "livenessProbe: {httpGet: {port: 0, scheme: ftp, httpHeaders: [{name: 'a b'}]}, successThreshold: 2,
                             periodSeconds: -1, terminationGracePeriodSeconds: 0},
             readinessProbe: {exec: {}, tcpSocket: {port: x}, terminationGracePeriodSeconds: 5},
             startupProbe: {grpc: {port: 70000}},
             lifecycle: {preStop: {sleep: {seconds: 60}}, postStart: {}, stopSignal: SIGHUP}",
        ),
        expect![[r#"
            spec.containers[0].lifecycle.postStart: Required value: must specify a handler type
            spec.containers[0].lifecycle.preStop.sleep: Invalid value: 60: must be non-negative and less than terminationGracePeriodSeconds (30)
            spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: "ftp": supported values: "HTTP", "HTTPS"
            spec.containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: "a b": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')
            spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0
            spec.containers[0].livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0
            spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
            spec.containers[0].readinessProbe.exec.command: Required value
            spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type
            spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes
            spec.containers[0].startupProbe.grpc.port: Invalid value: 70000: must be between 1 and 65535, inclusive
        "#]],
    );
}

#[test]
fn volumes_have_one_source_and_mounts_a_volume() {
    check(
        &pod(" containers: [{name: web, image: nginx, volumeMounts: [
                 {name: none, mountPath: /a}, {name: data, mountPath: /a},
                 {name: data, mountPath: '', subPath: ../x, mountPropagation: Bidirectional},
                 {name: data, mountPath: /c, recursiveReadOnly: Enabled}],
                 volumeDevices: [{name: data, devicePath: /dev/x}]}],
              volumes: [
                {name: data, emptyDir: {sizeLimit: -1}},
                {name: data, hostPath: {path: ../x, type: Nothing}},
                {name: Two, secret: {secretName: s}, configMap: {name: c}},
                {name: keys, secret: {items: [{key: '', path: /abs, mode: 512}], defaultMode: -1}},
                {name: down, downwardAPI: {items: [{path: ..x}, {path: a, fieldRef: {fieldPath: spec.nodeName}}]}},
                {name: proj, projected: {sources: [
                   {serviceAccountToken: {path: t, expirationSeconds: 5}},
                   {secret: {name: s, items: [{key: a, path: p}]}, configMap: {name: c, items: [{key: a, path: p}]}}]}},
                {name: claim, persistentVolumeClaim: {claimName: ''}},
                {name: eph, ephemeral: {volumeClaimTemplate: {metadata: {name: x}, spec: {}}}},
                {name: img, image: {pullPolicy: Later}}]"),
        expect![[r#"
            spec.volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity
            spec.volumes[1].hostPath.path: Invalid value: "../x": must not contain '..'
            spec.volumes[1].hostPath.type: Unsupported value: "Nothing": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"
            spec.volumes[2].configMap: Forbidden: may not specify more than 1 volume type
            spec.volumes[2].name: Invalid value: "Two": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.volumes[3].secret.secretName: Required value
            spec.volumes[3].secret.defaultMode: Invalid value: -1: must be a number between 0 and 0777 (octal), both inclusive
            spec.volumes[3].secret.items[0].key: Required value
            spec.volumes[3].secret.items[0].path: Invalid value: "/abs": must be a relative path
            spec.volumes[3].secret.items[0].mode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive
            spec.volumes[4].downwardAPI.path: Invalid value: "..x": must not start with '..'
            spec.volumes[4].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required
            spec.volumes[4].downwardAPI.fieldRef.fieldPath: Unsupported value: "spec.nodeName": supported values: "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"
            spec.volumes[5].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes
            spec.volumes[5].projected: Invalid value: "c": conflicting duplicate paths
            spec.volumes[5].projected.sources[1]: Forbidden: may not specify more than 1 volume type per source
            spec.volumes[6].persistentVolumeClaim.claimName: Required value
            spec.volumes[7].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set
            spec.volumes[7].ephemeral.volumeClaimTemplate.spec.accessModes: Required value: at least 1 access mode is required
            spec.volumes[7].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value
            spec.volumes[8].image.reference: Required value
            spec.volumes[8].image.pullPolicy: Unsupported value: "Later": supported values: "Always", "IfNotPresent", "Never"
            spec.containers[0].volumeMounts[0].name: Not found: "none"
            spec.containers[0].volumeMounts[1].name: Not found: "data"
            spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique
            spec.containers[0].volumeMounts[1].name: Invalid value: "data": must not already exist in volumeDevices
            spec.containers[0].volumeMounts[2].name: Not found: "data"
            spec.containers[0].volumeMounts[2].mountPath: Required value
            spec.containers[0].volumeMounts[2].name: Invalid value: "data": must not already exist in volumeDevices
            spec.containers[0].volumeMounts.subPath: Invalid value: "../x": must not contain '..'
            spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers
            spec.containers[0].volumeMounts[3].name: Not found: "data"
            spec.containers[0].volumeMounts[3].name: Invalid value: "data": must not already exist in volumeDevices
            spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true
            spec.containers[0].volumeDevices[0].name: Not found: "data"
            spec.containers[0].volumeDevices[0].name: Invalid value: "data": must not already exist in volumeMounts
            spec.volumes[5].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set
        "#]],
    );
}

#[test]
fn security_contexts_hold_together() {
    check(
        &pod(" containers: [{name: web, image: nginx, securityContext: {runAsUser: -1, procMount: Unmasked,
                 privileged: true, allowPrivilegeEscalation: false, capabilities: {add: [CAP_SYS_ADMIN]},
                 seccompProfile: {type: Localhost, localhostProfile: ''}, appArmorProfile: {type: Own}}}],
              hostPID: true, hostNetwork: true, shareProcessNamespace: true, hostUsers: false,
              os: {name: linux},
              securityContext: {fsGroup: -1, supplementalGroups: [4294967296], fsGroupChangePolicy: x,
                 seccompProfile: {type: RuntimeDefault, localhostProfile: a},
                 sysctls: [{name: net.ipv4.ip_forward, value: '1'}, {name: 'A b', value: ''}],
                 windowsOptions: {}}"),
        expect![[r#"
            spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive
            spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost
            spec.containers[0].securityContext: Invalid value: {"Capabilities":{"Add":["CAP_SYS_ADMIN"],"Drop":null},"Privileged":true,"SELinuxOptions":null,"WindowsOptions":null,"RunAsUser":-1,"RunAsGroup":null,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,"AllowPrivilegeEscalation":false,"ProcMount":"Unmasked","SeccompProfile":{"Type":"Localhost","LocalhostProfile":""},"AppArmorProfile":{"Type":"Own","LocalhostProfile":null}}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true
            spec.containers[0].securityContext: Invalid value: {"Capabilities":{"Add":["CAP_SYS_ADMIN"],"Drop":null},"Privileged":true,"SELinuxOptions":null,"WindowsOptions":null,"RunAsUser":-1,"RunAsGroup":null,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,"AllowPrivilegeEscalation":false,"ProcMount":"Unmasked","SeccompProfile":{"Type":"Localhost","LocalhostProfile":""},"AppArmorProfile":{"Type":"Own","LocalhostProfile":null}}: cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN
            spec.containers[0].securityContext.appArmorProfile.type: Unsupported value: "Own": supported values: "Localhost", "RuntimeDefault", "Unconfined"
            spec.securityContext.fsGroup: Invalid value: -1: must be between 0 and 2147483647, inclusive
            spec.securityContext.supplementalGroups[0]: Invalid value: 4294967296: must be between 0 and 2147483647, inclusive
            spec.securityContext.sysctls[0].name: Invalid value: "net.ipv4.ip_forward": may not be specified when 'hostNetwork' is true
            spec.securityContext.sysctls[1].name: Invalid value: "A b": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$
            spec.securityContext.fsGroupChangePolicy: Unsupported value: "x": supported values: "Always", "OnRootMismatch"
            spec.securityContext.seccompProfile.localhostProfile: Invalid value: {"localhostProfile":"a","type":"RuntimeDefault"}: can only be set when seccomp type is Localhost
            spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled
            spec.hostNetwork: Forbidden: when `hostUsers` is false
            spec.HostPID: Forbidden: when `hostUsers` is false
            spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod
        "#]],
    );
}

#[test]
fn scheduling_is_looked_at() {
    check(
        &pod("nodeName: N_, schedulingGates: [{name: a}, {name: a}],
              nodeSelector: {'a b': c},
              tolerations: [{value: x}, {key: a, operator: Exists, value: b, effect: Never, tolerationSeconds: 1},
                            {key: a, operator: Lt, value: '1'}],
              topologySpreadConstraints: [
                {maxSkew: 0, topologyKey: '', whenUnsatisfiable: Ignore, minDomains: 0, matchLabelKeys: [a]},
                {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule},
                {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}],
              affinity: {
                nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []},
                  preferredDuringSchedulingIgnoredDuringExecution: [{weight: 101, preference: {matchExpressions: [
                    {key: a, operator: Gt, values: []}, {key: b, operator: Like}],
                    matchFields: [{key: metadata.uid, operator: In, values: [x]}]}}]},
                podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [
                  {topologyKey: '', namespaces: [A], labelSelector: {matchExpressions: [{key: a, operator: In}]}}]}}"),
        expect![[r#"
            spec.nodeSelector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term
            spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100
            spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'
            spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[1].operator: Invalid value: "Like": not a valid selector operator
            spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[0].key: Invalid value: "metadata.uid": not a valid field selector key
            spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
            spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].namespace: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty
            spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must be non-empty
            spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.schedulingGates[1]: Duplicate value: "a"
            spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero
            spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty
            spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "Ignore": supported values: "DoNotSchedule", "ScheduleAnyway"
            spec.topologySpreadConstraints[0].minDomains: Invalid value: 0: must be greater than zero
            spec.topologySpreadConstraints[0].minDomains: Invalid value: 0: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not Ignore
            spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set
            spec.topologySpreadConstraints[1].{topologyKey, whenUnsatisfiable}: Duplicate value: "{zone, DoNotSchedule}"
            spec.nodeName: Invalid value: "N_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.tolerations[0].operator: Invalid value: "": operator must be Exists when `key` is empty, which means "match all values and all keys"
            spec.tolerations[1].effect: Invalid value: "Never": effect must be 'NoExecute' when `tolerationSeconds` is set
            spec.tolerations[1].operator: Invalid value: "b": value must be empty when `operator` is 'Exists'
            spec.tolerations[1].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
            spec.tolerations[2].operator: Unsupported value: "Lt": supported values: "Equal", "Exists", "Lt", "Gt"
            spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared
        "#]],
    );
}

#[test]
fn names_and_addresses_are_looked_at() {
    check(
        &pod("hostname: A.b, subdomain: c_d, hostAliases: [{ip: 10.0.0.256, hostnames: [A_b]}],
              dnsPolicy: None, dnsConfig: {nameservers: [1.1.1.1, x, 1.1.1.2, 1.1.1.3], searches: [a b, .],
                options: [{value: x}]},
              serviceAccountName: B_, priorityClassName: C_, runtimeClassName: D_, preemptionPolicy: Maybe,
              readinessGates: [{conditionType: 'a b'}], overhead: {cpu: -1}, hostnameOverride: X_,
              imagePullSecrets: [{name: a}]"),
        expect![[r#"
            spec.dnsConfig.nameservers: Invalid value: ["1.1.1.1","x","1.1.1.2","1.1.1.3"]: must not have more than 3 nameservers
            spec.dnsConfig.nameservers[1]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            spec.dnsConfig.searches[0]: Invalid value: "a b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')
            spec.dnsConfig.options[0]: Required value: must not be empty
            spec.readinessGates[0].conditionType: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.hostnameOverride: Invalid value: "X_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.serviceAccountName: Invalid value: "B_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.hostname: Invalid value: "A.b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.subdomain: Invalid value: "c_d": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.hostAliases[0].ip: Invalid value: "10.0.0.256": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            spec.hostAliases[0].hostnames[0]: Invalid value: "A_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.priorityClassName: Invalid value: "C_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.runtimeClassName: Invalid value: "D_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.preemptionPolicy: Unsupported value: "Maybe": supported values: "PreemptLowerPriority", "Never"
            spec.overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0
        "#]],
    );
    check(
        &pod("dnsPolicy: None"),
        expect![[r#"
        spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None
    "#]],
    );
}
