//! The CRI's image service over the image store.

use std::sync::Arc;

use async_trait::async_trait;
use cri::v1::*;
use cri::{Code, Error, ImageService};

use crate::Runtime;
use crate::events::now;

/// What a container's status calls its image: a name by digest where there is one, else the ID.
pub(crate) fn reference(image: &images::Image) -> String {
    image.repo_digests.first().unwrap_or(&image.id).clone()
}

fn described(image: &images::Image, asked: Option<&ImageSpec>) -> Image {
    let (uid, username) = oci::user::image_user(&image.config.config.user).unwrap_or_else(|_| {
        // A number that no user can have must never pass for "not root".
        (Some(0), String::new())
    });
    let empty_is_root = uid.is_none() && username.is_empty();
    let uid = if empty_is_root { Some(0) } else { uid };
    Image {
        id: image.id.clone(),
        repo_tags: image.repo_tags.iter().cloned().collect(),
        repo_digests: image.repo_digests.iter().cloned().collect(),
        size: image.size_bytes,
        uid: uid.map(|value| Int64Value { value }),
        username,
        spec: asked.cloned(),
        pinned: false,
    }
}

fn failed(error: images::Error) -> Error {
    let code = match &error {
        images::Error::NotFound(_) => Code::NotFound,
        images::Error::Reference(_) => Code::InvalidArgument,
        images::Error::Unauthorized(_) => Code::PermissionDenied,
        _ => Code::Unknown,
    };
    Error::new(code, cri::chain(&error))
}

#[async_trait]
impl ImageService for Runtime {
    async fn list_images(&self, request: ListImagesRequest) -> Result<ListImagesResponse, Error> {
        let wanted = request
            .filter
            .and_then(|filter| filter.image)
            .unwrap_or_default()
            .image;
        let images = match wanted.is_empty() {
            true => self.images.list(),
            false => self.images.status(&wanted).into_iter().collect(),
        };
        Ok(ListImagesResponse {
            images: images.iter().map(|one| described(one, None)).collect(),
        })
    }

    async fn image_status(
        &self,
        request: ImageStatusRequest,
    ) -> Result<ImageStatusResponse, Error> {
        let spec = request.image.unwrap_or_default();
        let image = self.images.status(&spec.image);
        let mut info = std::collections::HashMap::new();
        if let (true, Some(image)) = (request.verbose, &image) {
            let config = serde_json::to_string(&image.config).map_err(Error::internal)?;
            info.insert("info".to_owned(), config);
        }
        let image = image.map(|image| described(&image, Some(&spec)));
        Ok(ImageStatusResponse { image, info })
    }

    async fn pull_image(&self, request: PullImageRequest) -> Result<PullImageResponse, Error> {
        let name = request.image.unwrap_or_default().image;
        let reference =
            oci::Reference::parse(&name).map_err(|error| Error::invalid(error.to_string()))?;
        let auth = request.auth.unwrap_or_default();
        let credentials = images::Credentials {
            username: auth.username,
            password: auth.password,
            auth: auth.auth,
            server_address: auth.server_address,
            identity_token: auth.identity_token,
            registry_token: auth.registry_token,
        };
        let pulled = self
            .images
            .pull(&reference, &credentials, &self.config.pull)
            .await;
        let image_ref = pulled.map_err(failed)?;
        Ok(PullImageResponse { image_ref })
    }

    async fn remove_image(
        &self,
        request: RemoveImageRequest,
    ) -> Result<RemoveImageResponse, Error> {
        let name = request.image.unwrap_or_default().image;
        let store = Arc::clone(&self.images);
        let removed = tokio::task::spawn_blocking(move || store.remove(&name)).await;
        removed.map_err(Error::internal)?.map_err(failed)?;
        Ok(RemoveImageResponse {})
    }

    async fn image_fs_info(&self, _: ImageFsInfoRequest) -> Result<ImageFsInfoResponse, Error> {
        let (bytes, inodes) = self.images.usage();
        let mountpoint = self.config.root.display().to_string();
        let usage = FilesystemUsage {
            timestamp: now(),
            fs_id: Some(FilesystemIdentifier { mountpoint }),
            used_bytes: Some(UInt64Value { value: bytes }),
            inodes_used: Some(UInt64Value { value: inodes }),
        };
        Ok(ImageFsInfoResponse {
            image_filesystems: vec![usage.clone()],
            container_filesystems: vec![usage],
        })
    }
}
