//! [`PendingWork`]: what is still to be done inside this process, so that a test can wait for all of it.

use std::fmt;

use async_trait::async_trait;

/// A source of work that [`Messaging::settled`](crate::Messaging::settled) waits for: groups of the in-process bus, an
/// outbox.
#[async_trait]
pub trait PendingWork: Send + Sync + 'static {
    /// How much is pending now.
    fn pending(&self) -> usize;

    /// Returns at once if nothing is pending, otherwise at the next moment at which nothing is.
    async fn idle(&self);

    /// What is pending, a line each: shown when the wait's deadline passes.
    fn describe(&self) -> Vec<String>;
}

/// The wait for [`settled`](crate::Messaging::settled) passed its deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotSettled {
    /// What is still pending, a line each: parked with its due time, running, waiting in a group, unsent.
    pub pending: Vec<String>,
}

impl fmt::Display for NotSettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not settled before the deadline; pending: {}", self.pending.join("; "))
    }
}

impl std::error::Error for NotSettled {}
