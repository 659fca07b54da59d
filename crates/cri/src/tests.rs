//! A runtime served on a socket answers through the client what it answers in process.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;

use crate::remote::Remote;
use crate::v1::*;
use crate::{Code, Error, ImageService};

struct OneImage;

#[async_trait]
impl ImageService for OneImage {
    async fn list_images(&self, _: ListImagesRequest) -> Result<ListImagesResponse, Error> {
        Ok(ListImagesResponse {
            images: vec![Image {
                id: "sha256:1".into(),
                ..Image::default()
            }],
        })
    }

    async fn image_status(&self, _: ImageStatusRequest) -> Result<ImageStatusResponse, Error> {
        Ok(ImageStatusResponse::default())
    }

    async fn pull_image(&self, request: PullImageRequest) -> Result<PullImageResponse, Error> {
        let name = request.image.unwrap_or_default().image;
        Err(Error::not_found(format!("no {name} there")))
    }

    async fn remove_image(&self, _: RemoveImageRequest) -> Result<RemoveImageResponse, Error> {
        Err(Error::failed_precondition("in use"))
    }

    async fn image_fs_info(&self, _: ImageFsInfoRequest) -> Result<ImageFsInfoResponse, Error> {
        Ok(ImageFsInfoResponse::default())
    }
}

#[tokio::test]
async fn values_and_errors_survive_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cri.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let unreachable = Arc::new(Remote::new("unix:///nowhere/at/all.sock").unwrap());
    let server = tokio::spawn(crate::server::serve(
        listener,
        unreachable,
        Arc::new(OneImage),
        async { drop(stopped.await) },
    ));
    let client = Remote::new(&format!("unix://{}", path.display())).unwrap();

    let images = client
        .list_images(ListImagesRequest::default())
        .await
        .unwrap();
    assert_eq!(images.images[0].id, "sha256:1");
    let image = Some(ImageSpec {
        image: "busybox".into(),
        ..ImageSpec::default()
    });
    let pull = PullImageRequest {
        image,
        ..PullImageRequest::default()
    };
    assert_eq!(
        client.pull_image(pull).await,
        Err(Error::not_found("no busybox there"))
    );
    let removed = client.remove_image(RemoveImageRequest::default()).await;
    assert_eq!(removed.unwrap_err().code, Code::FailedPrecondition);

    drop(client);
    drop(stop);
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_runtime_that_is_not_there_is_unavailable() {
    use crate::RuntimeService;
    let client = Remote::new("/nowhere/at/all.sock").unwrap();
    let error = client.version(VersionRequest::default()).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    let events = client
        .get_container_events(GetEventsRequest::default())
        .await;
    assert!(events.map(|events| events.boxed()).is_err());
}

#[test]
fn an_endpoint_must_be_a_path() {
    assert_eq!(
        Remote::new("tcp://1.2.3.4:5").unwrap_err().code,
        Code::InvalidArgument
    );
}
