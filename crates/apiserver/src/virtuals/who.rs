//! `SelfSubjectReview`: who the server takes the caller for.

use access::User;
use machinery::{ApiError, Object, time};
use serde_json::{Map, Value, json};

use crate::call::Call;

/// Fills the status.
pub(super) fn am_i(call: &Call, object: &mut Object) -> Result<(), ApiError> {
    // Nothing that was sent comes back.
    let metadata = json!({"creationTimestamp": time::rfc3339(call.now)});
    object.0.insert("metadata".into(), metadata);
    object
        .0
        .insert("status".into(), json!({"userInfo": user_info(&call.user)}));
    Ok(())
}

/// A user on the wire.
pub(super) fn user_info(user: &User) -> Value {
    let mut info = Map::new();
    info.insert("username".into(), user.name.clone().into());
    if !user.uid.is_empty() {
        info.insert("uid".into(), user.uid.clone().into());
    }
    info.insert("groups".into(), user.groups.clone().into());
    if !user.extra.is_empty() {
        info.insert("extra".into(), json!(user.extra));
    }
    Value::Object(info)
}
