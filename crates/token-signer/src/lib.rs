//! The client of a program that signs service accounts' tokens and has their keys, by its Unix socket (`ExternalJWTSigner` v1).
//!
//! What it is: questions, their bounds in time, and checks of the form of each answer. What it is not: what the keys are good for
//! and what tokens say, which is the API server's affair. Start with [`Client`].
//! Behaviour: `pkg/serviceaccount/externaljwt/plugin`.

use std::future::Future;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use tower::service_fn;

use proto::external_jwt_signer_client::ExternalJwtSignerClient;
use proto::{FetchKeysRequest, MetadataRequest, SignJwtRequest};

/// The messages and services.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated from the protocol's description"
)]
pub mod proto {
    tonic::include_proto!("v1");
}

const LONGEST_ID: usize = 1024;
/// What tokens may be signed with.
const ALGORITHMS: [&str; 4] = ["RS256", "ES256", "ES384", "ES512"];
/// A signer that is not there may come.
const PAUSE: Duration = Duration::from_millis(200);
/// No signer asks for longer pauses than a year.
const LONGEST_PAUSE: i64 = 365 * 24 * 3600;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The call failed.
    #[error("{what}: rpc error: code = {code} desc = {why}")]
    Call {
        /// What was to be done.
        what: &'static str,
        /// The code, in the words of gRPC.
        code: &'static str,
        /// What the far end, or the way there, says.
        why: String,
    },
    /// What came back cannot be used.
    #[error("{0}")]
    Answer(String),
}

impl Failure {
    /// The code, for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Call { code, .. } => code,
            Self::Answer(_) => "unknown-non-grpc",
        }
    }
}

fn answer(why: impl Into<String>) -> Failure {
    Failure::Answer(why.into())
}

/// The first and the last part of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The header, as it stands in the token.
    pub header: String,
    /// The key that it names.
    pub key_id: String,
    /// The signature, as it stands in the token.
    pub signature: String,
}

/// A key that verifies tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name in tokens.
    pub id: String,
    /// As X.509 writes it (`SubjectPublicKeyInfo`).
    pub spki: Vec<u8>,
    /// It is not published, and signs no new tokens.
    pub hidden: bool,
}

/// The keys of a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Keys {
    /// At least one.
    pub keys: Vec<Key>,
    /// When the signer read them where they are kept: seconds since 1970.
    pub data_timestamp: f64,
    /// After so long they are to be asked for again.
    pub refresh_after: Duration,
}

/// A signer by its socket.
#[derive(Clone)]
pub struct Client(ExternalJwtSignerClient<Channel>);

impl Client {
    /// By the path of its socket; `@name` is an abstract one. A connection is made when it is needed.
    pub fn new(socket: &str) -> Self {
        let path = match socket.strip_prefix('@') {
            Some(name) => format!("\0{name}"),
            None => socket.to_owned(),
        };
        let connect = move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        };
        // The address is only a name here: the connector knows the socket.
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector_lazy(service_fn(connect));
        Self(ExternalJwtSignerClient::new(channel))
    }

    /// Signs the middle part of a token.
    ///
    /// # Errors
    /// The signer does not, or says something else than a token has.
    pub async fn sign(&self, claims: &str, within: Duration) -> Result<Signed, Failure> {
        let signed = call("while signing jwt", within, || {
            let (mut client, claims) = (self.0.clone(), claims.to_owned());
            async move { client.sign(SignJwtRequest { claims }).await }
        });
        let signed = signed.await?;
        let key_id = check_header(&signed.header)
            .map_err(|why| answer(format!("while validating header: {why}")))?;
        if signed.signature.is_empty() {
            return Err(answer("empty signature returned"));
        }
        if URL_SAFE_NO_PAD.decode(&signed.signature).is_err() {
            return Err(answer("while unwrapping signature: illegal base64 data"));
        }
        Ok(Signed {
            header: signed.header,
            key_id,
            signature: signed.signature,
        })
    }

    /// The keys that tokens are verified by.
    ///
    /// # Errors
    /// The signer does not say, or what it says is no set of keys.
    pub async fn keys(&self, within: Duration) -> Result<Keys, Failure> {
        let what = "while getting externally supported jwt signing keys";
        let found = call(what, within, || {
            let mut client = self.0.clone();
            async move { client.fetch_keys(FetchKeysRequest {}).await }
        });
        let found = found.await?;
        let hint = found.refresh_hint_seconds;
        if hint <= 0 {
            return Err(answer(format!("found invalid refresh hint ({hint}s)")));
        }
        if found.keys.is_empty() {
            return Err(answer("found no keys"));
        }
        let at = found
            .data_timestamp
            .filter(|at| (0..1_000_000_000).contains(&at.nanos));
        let at = at.ok_or_else(|| answer("invalid data timestamp"))?;
        let keys = found.keys.into_iter().map(|key| {
            if key.key_id.is_empty() || key.key_id.len() > LONGEST_ID {
                let id = key.key_id;
                return Err(answer(format!("found invalid public key id {id:?}")));
            }
            if key.key.is_empty() {
                return Err(answer("found empty public key"));
            }
            Ok(Key {
                id: key.key_id,
                spki: key.key,
                hidden: key.exclude_from_oidc_discovery,
            })
        });
        Ok(Keys {
            keys: keys.collect::<Result<_, _>>()?,
            data_timestamp: at.seconds as f64 + f64::from(at.nanos) / 1e9,
            refresh_after: Duration::from_secs(hint.min(LONGEST_PAUSE).unsigned_abs()),
        })
    }

    /// For how many seconds it signs tokens at most.
    ///
    /// # Errors
    /// The signer does not say.
    pub async fn longest(&self, within: Duration) -> Result<i64, Failure> {
        let found = call("while getting metadata", within, || {
            let mut client = self.0.clone();
            async move { client.metadata(MetadataRequest {}).await }
        });
        Ok(found.await?.max_token_expiration_seconds)
    }
}

/// Asks until there is somebody who answers, or the time is over.
async fn call<T, F>(what: &'static str, within: Duration, ask: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let work = async {
        loop {
            match ask().await {
                Err(status) if is_not_there(&status) => tokio::time::sleep(PAUSE).await,
                other => return other,
            }
        }
    };
    let failed = |code, why: &str| Failure::Call {
        what,
        code: code_name(code),
        why: why.to_owned(),
    };
    match tokio::time::timeout(within, work).await {
        Ok(Ok(found)) => Ok(found.into_inner()),
        Ok(Err(status)) => Err(failed(status.code(), status.message())),
        Err(_) => Err(failed(Code::DeadlineExceeded, "context deadline exceeded")),
    }
}

/// Nobody listens on the socket.
fn is_not_there(status: &Status) -> bool {
    let unready = status.message().starts_with("Service was not ready");
    status.code() == Code::Unavailable || (status.code() == Code::Unknown && unready)
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    #[serde(default)]
    alg: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    typ: String,
}

/// The name of the key in a header that is in order.
fn check_header(header: &str) -> Result<String, String> {
    let text = URL_SAFE_NO_PAD.decode(header);
    let text = text.map_err(|e| format!("while unwrapping header: {e}"))?;
    let header: Header =
        serde_json::from_slice(&text).map_err(|e| format!("while parsing header JSON: {e}"))?;
    if header.typ != "JWT" {
        return Err("bad type".to_owned());
    }
    if header.kid.is_empty() {
        return Err("key id missing".to_owned());
    }
    if header.kid.len() > LONGEST_ID {
        return Err("key id longer than 1 kb".to_owned());
    }
    if !ALGORITHMS.contains(&header.alg.as_str()) {
        return Err(format!("bad signing algorithm {:?}", header.alg));
    }
    Ok(header.kid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str) -> Result<String, String> {
        check_header(&URL_SAFE_NO_PAD.encode(header))
    }

    #[test]
    fn a_header_says_three_things_and_nothing_else() {
        let good = r#"{"alg":"ES512","kid":"k","typ":"JWT"}"#;
        assert_eq!(check(good), Ok("k".to_owned()));
        let long = format!(
            r#"{{"alg":"ES256","typ":"JWT","kid":"{}"}}"#,
            "k".repeat(1025)
        );
        for (header, why) in [
            (r#"{"alg":"ES512","kid":"k"}"#, "bad type"),
            (r#"{"alg":"ES512","typ":"JWT"}"#, "key id missing"),
            (&long, "key id longer than 1 kb"),
            (
                r#"{"alg":"none","kid":"k","typ":"JWT"}"#,
                "bad signing algorithm \"none\"",
            ),
        ] {
            assert_eq!(check(header), Err(why.to_owned()));
        }
        let more = check(r#"{"alg":"ES512","kid":"k","typ":"JWT","jku":"x"}"#);
        assert!(more.is_err_and(|why| why.starts_with("while parsing header JSON: unknown field")));
        assert!(check_header("!").is_err());
    }

    #[tokio::test]
    async fn who_is_not_there_is_waited_for_in_bounds() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("none");
        let client = Client::new(&socket.display().to_string());
        let failed = client.longest(Duration::from_millis(300)).await;
        let why = failed.expect_err("an error").to_string();
        let late = "rpc error: code = DeadlineExceeded desc = context deadline exceeded";
        assert_eq!(why, format!("while getting metadata: {late}"));
    }
}
