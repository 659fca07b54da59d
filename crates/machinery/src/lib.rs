//! The vocabulary of the Kubernetes API that knows no kind: objects as trees, metadata, errors, field paths,
//! selectors, quantities, patches, server-side apply, schemas and the documents made from them.
//!
//! Pure: no I/O, no clock, no randomness. Nothing here knows a Pod from a Service; kinds live in `api`.
//! Start with [`object::Object`], then [`status::ApiError`] and [`field`].

pub mod field;
pub mod object;
pub mod status;
pub mod table;

pub use field::{ErrorList, Path};
pub use object::{GroupVersionKind, GroupVersionResource, Object};
pub use status::ApiError;
