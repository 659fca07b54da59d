use expect_test::expect;
use machinery::Object;

use super::allocation::{Family, Held, held, plan};
use super::*;
use crate::testing::{check, check_row, check_update, created, updated};

/// A Service with this specification, in flow style.
fn service(spec: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: default}}, spec: {{{spec}}}}}"
    )
}

const PORT: &str = "ports: [{port: 80}]";

#[test]
fn ports_have_names_and_numbers() {
    check(
        &service(""),
        expect![[r#"
        spec.ports: Required value
    "#]],
    );
    check(
        &service(
            "type: Other, ports: [{port: 0, targetPort: UPPER}, {port: 80, name: A_, appProtocol: 'a b'},
               {port: 80, name: b, protocol: ICMP, nodePort: 30000}, {port: 80, name: b, protocol: TCP}]",
        ),
        expect![[r#"
            spec.ports[0].name: Required value
            spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.ports[0].targetPort: Invalid value: "UPPER": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
            spec.ports[0].targetPort: Invalid value: "UPPER": must contain at least one letter (a-z)
            spec.ports[1].name: Invalid value: "A_": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.ports[1].appProtocol: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.ports[2].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"
            spec.ports[3].name: Duplicate value: "b"
            spec.type: Unsupported value: "Other": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"
            spec.ports[3]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}
        "#]],
    );
    check(
        &service(
            "type: NodePort, ports: [{port: 1, name: a, nodePort: 30000}, {port: 2, name: b, nodePort: 30000}]",
        ),
        expect![[r#"
            spec.ports[1].nodePort: Duplicate value: 30000
        "#]],
    );
}

#[test]
fn addresses_fit_their_families() {
    check(
        &service(&format!("clusterIP: x, {PORT}")),
        expect![[r#"
        spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
    "#]],
    );
    check(
        &service(&format!(
            "clusterIP: 10.0.0.1, clusterIPs: [10.0.0.2, 10.0.0.3, None], {PORT}"
        )),
        expect![[r#"
            spec.clusterIPs: Invalid value: ["10.0.0.2","10.0.0.3","None"]: first value must match `clusterIP`
            spec.clusterIPs[2]: Invalid value: "None": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            spec.clusterIPs: Invalid value: ["10.0.0.2","10.0.0.3","None"]: may only hold up to 2 values
        "#]],
    );
    check(
        &service(&format!(
            "clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, 10.0.0.2], ipFamilies: [IPv6, IPv5, IPv6],
             ipFamilyPolicy: Some, {PORT}"
        )),
        expect![[r#"
            spec.ipFamilies[1]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6"
            spec.ipFamilies[2]: Duplicate value: "IPv6"
            spec.ipFamilyPolicy: Unsupported value: "Some": supported values: "PreferDualStack", "RequireDualStack", "SingleStack"
            spec.clusterIPs: Invalid value: ["10.0.0.1","10.0.0.2"]: may specify no more than one IP for each IP family
            spec.clusterIPs[0]: Invalid value: "10.0.0.1": expected an IPv6 value as indicated by `ipFamilies[0]`
        "#]],
    );
    check(
        &service(&format!(
            "externalIPs: [127.0.0.1, 169.254.1.1, 0.0.0.0, 010.1.1.1, 'fe80::1', x], {PORT}"
        )),
        expect![[r#"
            spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            spec.externalIPs[1]: Invalid value: "169.254.1.1": may not be in the link-local range (169.254.0.0/16, fe80::/10)
            spec.externalIPs[2]: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)
            spec.externalIPs[3]: Invalid value: "010.1.1.1": must not have leading 0s
            spec.externalIPs[4]: Invalid value: "fe80::1": may not be in the link-local range (169.254.0.0/16, fe80::/10)
            spec.externalIPs[5]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        "#]],
    );
}

#[test]
fn fields_fit_the_type() {
    check(
        &service(
            "type: ExternalName, externalName: A_, clusterIP: 10.0.0.1, ipFamilies: [IPv4], ipFamilyPolicy: SingleStack",
        ),
        expect![[r#"
            spec.clusterIPs: Forbidden: may not be set for ExternalName services
            spec.ipFamilies: Forbidden: may not be set for ExternalName services
            spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services
            spec.externalName: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        "#]],
    );
    check(
        &service("type: ExternalName"),
        expect![[r#"
        spec.externalName: Required value
    "#]],
    );
    check(
        &service(&format!("type: NodePort, clusterIP: None, {PORT}")),
        expect![[r#"
            spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services
        "#]],
    );
    check(
        &service(&format!(
            "externalTrafficPolicy: Local, internalTrafficPolicy: Some, loadBalancerClass: 'a b',
             allocateLoadBalancerNodePorts: true, healthCheckNodePort: 5, loadBalancerSourceRanges: [x],
             sessionAffinity: ClientIP, sessionAffinityConfig: {{clientIP: {{timeoutSeconds: 90000}}}},
             trafficDistribution: Far, {PORT}"
        )),
        expect![[r#"
            spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 90000: must be greater than 0 and less than 86400
            spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'
            spec.LoadBalancerSourceRanges[0]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
            spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'
            spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'
            spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services
            spec.healthCheckNodePort: Invalid value: 5: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'
            spec.internalTrafficPolicy: Unsupported value: "Some": supported values: "Cluster", "Local"
            spec.trafficDistribution: Unsupported value: "Far": supported values: "PreferClose", "PreferSameZone", "PreferSameNode"
        "#]],
    );
    check(
        &service(&format!(
            "type: LoadBalancer, externalTrafficPolicy: Local, sessionAffinity: Often, {PORT}"
        )),
        expect![[r#"
            spec.sessionAffinity: Unsupported value: "Often": supported values: "ClientIP", "None"
            spec.healthCheckNodePort: Required value
        "#]],
    );
}

#[test]
fn what_was_handed_out_stays_unless_the_type_changes() {
    let old = "type: NodePort, clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1], ipFamilies: [IPv4],
               ipFamilyPolicy: SingleStack, ports: [{port: 80, nodePort: 30080}]";
    // The YAML that made it, again; the families come back with the allocation.
    let (same, _) = updated(
        Part::Main,
        &created(&service(old)),
        &service(&format!("type: NodePort, {PORT}")),
    );
    assert_eq!(same.str_at(&["spec", "clusterIP"]), "10.0.0.1");
    assert_eq!(same.at(&["spec", "ports"]).unwrap()[0]["nodePort"], 30080);
    // To a type without node ports and to one without an address.
    let back = old.replace("NodePort,", "ClusterIP,");
    let (cluster_ip, errors) = updated(Part::Main, &created(&service(old)), &service(&back));
    assert_eq!(errors, "");
    assert_eq!(
        cluster_ip.at(&["spec", "ports"]).unwrap()[0].get("nodePort"),
        None
    );
    let name = old.replace("NodePort,", "ExternalName, externalName: example.com,");
    let (named, errors) = updated(Part::Main, &created(&service(old)), &service(&name));
    assert_eq!(errors, "");
    assert_eq!(named.at(&["spec", "clusterIP"]), None);
    assert_eq!(named.at(&["spec", "ipFamilies"]), None);
    check_update(
        Part::Main,
        &service(old),
        &service(&old.replace("10.0.0.1", "10.0.0.2")),
        expect![[r#"
            spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set
        "#]],
    );
}

#[test]
fn a_status_holds_addresses_of_balancers_only() {
    let with = |kind: &str, status: &str| {
        let service = service(&format!("type: {kind}, {PORT}"));
        format!(
            "{}, status: {{loadBalancer: {{ingress: [{status}]}}}}}}",
            &service[..service.len() - 1]
        )
    };
    let bad = "{ip: x}, {ipMode: VIP}, {ip: 1.2.3.4, ipMode: Some}, {hostname: 1.2.3.4}";
    check_update(
        Part::Status,
        &with("ClusterIP", ""),
        &with("ClusterIP", bad),
        expect![[r#"
            status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'
        "#]],
    );
    check_update(
        Part::Status,
        &with("LoadBalancer", ""),
        &with("LoadBalancer", bad),
        expect![[r#"
            status.loadBalancer.ingress[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            status.loadBalancer.ingress[1].ipMode: Forbidden: may not be specified when `ip` is not set
            status.loadBalancer.ingress[2].ipMode: Unsupported value: "Some": supported values: "Proxy", "VIP"
            status.loadBalancer.ingress[3].hostname: Invalid value: "1.2.3.4": must be a DNS name, not an IP address
        "#]],
    );
}

#[test]
fn rows_show_addresses_and_ports() {
    check_row(
        &service(&format!("type: ClusterIP, clusterIPs: [10.0.0.1], {PORT}")),
        expect!["web | ClusterIP | 10.0.0.1 | <none> | 80/ | <unknown> | <none>"],
    );
    check_row(
        &service("type: NodePort, clusterIPs: [10.0.0.1], externalIPs: [1.1.1.1, 2.2.2.2], selector: {a: b, c: d},
                  ports: [{port: 80, nodePort: 30080, protocol: TCP}, {port: 53, protocol: UDP}]"),
        expect!["web | NodePort | 10.0.0.1 | 1.1.1.1,2.2.2.2 | 80:30080/TCP,53/UDP | <unknown> | a=b,c=d"],
    );
    check_row(
        &service("type: LoadBalancer, clusterIPs: [10.0.0.1]"),
        expect!["web | LoadBalancer | 10.0.0.1 | <pending> | <none> | <unknown> | <none>"],
    );
    check_row(
        &service("type: ExternalName, externalName: example.com"),
        expect!["web | ExternalName | <none> | example.com | <none> | <unknown> | <none>"],
    );
    check_row(
        &service("type: ClusterIP, clusterIPs: [None]"),
        expect!["web | ClusterIP | None | <none> | <none> | <unknown> | <none>"],
    );
}

/// What a write needs, and the Service with `10.96.0.7` (and `fd00::7`) and ports from 31000 on filled in.
fn allocated(spec: &str, old: Option<&Object>, families: &[Family]) -> String {
    let mut new = match old {
        None => created(&service(spec)),
        Some(old) => updated(Part::Main, old, &service(spec)).0,
    };
    let needs = match plan(&new, old, families) {
        Ok(needs) => needs,
        Err(errors) => return errors.0.iter().map(|e| format!("{e}\n")).collect(),
    };
    let ip = |need: &super::allocation::ClusterIp| match (&need.requested, need.family) {
        (Some(ip), _) => ip.clone(),
        (None, Family::V4) => "10.96.0.7".to_owned(),
        (None, Family::V6) => "fd00::7".to_owned(),
    };
    let ips: Vec<String> = needs.cluster_ips.iter().map(ip).collect();
    let mut shared = std::collections::BTreeMap::new();
    let mut next = 31000;
    let ports: Vec<u16> = needs
        .node_ports
        .iter()
        .map(|need| {
            *shared
                .entry((need.share, need.requested))
                .or_insert_with(|| {
                    need.requested.unwrap_or_else(|| {
                        next += 1;
                        next
                    })
                })
        })
        .collect();
    needs.fill(&mut new, &ips, &ports);
    let released = (&needs.released_ips, &needs.released_ports);
    let keys = [
        "clusterIP",
        "clusterIPs",
        "ipFamilies",
        "ipFamilyPolicy",
        "ports",
        "healthCheckNodePort",
    ];
    let field = |key: &&str| Some(format!("{key}: {}", new.at(&["spec", key])?));
    let fields: Vec<String> = keys.iter().filter_map(field).collect();
    format!(
        "take {} {}, release {released:?}\n{}\n",
        ips.len(),
        ports.len(),
        fields.join("\n")
    )
}

#[test]
fn a_new_service_gets_addresses_and_ports() {
    let v4 = [Family::V4];
    let both = [Family::V4, Family::V6];
    expect![[r#"
        take 1 0, release ([], [])
        clusterIP: "10.96.0.7"
        clusterIPs: ["10.96.0.7"]
        ipFamilies: ["IPv4"]
        ipFamilyPolicy: "SingleStack"
        ports: [{"port":80,"protocol":"TCP","targetPort":80}]
    "#]]
    .assert_eq(&allocated(PORT, None, &v4));
    expect![[r#"
        take 1 0, release ([], [])
        clusterIP: "10.96.0.9"
        clusterIPs: ["10.96.0.9"]
        ipFamilies: ["IPv4"]
        ipFamilyPolicy: "SingleStack"
        ports: [{"port":80,"protocol":"TCP","targetPort":80}]
    "#]]
    .assert_eq(&allocated(
        &format!("clusterIP: 10.96.0.9, {PORT}"),
        None,
        &v4,
    ));
    expect![[r#"
        take 0 0, release ([], [])
        clusterIP: "None"
        clusterIPs: ["None"]
        ipFamilies: ["IPv4"]
        ipFamilyPolicy: "SingleStack"
        ports: [{"port":80,"protocol":"TCP","targetPort":80}]
    "#]]
    .assert_eq(&allocated(
        &format!("clusterIP: None, selector: {{a: b}}, {PORT}"),
        None,
        &v4,
    ));
    expect![[r#"
        take 0 0, release ([], [])
        clusterIP: "None"
        clusterIPs: ["None"]
        ipFamilies: ["IPv4","IPv6"]
        ipFamilyPolicy: "RequireDualStack"
        ports: [{"port":80,"protocol":"TCP","targetPort":80}]
    "#]]
    .assert_eq(&allocated(&format!("clusterIP: None, {PORT}"), None, &v4));
    expect![[r#"
        take 2 0, release ([], [])
        clusterIP: "10.96.0.7"
        clusterIPs: ["10.96.0.7","fd00::7"]
        ipFamilies: ["IPv4","IPv6"]
        ipFamilyPolicy: "PreferDualStack"
        ports: [{"port":80,"protocol":"TCP","targetPort":80}]
    "#]]
    .assert_eq(&allocated(
        &format!("ipFamilyPolicy: PreferDualStack, {PORT}"),
        None,
        &both,
    ));
    expect![[r#"
        take 1 0, release ([], [])
        clusterIP: "10.96.0.7"
        clusterIPs: ["10.96.0.7"]
        ipFamilies: ["IPv4"]
        ipFamilyPolicy: "PreferDualStack"
        ports: [{"port":80,"protocol":"TCP","targetPort":80}]
    "#]]
    .assert_eq(&allocated(
        &format!("ipFamilyPolicy: PreferDualStack, {PORT}"),
        None,
        &v4,
    ));
    expect![[r#"
        spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services
    "#]].assert_eq(&allocated(
        &format!("ipFamilyPolicy: RequireDualStack, {PORT}"),
        None,
        &v4,
    ));
    expect![[r#"
        spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster
    "#]]
    .assert_eq(&allocated(
        &format!("ipFamilies: [IPv6], {PORT}"),
        None,
        &v4,
    ));
    expect![[r#"
        take 1 3, release ([], [])
        clusterIP: "10.96.0.7"
        clusterIPs: ["10.96.0.7"]
        ipFamilies: ["IPv4"]
        ipFamilyPolicy: "SingleStack"
        ports: [{"name":"t","nodePort":31001,"port":53,"protocol":"TCP","targetPort":53},{"name":"u","nodePort":31001,"port":53,"protocol":"UDP","targetPort":53},{"name":"w","nodePort":30080,"port":80,"protocol":"TCP","targetPort":80}]
    "#]].assert_eq(&allocated(
        "type: NodePort, ports: [{port: 53, name: t}, {port: 53, name: u, protocol: UDP}, {port: 80, name: w, nodePort: 30080}]",
        None,
        &v4,
    ));
    expect![[r#"
        take 1 2, release ([], [])
        clusterIP: "10.96.0.7"
        clusterIPs: ["10.96.0.7"]
        ipFamilies: ["IPv4"]
        ipFamilyPolicy: "SingleStack"
        ports: [{"nodePort":31001,"port":80,"protocol":"TCP","targetPort":80}]
        healthCheckNodePort: 31002
    "#]]
    .assert_eq(&allocated(
        &format!("type: LoadBalancer, externalTrafficPolicy: Local, {PORT}"),
        None,
        &v4,
    ));
    expect![[r#"
        take 0 0, release ([], [])

    "#]]
    .assert_eq(&allocated(
        "type: ExternalName, externalName: example.com",
        None,
        &v4,
    ));
}

#[test]
fn a_changed_service_takes_and_gives_back() {
    let v4 = [Family::V4];
    let both = [Family::V4, Family::V6];
    let given = "clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ipFamilies: [IPv4], ipFamilyPolicy: SingleStack";
    let old = created(&service(&format!(
        "type: NodePort, {given}, ports: [{{port: 80, nodePort: 30080}}]"
    )));
    let held_before = Held {
        cluster_ips: vec!["10.96.0.1".into()],
        node_ports: vec![30080],
    };
    assert_eq!(held(&old), held_before);
    expect![[r#"
        take 0 0, release ([], [])
        clusterIP: "10.96.0.1"
        clusterIPs: ["10.96.0.1"]
        ipFamilies: ["IPv4"]
        ipFamilyPolicy: "SingleStack"
        ports: [{"nodePort":30080,"port":80,"protocol":"TCP","targetPort":80}]
    "#]]
    .assert_eq(&allocated(
        &format!("type: NodePort, {PORT}"),
        Some(&old),
        &v4,
    ));
    expect![[r#"
        take 0 1, release ([], [])
        clusterIP: "10.96.0.1"
        clusterIPs: ["10.96.0.1"]
        ipFamilies: ["IPv4"]
        ipFamilyPolicy: "SingleStack"
        ports: [{"name":"a","nodePort":30080,"port":80,"protocol":"TCP","targetPort":80},{"name":"b","nodePort":31001,"port":81,"protocol":"TCP","targetPort":81}]
    "#]].assert_eq(&allocated(
        "type: NodePort, ports: [{port: 80, name: a, nodePort: 30080}, {port: 81, name: b}]",
        Some(&old),
        &v4,
    ));
    expect![[r#"
        take 0 0, release ([], [30080])
        clusterIP: "10.96.0.1"
        clusterIPs: ["10.96.0.1"]
        ipFamilies: ["IPv4"]
        ipFamilyPolicy: "SingleStack"
        ports: [{"port":80,"protocol":"TCP","targetPort":80}]
    "#]]
    .assert_eq(&allocated(
        &format!("type: ClusterIP, {given}, ports: [{{port: 80, nodePort: 30080}}]"),
        Some(&old),
        &v4,
    ));
    expect![[r#"
        take 0 0, release (["10.96.0.1"], [30080])

    "#]]
    .assert_eq(&allocated(
        "type: ExternalName, externalName: example.com",
        Some(&old),
        &v4,
    ));
    expect![[r#"
        take 1 0, release ([], [])
        clusterIP: "10.96.0.1"
        clusterIPs: ["10.96.0.1","fd00::7"]
        ipFamilies: ["IPv4","IPv6"]
        ipFamilyPolicy: "PreferDualStack"
        ports: [{"nodePort":30080,"port":80,"protocol":"TCP","targetPort":80}]
    "#]]
    .assert_eq(&allocated(
        &format!("type: NodePort, ipFamilyPolicy: PreferDualStack, {PORT}"),
        Some(&old),
        &both,
    ));
    let name = created(&service("type: ExternalName, externalName: example.com"));
    expect![[r#"
        take 1 1, release ([], [])
        clusterIP: "10.96.0.7"
        clusterIPs: ["10.96.0.7"]
        ipFamilies: ["IPv4"]
        ipFamilyPolicy: "SingleStack"
        ports: [{"nodePort":31001,"port":80,"protocol":"TCP","targetPort":80}]
    "#]]
    .assert_eq(&allocated(
        &format!("type: NodePort, {PORT}"),
        Some(&name),
        &v4,
    ));
}
