use expect_test::expect;

use crate::testing::{check, check_row, check_update};
use crate::{Part, testing};

fn ingress(spec: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{name: a, namespace: b}}, spec: {{{spec}}}}}"
    )
}

fn policy(spec: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: a, namespace: b}}, spec: {{{spec}}}}}"
    )
}

#[test]
fn an_ingress_says_where_traffic_goes() {
    check(
        &ingress(""),
        expect![[r#"
            spec: Invalid value: null: either `defaultBackend` or `rules` must be specified
        "#]],
    );
    check(
        &ingress(
            "defaultBackend: {service: {name: a.b}}, tls: [{hosts: [\"*.x_y\"], secretName: A}],
             rules: [{host: 1.2.3.4, http: {paths: [
               {pathType: Exact, path: a//b/., backend: {service: {name: s, port: {number: 80, name: x}}}},
               {pathType: Regex, path: /, backend: {}}]}},
              {http: {paths: []}}]"
        ),
        expect![[r#"
            spec.defaultBackend.service.name: Invalid value: "a.b": must not contain dots
            spec.defaultBackend: Required value: port name or number is required
            spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address
            spec.rules[0].http.paths[0].path: Invalid value: "a//b/.": must be an absolute path
            spec.rules[0].http.paths[0].path: Invalid value: "a//b/.": must not contain '//'
            spec.rules[0].http.paths[0].path: Invalid value: "a//b/.": cannot end with '/.'
            spec.rules[0].http.paths[0].backend: Invalid value: "": cannot set both port name & port number
            spec.rules[0].http.paths[1].pathType: Unsupported value: "Regex": supported values: "Exact", "ImplementationSpecific", "Prefix"
            spec.rules[0].http.paths[1].backend: Invalid value: "": resource or service backend is required
            spec.rules[1].http.paths: Required value
            spec.tls[0].hosts[0]: Invalid value: "*.x_y": a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.tls[0].secretName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        "#]],
    );
}

#[test]
fn an_ingress_shows_hosts_and_addresses() {
    let backend = "defaultBackend: {service: {name: s, port: {number: 80}}}";
    let rules =
        "rules: [{host: a}, {host: b}, {host: c}, {host: d}], tls: [{}], ingressClassName: x";
    let whole = ingress(&format!("{backend}, {rules}"));
    let status =
        "status: {loadBalancer: {ingress: [{ip: 10.0.0.2}, {hostname: h}, {ip: 10.0.0.1}]}}";
    let whole = format!("{}, {status}}}", &whole[..whole.len() - 1]);
    check_row(
        &whole,
        expect!["a | x | a,b,c + 1 more... | 10.0.0.1,10.0.0.2,h | 80, 443 | <unknown>"],
    );
    check_row(
        &ingress(backend),
        expect!["a | <none> | * |  | 80 | <unknown>"],
    );
}

#[test]
fn a_class_keeps_its_controller() {
    let class = "{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: a}, spec: {controller: a.b/c, parameters: {kind: K, name: p, scope: Namespace}}}";
    check(
        class,
        expect![[r#"
            spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'
        "#]],
    );
    check(
        &class
            .replace("a.b/c", "abc")
            .replace("Namespace}", "Cluster, namespace: x}"),
        expect![[r#"
            spec.controller: Invalid value: "abc": must be a domain-prefixed path (such as "acme.io/foo")
            spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'
        "#]],
    );
    let class = class.replace(", scope: Namespace", "");
    check_update(
        Part::Main,
        &class,
        &class.replace("a.b/c", "a.b/d"),
        expect![[r#"
            spec.controller: Invalid value: "a.b/d": field is immutable
        "#]],
    );
}

#[test]
fn a_policy_names_peers_and_ports() {
    check(
        &policy(
            "podSelector: {}, policyTypes: [Ingress, Both], ingress: [{from: [{}, {podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}],
             ports: [{port: 5, endPort: 4, protocol: X}, {port: http, endPort: 4}, {endPort: 1}]}],
             egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16, 10.0.0.0/8, 10.0.0.1/16]}}]}]"
        ),
        expect![[r#"
            spec.ingress[0].ports[0].protocol: Unsupported value: "X": supported values: "TCP", "UDP", "SCTP"
            spec.ingress[0].ports[0].endPort: Invalid value: 4: must be greater than or equal to `port`
            spec.ingress[0].ports[1].endPort: Invalid value: 4: may not be specified when `port` is non-numeric
            spec.ingress[0].ports[2].endPort: Invalid value: 1: may not be specified when `port` is not specified
            spec.ingress[0].from[0]: Required value: must specify a peer
            spec.ingress[0].from[1]: Forbidden: may not specify both ipBlock and another peer
            spec.egress[0].to[0].ipBlock.except[0]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`
            spec.egress[0].to[0].ipBlock.except[1]: Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`
            spec.egress[0].to[0].ipBlock.except[2]: Invalid value: "10.0.0.1/16": must not have bits set beyond the prefix length
            spec.policyTypes[1]: Unsupported value: "Both": supported values: "Ingress", "Egress"
        "#]],
    );
    check_row(
        &policy("podSelector: {}"),
        expect!["a | <none> | <unknown>"],
    );
    let types = testing::created(&policy("podSelector: {}, egress: [{}]"));
    expect![[r#"["Ingress","Egress"]"#]]
        .assert_eq(&types.at(&["spec", "policyTypes"]).unwrap().to_string());
}
