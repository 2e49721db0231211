//! What can go wrong between asking for a broker and having one, with the broker's own words where it has any.

use std::path::Path;
use std::time::Duration;

use crate::kind::Kind;

/// Why there is no broker, or why it would not do what was asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No address, no installed program, no container engine, and it could not be fetched either.
    #[error("{kind} is missing: {}", tried.join("; "))]
    Missing {
        /// Which broker.
        kind: Kind,
        /// Each source that was tried, with the reason why it did not serve.
        tried: Vec<String>,
    },
    /// The environment gives an address that cannot be read.
    #[error("{variable} is no usable address: {reason}")]
    Address {
        /// The environment variable.
        variable: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// The broker belongs to someone else: only its address is known.
    #[error("{action} is refused: {kind} was given by {variable}, so it is not this process's to control or configure")]
    NotOurs {
        /// What was asked for.
        action: String,
        /// Which broker.
        kind: Kind,
        /// The environment variable that gave its address.
        variable: &'static str,
    },
    /// A setting of a broker that this crate cannot pass on.
    #[error("{setting}: {reason}")]
    Setting {
        /// The setting.
        setting: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// The broker is in a state in which this cannot be done, such as pausing one that does not run.
    #[error("{node}: cannot {action}: it is {state}")]
    State {
        /// The node's name.
        node: String,
        /// What was asked for.
        action: &'static str,
        /// What the node is.
        state: &'static str,
    },
    /// The program ended before it was ready.
    #[error("{node} ended with {status} before it was ready; its log ends:\n{log}")]
    Ended {
        /// The node's name.
        node: String,
        /// How the program ended.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// Something took longer than its deadline.
    #[error("{what} took longer than {limit:?}: {last}; its log ends:\n{log}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// The deadline.
        limit: Duration,
        /// What stood in the way at the last look.
        last: String,
        /// The last lines of the log.
        log: String,
    },
    /// A program that prepares a broker (`initdb`, `apt-get`, `mvn`, …) failed.
    #[error("{program} failed ({status}); its output ends:\n{output}")]
    Program {
        /// The program.
        program: String,
        /// How it ended.
        status: String,
        /// The last lines it printed.
        output: String,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The certificates for a TLS listener could not be made.
    #[error("certificate: {0}")]
    Certificate(String),
}

impl Error {
    /// True if there simply is no such broker on this machine, rather than one that failed.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// The last lines of a log file: enough to see why a program gave up.
pub(crate) fn log_tail(path: &Path) -> String {
    match std::fs::read(path) {
        Ok(bytes) => tail(&String::from_utf8_lossy(&bytes)),
        Err(error) => format!("(unreadable: {error})"),
    }
}

/// The last forty lines of some output.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
