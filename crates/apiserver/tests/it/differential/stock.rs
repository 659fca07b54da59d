//! A stock kube-apiserver with an etcd of its own, for as long as it is asked.

use std::net::TcpListener as Ports;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rcgen::{DnType, ExtendedKeyUsagePurpose};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::cases::Request;
use crate::tls::Authority;

const TOKEN: &str = "differential";

pub(super) struct Stock {
    sender: Mutex<SendRequest<Full<Bytes>>>,
    authority: Authority,
    port: u16,
    children: Vec<Child>,
    _dir: TempDir,
}

impl Drop for Stock {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            child.kill().expect("a running process");
            child.wait().expect("an end");
        }
    }
}

fn free_port() -> u16 {
    let listener = Ports::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64_lines(der);
    format!("-----BEGIN {label}-----\n{text}-----END {label}-----\n")
}

fn base64_lines(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64);
    lines
        .map(|line| format!("{}\n", String::from_utf8_lossy(line)))
        .collect()
}

impl Stock {
    /// Starts the programs and waits until the server is ready.
    pub(super) async fn start(programs: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let authority = Authority::new();
        let (certificate, key) = authority.sign(
            &["localhost"],
            &[(DnType::CommonName, "stock")],
            ExtendedKeyUsagePurpose::ServerAuth,
        );
        let PrivateKeyDer::Pkcs8(key) = key else {
            panic!("a key of another form");
        };
        let key = pem("PRIVATE KEY", key.secret_pkcs8_der());
        std::fs::write(path("crt"), pem("CERTIFICATE", &certificate)).expect("a file");
        std::fs::write(path("key"), &key).expect("a file");
        std::fs::write(path("tokens"), format!("{TOKEN},admin,,system:masters\n")).expect("a file");
        let (etcd, peers, port) = (free_port(), free_port(), free_port());
        let log = |name: &str| Stdio::from(std::fs::File::create(path(name)).expect("a file"));
        let beside = programs.join("etcd");
        let etcd_program = match beside.exists() {
            true => beside,
            false => "/usr/bin/etcd".into(),
        };
        let store = Command::new(etcd_program)
            .args(["--data-dir", &path("etcd")])
            .args(["--listen-client-urls", &format!("http://127.0.0.1:{etcd}")])
            .args([
                "--advertise-client-urls",
                &format!("http://127.0.0.1:{etcd}"),
            ])
            .args(["--listen-peer-urls", &format!("http://127.0.0.1:{peers}")])
            .args(["--unsafe-no-fsync"])
            .stdout(Stdio::null())
            .stderr(log("etcd.log"))
            .spawn()
            .expect("etcd");
        let server = Command::new(programs.join("kube-apiserver"))
            .arg(format!("--etcd-servers=http://127.0.0.1:{etcd}"))
            .arg(format!("--secure-port={port}"))
            .args(["--bind-address=127.0.0.1", "--advertise-address=192.0.2.1"])
            .args([
                "--service-cluster-ip-range=10.96.0.0/16",
                "--authorization-mode=RBAC",
            ])
            .arg(format!("--tls-cert-file={}", path("crt")))
            .arg(format!("--tls-private-key-file={}", path("key")))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!("--service-account-key-file={}", path("crt")))
            .arg(format!(
                "--service-account-signing-key-file={}",
                path("key")
            ))
            .arg(format!("--token-auth-file={}", path("tokens")))
            .arg(format!("--cert-dir={}", path("certs")))
            .stdout(Stdio::null())
            .stderr(log("server.log"))
            .spawn()
            .expect("kube-apiserver");
        let sender = Self::connected(&authority, port).await;
        Self {
            sender: Mutex::new(sender),
            authority,
            port,
            children: vec![store, server],
            _dir: dir,
        }
    }

    /// A connection on which the server has said that it is ready.
    async fn connected(authority: &Authority, port: u16) -> SendRequest<Full<Bytes>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der.clone()).expect("a root");
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
        while std::time::Instant::now() < deadline {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await else {
                continue;
            };
            let name = ServerName::try_from("localhost").expect("a name");
            let Ok(stream) = connector.connect(name, stream).await else {
                continue;
            };
            let shake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
            let Ok((mut sender, connection)) = shake else {
                continue;
            };
            tokio::spawn(connection);
            let ready = http::Request::get("/readyz")
                .header("host", "localhost")
                .header("authorization", format!("Bearer {TOKEN}"))
                .body(Full::default())
                .expect("a request");
            match sender.send_request(ready).await {
                Ok(answer) if answer.status() == 200 => {
                    answer.into_body().collect().await.expect("a body");
                    return sender;
                }
                _ => {}
            }
        }
        panic!("the stock server is not ready in time");
    }

    pub(super) async fn send(&self, request: &Request) -> super::Told {
        let mut head = http::Request::builder()
            .method(request.method.clone())
            .uri(&request.path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {TOKEN}"));
        for (key, value) in request.headers() {
            head = head.header(key, value);
        }
        let body = Full::new(Bytes::from(request.body.clone()));
        let message = head.body(body).expect("a request");
        let mut sender = self.sender.lock().await;
        // After some bodies the server wants to hear nothing more on a connection.
        if sender.ready().await.is_err() {
            *sender = Self::connected(&self.authority, self.port).await;
        }
        let answer = sender.send_request(message).await.expect("an answer");
        let code = answer.status().as_u16();
        let warnings = super::warnings(answer.headers());
        let bytes = answer.into_body().collect().await.expect("a body");
        let value = serde_json::from_slice(&bytes.to_bytes()).unwrap_or_default();
        (code, value, warnings)
    }
}
