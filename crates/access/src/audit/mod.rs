//! What is written down of requests: the policy that says how much, and the event that says it.
//!
//! What it is: a file's policy read and checked, the one rule that decides on a request, and the event with its two forms
//! (JSON and one line of text). What it is not: it keeps no time and writes nothing; the server has the stages, the files and the
//! webhooks. Start with [`Policy::config`], then [`Event`].
//!
//! Behaviour: `k8s.io/apiserver/pkg/audit`, `.../pkg/apis/audit`.

mod event;
mod policy;
#[cfg(test)]
mod tests;

pub use event::{AuthenticationMetadata, Event, ObjectReference, Person, without_managed_fields};
pub use policy::{Policy, PolicyError, RequestConfig};

use serde::Serialize;

/// How much is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who asked for what, and how it ended.
    Metadata,
    /// The body of the request too.
    Request,
    /// And the body of the answer.
    RequestResponse,
}

impl Level {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::None,
        Self::Metadata,
        Self::Request,
        Self::RequestResponse,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }
}

/// How far a request has come when an event is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Stage {
    /// It has arrived.
    #[default]
    RequestReceived,
    /// The head of an answer that may stay open is on its way.
    ResponseStarted,
    /// The answer is complete.
    ResponseComplete,
    /// The server has failed in the middle of it.
    Panic,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::RequestReceived,
        Self::ResponseStarted,
        Self::ResponseComplete,
        Self::Panic,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == text)
    }
}
