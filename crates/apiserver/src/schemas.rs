//! The schema of a kind, as the road uses it.

use api::AnyKind;
use machinery::schema::Schema;

/// The schema of a kind.
pub(crate) fn of(kind: &dyn AnyKind) -> Option<Schema> {
    kind.schema()
}
