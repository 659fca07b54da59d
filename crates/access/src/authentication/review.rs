//! A token as a `TokenReview`, and the answer as a user.
//!
//! Behaviour: `k8s.io/apiserver/plugin/pkg/authenticator/token/webhook`.

use serde_json::{Value, json};

use crate::User;

/// The review that asks whose a token is.
pub fn question(version: &str, token: &str, audiences: &[String]) -> Value {
    let mut spec = json!({"token": token});
    if !audiences.is_empty() {
        spec["audiences"] = json!(audiences);
    }
    json!({
        "apiVersion": format!("authentication.k8s.io/{version}"), "kind": "TokenReview",
        "metadata": {}, "spec": spec, "status": {"user": {}},
    })
}

/// What the review's status says: the user and the audiences that the token is good for, or nothing. A reviewer that
/// does not say audiences knows none, and then the token is for those that the server has itself.
///
/// # Errors
/// What the reviewer says went wrong.
pub fn answer(
    answer: &Value,
    wanted: &[String],
    own: &[String],
) -> Result<Option<(User, Vec<String>)>, String> {
    let status = &answer["status"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| {
        let all = value.as_array().into_iter().flatten();
        all.filter_map(Value::as_str)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let error = text(&status["error"]);
    if status["authenticated"] != true {
        return match error.is_empty() {
            true => Ok(None),
            false => Err(error),
        };
    }
    let said = texts(&status["audiences"]);
    let good_for = if said.is_empty() { own } else { &said };
    let audiences: Vec<String> = good_for
        .iter()
        .filter(|a| wanted.contains(a))
        .cloned()
        .collect();
    if audiences.is_empty() && !wanted.is_empty() {
        return Ok(None);
    }
    let user = &status["user"];
    let extra = user["extra"].as_object().into_iter().flatten();
    let user = User {
        name: text(&user["username"]),
        uid: text(&user["uid"]),
        groups: texts(&user["groups"]),
        extra: extra
            .map(|(key, values)| (key.clone(), texts(values)))
            .collect(),
    };
    Ok(Some((user, audiences)))
}
