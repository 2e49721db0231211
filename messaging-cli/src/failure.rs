//! [`Failure`]: why the command did not do what it was asked, and the exit code that says so.

use std::process::ExitCode;

/// Why the command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was asked makes no sense; the text names the argument.
    Usage(String),
    /// It could not be done.
    Failed(String),
    /// It was told already.
    Told,
    /// Nobody reads the output any more: as good as done.
    NobodyReads,
}

impl Failure {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }

    /// Tells it, and answers the exit code: 1 for a failure, 2 for a wrong argument.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Usage(text) => {
                eprintln!("error: {text}");
                ExitCode::from(2)
            }
            Self::Failed(text) => {
                eprintln!("error: {text}");
                ExitCode::FAILURE
            }
            Self::Told => ExitCode::FAILURE,
            Self::NobodyReads => ExitCode::SUCCESS,
        }
    }
}

impl From<messaging::Error> for Failure {
    fn from(error: messaging::Error) -> Self {
        Self::Failed(full_text(&error))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// An error and its causes in one line, each said once.
pub(crate) fn full_text(error: &messaging::Error) -> String {
    error.duplicate().to_string()
}
