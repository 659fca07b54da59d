//! What a call answers when it fails: a gRPC-like code and a message, so that nothing is lost over
//! a socket.

use std::fmt;

/// Why a call failed: the subset of the gRPC codes that the CRI gives a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The caller went away.
    Cancelled,
    /// The request can never succeed as it stands.
    InvalidArgument,
    /// The call took longer than the request allowed.
    DeadlineExceeded,
    /// The sandbox, container or image does not exist.
    NotFound,
    /// Something with that name exists already.
    AlreadyExists,
    /// The registry refused the credentials, or the kernel refused us.
    PermissionDenied,
    /// No credentials, or wrong ones.
    Unauthenticated,
    /// Something that must be true first is not (for example a container that is not running).
    FailedPrecondition,
    /// A limit was hit.
    ResourceExhausted,
    /// This runtime does not do that.
    Unimplemented,
    /// The runtime cannot be reached now; try again.
    Unavailable,
    /// Anything else.
    Internal,
    /// A code from another runtime that has no meaning here.
    Unknown,
}

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The kind of failure.
    pub code: Code,
    /// What went wrong, for people.
    pub message: String,
}

impl Error {
    /// An error of the given kind.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error {
            code,
            message: message.into(),
        }
    }

    /// The sandbox, container or image does not exist.
    pub fn not_found(message: impl Into<String>) -> Error {
        Error::new(Code::NotFound, message)
    }

    /// The request can never succeed as it stands.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(Code::InvalidArgument, message)
    }

    /// Something that must be true first is not.
    pub fn failed_precondition(message: impl Into<String>) -> Error {
        Error::new(Code::FailedPrecondition, message)
    }

    /// This runtime does not do that.
    pub fn unimplemented(message: impl Into<String>) -> Error {
        Error::new(Code::Unimplemented, message)
    }

    /// Anything else: the whole chain of `source` is written out.
    pub fn internal(source: impl std::error::Error) -> Error {
        Error::new(Code::Internal, chain(&source))
    }

    /// True when the thing asked for does not exist, which deleting code takes for success.
    pub fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }
}

/// An error and all its sources, outermost first, joined by `: `.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "rpc error: code = {:?} desc = {}",
            self.code, self.message
        )
    }
}

impl std::error::Error for Error {}

/// The codes that mean the same on both sides.
const CODES: &[(Code, tonic::Code)] = &[
    (Code::Cancelled, tonic::Code::Cancelled),
    (Code::InvalidArgument, tonic::Code::InvalidArgument),
    (Code::DeadlineExceeded, tonic::Code::DeadlineExceeded),
    (Code::NotFound, tonic::Code::NotFound),
    (Code::AlreadyExists, tonic::Code::AlreadyExists),
    (Code::PermissionDenied, tonic::Code::PermissionDenied),
    (Code::Unauthenticated, tonic::Code::Unauthenticated),
    (Code::FailedPrecondition, tonic::Code::FailedPrecondition),
    (Code::ResourceExhausted, tonic::Code::ResourceExhausted),
    (Code::Unimplemented, tonic::Code::Unimplemented),
    (Code::Unavailable, tonic::Code::Unavailable),
    (Code::Internal, tonic::Code::Internal),
    (Code::Unknown, tonic::Code::Unknown),
];

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Error {
        let code = CODES.iter().find(|(_, theirs)| *theirs == status.code());
        Error::new(
            code.map_or(Code::Unknown, |(ours, _)| *ours),
            status.message(),
        )
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> tonic::Status {
        let code = CODES.iter().find(|(ours, _)| *ours == error.code);
        tonic::Status::new(
            code.map_or(tonic::Code::Unknown, |(_, theirs)| *theirs),
            error.message,
        )
    }
}
