//! Quotas: a write that uses more of them is written into their status first, in writes that fail when somebody else
//! was faster. What a write costs is decided in `access::admission::resource_quota`.

use access::Lookup as _;
use access::admission::resource_quota::{self, Account};
use api::Kind as _;
use api::core::resourcequota::ResourceQuota as QuotaKind;
use k8s_openapi::api::core::v1::ResourceQuota;
use machinery::{ApiError, Object};

use crate::admit::Operation;
use crate::call::Call;
use crate::resource::{Resource, Storage};
use crate::write::{CommitError, commit_put};

/// How often the quotas are asked again when others change them.
const TRIES: usize = 64;

/// Whether there are quotas that might have to pay for a write.
pub(crate) fn concerns(operation: &Operation<'_>, object: &Object) -> bool {
    let counted = operation.with(object, None, resource_quota::counted);
    let limits = || operation.with(object, None, resource_quota::limits_by_default);
    let call = operation.call();
    counted.is_some() && (!accounts(call, &call.info.namespace).is_empty() || limits())
}

/// Lets the quotas of the namespace pay for a write, or refuses it.
///
/// # Errors
/// 403: a quota is exceeded.
pub(crate) async fn charge(
    operation: &Operation<'_>,
    object: &Object,
    old: Option<&Object>,
    dry_run: bool,
) -> Result<(), ApiError> {
    let call = operation.call();
    let Some(counted) = operation.with(object, old, resource_quota::counted) else {
        return Ok(());
    };
    let namespace = call.info.namespace.as_str();
    let mut accounts = accounts(call, namespace);
    let limits = operation.with(object, old, resource_quota::limits_by_default);
    if accounts.is_empty() && !limits {
        return Ok(());
    }
    let names = QuotaKind::NAMES;
    let resource = call
        .server
        .resources()
        .get(names.group, names.version, names.plural)
        .ok_or_else(ApiError::path_not_found)?;
    let storage = resource.storage("update")?;
    for _ in 0..TRIES {
        let changed = operation.with(object, old, |request| {
            resource_quota::charge(request, &counted, object, accounts, call.now)
        })?;
        if dry_run {
            return Ok(());
        }
        // The others have paid already: only those that lost a race are asked again.
        let mut lost = Vec::new();
        for quota in changed {
            let name = quota.metadata.name.clone().unwrap_or_default();
            if !write(call, &resource, storage, quota).await? {
                lost.push(name);
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        storage.cache.wait_fresh().await?;
        accounts = self::accounts(call, namespace);
        accounts.retain(|account| {
            let name = account.quota.metadata.name.as_ref();
            name.is_some_and(|name| lost.contains(name))
        });
    }
    Err(ApiError::internal("resource quota evaluation timed out"))
}

fn accounts(call: &Call, namespace: &str) -> Vec<Account> {
    let quotas = call
        .server
        .list("", "resourcequotas", namespace)
        .into_iter();
    quotas
        .filter_map(|quota| quota.view().ok().map(Account::of))
        .collect()
}

/// Writes a quota's status; false when somebody else was faster.
async fn write(
    call: &Call,
    resource: &Resource,
    storage: &Storage,
    quota: ResourceQuota,
) -> Result<bool, ApiError> {
    let value = serde_json::to_value(&quota).map_err(ApiError::internal)?;
    let object = Object::from_value(value);
    let mut object = object.map_err(|_| ApiError::internal("a quota is no object"))?;
    let names = QuotaKind::NAMES;
    object.set_type(&names.api_version(), names.kind);
    let key = resource.key(object.namespace(), object.name())?;
    let expected = object.resource_version().parse().unwrap_or_default();
    match commit_put(call, resource, storage, &key, &mut object, expected).await {
        Ok(()) => Ok(true),
        Err(CommitError::Conflict | CommitError::Taken) => Ok(false),
        Err(CommitError::Failed(error)) => Err(error),
    }
}
