//! [`Failure`]: why a test failed, in words.

use std::fmt;

/// Why a test failed.
pub struct Failure(String);

/// How a test ended.
pub type Checked<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure for this reason.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// The same, told after where it happened.
    #[must_use]
    pub fn within(self, place: impl fmt::Display) -> Self {
        Self(format!("{place}: {}", self.0))
    }
}

impl<E: Into<messaging::BoxError>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Self(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Fails the test with a message unless a condition holds.
macro_rules! require {
    ($condition:expr, $($message:tt)+) => {{
        // Bound to a name: a negated comparison of floats would be a lint where this is used.
        let holds: bool = $condition;
        if !holds {
            return Err($crate::failure::Failure::new(format!($($message)+)));
        }
    }};
}
pub(crate) use require;
