//! One zone, many questions: name and type in, reply out.

use expect_test::{Expect, expect};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, Record, RecordType};
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
            Some(json!({
                "metadata": {"name": "web-1"}, "addressType": "IPv4",
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
                "endpoints": [{"addresses": ["10.244.0.9"]}],
            })),
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
        (
            service(
                "alias",
                json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}),
            ),
            None,
        ),
        (
            service(
                "round",
                json!({"type": "ExternalName", "externalName": "round.default.svc.cluster.local"}),
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

fn show(reply: &Message) -> String {
    let records = |all: &[Record], more: &str| -> String {
        all.iter().map(|r| format!("{more}{r}\n")).collect()
    };
    let authority = if reply.authorities.is_empty() {
        ""
    } else {
        " soa"
    };
    let answers = records(&reply.answers, "");
    let additional = records(&reply.additionals, "+ ");
    format!(
        "{:?}{authority}\n{answers}{additional}",
        reply.metadata.response_code
    )
}

fn check(name: &str, kind: RecordType, expect: Expect) {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    let text = match answer(&zone(), &query, 0) {
        Answer::Forward => "forward\n".to_owned(),
        Answer::Follow { reply, query } => {
            let question = &query.queries[0];
            let (name, kind) = (question.name(), question.query_type());
            format!("{}and what {name} {kind} is\n", show(&reply))
        }
        Answer::Reply(reply) => {
            assert_eq!(reply.metadata.id, query.metadata.id);
            show(&reply)
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
            + web.default.svc.cluster.local. 5 IN A 10.96.0.20
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
            _sql._tcp.db.default.svc.cluster.local. 5 IN SRV 0 50 5432 db-0.db.default.svc.cluster.local.
            _sql._tcp.db.default.svc.cluster.local. 5 IN SRV 0 50 5432 10-244-0-6.db.default.svc.cluster.local.
            + 10-244-0-6.db.default.svc.cluster.local. 5 IN A 10.244.0.6
            + db-0.db.default.svc.cluster.local. 5 IN A 10.244.0.5
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
            and what example.com. A is
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
fn names_that_stand_for_others_are_followed() {
    let alias = "alias.default.svc.cluster.local.";
    check(
        alias,
        RecordType::A,
        expect![[r#"
        NoError
        alias.default.svc.cluster.local. 5 IN CNAME web.default.svc.cluster.local.
        web.default.svc.cluster.local. 5 IN A 10.96.0.20
    "#]],
    );
    check(
        alias,
        RecordType::AAAA,
        expect![[r#"
            NoError soa
            alias.default.svc.cluster.local. 5 IN CNAME web.default.svc.cluster.local.
        "#]],
    );
    check(
        alias,
        RecordType::CNAME,
        expect![[r#"
        NoError
        alias.default.svc.cluster.local. 5 IN CNAME web.default.svc.cluster.local.
    "#]],
    );
    check(
        alias,
        RecordType::TXT,
        expect![[r#"
        NoError soa
    "#]],
    );
    check(
        "round.default.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
            NoError soa
            round.default.svc.cluster.local. 5 IN CNAME round.default.svc.cluster.local.
        "#]],
    );
}

#[test]
fn end_points_have_names_under_every_service() {
    let name = "10-244-0-9.web.default.svc.cluster.local.";
    check(
        name,
        RecordType::A,
        expect![[r#"
        NoError
        10-244-0-9.web.default.svc.cluster.local. 5 IN A 10.244.0.9
    "#]],
    );
    check(
        name,
        RecordType::SRV,
        expect![[r#"
        NoError
        10-244-0-9.web.default.svc.cluster.local. 5 IN SRV 0 100 8080 10-244-0-9.web.default.svc.cluster.local.
        + 10-244-0-9.web.default.svc.cluster.local. 5 IN A 10.244.0.9
    "#]],
    );
    check(
        "9.0.244.10.in-addr.arpa.",
        RecordType::PTR,
        expect![[r#"
        NoError
        9.0.244.10.in-addr.arpa. 5 IN PTR 10-244-0-9.web.default.svc.cluster.local.
    "#]],
    );
    check(
        "5.0.244.10.in-addr.arpa.",
        RecordType::PTR,
        expect![[r#"
        NoError
        5.0.244.10.in-addr.arpa. 5 IN PTR db-0.db.default.svc.cluster.local.
    "#]],
    );
    check(
        "_http._tcp.web.default.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
            NoError
            _http._tcp.web.default.svc.cluster.local. 5 IN A 10.96.0.20
        "#]],
    );
    check(
        "_nosuch._tcp.web.default.svc.cluster.local.",
        RecordType::SRV,
        expect![[r#"
            NXDomain soa
        "#]],
    );
    check(
        "cluster.local.",
        RecordType::NS,
        expect![[r#"
        NoError
        cluster.local. 5 IN NS ns.dns.cluster.local.
    "#]],
    );
}

#[test]
fn a_long_reply_has_what_fits() {
    let name = Name::from_ascii("many.default.svc.cluster.local.").expect("a name");
    let mut reply = Message::query();
    for last in 0..100 {
        let address = hickory_proto::rr::rdata::A::new(10, 0, 0, last);
        let address = hickory_proto::rr::RData::A(address);
        reply.add_answer(Record::from_rdata(name.clone(), 5, address));
    }
    let whole = reply.to_vec().expect("encoded").len();
    let all = Message::from_vec(&crate::fit(&reply, 4096)).expect("decoded");
    assert!(
        !all.metadata.truncation && all.answers.len() == 100,
        "{whole}"
    );
    for limit in [512, 1232] {
        let bytes = crate::fit(&reply, limit);
        let some = Message::from_vec(&bytes).expect("decoded");
        assert!(some.metadata.truncation && bytes.len() <= usize::from(limit));
        assert!(bytes.len() + 16 > usize::from(limit), "{}", bytes.len());
    }
}

#[test]
fn a_removed_service_takes_its_names_along() {
    let mut zone = zone();
    zone.set(&("default".into(), "web".into()), None);
    assert!(!zone.pointers.contains_key(&[10, 96, 0, 20].into()));
    for name in ["db", "empty", "out", "alias", "round"] {
        zone.set(&("default".into(), name.into()), None);
    }
    assert!(zone.namespaces.is_empty() && zone.pointers.is_empty());
}
