//! Storage migrations: every object of a resource is written anew as it is, so that it is stored in the version and the
//! encryption of today.
//!
//! - Of the migrations of one resource one runs at a time, the oldest first.
//! - A migration notes the version of the store at which it began; what was written later needs no migration. What there is
//!   is listed after that, page by page: a cache may lag behind.
//! - An object is written anew only if it still is the one observed: that somebody else wrote or deleted it serves as well.
//! - The definition of a custom kind says while its objects migrate, and afterwards names the storage version only, unless
//!   it was changed meanwhile.
//!
//! The item is one migration. Upstream: `pkg/controller/storageversionmigrator`.

mod observe;
mod reconcile;
mod steps;
#[cfg(test)]
mod tests;

pub use observe::{Observed, Stored};

use control::{Look, Plan, Reconciler, Wake};
use k8s_openapi::api::storagemigration::v1::StorageVersionMigration;

/// The controller of storage migrations.
pub struct StorageVersionMigrator;

impl Reconciler for StorageVersionMigrator {
    type Observed = Observed;

    const NAME: &'static str = "storage-version-migrator-controller";

    fn wake(on: &mut Wake<'_>) {
        // The kinds that there are come with the metadata, which wakes nobody: a migration is about a moment.
        on.on::<StorageVersionMigration>(observe::keys)
            .on_meta(|_, _| Vec::new());
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        observe::observe(look)
    }

    fn reconcile(o: &Observed) -> Plan {
        reconcile::reconcile(o)
    }
}
