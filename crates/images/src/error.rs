//! What can go wrong with an image.

use std::io;
use std::path::PathBuf;

/// A failed operation on images.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk said no.
    #[error("{what} {}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The name is no image reference.
    #[error(transparent)]
    Reference(#[from] oci::reference::InvalidReference),
    /// Manifest or configuration are not what they should be.
    #[error(transparent)]
    Document(#[from] oci::image::InvalidImage),
    /// The archive is no image archive, or is damaged.
    #[error("{0}")]
    Archive(String),
    /// The content is not what its digest promised.
    #[error("{what} has digest {found}, expected {expected}")]
    Digest {
        /// What was checked.
        what: String,
        /// The digest of what came.
        found: String,
        /// The digest of what should have come.
        expected: String,
    },
    /// A layer contains something that does not belong into one.
    #[error("layer entry {path:?}: {reason}")]
    Layer {
        /// The name in the layer.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The kernel said no.
    #[error(transparent)]
    Kernel(#[from] linux::Error),
    /// There is no such image here, or the registry has none.
    #[error("{0}: not found")]
    NotFound(String),
    /// The registry refused us.
    #[error("{0}")]
    Unauthorized(String),
    /// The registry or the way to it failed.
    #[error("failed to pull and unpack image {image:?}: {reason}")]
    Registry {
        /// Which image.
        image: String,
        /// What was said.
        reason: String,
    },
    /// The image is for other machines.
    #[error("no match for platform linux/{0} in manifest")]
    Platform(&'static str),
}

/// Names the file an I/O error is about.
pub(crate) trait At<T> {
    fn at(self, what: &'static str, path: &std::path::Path) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, what: &'static str, path: &std::path::Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            what,
            path: path.to_owned(),
            source: source.into(),
        })
    }
}
