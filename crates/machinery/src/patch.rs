//! The three patch formats of the API, applied to trees.
//!
//! [`json`]: RFC 6902. [`merge`]: RFC 7386. [`strategic`]: lists merged by key, driven by the schema. Server-side apply
//! is another thing: see `crate::apply`.

pub mod json;
pub mod merge;
pub mod strategic;

use crate::ApiError;
use crate::status::Details;

/// Why a patch does not apply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed.
    #[error("{0}")]
    BadRequest(String),
    /// Too many operations, or too much copied.
    #[error("{0}")]
    TooLarge(String),
    /// The patch does not fit the object.
    #[error("{0}")]
    Unprocessable(String),
    /// What upstream answers with an internal error.
    #[error("{0}")]
    Internal(String),
}

impl From<PatchError> for ApiError {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::BadRequest(why) => Self::bad_request(why),
            PatchError::TooLarge(why) => Self::too_large(why),
            PatchError::Unprocessable(_) => Self {
                details: Some(Box::new(Details::default())),
                ..Self::new(
                    422,
                    "Invalid",
                    "the server rejected our request due to an error in our request",
                )
            },
            PatchError::Internal(why) => Self::new(500, "", why),
        }
    }
}
