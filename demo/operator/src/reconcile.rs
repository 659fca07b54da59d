//! The operator's work: of every shout a ConfigMap, and a status that says by whom. Only the elected leader does it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use client::election::{self, Election, Ended};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::shout::{GROUP, PLURAL, shouted};

const MANAGER: &str = "operator-demo";
const AGAIN: Duration = Duration::from_secs(2);

struct Context {
    client: Client,
    resource: ApiResource,
    name: String,
}

/// Waits until this replica leads, and works until it does no more, or until the shutdown, which gives the lease back.
///
/// # Errors
/// Another one leads now.
pub(crate) async fn lead(
    client: Client,
    namespace: &str,
    name: &str,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let election = Election {
        namespace: namespace.to_owned(),
        ..Election::new(MANAGER, name.to_owned(), MANAGER)
    };
    let work = work(client.clone(), name);
    match election::lead(client, &election, work, shutdown).await {
        Ended::Lost => bail!("another one leads"),
        Ended::Done(()) | Ended::Shutdown => Ok(()),
    }
}

async fn work(client: Client, name: &str) {
    println!("{name} leads");
    let resource = ApiResource {
        group: GROUP.to_owned(),
        version: "v2".to_owned(),
        api_version: format!("{GROUP}/v2"),
        kind: "Shout".to_owned(),
        plural: PLURAL.to_owned(),
    };
    let shouts: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let maps: Api<ConfigMap> = Api::all(client.clone());
    let context = Arc::new(Context {
        client,
        resource: resource.clone(),
        name: name.to_owned(),
    });
    let controller = Controller::new_with(shouts, watcher::Config::default(), resource)
        .owns(maps, watcher::Config::default());
    let failed = |_, error: &kube::Error, _| {
        println!("it is tried again: {error}");
        Action::requeue(AGAIN)
    };
    let done = controller.run(reconcile, failed, context);
    done.for_each(|_| std::future::ready(())).await;
}

async fn reconcile(
    shout: Arc<DynamicObject>,
    context: Arc<Context>,
) -> Result<Action, kube::Error> {
    let namespace = shout.namespace().unwrap_or_default();
    let name = shout.name_any();
    let text = shouted(&shout.data["spec"]);
    let owner = json!({
        "apiVersion": context.resource.api_version, "kind": "Shout", "name": name,
        "uid": shout.uid(), "controller": true,
    });
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "ownerReferences": [owner]},
        "data": {"shouted": text},
    });
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), &namespace);
    let params = PatchParams::apply(MANAGER).force();
    maps.patch(&name, &params, &Patch::Apply(&map)).await?;
    if shout.data["status"]["shouted"] != text.as_str() {
        let status = json!({
            "apiVersion": context.resource.api_version, "kind": "Shout",
            "metadata": {"name": name},
            "status": {"shouted": text, "by": context.name},
        });
        let client = context.client.clone();
        let shouts: Api<DynamicObject> =
            Api::namespaced_with(client, &namespace, &context.resource);
        shouts
            .patch_status(&name, &params, &Patch::Apply(&status))
            .await?;
    }
    Ok(Action::await_change())
}
