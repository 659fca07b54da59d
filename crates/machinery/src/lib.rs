//! The vocabulary of the Kubernetes API that knows no kind: objects as trees, metadata, errors, field paths,
//! selectors, quantities, patches, server-side apply, schemas and the documents made from them.
//!
//! Pure: no I/O, no clock, no randomness. Nothing here knows a Pod from a Service; kinds live in `api`.
//! Start with [`object::Object`], then [`status::ApiError`] and [`field`].

pub mod about;
pub mod apply;
pub mod cel;
pub mod certificate;
pub mod codec;
pub mod conditions;
pub mod der;
pub mod duration;
pub mod field;
pub mod fields;
pub mod hash;
pub mod health;
pub mod int_or_string;
pub mod jsonpath;
pub mod labels;
pub mod metrics;
pub mod names;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod pem;
pub mod placement;
pub mod quantity;
pub mod re2;
pub mod schema;
pub mod status;
pub mod structural;
pub mod table;
pub mod time;
pub mod value;

pub use field::{ErrorList, FieldError, Path};
pub use object::{GroupVersionKind, GroupVersionResource, Object};
pub use status::ApiError;
