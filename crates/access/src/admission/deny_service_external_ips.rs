//! DenyServiceExternalIPs: nobody draws an address to a service that is not the cluster's to give (CVE-2020-8554).
//!
//! Behaviour: `plugin/pkg/admission/network/denyserviceexternalips`.

use machinery::{ApiError, Object};
use serde_json::Value;

use super::{Operation, Request};
use crate::Lookup;

pub(super) fn validate(
    request: &Request,
    service: &Object,
    _: &dyn Lookup,
) -> Result<(), ApiError> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    if !request.is_for("", "services") || !request.subresource.is_empty() || !writes {
        return Ok(());
    }
    let addresses = |of: &Object| {
        let found = of.at(&["spec", "externalIPs"]).and_then(Value::as_array);
        found.cloned().unwrap_or_default()
    };
    let before = request.old.map(addresses).unwrap_or_default();
    match addresses(service).iter().all(|one| before.contains(one)) {
        true => Ok(()),
        false => Err(request.forbidden(
            service,
            "Use of external IPs is denied by admission control",
        )),
    }
}
