//! Asking another component of this machine whether it is well.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, Method};
use http_body_util::{BodyExt, Empty};

use super::client::{ANY_CERTIFICATE, Outgoing, limited_text};

const PATH: &str = "/healthz";
const DEADLINE: Duration = Duration::from_secs(20);

/// The code and text that `/healthz` answers with, over TLS with whatever certificate: nothing secret is sent.
///
/// # Errors
/// There was no answer; the words are those of a Go client.
pub(crate) async fn ask(address: SocketAddr) -> Result<(u16, String), String> {
    let request = Outgoing {
        address,
        tls: Some(&ANY_CERTIFICATE),
        method: Method::GET,
        path: PATH.to_owned(),
        headers: HeaderMap::new(),
    };
    let url = format!("https://{address}{PATH}");
    let failed = |why: &str| format!("Get {url:?}: {why}");
    let asked = async {
        let answer = request
            .send(Empty::new().map_err(|never| match never {}).boxed_unsync())
            .await;
        let answer = answer.map_err(|error| {
            let why = error.message.trim_start_matches("error dialing backend: ");
            failed(why)
        })?;
        let code = answer.status().as_u16();
        Ok((code, limited_text(answer.into_body()).await))
    };
    let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    let asked = tokio::time::timeout(DEADLINE, asked).await;
    asked.unwrap_or_else(|_| Err(failed(late)))
}
