//! The same road over TCP and TLS: certificates, ALPN or none.

use std::sync::Arc;

use apiserver::{Identity, Server, TlsSettings};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

use crate::harness::{Client, config};

pub(crate) struct Authority {
    pub(crate) der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let der = params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .clone();
        Self {
            der,
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn sign(
        &self,
        names: &[&str],
        subject: &[(DnType, &str)],
        usage: ExtendedKeyUsagePurpose,
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("parameters");
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.extended_key_usages = vec![usage];
        let der = params
            .signed_by(&key, &self.issuer)
            .expect("a certificate")
            .der()
            .clone();
        (der, key.into())
    }
}

async fn ask(
    authority: &Authority,
    address: std::net::SocketAddr,
    client: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    alpn: Option<&[u8]>,
    token: Option<&str>,
) -> (u16, Value) {
    ask_with(authority, address, client, alpn, token, &[]).await
}

async fn ask_with(
    authority: &Authority,
    address: std::net::SocketAddr,
    client: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    alpn: Option<&[u8]>,
    token: Option<&str>,
    headers: &[(&str, &str)],
) -> (u16, Value) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der.clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut tls = match client {
        Some((der, key)) => builder
            .with_client_auth_cert(vec![der], key)
            .expect("a certificate"),
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    let stream = TcpStream::connect(address).await.expect("a connection");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TokioIo::new(connector.connect(name, stream).await.expect("TLS"));
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let mut request = http::Request::post(format!("https://localhost{path}"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(http_body_util::Full::<bytes::Bytes>::from("{}"));
    let request = request.expect("a request");
    let response = if alpn == Some(b"h2") {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
                .await
                .expect("HTTP/2");
        tokio::spawn(connection);
        sender.send_request(request).await.expect("an answer")
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .expect("HTTP/1.1");
        tokio::spawn(connection);
        sender.send_request(request).await.expect("an answer")
    };
    let code = response.status().as_u16();
    let bytes = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    (code, serde_json::from_slice(&bytes).expect("JSON"))
}

pub(crate) struct Serving {
    server: Arc<Server>,
    authority: Authority,
    address: std::net::SocketAddr,
    end: tokio::task::JoinHandle<Result<(), apiserver::StartError>>,
    _dir: tempfile::TempDir,
}

pub(crate) async fn serve() -> Serving {
    serve_with(|_| {}).await
}

pub(crate) async fn serve_with(change: impl FnOnce(&mut apiserver::Config)) -> Serving {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(dir.path());
    change(&mut config);
    let server = Server::new(config).await.expect("a server");
    let authority = Authority::new();
    let (der, key) = authority.sign(&["localhost"], &[], ExtendedKeyUsagePurpose::ServerAuth);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let identity = Identity {
        chain: vec![der],
        key,
    };
    let tls = TlsSettings {
        identity,
        client_authorities: vec![authority.der.clone()],
    };
    let serving = server.clone();
    let end = tokio::spawn(async move { serving.serve(vec![listener], tls).await });
    Serving {
        server,
        authority,
        address,
        end,
        _dir: dir,
    }
}

impl Serving {
    /// A TLS connection of nobody, for this protocol.
    pub(crate) async fn connect(&self, protocol: &[u8]) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.der.clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(self.address).await;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        let name = ServerName::try_from("localhost").expect("a name");
        let connected = connector.connect(name, stream.expect("a connection"));
        connected.await.expect("TLS")
    }

    /// Ends the server.
    pub(crate) async fn end(self) {
        self.server.shut_down();
        self.end.await.expect("a task").expect("an orderly end");
    }
}

/// 2020-8552, 2026-73500: a client that does not shake hands is let go.
#[tokio::test]
async fn cve_2020_8552_handshakes_have_a_deadline() {
    let serving = serve().await;
    // From here on time passes as soon as nobody has anything to do.
    tokio::time::pause();
    let mut stream = TcpStream::connect(serving.address)
        .await
        .expect("a connection");
    let mut nothing = [0; 1];
    let read = tokio::io::AsyncReadExt::read(&mut stream, &mut nothing).await;
    assert_eq!(read.expect("an end"), 0);
    serving.server.shut_down();
}

#[tokio::test]
async fn certificates_say_who_asks() {
    let Serving {
        server,
        authority,
        address,
        end: serving,
        _dir,
    } = serve().await;
    let subject = [
        (DnType::CommonName, "jane"),
        (DnType::OrganizationName, "devs"),
    ];
    for alpn in [None, Some(&b"h2"[..]), Some(&b"http/1.1"[..])] {
        let client = authority.sign(&[], &subject, ExtendedKeyUsagePurpose::ClientAuth);
        let (code, who) = ask(&authority, address, Some(client), alpn, None).await;
        assert_eq!(
            (code, who["status"]["userInfo"]["username"].as_str()),
            (201, Some("jane")),
            "{who}"
        );
        assert_eq!(who["status"]["userInfo"]["groups"][0], "devs");
    }
    let (code, refused) = ask(&authority, address, None, None, None).await;
    assert_eq!((code, refused["reason"].as_str()), (403, Some("Forbidden")));
    let admin = Client::of(&server, access::User::new("admin", &["system:masters"]));
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    admin
        .post(accounts, json!({"metadata": {"name": "bot"}}))
        .await
        .ok();
    let issued = admin
        .post(&format!("{accounts}/bot/token"), json!({"spec": {}}))
        .await
        .ok();
    let token = issued["status"]["token"].as_str();
    let (code, who) = ask(&authority, address, None, None, token).await;
    let name = who["status"]["userInfo"]["username"].as_str();
    assert_eq!(
        (code, name),
        (201, Some("system:serviceaccount:default:bot"))
    );
    // Whoever shows a bad token is not nobody.
    let (code, refused) = ask(&authority, address, None, None, Some("a.b.c")).await;
    assert_eq!(
        (code, refused["reason"].as_str()),
        (401, Some("Unauthorized"))
    );
    server.shut_down();
    serving.await.expect("a task").expect("an orderly end");
}

/// Who may pass requests on is known by a certificate of the front proxies' authority
/// and nothing else, and such a certificate says nothing about its holder.
#[tokio::test]
async fn front_proxies_say_for_whom_a_request_is() {
    let proxies = Authority::new();
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &proxies.der)
    );
    let serving = serve_with(|config| {
        let front = apiserver::FrontProxy::usual(pem, "front");
        config.policy.front_proxy = Some(front);
    });
    let serving = serving.await;
    let headers = [
        ("X-Remote-User", "jane"),
        ("X-Remote-Group", "a"),
        ("X-Remote-Group", "b"),
        ("X-Remote-Extra-Acme.io%2fTeam", "t"),
    ];
    let own = &serving.authority;
    let ask = |by: &Authority, name: &'static str| {
        let client = by.sign(
            &[],
            &[(DnType::CommonName, name)],
            ExtendedKeyUsagePurpose::ClientAuth,
        );
        ask_with(own, serving.address, Some(client), None, None, &headers)
    };
    let (code, who) = ask(&proxies, "front").await;
    let user = &who["status"]["userInfo"];
    assert_eq!(
        (code, user["username"].as_str()),
        (201, Some("jane")),
        "{who}"
    );
    assert_eq!(user["groups"], json!(["a", "b", "system:authenticated"]));
    assert_eq!(user["extra"]["acme.io/team"], json!(["t"]));
    // Another name of the same authority is nobody, and a client's certificate is only its own subject.
    let (code, _) = ask(&proxies, "back").await;
    assert_eq!(code, 403);
    let (_, who) = ask(own, "front").await;
    assert_eq!(who["status"]["userInfo"]["username"], "front");
    serving.server.shut_down();
}
