//! Images on this node: loaded from archives or pulled from registries, unpacked into directories
//! that overlays are made of, listed and removed.
//!
//! Everything lies under one root directory (mode 0700): `images/` has one document per image,
//! named by its ID (the digest of its configuration); `layers/` one directory per unpacked layer,
//! named by its chain ID, shared by all images that have the same layers below; `partial/` what is
//! being made, emptied when the store is opened. A layer or document appears under its name only
//! when it is complete and on the disk, so a crash at any moment leaves nothing half-made.
//!
//! Not here: containers. They only [`Store::hold`] the images whose layers they use.
//!
//! Start with [`Store`].

mod archive;
mod error;
mod pull;
mod record;
mod share;
mod store;
#[cfg(test)]
mod tests;
mod unpack;

pub use error::Error;
pub use pull::{Credentials, Dialer, DirectDialer, NamespaceDialer, PullOptions};
pub use record::Image;
pub use share::share;
pub use store::Store;
