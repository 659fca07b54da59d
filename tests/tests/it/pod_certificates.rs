//! Certificates in pods: those of their own, with this test as the signer, and those that they trust.

use cluster_tests::{Cluster, Namespace};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair,
};
use serde_json::{Value, json};

const MINOR: u32 = 36;

/// A pod of one busybox container with these sources at `/certs`.
fn pod(name: &str, sources: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         containers:\n  - name: main\n    image: busybox\n    imagePullPolicy: IfNotPresent\n    \
         command: [sleep, '10408']\n    volumeMounts: [{{name: certs, mountPath: /certs}}]\n  \
         volumes:\n  - name: certs\n    projected:\n      sources:\n{sources}"
    )
}

fn certificate(signer: &str, key_type: &str) -> String {
    format!(
        "      - podCertificate: {{signerName: {signer}, keyType: {key_type}, maxExpirationSeconds: 7200, \
         userAnnotations: {{tests.oxikube.io/for: us}}, credentialBundlePath: all.pem, keyPath: key.pem, \
         certificateChainPath: chain.pem}}\n"
    )
}

fn trusted(signer: &str) -> String {
    format!(
        "      - clusterTrustBundle: {{signerName: {signer}, labelSelector: {{}}, path: roots.pem}}\n"
    )
}

fn apply(space: &Namespace, manifest: &str) {
    space.input(&["apply", "-f", "-"], manifest).ok();
}

fn inside(space: &Namespace, pod: &str, command: &[&str]) -> String {
    let all = [&["exec", pod, "--"], command].concat();
    space.kubectl(&all).ok()
}

/// An authority of our own, and its certificate.
fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let root = params.self_signed(&key).expect("a certificate");
    (Issuer::new(params, key), root.pem())
}

/// Waits for the request of a pod.
fn request_of(space: &Namespace, pod: &str) -> Value {
    let requests = space.running(&[
        "get",
        "podcertificaterequests",
        "--watch",
        "-o",
        "custom-columns=P:.spec.podName,N:.metadata.name",
    ]);
    let line = requests.line(&format!("{pod} "));
    let name = line.split_whitespace().last().expect("a name").to_owned();
    let told = space.kubectl(&["get", "podcertificaterequest", &name, "-o", "json"]);
    serde_json::from_str(&told.ok()).expect("JSON")
}

fn answer(space: &Namespace, request: &Value, kind: &str, mut status: Value) {
    status["conditions"] = json!([{
        "type": kind, "status": "True", "reason": "Tested", "message": "by the test",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]);
    let patch = json!({ "status": status }).to_string();
    let name = request["metadata"]["name"].as_str().expect("a name");
    let arguments = [
        "patch",
        "podcertificaterequest",
        name,
        "--subresource=status",
    ];
    let arguments = [&arguments[..], &["--type=merge", "-p", &patch]].concat();
    space.kubectl(&arguments).ok();
}

/// Issues what is asked for; the certificate.
fn issue(space: &Namespace, request: &Value, issuer: &Issuer<'_, KeyPair>) -> String {
    let stub = request["spec"]["stubPKCS10Request"].as_str();
    let stub = stub.expect("a stub");
    let kind = "CERTIFICATE REQUEST";
    let pem = format!("-----BEGIN {kind}-----\n{stub}\n-----END {kind}-----\n");
    let mut asked = CertificateSigningRequestParams::from_pem(&pem).expect("a signed request");
    let begin = Timestamp::from_second(Timestamp::now().as_second()).expect("a time");
    let end = begin + SignedDuration::from_hours(2);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let moment = |at: Timestamp| {
        epoch + std::time::Duration::from_secs(u64::try_from(at.as_second()).expect("after 1970"))
    };
    asked.params.not_before = moment(begin);
    asked.params.not_after = moment(end);
    let chain = asked.signed_by(issuer).expect("a certificate").pem();
    let status = json!({
        "certificateChain": format!("in between\n{chain}"),
        "notBefore": begin.to_string(),
        "beginRefreshAt": (begin + SignedDuration::from_hours(1)).to_string(),
        "notAfter": end.to_string(),
    });
    answer(space, request, "Issued", status);
    chain.replace("\r\n", "\n")
}

#[test]
fn a_pod_has_the_certificate_that_its_signer_issues() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("pod-certificates", MINOR);
    let signer = "tests.oxikube.io/issues";
    let (issuer, _) = authority();
    for key_type in ["ED25519", "ECDSAP384", "RSA3072"] {
        let name = key_type.to_lowercase();
        apply(&space, &pod(&name, &certificate(signer, key_type)));
        let request = request_of(&space, &name);
        let spec = &request["spec"];
        assert_eq!(spec["serviceAccountName"], "default");
        assert_eq!(spec["maxExpirationSeconds"], 7200);
        let annotations = &spec["unverifiedUserAnnotations"];
        assert_eq!(annotations["tests.oxikube.io/for"], "us");
        let owner = &request["metadata"]["ownerReferences"][0];
        assert_eq!(owner["uid"], spec["podUID"]);
        let chain = issue(&space, &request, &issuer);
        space.wait(&[&format!("pod/{name}")], "condition=Ready");
        assert_eq!(inside(&space, &name, &["cat", "/certs/chain.pem"]), chain);
        let key = inside(&space, &name, &["cat", "/certs/key.pem"]);
        KeyPair::from_pem(&key).expect("a key that others read");
        let both = inside(&space, &name, &["cat", "/certs/all.pem"]);
        assert_eq!(both, format!("{key}{chain}"));
        let mounts = inside(&space, &name, &["cat", "/proc/mounts"]);
        assert!(mounts.contains("tmpfs /certs tmpfs ro"), "{mounts}");
    }
}

#[test]
fn a_pod_waits_for_a_signer_and_takes_no_for_an_answer() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("no-certificates", MINOR);
    let sources = certificate("tests.oxikube.io/refuses", "ECDSAP521");
    apply(&space, &pod("refused", &sources));
    let request = request_of(&space, "refused");
    let name = request["metadata"]["name"].as_str().expect("a name");
    let events = space.running(&[
        "get",
        "events",
        "--watch",
        "-o",
        "custom-columns=R:.reason,M:.message",
    ]);
    events.line("credential bundle is not issued yet");
    answer(&space, &request, "Denied", json!({}));
    let said = format!(
        "PodCertificateRequest {}/{name} was denied, reason=\"Tested\", message=\"by the test\"",
        space.name()
    );
    assert!(events.line(&said).starts_with("Denied"));
    events.line(
        "PodCertificateRequest was permanently denied: reason=\"Tested\" message=\"by the test\"",
    );
    let phase = ["get", "pod", "refused", "-o", "jsonpath={.status.phase}"];
    assert_eq!(space.kubectl(&phase).ok(), "Pending");
}

fn bundle(space: &Namespace, name: &str, signer: &str, roots: &[&str]) {
    let manifest = json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "ClusterTrustBundle",
        "metadata": {"name": name},
        "spec": {"signerName": signer, "trustBundle": roots.concat()},
    });
    apply(space, &manifest.to_string());
}

/// Waits until the pod trusts as many certificates; all of them.
fn roots(space: &Namespace, pod: &str, count: usize) -> String {
    let script = format!(
        "until [ \"$(grep -c BEGIN /certs/roots.pem)\" = {count} ]; do usleep 100000; done; cat /certs/roots.pem"
    );
    inside(space, pod, &["sh", "-c", &script])
}

#[test]
fn a_pod_trusts_what_the_bundles_say_now() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("trust-bundles", MINOR);
    let signer = "tests.oxikube.io/trusted";
    let [one, two, three] = [(); 3].map(|()| authority().1.replace("\r\n", "\n"));
    bundle(&space, "tests.oxikube.io:trusted:a", signer, &[&one, &two]);
    apply(&space, &pod("trusting", &trusted(signer)));
    space.wait(&["pod/trusting"], "condition=Ready");
    let found = roots(&space, "trusting", 2);
    assert!(found.contains(&one) && found.contains(&two), "{found}");
    // The second bundle repeats what the first one has.
    bundle(
        &space,
        "tests.oxikube.io:trusted:b",
        signer,
        &[&two, &three],
    );
    let found = roots(&space, "trusting", 3);
    assert!(found.contains(&three), "{found}");
    let both = ["tests.oxikube.io:trusted:a", "tests.oxikube.io:trusted:b"];
    let delete = |name: &str| {
        let arguments = ["delete", "clustertrustbundle", name];
        space.kubectl(&arguments).ok();
    };
    delete(both[0]);
    let found = roots(&space, "trusting", 2);
    assert!(!found.contains(&one), "{found}");
    delete(both[1]);
}

#[test]
fn pods_may_trust_the_api_server_by_its_bundle() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("serving-bundle", MINOR);
    let sources = trusted("kubernetes.io/kube-apiserver-serving");
    apply(&space, &pod("client", &sources));
    space.wait(&["pod/client"], "condition=Ready");
    let root = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
    let known = inside(&space, "client", &["cat", root]);
    assert_eq!(roots(&space, "client", 1).trim(), known.trim());
}
