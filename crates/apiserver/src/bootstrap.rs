//! What every cluster has: its namespaces, priority classes, default policy, and the service `kubernetes`. Made through
//! the road like anything else, by `system:apiserver`.

use std::sync::Arc;

use access::User;
use access::bootstrap::{self, Write};
use access::user::{API_SERVER, SYSTEM_MASTERS};
use api::{AnyKind, Scope};
use http::{Method, Request};
use http_body_util::BodyExt;
use machinery::{ApiError, Object};
use serde_json::Value;
use tower::ServiceExt;

use crate::body::BoxError;
use crate::in_process::InProcess;
use crate::server::{Server, StartError};

/// Makes what is missing.
///
/// # Errors
/// Something could not be made.
pub(crate) async fn run(server: &Arc<Server>) -> Result<(), StartError> {
    let own = Own::of(server);
    let namespaces = bootstrap::namespaces();
    let mut rest = bootstrap::priority_classes();
    rest.extend(bootstrap::policy());
    rest.extend(bootstrap::flow_control());
    rest.extend(crate::standing::local_services(server));
    // Side by side: the store then writes many of them to disk at once.
    let service_cidr = crate::service_cidr::wanted(server);
    let first = [namespaces, vec![service_cidr]].concat();
    own.settle_all(&first).await?;
    let (rest, service_cidr) = futures::join!(
        own.settle_all(&rest),
        crate::service_cidr::settle(server, &own),
    );
    rest.and(service_cidr)?;
    let published = Object::from_value(server.policy().published());
    own.ensure(&published.unwrap_or_default()).await?;
    own.keep(&legacy_tracking()).await?;
    crate::kubernetes_service::say_here(server).await?;
    crate::kubernetes_service::settle(server, &own).await?;
    tokio::spawn(crate::kubernetes_service::keep(Arc::downgrade(server)));
    tokio::spawn(crate::identity_lease::keep(Arc::downgrade(server)));
    tokio::spawn(crate::service_cidr::keep(Arc::downgrade(server)));
    tokio::spawn(crate::custom::settle::keep(Arc::downgrade(server)));
    tokio::spawn(crate::standing::keep(Arc::downgrade(server)));
    tokio::spawn(crate::aggregation::available::keep(Arc::downgrade(server)));
    Ok(())
}

/// Since when the use of tokens that do not end is written down on their secrets: cleaners must know.
fn legacy_tracking() -> Object {
    let today = crate::call::now().strftime("%Y-%m-%d").to_string();
    let value = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system",
        },
        "data": {"since": today},
    });
    Object::from_value(value).unwrap_or_default()
}

/// Servers that start together meet at most so often in one object.
const ATTEMPTS: usize = 10;

/// Whether another server wrote what was to be written: then it is looked at again.
fn was_slower(done: &Result<(), ApiError>) -> bool {
    matches!(done, Err(error) if error.code == 409)
}

/// The server as a client of itself.
pub(crate) struct Own(InProcess);

impl Own {
    /// The client of this server.
    pub(crate) fn of(server: &Arc<Server>) -> Self {
        Self(server.in_process(User::new(API_SERVER, &[SYSTEM_MASTERS])))
    }

    async fn settle_all(&self, wanted: &[Object]) -> Result<(), StartError> {
        let settling = wanted.iter().map(|object| self.settle(object));
        futures::future::try_join_all(settling).await.map(drop)
    }

    /// Makes an object that is not there; one that is stays what it is.
    async fn keep(&self, wanted: &Object) -> Result<(), StartError> {
        let Some(path) = Paths::of(wanted) else {
            return Ok(());
        };
        let kept = async {
            if self.get(&path.object).await?.is_some() {
                return Ok(());
            }
            let made = self.send(Method::POST, &path.collection, Some(wanted));
            made.await.map(drop)
        };
        match kept.await {
            done if done.is_ok() || was_slower(&done) => Ok(()),
            Err(source) => Err(StartError::Bootstrap {
                what: path.object,
                source,
            }),
            Ok(()) => Ok(()),
        }
    }

    async fn settle(&self, wanted: &Object) -> Result<(), StartError> {
        // A kind that is not served needs no defaults.
        let Some(path) = Paths::of(wanted) else {
            return Ok(());
        };
        let mut settled = self.try_settle(&path, wanted).await;
        for _ in 0..ATTEMPTS {
            if was_slower(&settled) {
                settled = self.try_settle(&path, wanted).await;
            }
        }
        settled.map_err(|source| StartError::Bootstrap {
            what: path.object,
            source,
        })
    }

    async fn try_settle(&self, path: &Paths, wanted: &Object) -> Result<(), ApiError> {
        let existing = self.get(&path.object).await?;
        match bootstrap::reconcile(existing.as_ref(), wanted) {
            None => Ok(()),
            Some(Write::Create(object)) => self
                .send(Method::POST, &path.collection, Some(&object))
                .await
                .map(drop),
            Some(Write::Update(object)) => self
                .send(Method::PUT, &path.object, Some(&object))
                .await
                .map(drop),
            Some(Write::Recreate { object, .. }) => {
                self.send(Method::DELETE, &path.object, None).await?;
                self.send(Method::POST, &path.collection, Some(&object))
                    .await
                    .map(drop)
            }
        }
    }

    /// Makes an object, or makes one that is there say what is wanted.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) async fn ensure(&self, wanted: &Object) -> Result<(), StartError> {
        let Some(path) = Paths::of(wanted) else {
            return Ok(());
        };
        let mut ensured = self.try_ensure(&path, wanted).await;
        for _ in 0..ATTEMPTS {
            if was_slower(&ensured) {
                ensured = self.try_ensure(&path, wanted).await;
            }
        }
        ensured.map_err(|source| StartError::Bootstrap {
            what: path.object,
            source,
        })
    }

    async fn try_ensure(&self, path: &Paths, wanted: &Object) -> Result<(), ApiError> {
        let Some(existing) = self.get(&path.object).await? else {
            let made = self.send(Method::POST, &path.collection, Some(wanted));
            return made.await.map(drop);
        };
        let mut merged = existing.into_value();
        machinery::patch::merge::apply(&mut merged, &Value::Object(wanted.0.clone()));
        let merged = Object::from_value(merged).unwrap_or_default();
        // A write that changes nothing is none.
        self.send(Method::PUT, &path.object, Some(&merged))
            .await
            .map(drop)
    }

    /// An object, if it is there.
    ///
    /// # Errors
    /// Anything but that it is not there.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<Object>, ApiError> {
        match self.send(Method::GET, path, None).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a request with an object and gives the object that comes back.
    ///
    /// # Errors
    /// The server's own refusal.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        object: Option<&Object>,
    ) -> Result<Object, ApiError> {
        let failed = |error: BoxError| ApiError::internal(error);
        let body = object.map(Object::encode).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("user-agent", "kube-apiserver");
        let request = request
            .body(http_body_util::Full::new(body))
            .map_err(ApiError::internal)?;
        let response = self.0.clone().oneshot(request).await.map_err(failed)?;
        let code = response.status().as_u16();
        let bytes = response
            .into_body()
            .collect()
            .await
            .map_err(failed)?
            .to_bytes();
        let object: Object = serde_json::from_slice(&bytes)
            .map(Object)
            .map_err(ApiError::internal)?;
        if code < 300 {
            return Ok(object);
        }
        let message = object
            .0
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned();
        Err(ApiError::new(code, "", message))
    }
}

/// Where an object is found.
struct Paths {
    collection: String,
    object: String,
}

impl Paths {
    fn of(object: &Object) -> Option<Self> {
        let (group, version) = object
            .api_version()
            .split_once('/')
            .unwrap_or(("", object.api_version()));
        let kind: &dyn AnyKind = api::by_kind(group, version, object.kind())?;
        let root = match group {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        let plural = kind.names().plural;
        let collection = match kind.scope() {
            Scope::Cluster => format!("{root}/{plural}"),
            Scope::Namespaced => format!("{root}/namespaces/{}/{plural}", object.namespace()),
        };
        // Names of roles hold colons and the like.
        let name = percent_encoding::utf8_percent_encode(
            object.name(),
            percent_encoding::NON_ALPHANUMERIC,
        );
        Some(Self {
            object: format!("{collection}/{name}"),
            collection,
        })
    }
}
