//! Keys and certificates as kubeadm makes them: RSA, one authority, one identity a component.

use std::path::Path;
use std::process::Command;

fn openssl(dir: &Path, arguments: &str) {
    let done = Command::new("openssl")
        .current_dir(dir)
        .args(arguments.split_whitespace())
        .output()
        .expect("openssl");
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "openssl {arguments}: {told}");
}

/// Makes all of them in a directory, for a host with this address.
pub(crate) fn make(dir: &Path, address: &str) {
    std::fs::create_dir_all(dir).expect("a directory");
    openssl(dir, "genrsa -traditional -out sa.key 2048");
    openssl(dir, "rsa -in sa.key -pubout -out sa.pub");
    authority(dir, "ca", "kubernetes");
    authority(dir, "front-proxy-ca", "front-proxy-ca");
    let names = format!(
        "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1,IP:{address}"
    );
    server(dir, "apiserver", "/CN=kube-apiserver", &names);
    let own = format!("DNS:n1,IP:127.0.0.1,IP:{address}");
    server(
        dir,
        "kubelet-server",
        "/O=system:nodes/CN=system:node:n1",
        &own,
    );
    for (name, subject) in [
        (
            "apiserver-kubelet-client",
            "/O=system:masters/CN=kube-apiserver-kubelet-client",
        ),
        ("admin", "/O=system:masters/CN=kubernetes-admin"),
        ("controller-manager", "/CN=system:kube-controller-manager"),
        ("scheduler", "/CN=system:kube-scheduler"),
        ("kube-proxy", "/CN=system:kube-proxy"),
        ("kubelet", "/O=system:nodes/CN=system:node:n1"),
    ] {
        signed(dir, "ca", name, subject, "extendedKeyUsage=clientAuth\n");
    }
    let usage = "extendedKeyUsage=clientAuth\n";
    signed(
        dir,
        "front-proxy-ca",
        "front-proxy-client",
        "/CN=front-proxy-client",
        usage,
    );
}

fn authority(dir: &Path, name: &str, common_name: &str) {
    openssl(dir, &format!("genrsa -traditional -out {name}.key 2048"));
    openssl(
        dir,
        &format!(
            "req -x509 -new -key {name}.key -subj /CN={common_name} -days 30 -out {name}.crt \
             -addext basicConstraints=critical,CA:TRUE \
             -addext keyUsage=critical,keyCertSign,digitalSignature,keyEncipherment"
        ),
    );
}

fn server(dir: &Path, name: &str, subject: &str, names: &str) {
    let usage = format!("subjectAltName={names}\nextendedKeyUsage=serverAuth\n");
    signed(dir, "ca", name, subject, &usage);
}

fn signed(dir: &Path, by: &str, name: &str, subject: &str, extensions: &str) {
    std::fs::write(dir.join(format!("{name}.ext")), extensions).expect("written");
    openssl(dir, &format!("genrsa -traditional -out {name}.key 2048"));
    openssl(
        dir,
        &format!("req -new -key {name}.key -subj {subject} -out {name}.csr"),
    );
    openssl(
        dir,
        &format!(
            "x509 -req -in {name}.csr -CA {by}.crt -CAkey {by}.key -CAcreateserial -days 30 \
             -extfile {name}.ext -out {name}.crt"
        ),
    );
}
