//! Tokens: issued for service accounts (sub-resource `token`), and reviewed for others (`TokenReview`).

use std::sync::Arc;

use access::Lookup;
use access::tokens::RequestContext;
use http::Response;
use machinery::{ApiError, Object};
use serde_json::{Value, json};

use super::who::user_info;
use crate::admit::{self, Operation};
use crate::authenticate::by_token;
use crate::body::{Body, RequestBody};
use crate::call::Call;
use crate::decode;
use crate::resource::Resource;
use crate::respond;
use crate::write::WriteOptions;
use crate::write::create::new_uid;

const KIND: &str = "TokenRequest";

/// Answers POST on `serviceaccounts/token`.
pub(crate) async fn issue(
    call: &Call,
    resource: &Resource,
    body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    let kind = Resource::body(KIND).ok_or_else(ApiError::path_not_found)?;
    let mut request = decode::object(call, &kind, body).await?;
    let (namespace, name) = (call.info.namespace.as_str(), call.info.name.as_str());
    resource.key(namespace, name)?;
    let server = &*call.server;
    let account: Arc<Object> = server
        .get("", resource.names().plural, namespace, name)
        .ok_or_else(|| resource.not_found(name))?;
    let options = WriteOptions::parse(call)?;
    let operation = Operation::create(call, resource)
        .of_kind(KIND)
        .with_options(options.dry_run, || options.told(call, "CreateOptions"));
    admit::mutate(&operation, &mut request, None).await?;
    admit::validate(&operation, &request, None).await?;
    let draft = {
        let context = RequestContext {
            account: &account,
            lookup: server,
            now: call.now,
            token_id: &new_uid(),
        };
        server.tokens().draft(&request, &context)?
    };
    if let Some(warning) = &draft.warning {
        call.warn(warning.as_str());
    }
    let answer = match &server.policy().token_signer {
        None => server.tokens().complete(draft)?,
        Some(signer) => {
            let payload = draft.payload();
            let token = signer.sign(server.tokens(), &payload, call.time_left());
            let token = token
                .await
                .map_err(|why| ApiError::internal(format!("failed to generate token: {why}")))?;
            draft.with(&token)
        }
    };
    Ok(respond::value(201, &call.form, &answer.into_value()))
}

/// Fills the status of a `TokenReview`.
pub(super) async fn review(call: &Call, object: &mut Object) -> Result<(), ApiError> {
    let token = object.str_at(&["spec", "token"]).to_owned();
    if token.is_empty() {
        let why = "token is required for TokenReview in authentication";
        return Err(ApiError::bad_request(why));
    }
    let wanted: Vec<String> = object
        .at(&["spec", "audiences"])
        .and_then(Value::as_array)
        .map(|all| {
            all.iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default();
    let status = match by_token(call, &token, &wanted).await {
        Ok(found) => {
            let user = user_info(&found.user.authenticated());
            let mut status = json!({"authenticated": true, "user": user});
            if !wanted.is_empty() {
                status["audiences"] = found.audiences.into();
            }
            status
        }
        Err(errors) if errors.is_empty() => {
            json!({"user": {}, "error": "invalid bearer token"})
        }
        Err(errors) => {
            let errors = errors.join(", ");
            json!({"user": {}, "error": format!("[invalid bearer token, {errors}]")})
        }
    };
    object.0.insert("status".into(), status);
    Ok(())
}
