//! What lapin's errors mean to us.

use lapin::{ErrorKind as Kind, protocol::AMQPErrorKind};
use messaging::{Error, ErrorKind};

/// The broker cannot be reached, or does not serve this now.
pub(crate) fn unavailable(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, what)
}

/// An error of the client while doing something: refusals for good are told from what may pass.
pub(crate) fn while_doing(what: &str, error: lapin::Error) -> Error {
    let kind = match reply_code(&error) {
        // ACCESS_REFUSED, NOT_ALLOWED, PRECONDITION_FAILED: somebody has to change something.
        Some(403 | 530 | 406) => ErrorKind::Config,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, what).with_source(error)
}

/// The code with which the broker refused, if it was a refusal.
pub(crate) fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        Kind::ProtocolError(refused) => Some(match refused.kind() {
            AMQPErrorKind::Soft(soft) => soft.get_id(),
            AMQPErrorKind::Hard(hard) => hard.get_id(),
        }),
        _ => None,
    }
}

/// Whether something that was asked for is not there.
pub(crate) fn is_missing(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    source.and_then(reply_code) == Some(NOT_FOUND)
}

/// What the broker wrote beside its code.
pub(crate) fn reply_text(error: &lapin::Error) -> Option<&str> {
    match error.kind() {
        Kind::ProtocolError(refused) => Some(refused.get_message().as_str()),
        _ => None,
    }
}

/// The broker's code for something that is not there.
pub(crate) const NOT_FOUND: u16 = 404;
/// The broker's code for a declaration that contradicts what is there.
pub(crate) const PRECONDITION_FAILED: u16 = 406;
