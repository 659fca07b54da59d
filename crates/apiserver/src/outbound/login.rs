//! What a request shows of its sender beside a certificate that never changes: a token, a file with one that is read again
//! and again, a name and a password, or what a program says (`client.authentication.k8s.io`).
//!
//! Behaviour: `k8s.io/client-go/transport`, `k8s.io/client-go/plugin/pkg/client/auth/exec`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use parking_lot::Mutex;

use super::Credentials;
use super::exec::Plugin;

/// A file is believed for so long.
const READ_AGAIN: Duration = Duration::from_secs(60);
/// No token is longer.
const LONGEST_TOKEN: u64 = 1 << 20;

/// How a sender shows who he is.
pub(crate) enum Login {
    /// A token.
    Token(Arc<str>),
    /// A file with one.
    File(TokenFile),
    /// A name and a password.
    Password(String, String),
    /// A program that knows.
    Exec(Arc<Plugin>),
}

/// What is shown in one request.
#[derive(Clone, Default)]
pub(super) struct Shown {
    pub(super) authorization: Option<HeaderValue>,
    /// In place of the destination's own.
    pub(super) credentials: Option<Credentials>,
    /// What a program has said, to be told when the far end does not believe it.
    pub(super) said: Option<u64>,
}

impl Login {
    /// A file with a token; `first` is shown as long as the file cannot be read.
    pub(crate) fn file(path: PathBuf, first: String) -> Self {
        Self::File(TokenFile {
            path,
            read: Mutex::new((first, None)),
        })
    }

    /// What to show now.
    ///
    /// # Errors
    /// The program fails, or what there is to show cannot stand in a header.
    pub(super) async fn show(&self) -> Result<Shown, String> {
        let bearer = |token: &str| header(&format!("Bearer {token}"));
        let authorization = match self {
            Self::Token(token) => bearer(token)?,
            Self::File(file) => match file.token().as_str() {
                "" => return Ok(Shown::default()),
                token => bearer(token)?,
            },
            Self::Password(name, password) => {
                let both = STANDARD.encode(format!("{name}:{password}"));
                header(&format!("Basic {both}"))?
            }
            Self::Exec(plugin) => {
                let said = plugin.say().await;
                let said = said.map_err(|why| format!("getting credentials: {why}"))?;
                return Ok(Shown {
                    authorization: said.token.as_deref().map(bearer).transpose()?,
                    credentials: said.credentials.clone(),
                    said: Some(said.number),
                });
            }
        };
        Ok(Shown {
            authorization: Some(authorization),
            ..Shown::default()
        })
    }

    /// The far end does not believe what was shown.
    pub(super) fn refused(&self, shown: &Shown) {
        if let (Self::Exec(plugin), Some(said)) = (self, shown.said) {
            plugin.forget(said);
        }
    }
}

fn header(text: &str) -> Result<HeaderValue, String> {
    let value = HeaderValue::from_str(text);
    let mut value = value.map_err(|_| "invalid credentials for a header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// A file with a token, which somebody may replace.
pub(crate) struct TokenFile {
    path: PathBuf,
    read: Mutex<(String, Option<Instant>)>,
}

impl TokenFile {
    /// The token of this moment, give or take a minute. One that cannot be read anew stays.
    fn token(&self) -> String {
        let mut read = self.read.lock();
        if read.1.is_some_and(|at| at.elapsed() < READ_AGAIN) {
            return read.0.clone();
        }
        match read_token(&self.path) {
            Ok(token) => read.0 = token,
            Err(error) => tracing::error!(error, "a token cannot be read"),
        }
        read.1 = Some(Instant::now());
        read.0.clone()
    }
}

/// Reads a token.
///
/// # Errors
/// There is none.
pub(super) fn read_token(path: &std::path::Path) -> Result<String, String> {
    let failed = |why: String| format!("failed to read token file {:?}: {why}", path.display());
    let length = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?;
    if length.len() > LONGEST_TOKEN {
        return Err(failed("too long".to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    match text.trim() {
        "" => Err(format!("read empty token from file {:?}", path.display())),
        token => Ok(token.to_owned()),
    }
}
