//! Making a client: inside the process, from addresses and certificates, or from a kubeconfig file.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tower::{BoxError, Service};

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address of the server is no URL.
    #[error("{url} is not the URL of an API server")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        #[source]
        source: http::uri::InvalidUri,
    },
    /// A certificate or key is not PEM.
    #[error("the certificates of the API server cannot be read")]
    Certificates(#[source] rustls_pki_types::pem::Error),
    /// The kubeconfig file cannot be used.
    #[error("cannot use the kubeconfig {path}")]
    Kubeconfig {
        /// Its path.
        path: String,
        /// Why not.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// The client could not be set up.
    #[error("cannot set up the client")]
    Client(#[source] Box<kube::Error>),
}

/// Who a remote client is.
#[derive(Clone)]
pub enum Identity {
    /// A client certificate and its key, PEM.
    Certificate {
        /// The certificate, with its chain.
        certificate: String,
        /// The key.
        key: String,
    },
    /// A bearer token.
    Token(String),
    /// Nobody.
    Anonymous,
}

/// What a component calls itself. Up to the slash it is the manager of the fields that the component sets, and others go
/// by that name: `kubelet/v1.37.0 (oxikube/0.1.0)`.
pub fn user_agent(component: &str) -> HeaderValue {
    let agent = format!(
        "{component}/v1.37.0 (oxikube/{})",
        env!("CARGO_PKG_VERSION")
    );
    HeaderValue::from_str(&agent).unwrap_or(HeaderValue::from_static("oxikube"))
}

/// A client of this component over a service in this process: the API server's own transport, which knows who calls.
pub fn component<S, B>(component: &str, service: S) -> Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let agent = user_agent(component);
    let named = move |mut request: Request<Body>| {
        request.headers_mut().insert(USER_AGENT, agent.clone());
        request
    };
    in_process(tower::util::MapRequest::new(service, named))
}

/// A client over a service in this process.
pub fn in_process<S, B>(service: S) -> Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    ClientBuilder::new(service, "default").build()
}

/// A client of this component over TLS to the server at `url`, whose certificate must be signed by `authority` (PEM).
///
/// # Errors
/// The URL or the certificates cannot be used.
pub fn remote(
    component: &str,
    url: &str,
    authority: &str,
    identity: Identity,
) -> Result<Client, ConnectError> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    let parsed = url.parse().map_err(|source| ConnectError::Url {
        url: url.to_owned(),
        source,
    })?;
    let mut config = Config::new(parsed);
    let roots: Result<Vec<Vec<u8>>, _> = CertificateDer::pem_slice_iter(authority.as_bytes())
        .map(|certificate| certificate.map(|c| c.as_ref().to_vec()))
        .collect();
    config.root_cert = Some(roots.map_err(ConnectError::Certificates)?);
    match identity {
        Identity::Anonymous => {}
        Identity::Token(token) => config.auth_info.token = Some(token.into()),
        Identity::Certificate { certificate, key } => {
            use base64::Engine;
            let encode = |pem: String| base64::engine::general_purpose::STANDARD.encode(pem);
            config.auth_info.client_certificate_data = Some(encode(certificate));
            config.auth_info.client_key_data = Some(encode(key).into());
        }
    }
    from_config(component, config)
}

/// A client of the current context (or the one named) of a kubeconfig file.
///
/// # Errors
/// The file or its certificates cannot be used.
pub async fn from_kubeconfig(path: &Path, context: Option<&str>) -> Result<Client, ConnectError> {
    let failed = |source| ConnectError::Kubeconfig {
        path: path.display().to_string(),
        source: Box::new(source),
    };
    let file = Kubeconfig::read_from(path).map_err(failed)?;
    let context = context.map(str::to_owned);
    let options = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    let config = Config::from_custom_kubeconfig(file, &options).await;
    from_config("oxikube", config.map_err(failed)?)
}

/// A client whose credentials may be replaced while it is used. Requests under way end as they began; every later one
/// goes by the new connection.
#[derive(Clone)]
pub struct Rotating(Arc<RwLock<Client>>);

impl Rotating {
    /// Beginning with this one.
    pub fn new(client: Client) -> Self {
        Self(Arc::new(RwLock::new(client)))
    }

    /// The client that is never out of date.
    pub fn client(&self) -> Client {
        let own = self.clone();
        in_process(tower::service_fn(move |request: Request<Body>| {
            let current = own.current();
            async move { current.send(request).await }
        }))
    }

    /// What requests go by now.
    pub fn current(&self) -> Client {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// What requests go by from now on.
    pub fn replace(&self, client: Client) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = client;
    }
}

fn from_config(component: &str, mut config: Config) -> Result<Client, ConnectError> {
    config.headers.push((USER_AGENT, user_agent(component)));
    // A watch may be silent for minutes; how long is said in its request, and broken connections are found by TCP.
    config.read_timeout = None;
    Client::try_from(config).map_err(|source| ConnectError::Client(Box::new(source)))
}
