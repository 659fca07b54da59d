//! The calls about images.

use async_trait::async_trait;

use crate::Error;
use crate::v1::*;

/// Images on this node, as `runtime.v1.ImageService` has them.
#[async_trait]
pub trait ImageService: Send + Sync + 'static {
    /// The images that match the filter.
    async fn list_images(&self, request: ListImagesRequest) -> Result<ListImagesResponse, Error>;

    /// One image; the answer has no image when there is none (that is not an error).
    async fn image_status(&self, request: ImageStatusRequest)
    -> Result<ImageStatusResponse, Error>;

    /// Gets an image from its registry and answers with its reference on this node.
    async fn pull_image(&self, request: PullImageRequest) -> Result<PullImageResponse, Error>;

    /// Removes an image; success when there is none.
    async fn remove_image(&self, request: RemoveImageRequest)
    -> Result<RemoveImageResponse, Error>;

    /// How much the images take on the disk, and where.
    async fn image_fs_info(
        &self,
        request: ImageFsInfoRequest,
    ) -> Result<ImageFsInfoResponse, Error>;
}
