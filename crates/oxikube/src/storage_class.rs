//! The storage class of a new cluster: local storage, for claims that name no class.
//!
//! It is made once. From then on it is the users' object: they may change it, or delete it for good.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use volumes::{local, notes};

/// Says, on the namespace `kube-system`, that the class has been made.
const NOTE: &str = "oxikube.io/storage-class";
const SYSTEM: &str = "kube-system";

/// Makes the class unless it has been made before.
pub(crate) async fn settle(client: Client) -> Result<(), kube::Error> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let system = namespaces.get(SYSTEM).await?;
    if volumes::has_annotation(&system.metadata, NOTE) {
        return Ok(());
    }
    let classes: Api<StorageClass> = Api::all(client);
    match classes.create(&PostParams::default(), &class()).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        done => drop(done?),
    }
    let note = json!({"metadata": {"annotations": {NOTE: local::CLASS}}});
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(note));
    namespaces
        .patch(SYSTEM, &parameters, &patch)
        .await
        .map(drop)
}

fn class() -> StorageClass {
    let mut class = StorageClass {
        provisioner: local::PROVISIONER.to_owned(),
        reclaim_policy: Some("Delete".to_owned()),
        volume_binding_mode: Some(notes::WAIT.to_owned()),
        allow_volume_expansion: Some(true),
        ..StorageClass::default()
    };
    class.metadata.name = Some(local::CLASS.to_owned());
    let default = (notes::DEFAULT_CLASS.to_owned(), "true".to_owned());
    class.metadata.annotations = Some([default].into());
    class
}
