//! A server on a store in a temporary directory, and a client that speaks JSON.

use std::sync::Arc;
use std::time::Duration;

use access::User;
use access::tokens::{SigningKey, Tokens};
use apiserver::{AuditOptions, Body, Config, InProcess, Policy, Server};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use store::embedded::Engine;
use tempfile::TempDir;
use tower::ServiceExt;

pub(crate) struct Cluster {
    pub(crate) server: Arc<Server>,
    pub(crate) admin: Client,
    _dir: TempDir,
}

#[derive(Clone)]
pub(crate) struct Client(InProcess);

/// An answer: its code, its headers, and its body as JSON where it is.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or("")
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.code < 300, "{}: {}", self.code, self.text);
        self.body
    }

    #[track_caller]
    pub(crate) fn refused(self, code: u16) -> Self {
        assert_eq!(self.code, code, "{}", self.text);
        self
    }
}

pub(crate) fn config(dir: &std::path::Path) -> Config {
    let store = Engine::open(dir, store::embedded::Options::default()).expect("a store");
    let key = SigningKey::generate_pkcs8().expect("a key");
    let key = SigningKey::from_pkcs8(&key).expect("a key");
    Config {
        store,
        tokens: Tokens::new(
            "https://kubernetes.default.svc",
            Vec::new(),
            key,
            Vec::new(),
        ),
        service_cidr: "10.96.0.0/16".parse().expect("a range"),
        node_ports: 30000..=32767,
        advertise_address: "192.0.2.1".parse().expect("an address"),
        advertise_port: 6443,
        // A lease is renewed, and tests count what is written.
        host_name: None,
        kubelet_client: None,
        policy: Policy::default(),
        components: Vec::new(),
        audit: AuditOptions::default(),
        proxy_client: None,
        limits: apiserver::Limits::default(),
        flags: apiserver::Flags::new(),
    }
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A server of another configuration than usual.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = config(dir.path());
        change(&mut config);
        let server = Server::new(config).await.expect("a server");
        let admin = Client::of(&server, User::new("admin", &["system:masters"]));
        Self {
            server,
            admin,
            _dir: dir,
        }
    }

    pub(crate) fn as_user(&self, user: User) -> Client {
        Client::of(&self.server, user)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.server.shut_down();
    }
}

impl Client {
    pub(crate) fn of(server: &Arc<Server>, user: User) -> Self {
        Self(server.in_process(user))
    }

    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (key, value) in headers {
            request = request.header(*key, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        self.0.clone().oneshot(request).await.expect("an answer")
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let (parts, body) = self.open(method, path, headers, body).await.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        Answer {
            code: parts.status.as_u16(),
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, &[], body.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, &[], body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], "").await
    }

    pub(crate) async fn patch(&self, path: &str, kind: &str, body: Value) -> Answer {
        let media = match kind {
            "apply" => "application/apply-patch+yaml".to_owned(),
            other => format!("application/{other}-patch+json"),
        };
        self.send(
            Method::PATCH,
            path,
            &[("content-type", &media)],
            body.to_string(),
        )
        .await
    }

    pub(crate) async fn watch(&self, path: &str) -> Events {
        let response = self.open(Method::GET, path, &[], "").await;
        assert_eq!(response.status(), 200);
        Events {
            body: response.into_body(),
            rest: Vec::new(),
        }
    }
}

/// The events of a watch.
pub(crate) struct Events {
    body: Body,
    rest: Vec<u8>,
}

impl Events {
    /// The next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        let wait = async {
            loop {
                if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                    let line: Vec<u8> = self.rest.drain(..=end).collect();
                    return serde_json::from_slice(&line).ok();
                }
                let frame = self.body.frame().await?.expect("a frame");
                self.rest
                    .extend_from_slice(&frame.into_data().expect("data"));
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .expect("an event in time")
    }

    /// Type and name of the next event.
    pub(crate) async fn next_name(&mut self) -> String {
        let event = self.next().await.expect("an event");
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or("");
        format!("{} {name}", event["type"].as_str().unwrap_or(""))
    }
}
