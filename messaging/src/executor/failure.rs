//! [`Trouble`]: what is remembered of a delivery that has failed, from attempt to attempt.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    error::{FailureKind, HandlerError},
    policy::Failure,
    time::Tick,
    timestamp::Timestamp,
};

/// The failures of one delivery so far.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// By the system's clock, for the dead letter.
    pub(super) first_failed_at: Timestamp,
    /// By the executor's clock, for `max_hold`.
    since: Tick,
    /// From the first failure to the last, by the executor's clock.
    lasted: Duration,
    pub(super) error: String,
    pub(super) infrastructure_failures: u32,
    /// It is to be dead-lettered; the handler does not run again.
    pub(super) condemned: bool,
    /// How many attempts its dead letter tells of.
    pub(super) attempts_made: u32,
    /// How often its dead letter could not be written.
    pub(super) burials_failed: u32,
    /// Its dead letter was refused for good.
    pub(super) stuck: Option<Stuck>,
}

impl Trouble {
    /// A first failure.
    pub(super) fn new(now: Tick, error: String) -> Box<Self> {
        Box::new(Self {
            first_failed_at: Timestamp::now(),
            since: now,
            lasted: Duration::ZERO,
            error,
            infrastructure_failures: 0,
            condemned: false,
            attempts_made: 0,
            burials_failed: 0,
            stuck: None,
        })
    }

    /// A message that is to be dead-lettered without running its handler, for this reason.
    pub(super) fn condemn(note: Option<Box<Self>>, now: Tick, reason: &str) -> Box<Self> {
        let mut trouble = note.unwrap_or_else(|| Self::new(now, String::new()));
        // What was decided once is the reason for good.
        if !std::mem::replace(&mut trouble.condemned, true) {
            trouble.error = match trouble.error.as_str() {
                "" => reason.to_owned(),
                // Whoever reads the dead letter wonders about the few attempts, too.
                last => format!("{reason}; its last error: {last}"),
            };
        }
        trouble
    }

    /// Adds one failure to those before; answers how the policy is to look at it.
    pub(super) fn add(
        note: Option<Box<Self>>,
        error: &HandlerError,
        attempts_before: u32,
        now: Tick,
    ) -> (Box<Self>, Failure) {
        let mut trouble = note.unwrap_or_else(|| Self::new(now, String::new()));
        trouble.error = error.text();
        trouble.lasted = now.since(trouble.since);
        let infrastructure = error.kind() == FailureKind::Infrastructure;
        trouble.infrastructure_failures += u32::from(infrastructure);
        let failure = Failure {
            kind: error.kind(),
            attempts: attempts_before + u32::from(!infrastructure),
            infrastructure_failures: trouble.infrastructure_failures,
            held: trouble.lasted,
        };
        (trouble, failure)
    }

    /// When it failed last: the first time and what passed since, so that a test's virtual time shows in it.
    pub(super) fn last_failed_at(&self) -> Timestamp {
        let lasted = i64::try_from(self.lasted.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_unix_micros(self.first_failed_at.unix_micros().saturating_add(lasted))
    }
}

/// Counts one message among the stuck for as long as it lives.
#[derive(Debug)]
pub(super) struct Stuck(Arc<AtomicUsize>);

impl Stuck {
    pub(super) fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
