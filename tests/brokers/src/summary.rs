//! Which brokers a test run has, where they come from, and which are missing.

use std::fmt;

use crate::error::Error;
use crate::kind::Kind;
use crate::node::blocking;
use crate::programs::{self, Origin};

/// What each kind of broker would be, without starting any. Programs are fetched if they have to be.
#[derive(Debug)]
pub struct Summary {
    lines: Vec<Line>,
}

/// One kind's line.
#[derive(Debug)]
pub struct Line {
    kind: Kind,
    found: Result<(Origin, Option<String>), Error>,
}

impl Summary {
    /// Looks for these kinds.
    pub async fn gather(kinds: &[Kind]) -> Self {
        let mut lines = Vec::new();
        for kind in kinds.iter().copied() {
            lines.push(Line::gather(kind).await);
        }
        Self { lines }
    }

    /// Of lines gathered one by one, as a command does that shows its progress.
    #[must_use]
    pub fn of(lines: Vec<Line>) -> Self {
        Self { lines }
    }

    /// The lines, one per kind.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The kinds that are missing.
    #[must_use]
    pub fn missing(&self) -> Vec<Kind> {
        self.lines.iter().filter(|line| line.found.is_err()).map(|line| line.kind).collect()
    }
}

impl Line {
    /// Looks for one kind.
    pub async fn gather(kind: Kind) -> Self {
        let found = match kind.given() {
            Err(error) => Err(error),
            Ok(Some(_)) => Ok((Origin::Given(kind.variable()), None)),
            Ok(None) => {
                let programs = blocking(move || programs::find(kind)).await;
                programs.map(|programs| (programs.origin.clone(), Some(programs.version.clone())))
            }
        };
        Self { kind, found }
    }

    /// Which kind this is about.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Why there is none, if there is none.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        self.found.as_ref().err()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let product = self.kind.product();
        match &self.found {
            Ok((origin, Some(version))) => write!(f, "{product} {version}, {origin}"),
            Ok((origin, None)) => write!(f, "{product}, {origin}"),
            Err(error) => write!(f, "{error}"),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// Whether the run is one that must not pass with less than all brokers: `CI=true`.
#[must_use]
pub fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// The broker, or nothing if this machine has none, so that the test can pass over what it cannot show. With `CI=true` a
/// missing broker is a failure like any other.
///
/// # Panics
/// If the broker failed to start, or is missing with `CI=true`.
#[track_caller]
pub fn or_skip<T>(started: Result<T, Error>) -> Option<T> {
    match started {
        Ok(broker) => Some(broker),
        Err(error) if error.is_missing() && !is_ci() => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => fail(&error),
    }
}

#[track_caller]
#[expect(clippy::panic, reason = "the way for a test to fail")]
fn fail(error: &Error) -> ! {
    panic!("{error}")
}
