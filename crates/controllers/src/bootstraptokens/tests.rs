//! Tokens come, sign, expire.

use control::Key;
use expect_test::expect;
use testkit::World;

use super::cleaner::TokenCleaner;
use super::signer::{BootstrapSigner, signature};
use crate::harness::check;

/// A token `abcdef.0123456789abcdef`, in base64 what must be.
const TOKEN: &str = "
apiVersion: v1
kind: Secret
metadata: {name: bootstrap-token-abcdef, namespace: kube-system}
type: bootstrap.kubernetes.io/token
data:
  token-id: YWJjZGVm
  token-secret: MDEyMzQ1Njc4OWFiY2RlZg==
  usage-bootstrap-signing: dHJ1ZQ==
  expiration: MjAyNi0wMS0wMVQwMTowMDowMFo=
";
const INFO: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: cluster-info, namespace: kube-public}
data: {kubeconfig: text, jws-kubeconfig-gone00: old}
";

#[test]
fn a_token_goes_when_it_expires() {
    let key = "kube-system/bootstrap-token-abcdef";
    check(
        &TokenCleaner,
        TOKEN,
        key,
        &expect![[r#"
        because it has not expired yet
        again after 3600s
    "#]],
    );
    let expired = TOKEN.replace("MjAyNi", "MjAyNS");
    check(
        &TokenCleaner,
        &expired,
        key,
        &expect![[r#"
        because it has expired
        delete secrets kube-system/bootstrap-token-abcdef
    "#]],
    );
    let other = expired.replace("kubernetes.io/token", "kubernetes.io/other");
    check(
        &TokenCleaner,
        &other,
        key,
        &expect![[r#"
        gone
    "#]],
    );
}

#[test]
fn cluster_info_is_signed_by_the_tokens_there_are() {
    let world = format!("{INFO}---{TOKEN}");
    let key = Key::new("kube-public", "cluster-info");
    check(
        &BootstrapSigner,
        &world,
        "kube-public/cluster-info",
        &expect![[r#"
            because the signatures are not those of the tokens
            update configmaps kube-public/cluster-info
        "#]],
    );
    let rest = testkit::laws::settle_loosely(&BootstrapSigner, World::from_yaml(&world), &key);
    let info = rest
        .get("ConfigMap", "kube-public", "cluster-info")
        .expect("there");
    expect![[r#"{"jws-kubeconfig-abcdef":"eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..v28Ea_KqmHOtFWksJ_4tbV6AFRNzMkrRUG_jsuLJz-4","kubeconfig":"text"}"#]].assert_eq(&info["data"].to_string());
}

#[test]
fn the_signature_is_the_usual_one() {
    // The example of RFC 7515's form that kubeadm checks: header.algorithm and key id, nothing between the dots.
    let text = signature("text", "abcdef", "0123456789abcdef");
    assert!(
        text.starts_with("eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9.."),
        "{text}"
    );
}
