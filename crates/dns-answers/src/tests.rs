//! One zone, many questions: name and type in, reply out.

use expect_test::{Expect, expect};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use crate::{Answer, Zone, answer, compile};

fn zone() -> Zone {
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
    let ports = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
    let slice = json!({
        "metadata": {"name": "db-1"}, "addressType": "IPv4",
        "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": ["10.244.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
            {"addresses": ["10.244.0.6"], "conditions": {"ready": true}},
            {"addresses": ["10.244.0.7"], "conditions": {"ready": false}},
        ],
    });
    let services = [
        (
            service(
                "web",
                json!({"clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20"], "ports": ports}),
            ),
            None,
        ),
        (
            service("db", json!({"clusterIP": "None", "clusterIPs": ["None"]})),
            Some(slice),
        ),
        (
            service(
                "empty",
                json!({"clusterIP": "None", "clusterIPs": ["None"]}),
            ),
            None,
        ),
        (
            service(
                "out",
                json!({"type": "ExternalName", "externalName": "example.com"}),
            ),
            None,
        ),
    ];
    let mut zone = Zone::new("cluster.local");
    for (service, slice) in services {
        let service: Service = serde_json::from_value(service).expect("a service");
        let slice = slice.map(|s| serde_json::from_value(s).expect("a slice"));
        let name = service.metadata.name.clone().expect("a name");
        zone.set(&("default".into(), name), compile(&service, slice.iter()));
    }
    zone
}

fn check(name: &str, kind: RecordType, expect: Expect) {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    let text = match answer(&zone(), &query, 0) {
        Answer::Forward => "forward\n".to_owned(),
        Answer::Reply(reply) => {
            assert_eq!(reply.metadata.id, query.metadata.id);
            let answers = reply
                .answers
                .iter()
                .map(|r| format!("{r}\n"))
                .collect::<String>();
            let authority = if reply.authorities.is_empty() {
                ""
            } else {
                " soa"
            };
            format!("{:?}{authority}\n{answers}", reply.metadata.response_code)
        }
    };
    expect.assert_eq(&text);
}

#[test]
fn a_service_with_an_address() {
    check(
        "web.default.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        NoError
        web.default.svc.cluster.local. 5 IN A 10.96.0.20
    "#]],
    );
    check(
        "WEB.Default.svc.cluster.local.",
        RecordType::AAAA,
        expect![[r#"
        NoError soa
    "#]],
    );
    check(
        "_http._tcp.web.default.svc.cluster.local.",
        RecordType::SRV,
        expect![[r#"
        NoError
        _http._tcp.web.default.svc.cluster.local. 5 IN SRV 0 100 80 web.default.svc.cluster.local.
    "#]],
    );
    check(
        "20.0.96.10.in-addr.arpa.",
        RecordType::PTR,
        expect![[r#"
        NoError
        20.0.96.10.in-addr.arpa. 5 IN PTR web.default.svc.cluster.local.
    "#]],
    );
}

#[test]
fn a_headless_service_stands_for_its_ready_end_points() {
    check(
        "db.default.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        NoError
        db.default.svc.cluster.local. 5 IN A 10.244.0.5
        db.default.svc.cluster.local. 5 IN A 10.244.0.6
    "#]],
    );
    check(
        "db-0.db.default.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        NoError
        db-0.db.default.svc.cluster.local. 5 IN A 10.244.0.5
    "#]],
    );
    check(
        "_sql._tcp.db.default.svc.cluster.local.",
        RecordType::SRV,
        expect![[r#"
        NoError
        _sql._tcp.db.default.svc.cluster.local. 5 IN SRV 0 100 5432 db-0.db.default.svc.cluster.local.
        _sql._tcp.db.default.svc.cluster.local. 5 IN SRV 0 100 5432 10-244-0-6.db.default.svc.cluster.local.
    "#]],
    );
    check(
        "empty.default.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        NXDomain soa
    "#]],
    );
}

#[test]
fn names_that_are_not_there_and_names_that_are_not_ours() {
    check(
        "nothing.default.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        NXDomain soa
    "#]],
    );
    check(
        "default.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        NoError soa
    "#]],
    );
    check(
        "example.com.",
        RecordType::A,
        expect![[r#"
        forward
    "#]],
    );
    check(
        "cluster.local.example.com.",
        RecordType::A,
        expect![[r#"
        forward
    "#]],
    );
    check(
        "9.9.9.9.in-addr.arpa.",
        RecordType::PTR,
        expect![[r#"
        forward
    "#]],
    );
}

#[test]
fn external_names_pods_and_the_version() {
    check(
        "out.default.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        NoError
        out.default.svc.cluster.local. 5 IN CNAME example.com.
    "#]],
    );
    check(
        "10-244-0-5.default.pod.cluster.local.",
        RecordType::A,
        expect![[r#"
        NoError
        10-244-0-5.default.pod.cluster.local. 5 IN A 10.244.0.5
    "#]],
    );
    check(
        "dns-version.cluster.local.",
        RecordType::TXT,
        expect![[r#"
        NoError
        dns-version.cluster.local. 5 IN TXT 1.1.0
    "#]],
    );
}

#[test]
fn a_removed_service_takes_its_names_along() {
    let mut zone = zone();
    zone.set(&("default".into(), "web".into()), None);
    assert!(!zone.pointers.contains_key(&[10, 96, 0, 20].into()));
    for name in ["db", "empty", "out"] {
        zone.set(&("default".into(), name.into()), None);
    }
    assert!(zone.namespaces.is_empty() && zone.pointers.is_empty());
}
