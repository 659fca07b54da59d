use expect_test::expect;

use crate::testing::check;

#[test]
fn endpoint_slices_have_addresses_of_one_type() {
    let slice = |fields: &str| {
        format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: a, namespace: b}}, {fields}}}"
        )
    };
    check(
        &slice(
            "addressType: IPv4, ports: [{name: A}, {name: p, protocol: X}, {name: p}],
             endpoints: [{addresses: []}, {addresses: [127.0.0.1, 'fd00::1', x], nodeName: N_, hostname: h.i,
               hints: {forZones: [{name: z}, {name: z}]}}]",
        ),
        expect![[r#"
            ports[0].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"
            ports[2].name: Duplicate value: "p"
            endpoints[0].addresses: Required value
            endpoints[1].addresses[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            endpoints[1].addresses: Invalid value: "fd00::1": must be an IPv4 address
            endpoints[1].addresses[2]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            endpoints[1].nodeName: Invalid value: "N_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            endpoints[1].hostname: Invalid value: "h.i": must not contain dots
            endpoints[1].hints.forZones[1].name: Duplicate value: "z"
        "#]],
    );
    check(
        &slice("addressType: FQDN, endpoints: [{addresses: [local, A.b, a.b.]}]"),
        expect![[r#"
            endpoints[0].addresses[0]: Invalid value: "local": should be a domain with at least two segments separated by dots
            endpoints[0].addresses[1]: Invalid value: "A.b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        "#]],
    );
    check(
        &slice("addressType: ''"),
        expect![[r#"
        addressType: Required value
    "#]],
    );
    let rows = slice(
        "addressType: IPv4, ports: [{port: 80}, {name: x}],
         endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}, {addresses: [10.0.0.3]}, {addresses: [10.0.0.4]}]",
    );
    crate::testing::check_row(
        &rows,
        expect!["a | IPv4 | 80,x | 10.0.0.1,10.0.0.2,10.0.0.3 + 1 more... | <unknown>"],
    );
    crate::testing::check_row(
        &slice("addressType: IPv4"),
        expect!["a | IPv4 | <unset> | <unset> | <unknown>"],
    );
}
