//! What the server notes, what is refused, who may write which part.

use expect_test::expect;

use crate::Part;
use crate::testing::{check, check_row, created, updated};

fn request(signer: &str, rest: &str) -> String {
    let text = include_str!(
        "../../testdata/minimal/certificates.k8s.io.v1.CertificateSigningRequest.yaml"
    );
    let text = text.replace("kubernetes.io/kube-apiserver-client-kubelet", signer);
    format!("{}\n{rest}", text.trim_end())
}

#[test]
fn who_asks_is_what_the_server_knows() {
    let forged = request(
        "example.com/signer",
        "  username: admin\n  groups: [system:masters]\nstatus: {certificate: aGk=}\n",
    );
    let object = created(&forged);
    assert_eq!(object.str_at(&["spec", "username"]), "jane");
    assert!(object.at(&["spec", "groups"]).is_none());
    assert!(object.at(&["status", "certificate"]).is_none());
}

#[test]
fn signers_usages_and_times_are_checked() {
    check(
        &request("kubernetes.io/legacy-unknown", "  expirationSeconds: 599\n"),
        expect![[r#"
        spec.signerName: Invalid value: "kubernetes.io/legacy-unknown": the legacy signerName is not allowed via this API version
        spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)
    "#]],
    );
    check(
        &request("signer", ""),
        expect![[r#"
        spec.signerName: Invalid value: "signer": must be a fully qualified domain and path of the form 'example.com/signer-name'
    "#]],
    );
    check(
        &request("local/a_b", ""),
        expect![[r#"
        spec.signerName: Invalid value: "local": should be a domain with at least two segments separated by dots
        spec.signerName: Invalid value: "a_b": validating label "a_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
    "#]],
    );
    let usages = request("a.b/c", "").replace(
        "[digital signature, client auth]",
        "[client auth, client auth, flying]",
    );
    check(
        &usages,
        expect![[r#"
        spec.usages[2]: Unsupported value: "flying": supported values: "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment", "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing", "timestamping"
        spec.usages[1]: Duplicate value: "client auth"
    "#]],
    );
    let broken = request("a.b/c", "");
    let (head, _) = broken.split_once("request: ").expect("a request");
    check(
        &format!("{head}request: aGVsbG8=\n"),
        expect![[r#"
        spec.request: Invalid value: "aGVsbG8=": PEM block type must be CERTIFICATE REQUEST
    "#]],
    );
}

#[test]
fn approval_and_certificate_have_parts_of_their_own() {
    let old = created(&request("a.b/c", ""));
    let approved = request(
        "a.b/c",
        "status:\n  certificate: aGk=\n  conditions: [{type: Approved, status: 'True', reason: Fine}]\n",
    );
    let (new, errors) = updated(Part::Main, &old, &approved);
    assert_eq!(
        (errors.as_str(), new.at(&["status", "conditions"])),
        ("", None)
    );
    let (_, errors) = updated(Part::Status, &old, &approved);
    expect![[r#"
        status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block
        status.conditions: Forbidden: updates may not add a condition of type "Approved"
    "#]].assert_eq(&errors);
    let (new, errors) = updated(Part::Approval, &old, &approved);
    assert_eq!(
        (errors.as_str(), new.at(&["status", "certificate"])),
        ("", None)
    );
    expect![[r#"{"conditions":[{"lastTransitionTime":"2026-01-02T03:04:05Z","lastUpdateTime":"2026-01-02T03:04:05Z","reason":"Fine","status":"True","type":"Approved"}]}"#]].assert_eq(&serde_json::to_string(&new.0["status"]).expect("JSON"));
    let both = request(
        "a.b/c",
        "status:\n  conditions:\n  - {type: Denied, status: 'True'}\n  - {type: Approved, status: 'False'}\n",
    );
    let (_, errors) = updated(Part::Approval, &new, &both);
    expect![[r#"
        status.conditions[1].status: Unsupported value: "False": supported values: "True"
        status.conditions: Invalid value: "Approved": Approved and Denied conditions are mutually exclusive
    "#]].assert_eq(&errors);
    let (_, errors) = updated(Part::Approval, &new, &request("a.b/c", "status: {}\n"));
    expect![[r#"
        status.conditions: Forbidden: updates may not remove a condition of type "Approved"
    "#]]
    .assert_eq(&errors);
}

#[test]
fn a_row_tells_the_state() {
    let text = request(
        "a.b/c",
        "  expirationSeconds: 86400\n  username: jane\nstatus: {certificate: aGk=, conditions: [{type: Approved, status: 'True'}]}\n",
    );
    check_row(
        &text,
        expect!["node-1 | <unknown> | a.b/c | jane | 24h | Approved,Issued"],
    );
}
