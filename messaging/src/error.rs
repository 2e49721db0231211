//! The two errors of the library: [`Error`] for what the library does, [`HandlerError`] for what a handler reports.

use std::{any::Any, fmt, time::Duration};

/// Any error with a source of its own.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What kind of trouble an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting, name or option is wrong; the message names it.
    Config,
    /// The backend lacks a capability that was asked for; the message names both.
    Unsupported,
    /// The data does not decode, or lacks what its envelope needs. Trying again cannot help.
    Malformed,
    /// Refused before or by the broker: surely not stored.
    Rejected,
    /// The broker's answer did not come: the message may or may not be stored.
    Unknown,
    /// The broker cannot be reached, or answers that it cannot serve now.
    Unavailable,
    /// A deadline passed.
    Timeout,
    /// The publisher, consumer or bus was closed.
    Closed,
    /// Something that should not happen; please report it.
    Internal,
}

/// What went wrong in the library or its backend: a kind, a message that names the culprit, and the source.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: Box<str>,
    source: Option<BoxError>,
}

impl Error {
    /// An error without a source.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into().into_boxed_str(), source: None }
    }

    /// The same error with the one that caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of trouble this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether trying the same again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Unknown | ErrorKind::Unavailable | ErrorKind::Timeout)
    }

    /// A copy without the source, whose text joins the message: one failure of a batch told to each of its callers.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self::new(self.kind, full_text(self))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

/// How a handler's failure is to be treated by the [`FailurePolicy`](crate::FailurePolicy).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// May pass: retried with back-off, counted as an attempt, dead-lettered in the end. What a plain `Err` is.
    Transient,
    /// Will not pass: dead-lettered at once.
    Permanent,
    /// Not the message's fault (database locked or away): retried, never counted as an attempt.
    Infrastructure,
}

/// A handler's failure. Any `std::error::Error` turns into a transient one with `?`; the constructors say otherwise.
///
/// A [`messaging::Error`](Error) keeps its meaning: malformed data is permanent.
pub struct HandlerError(Box<Reported>);

/// Boxed: a handler's outcome then fits in registers, and only a failure pays for it.
struct Reported {
    kind: FailureKind,
    source: BoxError,
}

impl HandlerError {
    #[cold]
    fn new(kind: FailureKind, source: BoxError) -> Self {
        Self(Box::new(Reported { kind, source }))
    }

    /// A failure that may pass.
    #[must_use]
    pub fn transient(source: impl Into<BoxError>) -> Self {
        Self::new(FailureKind::Transient, source.into())
    }

    /// A failure that trying again cannot mend.
    #[must_use]
    pub fn permanent(source: impl Into<BoxError>) -> Self {
        Self::new(FailureKind::Permanent, source.into())
    }

    /// A failure of what the handler stands on, which says nothing about the message.
    #[must_use]
    pub fn infrastructure(source: impl Into<BoxError>) -> Self {
        Self::new(FailureKind::Infrastructure, source.into())
    }

    pub(crate) fn timed_out(after: Duration) -> Self {
        Self::transient(format!("handler timed out after {} ms", after.as_millis()))
    }

    pub(crate) fn panicked(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Self::transient(format!("handler panicked: {text}"))
    }

    /// The same failure of another message; of its source the text.
    pub(crate) fn repeated(&self) -> Self {
        Self::new(self.0.kind, self.text().into())
    }

    /// How the failure is to be treated.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.0.kind
    }

    /// What the handler reported.
    #[must_use]
    pub fn source(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.0.source
    }

    /// What the handler reported, to be treated differently.
    #[must_use]
    pub fn into_source(self) -> BoxError {
        self.0.source
    }

    /// The error and its chain of causes in one line, as it stands in dead letters.
    #[must_use]
    pub fn text(&self) -> String {
        full_text(&*self.0.source)
    }
}

/// An error's message and those of its sources, joined by `: `, each said once.
pub(crate) fn full_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerError").field("kind", &self.0.kind).field("source", &self.0.source).finish()
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.source, f)
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let kind =
            (&error as &dyn Any).downcast_ref::<Error>().map_or(FailureKind::Transient, |error| match error.kind {
                ErrorKind::Malformed => FailureKind::Permanent,
                _ => FailureKind::Transient,
            });
        Self::new(kind, Box::new(error))
    }
}
