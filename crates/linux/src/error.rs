//! One error for the whole crate: what was tried, and what the kernel said.

use std::io;

/// A system call failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation}")]
pub struct Error {
    /// What was being done, with the names involved.
    pub operation: String,
    /// What the kernel answered.
    #[source]
    pub source: io::Error,
}

/// The result of every call here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that did not come from the kernel.
    pub fn new(operation: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error {
            operation: operation.into(),
            source: source.into(),
        }
    }

    /// The kernel's error number, 0 when there is none.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }

    /// True when the thing was not there.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Adds what was being done to a failed system call.
pub trait Context<T> {
    /// Names the operation; the text is made only when it failed.
    fn context<S: Into<String>>(self, operation: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context<S: Into<String>>(self, operation: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::new(operation(), source))
    }
}
