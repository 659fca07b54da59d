//! Why a pull failed, before it is known which image it was for.

use http::{Method, Uri};
use oci::Reference;

use crate::Error;

/// What went wrong with one endpoint.
#[derive(Debug)]
pub(super) enum Failure {
    /// The registry does not have the image.
    NotFound,
    /// The registry wants to know somebody who may see the image.
    Unauthorized(String),
    /// The way to the registry, or what came from it.
    Remote(String),
    /// What came is not acceptable, or this machine's disk failed.
    Local(Error),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Local(error.into())
    }
}

impl Failure {
    /// The request did not lead to an answer.
    pub(super) fn request(method: &Method, url: &Uri, reason: &str) -> Failure {
        let name = method.as_str();
        let name = format!("{}{}", &name[..1], name[1..].to_ascii_lowercase());
        Failure::Remote(format!("failed to do request: {name} \"{url}\": {reason}"))
    }

    /// Says which image it was, in the words that users of other runtimes know.
    pub(super) fn named(self, reference: &Reference) -> Error {
        let image = reference.to_string();
        let resolving = format!(
            "failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\""
        );
        match self {
            Failure::NotFound => Error::NotFound(format!("{resolving}: {image}")),
            Failure::Unauthorized(reason) => Error::Unauthorized(format!("{resolving}: {reason}")),
            Failure::Remote(reason) => Error::Registry { image, reason },
            Failure::Local(error) => Error::Registry {
                image,
                reason: root_chain(&error),
            },
        }
    }
}

/// An error with all that caused it.
pub(super) fn root_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// What lies at the bottom of an error.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// A stranger's text, fit for a message: short, one line, no control characters.
pub(super) fn tame(text: &str) -> String {
    let letters = text.chars().filter(|letter| !letter.is_control());
    letters.take(300).collect()
}
