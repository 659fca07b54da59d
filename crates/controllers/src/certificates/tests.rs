//! Who gets a certificate, and what becomes of requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use expect_test::{Expect, expect};
use jiff::Timestamp;
use testkit::World;

use super::approving::CsrApproving;
use super::cleaning::CsrCleaner;
use super::pod_cleaning::PodCertificateRequestCleaner;
use super::serving::ServingApprover;
use super::signing::{CsrSigning, Order, Sign};
use crate::harness::{check, check_world};

/// O=system:nodes, CN=system:node:n1.
const NODE: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIck1JR1NBZ0VBTURBeEZUQVRCZ05WQkFvTURITjVjM1JsYlRwdWIyUmxjekVYTUJVR0ExVUVBd3dPYzNsegpkR1Z0T201dlpHVTZiakV3V1RBVEJnY3Foa2pPUFFJQkJnZ3Foa2pPUFFNQkJ3TkNBQVI2ZnJCNFkvU0ZxaUhsClpGeDhZMDJDR1k2b1phQTNLWDgyd0JIbTc4b01zMzdWSk5oa1RhUUFjWWlIbXpmajh1STd1VXM5YVRKWVZTMEQKeCtBRldISTdvQUF3Q2dZSUtvWkl6ajBFQXdJRFNBQXdSUUlnWjM1dTFCb3E2SHp3akhmSFBnV25aRVUyZ1pwRgowYlNmZzhJVEZuMnRCUzBDSVFEY0RTQjZjU25iNWFkL1RObk9YeDRPOUxoQ2F6dnRsamxzYWNhWFhmUXZMQT09Ci0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo=";
/// The same with DNS:n1 and IP:10.0.0.7.
const SERVING: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlJQkVqQ0J1QUlCQURBd01SVXdFd1lEVlFRS0RBeHplWE4wWlcwNmJtOWtaWE14RnpBVkJnTlZCQU1NRG5ONQpjM1JsYlRwdWIyUmxPbTR4TUZrd0V3WUhLb1pJemowQ0FRWUlLb1pJemowREFRY0RRZ0FFZW42d2VHUDBoYW9oCjVXUmNmR05OZ2htT3FHV2dOeWwvTnNBUjV1L0tETE4rMVNUWVpFMmtBSEdJaDVzMzQvTGlPN2xMUFdreVdGVXQKQThmZ0JWaHlPNkFtTUNRR0NTcUdTSWIzRFFFSkRqRVhNQlV3RXdZRFZSMFJCQXd3Q29JQ2JqR0hCQW9BQUFjdwpDZ1lJS29aSXpqMEVBd0lEU1FBd1JnSWhBTnZiWDFhcXpTNkZiMExuWFBMTXpVRmJUZnluczB4N2R0NGduRko4Cmk2QjBBaUVBMUJaNXB2UGhwaWVsQjJ0WnNBT1QxR2Vsd2RYUU1mbjhDSDFJOUszZk1YZz0KLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg==";
/// O=team, O=devs, CN=jane.
const JANE: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIbk1JR1BBZ0VBTUMweERUQUxCZ05WQkFvTUJIUmxZVzB4RFRBTEJnTlZCQW9NQkdSbGRuTXhEVEFMQmdOVgpCQU1NQkdwaGJtVXdXVEFUQmdjcWhrak9QUUlCQmdncWhrak9QUU1CQndOQ0FBUjZmckI0WS9TRnFpSGxaRng4ClkwMkNHWTZvWmFBM0tYODJ3QkhtNzhvTXMzN1ZKTmhrVGFRQWNZaUhtemZqOHVJN3VVczlhVEpZVlMwRHgrQUYKV0hJN29BQXdDZ1lJS29aSXpqMEVBd0lEUndBd1JBSWdWK05tQkk3WlBQSXYvdTZGcmFrRk8wbXB5SmhNVmtMQwphd3IzRzRQa3NXQUNJRmNRenZUU3lieUpiRjFDR01xVE01ajNvWTl6Q1pKNHhPK1o5d2tDbGhJKwotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K";

fn request(signer: &str, user: &str, usage: &str, request: &str, rest: &str) -> String {
    format!(
        "apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {{name: csr, creationTimestamp: '2025-12-31T12:00:00Z'}}
spec:
  signerName: kubernetes.io/{signer}
  username: {user}
  usages: [digital signature, {usage}]
  request: {request}
{rest}"
    )
}

fn client(user: &str, rest: &str) -> String {
    request(
        "kube-apiserver-client-kubelet",
        user,
        "client auth",
        NODE,
        rest,
    )
}

const APPROVED: &str = "status: {conditions: [{type: Approved, status: 'True', lastUpdateTime: '2025-12-31T23:30:00Z'}]}";

#[test]
fn kubelets_get_their_client_certificates_when_they_may() {
    let own = client("system:node:n1", "");
    check(
        &CsrApproving,
        &own,
        "csr",
        &expect![[r#"
            because whether the one who asks may have it is asked
            confirm access {"extra":null,"groups":null,"resourceAttributes":{"group":"certificates.k8s.io","resource":"certificatesigningrequests","subresource":"selfnodeclient","verb":"create","version":"*"},"uid":null,"user":"system:node:n1"}
            confirm access {"extra":null,"groups":null,"resourceAttributes":{"group":"certificates.k8s.io","resource":"certificatesigningrequests","subresource":"nodeclient","verb":"create","version":"*"},"uid":null,"user":"system:node:n1"}
            because the one who asks may have it
            update/approval certificatesigningrequests.certificates.k8s.io csr
        "#]],
    );
    let joins = client("system:bootstrap:abcdef", "");
    check(
        &CsrApproving,
        &joins,
        "csr",
        &expect![[r#"
        because whether the one who asks may have it is asked
        confirm access {"extra":null,"groups":null,"resourceAttributes":{"group":"certificates.k8s.io","resource":"certificatesigningrequests","subresource":"nodeclient","verb":"create","version":"*"},"uid":null,"user":"system:bootstrap:abcdef"}
        because the one who asks may have it
        update/approval certificatesigningrequests.certificates.k8s.io csr
    "#]],
    );
    let mut world = World::from_yaml(&own);
    world.allows = false;
    check_world(
        &CsrApproving,
        &world,
        "csr",
        &expect![[r#"
            because whether the one who asks may have it is asked
            confirm access {"extra":null,"groups":null,"resourceAttributes":{"group":"certificates.k8s.io","resource":"certificatesigningrequests","subresource":"selfnodeclient","verb":"create","version":"*"},"uid":null,"user":"system:node:n1"}
            confirm access {"extra":null,"groups":null,"resourceAttributes":{"group":"certificates.k8s.io","resource":"certificatesigningrequests","subresource":"nodeclient","verb":"create","version":"*"},"uid":null,"user":"system:node:n1"}
            because recognized as ["selfnodeclient", "nodeclient"] but not allowed
        "#]],
    );
    let jane = request("kube-apiserver-client", "jane", "client auth", JANE, "");
    check(
        &CsrApproving,
        &jane,
        "csr",
        &expect![[r#"
        because it is not the client certificate of a kubelet
    "#]],
    );
}

#[test]
fn kubelets_get_serving_certificates_for_what_they_are() {
    let asks = |user: &str, address: &str| {
        let node = format!(
            "---
apiVersion: v1
kind: Node
metadata: {{name: n1}}
status: {{addresses: [{{type: InternalIP, address: {address}}}, {{type: Hostname, address: n1}}]}}"
        );
        request("kubelet-serving", user, "server auth", SERVING, &node)
    };
    check(
        &ServingApprover,
        &asks("system:node:n1", "10.0.0.7"),
        "csr",
        &expect![[r#"
            because all names in it are those of the node that asks
            update/approval certificatesigningrequests.certificates.k8s.io csr
        "#]],
    );
    check(
        &ServingApprover,
        &asks("system:node:n1", "10.0.0.8"),
        "csr",
        &expect![[r#"
            because 10.0.0.7 is no address of the node
        "#]],
    );
    check(
        &ServingApprover,
        &asks("system:node:n2", "10.0.0.7"),
        "csr",
        &expect![[r#"
            because it is not for the one who asks
        "#]],
    );
}

/// Signs by telling what was ordered.
struct Teller;

impl Sign for Teller {
    fn sign(&self, order: &Order, _now: Timestamp) -> Result<Vec<u8>, String> {
        let (who, usages) = (&order.request.common_name, order.usages.join(","));
        Ok(format!("{who} for {usages}, {} s", order.seconds).into_bytes())
    }
}

fn signs(yaml: &str, expected: &Expect) {
    let names = [super::KUBELET_CLIENT, super::API_CLIENT];
    let signers = names.map(|name| (name, Arc::new(Teller) as Arc<dyn Sign>));
    let signing = CsrSigning {
        signers: BTreeMap::from(signers),
        max_seconds: 3600,
    };
    check(&signing, yaml, "csr", expected);
}

#[test]
fn only_what_is_approved_is_signed() {
    signs(
        &client("system:node:n1", ""),
        &expect![[r#"
        because it is not approved
    "#]],
    );
    signs(
        &client("system:node:n1", APPROVED),
        &expect![[r#"
        because it is approved
        status certificatesigningrequests.certificates.k8s.io csr: {"certificate":"c3lzdGVtOm5vZGU6bjEgZm9yIGRpZ2l0YWwgc2lnbmF0dXJlLGNsaWVudCBhdXRoLCAzNjAwIHM=","conditions":[{"lastUpdateTime":"2025-12-31T23:30:00Z","status":"True","type":"Approved"}]}
    "#]],
    );
    let wrong = request(
        "kube-apiserver-client",
        "jane",
        "server auth",
        JANE,
        APPROVED,
    );
    signs(
        &wrong,
        &expect![[r#"
        because invalid usage for client certificate: server auth
        status certificatesigningrequests.certificates.k8s.io csr: {"conditions":[{"lastUpdateTime":"2025-12-31T23:30:00Z","status":"True","type":"Approved"},{"lastUpdateTime":"2026-01-01T00:00:00Z","message":"invalid usage for client certificate: server auth","reason":"SignerValidationFailure","status":"True","type":"Failed"}]}
    "#]],
    );
    let lacking = request(
        "kubelet-serving",
        "system:node:n1",
        "server auth",
        SERVING,
        APPROVED,
    );
    signs(
        &lacking,
        &expect![[r#"
        because no signer of that name is here
    "#]],
    );
}

#[test]
fn old_requests_go() {
    check(
        &CsrCleaner,
        &client("system:node:n1", ""),
        "csr",
        &expect![[r#"
            because it is not old yet
            again after 43201s
        "#]],
    );
    check(
        &CsrCleaner,
        &client("system:node:n1", APPROVED),
        "csr",
        &expect![[r#"
            because it is not old yet
            again after 84601s
        "#]],
    );
    let denied = APPROVED
        .replace("Approved", "Denied")
        .replace("23:30", "22:30");
    check(
        &CsrCleaner,
        &client("system:node:n1", &denied),
        "csr",
        &expect![[r#"
            because it was denied an hour ago
            delete certificatesigningrequests.certificates.k8s.io csr
        "#]],
    );
    let signed = APPROVED.replace("conditions", "certificate: aGk=, conditions");
    check(
        &CsrCleaner,
        &client("system:node:n1", &signed),
        "csr",
        &expect![[r#"
            because it is not old yet
            again after 1801s
        "#]],
    );
}

#[test]
fn requests_of_pods_go_after_a_quarter_of_an_hour() {
    let request = |created: &str| {
        format!(
            "apiVersion: certificates.k8s.io/v1
kind: PodCertificateRequest
metadata: {{name: req-a, namespace: team, creationTimestamp: '{created}'}}
spec: {{signerName: a.b/c}}"
        )
    };
    check(
        &PodCertificateRequestCleaner,
        &request("2025-12-31T23:50:00Z"),
        "team/req-a",
        &expect![[r#"
            because it is not old yet
            again after 300s
        "#]],
    );
    let old = request("2025-12-31T23:45:00Z");
    check(
        &PodCertificateRequestCleaner,
        &old,
        "team/req-a",
        &expect![[r#"
            because it is a quarter of an hour old
            delete podcertificaterequests.certificates.k8s.io team/req-a
        "#]],
    );
    let key = control::Key::new("team", "req-a");
    let rest =
        testkit::laws::settle_loosely(&PodCertificateRequestCleaner, World::from_yaml(&old), &key);
    assert_eq!(rest.of_kind("PodCertificateRequest").count(), 0);
}
