//! A server of admission webhooks whose paths say what they answer. The first line on its standard output is the authority
//! of its certificate, each further one a review that it was asked.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::reviews;
use crate::tls::{self, Keys};

/// What a test has to know before it can configure webhooks.
pub(crate) fn first_line(keys: &Keys) -> Value {
    json!({"caBundle": STANDARD.encode(&keys.authority)})
}

/// Answers a review:
/// `/allow`, `/deny/CODE/REASON`, `/warn`, `/append/TEXT` (to `data.trail`), `/never`, `/broken`, `/other` (another question's answer).
pub(crate) async fn answer(path: String, body: Bytes) -> Response<Full<Bytes>> {
    let Ok(asked) = serde_json::from_slice::<Value>(&body) else {
        return tls::json(&json!("ready"));
    };
    let request = &asked["request"];
    println!("{}", json!({"path": path, "request": request}));
    let words: Vec<&str> = path.trim_matches('/').split('/').collect();
    let response = match words.as_slice() {
        ["deny", code, reason] => json!({"allowed": false, "status": {
            "code": code.parse::<u16>().unwrap_or(403), "reason": capitalized(reason), "message": "it is not to be"}}),
        ["warn"] => json!({"allowed": true, "warnings": ["mind the gap"]}),
        ["append", text] => append(&request["object"]["data"], text),
        ["never"] => std::future::pending().await,
        ["broken"] => {
            let mut response = Response::new(Full::new("out of order".into()));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return response;
        }
        ["other"] => json!({"allowed": true, "uid": "another"}),
        _ => json!({"allowed": true}),
    };
    tls::json(&reviews::review(&asked, response))
}

/// Paths have no capitals, reasons begin with one.
fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn append(data: &Value, text: &str) -> Value {
    let before = data["trail"].as_str().unwrap_or("");
    let trail = format!("{before}{text}");
    let operation = match data.is_object() {
        true => json!({"op": "add", "path": "/data/trail", "value": trail}),
        false => json!({"op": "add", "path": "/data", "value": {"trail": trail}}),
    };
    reviews::patch(&json!([operation]))
}
