//! Who asks: a caller in this process, one for whom another server passes the request on, a client certificate, a bearer
//! token, or nobody.
//!
//! A certificate was checked against the client CA in the handshake; here its subject becomes a user. Somebody who shows
//! a bad token is refused; somebody who shows nothing is `system:anonymous`.

mod elsewhere;
mod front_proxy;
mod token;

use access::User;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{Extensions, HeaderMap, HeaderValue};
use machinery::ApiError;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

use crate::call::Call;

pub(crate) use elsewhere::{Elsewhere, Webhook, follow};
pub(crate) use front_proxy::FrontProxyName;
pub(crate) use token::by_token;

/// Marks a request from this process: the identity of its caller. Only [`crate::InProcess`] makes it; nothing that
/// arrives over a connection has extensions of this type.
#[derive(Clone)]
pub(crate) struct InProcessUser(pub(crate) Arc<User>);

/// Who the certificate names that a client has proved to own, and until when it is good, in seconds of Unix. Read once a
/// connection.
#[derive(Clone)]
pub(crate) struct PeerUser(pub(crate) Arc<User>, i64);

const WEBSOCKET_TOKEN: &str = "base64url.bearer.authorization.k8s.io.";

/// Finds out who asks, and takes the credentials off the request.
///
/// # Errors
/// 401.
pub(crate) async fn authenticate(
    call: &mut Call,
    extensions: &Extensions,
) -> Result<Arc<User>, ApiError> {
    if let Some(InProcessUser(user)) = extensions.get() {
        call.headers.remove(AUTHORIZATION);
        return Ok(Arc::new(user.as_ref().clone().authenticated()));
    }
    let token = take_token(&mut call.headers);
    let server = call.server.clone();
    if let (Some(front), Some(name)) = (&server.policy().front_proxy, extensions.get())
        && let Some(user) = front_proxy::user(front, name, &mut call.headers)
    {
        return Ok(Arc::new(user.authenticated()));
    }
    if let Some(PeerUser(user, until)) = extensions.get() {
        let rest = u64::try_from(until - call.now.as_second()).unwrap_or(0);
        let callers = &server.metrics().measures.callers;
        callers.certificate(Duration::from_secs(rest));
        return Ok(user.clone());
    }
    let Some(token) = token else {
        return match is_open(call) {
            true => Ok(Arc::new(User::anonymous())),
            false => Err(ApiError::unauthorized()),
        };
    };
    match by_token(call, &token, &[]).await {
        Ok(known) => Ok(Arc::new(known.user.authenticated())),
        Err(errors) => {
            if !errors.is_empty() {
                let error = errors.join(", ");
                tracing::info!(error, "unable to authenticate the request");
            }
            Err(ApiError::unauthorized())
        }
    }
}

/// Whether somebody who shows nothing may ask for this.
fn is_open(call: &Call) -> bool {
    let elsewhere = call.server.elsewhere();
    match elsewhere.anonymous() {
        Some(anonymous) => anonymous.allows(&call.info.path),
        None => call.server.policy().anonymous,
    }
}

/// The user whom a certificate names.
pub(crate) fn certificate_user(der: &CertificateDer<'_>) -> Option<PeerUser> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().last()?.as_str().ok()?;
    let organizations = subject.iter_organization().filter_map(|o| o.as_str().ok());
    let digest: String = Sha256::digest(der)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let credential = format!("X509SHA256={digest}");
    let groups = organizations.map(str::to_owned).collect();
    let user = User::from_certificate(name, groups, &credential)?;
    let until = certificate.validity().not_after.timestamp();
    Some(PeerUser(Arc::new(user.authenticated()), until))
}

/// The bearer token; it does not travel on.
fn take_token(headers: &mut HeaderMap) -> Option<String> {
    if let Some(header) = headers.remove(AUTHORIZATION) {
        let text = header.to_str().ok()?.trim().to_owned();
        let (scheme, token) = text.split_once(' ')?;
        let token = token.trim();
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
            .then(|| token.to_owned());
    }
    take_websocket_token(headers)
}

fn take_websocket_token(headers: &mut HeaderMap) -> Option<String> {
    let text = headers
        .get(SEC_WEBSOCKET_PROTOCOL)?
        .to_str()
        .ok()?
        .to_owned();
    let protocols: Vec<&str> = text.split(',').map(str::trim).collect();
    let encoded = protocols
        .iter()
        .find_map(|p| p.strip_prefix(WEBSOCKET_TOKEN))?;
    let token = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
    let rest: Vec<&str> = protocols
        .iter()
        .copied()
        .filter(|p| !p.starts_with(WEBSOCKET_TOKEN))
        .collect();
    match HeaderValue::from_str(&rest.join(", ")) {
        Ok(value) if !rest.is_empty() => drop(headers.insert(SEC_WEBSOCKET_PROTOCOL, value)),
        _ => drop(headers.remove(SEC_WEBSOCKET_PROTOCOL)),
    }
    Some(token)
}
