//! The last word of a session: what became of the command (cri-streaming, `remotecommand/status.go`).

use serde::Serialize;

use crate::Error;

#[derive(Serialize)]
struct Status {
    status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Serialize)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Serialize)]
struct Cause {
    reason: &'static str,
    message: String,
}

/// How the status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Version 4 and later: always, as JSON.
    Json,
    /// Before that: the message of a failure only.
    Text,
}

/// The bytes for the error stream.
pub(crate) fn render(outcome: &Result<i32, Error>, doing: &str, form: Form) -> Vec<u8> {
    let failure = |message, reason| Status {
        status: "Failure",
        message,
        reason,
        details: None,
        code: None,
    };
    let status = match outcome {
        Ok(0) => Status {
            status: "Success",
            ..failure(String::new(), "")
        },
        Ok(code) => {
            let message = format!("command terminated with non-zero exit code: exit status {code}");
            let cause = Cause {
                reason: "ExitCode",
                message: code.to_string(),
            };
            Status {
                details: Some(Details {
                    causes: vec![cause],
                }),
                ..failure(message, "NonZeroExitCode")
            }
        }
        Err(error) => {
            let message = format!("Internal error occurred: error {doing}: {error}");
            Status {
                code: Some(500),
                ..failure(message, "InternalError")
            }
        }
    };
    match form {
        Form::Json => serde_json::to_vec(&status).expect("a status is JSON"),
        Form::Text => status.message.into_bytes(),
    }
}
