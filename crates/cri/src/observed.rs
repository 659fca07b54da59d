//! A runtime whose calls are told to somebody: which one, how long it took, whether it failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::v1::*;
use crate::{ContainerEvents, Error, ImageService, RuntimeService};

/// Hears of every call that is over. Calls are named as upstream's kubelet counts them.
pub type Listener = Arc<dyn Fn(&'static str, Duration, bool) + Send + Sync>;

/// The same runtime or images, observed. Following the events of containers is no call that ends.
pub struct Observed<S: ?Sized> {
    inner: Arc<S>,
    listener: Listener,
}

impl<S: ?Sized> Observed<S> {
    /// Tells `listener` of the calls to `inner`.
    pub fn new(inner: Arc<S>, listener: Listener) -> Arc<Self> {
        Arc::new(Self { inner, listener })
    }

    async fn tell<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        let answer = call.await;
        (self.listener)(name, started.elapsed(), answer.is_err());
        answer
    }
}

/// What upstream calls a call that the protocol names in words of its own.
fn name_of(call: &'static str) -> &'static str {
    match call {
        "run_pod_sandbox" => "run_podsandbox",
        "stop_pod_sandbox" => "stop_podsandbox",
        "remove_pod_sandbox" => "remove_podsandbox",
        "pod_sandbox_status" => "podsandbox_status",
        "list_pod_sandbox" => "list_podsandbox",
        "pod_sandbox_stats" => "podsandbox_stats",
        "list_pod_sandbox_stats" => "list_podsandbox_stats",
        "update_container_resources" => "update_container",
        other => other,
    }
}

macro_rules! runtime_service {
    ($($call:ident($request:ty) -> $response:ty;)*) => {
        #[async_trait]
        impl RuntimeService for Observed<dyn RuntimeService> {
            $(
                async fn $call(&self, request: $request) -> Result<$response, Error> {
                    self.tell(name_of(stringify!($call)), self.inner.$call(request)).await
                }
            )*

            async fn get_container_events(
                &self,
                request: GetEventsRequest,
            ) -> Result<ContainerEvents, Error> {
                self.inner.get_container_events(request).await
            }
        }
    };
}

macro_rules! image_service {
    ($($call:ident($request:ty) -> $response:ty;)*) => {
        #[async_trait]
        impl ImageService for Observed<dyn ImageService> {
            $(
                async fn $call(&self, request: $request) -> Result<$response, Error> {
                    self.tell(name_of(stringify!($call)), self.inner.$call(request)).await
                }
            )*
        }
    };
}

crate::calls::runtime_calls!(runtime_service);
crate::calls::image_calls!(image_service);
