//! One object, as the store has it now.

use http::Response;
use machinery::ApiError;
use store::{KeyValue, Range};

use super::options::parse_revision;
use crate::body::Body;
use crate::cache::{Wire, decode_stored, spliced, too_large_revision};
use crate::call::Call;
use crate::resource::{Resource, Storage};
use crate::shape::Shaper;
use crate::{protobuf, respond, server};

/// Answers with one object.
pub(crate) async fn get(call: &Call, resource: &Resource) -> Result<Response<Body>, ApiError> {
    let shaper = Shaper::of(call, resource)?;
    if call.query.flag("export") {
        let why = "the export parameter, deprecated since v1.14, is no longer supported";
        return Err(ApiError::bad_request(why));
    }
    let storage = resource.storage("get")?;
    let key = resource.key(&call.info.namespace, &call.info.name)?;
    let wanted = parse_revision(call.query.text("resourceVersion"));
    // Upstream does not say whose mistake this is.
    let wanted = wanted.map_err(|error| {
        let why = error.message.replace("invalid resource version: ", "");
        ApiError::new(500, "", why)
    })?;
    if let Some(wanted) = wanted {
        let current = call.server.store().latest().await;
        let current = current.map_err(server::store_error)?;
        if wanted > current {
            return Err(too_large_revision(wanted, current));
        }
    }
    let found = fetch(call, storage, &key).await?;
    let found = found.ok_or_else(|| resource.not_found(&call.info.name))?;
    shaper.check_number(false)?;
    let malformed = || ApiError::internal("the stored object cannot be read");
    if shaper.is_plain() && !resource.kind.may_be_outdated() {
        let bytes = spliced(&found.value, found.mod_revision).ok_or_else(malformed)?;
        return Ok(respond::json_bytes(200, &shaper.form, bytes));
    }
    if let (Some(Wire::Protobuf(message)), Some(entry)) = (shaper.wire(), storage.cache.get(&key))
        && entry.revision == found.mod_revision
    {
        let names = resource.names();
        let raw = storage.cache.protobuf(&entry, message);
        let bytes = protobuf::envelope(&names.api_version(), names.kind, &raw);
        let content_type = shaper.form.media.as_str();
        return Ok(respond::whole(
            200,
            &shaper.form,
            content_type,
            bytes.into(),
        ));
    }
    let object = decode_stored(&found.value, found.mod_revision).ok_or_else(malformed)?;
    let object = resource.present(&call.server, object).await?;
    Ok(respond::value(200, &shaper.form, &shaper.one(object)))
}

/// The present state of one key of a resource.
pub(crate) async fn fetch(
    call: &Call,
    storage: &Storage,
    key: &str,
) -> Result<Option<KeyValue>, ApiError> {
    let range = Range::key(storage.full_key(key));
    let found = call
        .server
        .store()
        .range(range)
        .await
        .map_err(server::store_error)?;
    Ok(found.kvs.into_iter().next())
}
