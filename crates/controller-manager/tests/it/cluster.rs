//! An API server on a store in a temporary directory, the controllers, and an administrator.

use std::sync::Arc;
use std::time::Duration;

use access::tokens::{SigningKey, Tokens};
use access::{User, user};
use apiserver::Server;
use controller_manager::{Config, Metrics, Ranges, Selection, Signing};
use futures::{AsyncBufReadExt, StreamExt};
use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};
use store::embedded::{Engine, Options};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// Collections whose changes let a waiting test look again.
const WATCHED: [&str; 10] = [
    "/api/v1/namespaces",
    "/api/v1/nodes",
    "/api/v1/pods",
    "/api/v1/configmaps",
    "/api/v1/serviceaccounts",
    "/api/v1/endpoints",
    "/api/v1/events",
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/replicasets",
    "/apis/discovery.k8s.io/v1/endpointslices",
];

/// Counts the changes of one collection.
async fn follow(client: Client, path: &str, changes: watch::Sender<u64>) {
    let request = Request::get(format!("{path}?watch=true")).body(Vec::new());
    let stream = client.request_stream(request.expect("a request")).await;
    let mut lines = std::pin::pin!(stream.expect("a watch").lines());
    while let Some(Ok(_)) = lines.next().await {
        changes.send_modify(|count| *count += 1);
    }
}

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    admin: Client,
    server: Arc<Server>,
    pub(crate) metrics: Metrics,
    changes: watch::Sender<u64>,
    config: Config,
    running: Option<Running>,
    _dir: TempDir,
}

fn identity(name: &str) -> User {
    match user::split_service_account(name) {
        Some((namespace, account)) => User::service_account(namespace, account, ""),
        None => User::new(name, &[]),
    }
}

/// The controllers of one life.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

fn run(config: &Config) -> (Running, Metrics) {
    let driver = controller_manager::assemble(config);
    let metrics = driver.metrics();
    let reader = (config.clients)(controller_manager::READER);
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(driver.run(reader, async {
        let _ = stopped.await;
    }));
    (Running { stop, task }, metrics)
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        // Only the first test of the process sets it.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .try_init();
        let dir = tempfile::tempdir().expect("a directory");
        let store = Engine::open(dir.path(), Options::default()).expect("a store");
        let key = SigningKey::generate_pkcs8().expect("a key");
        let key = SigningKey::from_pkcs8(&key).expect("a key");
        let issuer = "https://kubernetes.default.svc";
        let config = apiserver::Config {
            store,
            tokens: Tokens::new(issuer, Vec::new(), key, Vec::new()),
            service_cidr: "10.96.0.0/16".parse().expect("a range"),
            node_ports: 30000..=32767,
            advertise_address: "192.0.2.1".parse().expect("an address"),
            advertise_port: 6443,
            host_name: None,
            kubelet_client: None,
            policy: apiserver::Policy::default(),
            components: Vec::new(),
            audit: apiserver::AuditOptions::default(),
            proxy_client: None,
            limits: apiserver::Limits::default(),
            flags: apiserver::Flags::new(),
        };
        let server = Server::new(config).await.expect("a server");
        let transport = Arc::clone(&server);
        let config = Config {
            clients: Arc::new(move |name: &str| {
                client::connect::in_process(transport.in_process(identity(name)))
            }),
            signing: Signing::default(),
            selection: Selection::default(),
            root_certificates: "PEM".into(),
            token_signer: None,
            pod_networks: Ranges {
                cluster: vec![("10.244.0.0/16".parse().expect("a network"), 24)],
                excluded: Vec::new(),
            },
            node_lifecycle: controller_manager::NodeLifecycle::default(),
            load_balancers: None,
        };
        let (running, metrics) = run(&config);
        let admin = User::new("admin", &[user::SYSTEM_MASTERS]);
        let admin = client::connect::in_process(server.in_process(admin));
        let changes = watch::Sender::new(0);
        for path in WATCHED {
            tokio::spawn(follow(admin.clone(), path, changes.clone()));
        }
        Self {
            admin,
            server,
            metrics,
            changes,
            config,
            running: Some(running),
            _dir: dir,
        }
    }

    /// Ends all controllers, wherever they are, and starts new ones that know nothing.
    pub(crate) async fn restart_controllers(&mut self) {
        if let Some(Running { stop, task }) = self.running.take() {
            drop(stop);
            task.await.expect("the controllers end");
        }
        let (running, metrics) = run(&self.config);
        self.running = Some(running);
        self.metrics = metrics;
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        media: &str,
        body: &Value,
    ) -> kube::Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", media)
            .body(if body.is_null() {
                Vec::new()
            } else {
                body.to_string().into_bytes()
            })
            .expect("a request");
        self.admin.request(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Option<Value> {
        match self.send(Method::GET, path, "", &Value::Null).await {
            Ok(value) => Some(value),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("GET {path}: {error}"),
        }
    }

    pub(crate) async fn items(&self, path: &str) -> Vec<Value> {
        let list = self.get(path).await.unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    #[track_caller]
    fn done(result: kube::Result<Value>, what: &str) -> Value {
        result.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    pub(crate) async fn create(&self, path: &str, body: Value) -> Value {
        let result = self
            .send(Method::POST, path, "application/json", &body)
            .await;
        Self::done(result, path)
    }

    pub(crate) async fn merge(&self, path: &str, body: Value) -> Value {
        let media = "application/merge-patch+json";
        Self::done(self.send(Method::PATCH, path, media, &body).await, path)
    }

    pub(crate) async fn delete(&self, path: &str, propagation: &str) {
        let options = json!({"propagationPolicy": propagation});
        let result = self
            .send(Method::DELETE, path, "application/json", &options)
            .await;
        Self::done(result, path);
    }

    /// Waits until `level` gives something: it is looked at again whenever an object of any watched kind changes.
    pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
        &self,
        what: &str,
        level: impl Fn() -> F,
    ) -> T {
        let mut changes = self.changes.subscribe();
        let wait = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = level().await {
                    return found;
                }
                changes.changed().await.expect("the watches go on");
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain for {what}; {:#?}", self.metrics.counts()),
        }
    }

    /// Plays the kubelet for one pod: running and ready.
    pub(crate) async fn run_pod(&self, namespace: &str, name: &str, ip: &str) {
        let status = json!({"status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True",
                            "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        }});
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
        let media = "application/merge-patch+json";
        match self.send(Method::PATCH, &path, media, &status).await {
            // A surplus pod may have gone meanwhile.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            result => drop(Self::done(result, &path)),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.server.shut_down();
    }
}
