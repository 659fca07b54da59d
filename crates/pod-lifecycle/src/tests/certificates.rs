//! Certificates that pods trust, and those of their own.

use std::sync::Arc;

use expect_test::{Expect, expect};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{ClusterTrustBundle, PodCertificateRequest};
use machinery::pem;

use super::parts::yaml;
use crate::pod::after;
use crate::pod_certificate::{PodCertificate, PrivateKey, Step};
use crate::trust;

fn bundle(name: &str, signer: &str, label: &str, roots: &[&str]) -> Arc<ClusterTrustBundle> {
    let texts = roots
        .iter()
        .map(|r| pem::encode("CERTIFICATE", r.as_bytes()));
    let text = texts.collect::<Vec<_>>().join("anything between\n");
    let mut made: ClusterTrustBundle = yaml(&format!(
        "{{metadata: {{name: '{name}', labels: {{env: {label}}}}}, spec: {{trustBundle: x}}}}"
    ));
    made.spec.signer_name = Some(signer.to_owned()).filter(|s| !s.is_empty());
    made.spec.trust_bundle = text;
    Arc::new(made)
}

fn bundles() -> Vec<Arc<ClusterTrustBundle>> {
    vec![
        bundle("plain", "", "live", &["root1", "root2"]),
        bundle("a.b:c:1", "a.b/c", "live", &["root3", "root4"]),
        bundle("a.b:c:2", "a.b/c", "test", &["root4", "root5"]),
        bundle("x.y:z:1", "x.y/z", "live", &["root6"]),
    ]
}

fn roots(projection: &str, order: u64) -> Result<Vec<String>, String> {
    let text = trust::anchors(&yaml(projection), &bundles(), order)?;
    let text = String::from_utf8(text).expect("text");
    let roots = pem::blocks(text.as_bytes()).map(|b| String::from_utf8_lossy(&b.contents).into());
    Ok(roots.collect())
}

#[test]
fn anchors_are_merged_and_each_is_there_once() {
    let mut out = String::new();
    for projection in [
        "{path: x, name: plain}",
        "{path: x, name: nobody}",
        "{path: x, name: nobody, optional: true}",
        "{path: x, signerName: a.b/c}",
        "{path: x, signerName: a.b/c, labelSelector: {}}",
        "{path: x, signerName: a.b/c, labelSelector: {matchLabels: {env: test}}}",
        "{path: x, signerName: a.b/c, labelSelector: {matchLabels: {env: none}}}",
        "{path: x, signerName: a.b/c, optional: true}",
        "{path: x}",
    ] {
        let found = roots(projection, 0).map(|mut roots| {
            roots.sort();
            roots
        });
        out += &format!("{projection}\n    {found:?}\n");
    }
    expect![[r#"
        {path: x, name: plain}
            Ok(["root1", "root2"])
        {path: x, name: nobody}
            Err("while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"nobody\" not found")
        {path: x, name: nobody, optional: true}
            Ok([])
        {path: x, signerName: a.b/c}
            Err("combination of signerName and labelSelector matched zero ClusterTrustBundles")
        {path: x, signerName: a.b/c, labelSelector: {}}
            Ok(["root3", "root4", "root5"])
        {path: x, signerName: a.b/c, labelSelector: {matchLabels: {env: test}}}
            Ok(["root4", "root5"])
        {path: x, signerName: a.b/c, labelSelector: {matchLabels: {env: none}}}
            Err("combination of signerName and labelSelector matched zero ClusterTrustBundles")
        {path: x, signerName: a.b/c, optional: true}
            Ok([])
        {path: x}
            Err("ClusterTrustBundle projection requires either name or signerName to be set")
    "#]].assert_eq(&out);
}

#[test]
fn the_order_of_anchors_is_that_of_the_kubelets_life() {
    let all = "{path: x, signerName: a.b/c, labelSelector: {}}";
    for order in 0..20 {
        assert_eq!(roots(all, order), roots(all, order));
    }
    assert!((1..20).any(|order| roots(all, order) != roots(all, 0)));
}

const NOON: &str = "2026-01-01T12:00:00Z";

/// One certificate, and what is said and done about it.
struct Story {
    certificate: PodCertificate,
    now: Timestamp,
    out: String,
}

impl Story {
    fn begin() -> Self {
        Self {
            certificate: PodCertificate::default(),
            now: NOON.parse().expect("a time"),
            out: String::new(),
        }
    }

    fn look(&mut self, minutes: i64, status: Option<&str>) -> Step {
        self.now = after(self.now, minutes * 60);
        let request: Option<PodCertificateRequest> = status.map(|status| {
            yaml(&format!(
                "{{metadata: {{name: req-a, namespace: ns}}, status: {status}}}"
            ))
        });
        let step = self.certificate.step(request.as_ref(), self.now, 7);
        self.out += &format!("+{minutes}m");
        self.out += if step.ask { " asks" } else { "" };
        if let Some(at) = step.wake_at {
            self.out += &format!(" until {at}");
        }
        for event in &step.events {
            self.out += &format!("\n    {}: {}", event.reason, event.message);
        }
        let has = self.certificate.credentials();
        self.out += &match has {
            Ok(own) => format!("\n    has {:?} {:?}\n", own.key.0, own.chain),
            Err(why) => format!("\n    {why}\n"),
        };
        step
    }

    fn ask(&mut self, key: &str) {
        let key = PrivateKey(key.into());
        self.certificate.asked(key, "req-a".to_owned(), self.now, 7);
    }

    fn ends(self, expect: &Expect) {
        expect.assert_eq(&self.out);
    }
}

fn issued(content: &str, refresh: &str, end: &str) -> String {
    let chain = format!("by us\n{}", pem::encode("CERTIFICATE", content.as_bytes()));
    format!(
        "{{conditions: [{{lastTransitionTime: '{NOON}', reason: Yes, message: '', type: Issued, status: 'True'}}], certificateChain: {chain:?}, \
         beginRefreshAt: 2026-01-01T{refresh}:00Z, notAfter: 2026-01-01T{end}:00Z}}"
    )
}

fn refused(how: &str, message: &str) -> String {
    format!(
        "{{conditions: [{{lastTransitionTime: '{NOON}', reason: Because, message: {message}, \
         type: {how}, status: 'True'}}]}}"
    )
}

#[test]
fn a_certificate_is_asked_for_and_renewed() {
    let mut story = Story::begin();
    story.look(0, None);
    story.ask("key1");
    story.look(0, None);
    story.look(0, Some("{}"));
    story.look(1, Some(&issued("one", "13:00", "14:00")));
    story.look(0, None);
    story.look(60, None);
    story.ask("key2");
    story.look(0, None);
    story.look(1, Some("{}"));
    story.look(0, Some(&issued("two", "15:00", "16:00")));
    story.ends(&expect![[r#"
        +0m asks
            credential bundle is not issued yet
        +0m until 2026-01-01T12:10:08Z
            credential bundle is not issued yet
        +0m
            credential bundle is not issued yet
        +1m until 2026-01-01T13:00:07Z
            has "key1" "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n"
        +0m until 2026-01-01T13:00:07Z
            has "key1" "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n"
        +60m asks
            has "key1" "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n"
        +0m until 2026-01-01T13:10:08Z
            has "key1" "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n"
        +1m until 2026-01-01T13:10:08Z
            has "key1" "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n"
        +0m until 2026-01-01T15:00:07Z
            has "key2" "-----BEGIN CERTIFICATE-----\ndHdv\n-----END CERTIFICATE-----\n"
    "#]]);
}

#[test]
fn a_certificate_that_nobody_renews_grows_old() {
    let mut story = Story::begin();
    story.look(0, None);
    story.ask("key1");
    story.look(1, Some(&issued("one", "13:00", "14:00")));
    story.look(60, None);
    story.ask("key2");
    story.look(10, Some("{}"));
    story.look(10, Some("{}"));
    story.look(60, Some("{}"));
    story.look(0, None);
    story.look(0, None);
    story.ends(&expect![[r#"
        +0m asks
            credential bundle is not issued yet
        +1m until 2026-01-01T13:00:07Z
            has "key1" "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n"
        +60m asks
            has "key1" "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n"
        +10m until 2026-01-01T14:00:01Z
            CertificateOverdueForRefresh: PodCertificate refresh overdue
            has "key1" "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n"
        +10m until 2026-01-01T14:00:01Z
            has "key1" "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n"
        +60m
            CertificateExpired: PodCertificate expired
            has "key1" "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n"
        +0m asks
            has "key1" "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n"
        +0m asks
            has "key1" "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n"
    "#]]);
}

#[test]
fn a_request_that_was_deleted_is_made_again_and_a_refusal_is_final() {
    let mut story = Story::begin();
    story.look(0, None);
    story.ask("key1");
    story.look(10, None);
    story.look(1, None);
    story.ask("key2");
    story.look(0, Some(&refused("Denied", "never")));
    story.look(100, None);
    story.ends(&expect![[r#"
        +0m asks
            credential bundle is not issued yet
        +10m until 2026-01-01T12:10:08Z
            credential bundle is not issued yet
        +1m asks
            credential bundle is not issued yet
        +0m
            Denied: PodCertificateRequest ns/req-a was denied, reason="Because", message="never"
            PodCertificateRequest was permanently denied: reason="Because" message="never"
        +100m
            PodCertificateRequest was permanently denied: reason="Because" message="never"
    "#]]);
}

#[test]
fn a_renewal_may_be_refused() {
    let mut story = Story::begin();
    story.look(0, None);
    story.ask("key1");
    story.look(1, Some(&issued("one", "13:00", "14:00")));
    story.look(60, None);
    story.ask("key2");
    story.look(0, Some(&refused("Failed", "sorry")));
    story.ends(&expect![[r#"
        +0m asks
            credential bundle is not issued yet
        +1m until 2026-01-01T13:00:07Z
            has "key1" "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n"
        +60m asks
            has "key1" "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n"
        +0m
            Failed: PodCertificateRequest ns/req-a failed, reason="Because", message="sorry"
            PodCertificateRequest was permanently failed: reason="Because" message="sorry"
    "#]]);
}

#[test]
fn keys_are_never_shown() {
    let mut certificate = PodCertificate::default();
    let now = NOON.parse().expect("a time");
    certificate.asked(PrivateKey("secret".into()), "req-a".to_owned(), now, 0);
    assert!(!format!("{certificate:?}").contains("secret"));
}
