//! Clients of a component from its kubeconfig.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use client::requests::Requests;
use http::{HeaderValue, Request, header};
use kube::client::{AuthError, Body};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// How long the token of a service account is asked for; it is replaced before.
const TOKEN_SECONDS: u64 = 3600;

/// Reads the kubeconfig of a component; `server` takes the place of the one in it.
pub(super) async fn config(
    component: &str,
    path: &Path,
    server: Option<&str>,
) -> anyhow::Result<Config> {
    let what = || format!("cannot use the kubeconfig {}", path.display());
    let file = Kubeconfig::read_from(path).with_context(what)?;
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(file, &options)
        .await
        .with_context(what)?;
    if let Some(server) = server {
        config.cluster_url = server
            .parse()
            .with_context(|| format!("{server} is no URL"))?;
    }
    // A watch may be silent for minutes; how long is said in its request, and broken connections are found by TCP.
    config.read_timeout = None;
    let agent = client::connect::user_agent(component);
    config.headers.push((header::USER_AGENT, agent));
    Ok(config)
}

/// The kubeconfig that a component cannot do without.
pub(super) fn required<'a>(
    path: Option<&'a PathBuf>,
    in_file: Option<&'a PathBuf>,
) -> anyhow::Result<&'a Path> {
    match path.or(in_file) {
        Some(path) => Ok(path),
        None => bail!("--kubeconfig is needed: how to reach the API server, and as whom"),
    }
}

/// Clients that act as service accounts of `kube-system`, by tokens that the API server gives to the main client.
pub(super) struct Accounts {
    main: Client,
    /// The same server without credentials.
    bare: Client,
    tokens: Mutex<HashMap<String, (HeaderValue, Instant)>>,
}

impl Accounts {
    /// For the server of this configuration; `requests` counts what it is asked.
    pub(super) fn new(mut config: Config, requests: &Requests) -> anyhow::Result<Arc<Self>> {
        let main = requests.client(config.clone())?;
        config.auth_info = AuthInfo::default();
        Ok(Arc::new(Self {
            main,
            bare: requests.client(config)?,
            tokens: Mutex::default(),
        }))
    }

    /// A client that acts as this account; its token is asked for with the first request.
    pub(super) fn client(self: &Arc<Self>, name: &str) -> Client {
        let (own, name) = (Arc::clone(self), name.to_owned());
        let service = tower::service_fn(move |mut request: Request<Body>| {
            let (own, name) = (Arc::clone(&own), name.clone());
            async move {
                let token = own.token(&name).await?;
                request.headers_mut().insert(header::AUTHORIZATION, token);
                own.bare.send(request).await
            }
        });
        client::connect::in_process(service)
    }

    async fn token(&self, name: &str) -> Result<HeaderValue, kube::Error> {
        let known = self.tokens.lock().get(name).cloned();
        if let Some((token, until)) = known.filter(|(_, until)| *until > Instant::now()) {
            let _ = until;
            return Ok(token);
        }
        let asked = Instant::now();
        let path = "/api/v1/namespaces/kube-system/serviceaccounts";
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": TOKEN_SECONDS},
        });
        let answer = match self.post(&format!("{path}/{name}/token"), &body).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let account = json!({
                    "apiVersion": "v1", "kind": "ServiceAccount",
                    "metadata": {"name": name, "namespace": "kube-system"},
                });
                match self.post(path, &account).await {
                    // Somebody else was faster.
                    Err(kube::Error::Api(status)) if status.code == 409 => {}
                    made => drop(made?),
                }
                self.post(&format!("{path}/{name}/token"), &body).await?
            }
            answer => answer?,
        };
        let text = answer["status"]["token"].as_str().unwrap_or_default();
        let mut token = HeaderValue::from_str(&format!("Bearer {text}"))
            .map_err(|error| kube::Error::Auth(AuthError::InvalidBearerToken(error)))?;
        token.set_sensitive(true);
        let until = asked + Duration::from_secs(TOKEN_SECONDS * 4 / 5);
        self.tokens
            .lock()
            .insert(name.to_owned(), (token.clone(), until));
        Ok(token)
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, kube::Error> {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        self.main.request(request).await
    }
}
