//! [`FailurePolicy`]: what becomes of a delivery whose handler failed. A pure decision; the executor carries it out.

use std::time::Duration;

use crate::error::{Error, ErrorKind, FailureKind};

/// What becomes of a failed delivery, in this fixed order: classify the failure, retry in the process with
/// exponential back-off (only the message's lane waits), then publish to the dead-letter topic and wait for the
/// confirm, then settle.
///
/// Set per group on a [`Router`](crate::Router), and per handler on a [`Route`](crate::Route).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FailurePolicy {
    /// How many times a handler runs on a message before it is dead-lettered; 5 by default. Failures of infrastructure
    /// do not count.
    pub max_attempts: u32,
    /// How long one run may take; 30 s by default.
    pub timeout: Duration,
    /// The pause after the first failure; 200 ms by default.
    pub backoff: Duration,
    /// By how much the pause grows with each further failure; 2 by default.
    pub backoff_factor: f64,
    /// The longest pause; 30 s by default.
    pub max_backoff: Duration,
    /// By how much of itself a pause is varied to either side, from 0 to 1; 0.2 by default.
    pub jitter: f64,
    /// How long failures of infrastructure may hold a message before its partition is given up, to be handed over
    /// again; 5 min by default.
    pub max_hold: Duration,
    /// What follows a dead letter in its lane.
    pub on_dead_letter: OnDeadLetter,
}

/// What becomes of later messages of a lane after one was dead-lettered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnDeadLetter {
    /// They are handled.
    #[default]
    Continue,
    /// They follow it to the dead letters, for as long as this instance owns the partition.
    HoldKey,
}

/// What becomes of a delivery whose event name has no handler in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnUnhandled {
    /// It is settled, and counted as skipped.
    #[default]
    Skip,
    /// It is dead-lettered.
    DeadLetter,
}

impl Default for FailurePolicy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            timeout: Duration::from_secs(30),
            backoff: Duration::from_millis(200),
            backoff_factor: 2.0,
            max_backoff: Duration::from_secs(30),
            jitter: 0.2,
            max_hold: Duration::from_secs(300),
            on_dead_letter: OnDeadLetter::Continue,
        }
    }
}

impl FailurePolicy {
    /// The default policy without pauses: for unit tests, where a failing handler should reach the dead letters now.
    #[must_use]
    pub fn immediate() -> Self {
        Self { backoff: Duration::ZERO, max_backoff: Duration::ZERO, jitter: 0.0, ..Self::default() }
    }

    /// With so many attempts.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// With this much time for one run.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// With this first pause and longest pause.
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = first;
        self.max_backoff = longest;
        self
    }

    /// With this variation of the pauses, from 0 to 1.
    #[must_use]
    pub fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter;
        self
    }

    /// With this for later messages of a lane.
    #[must_use]
    pub fn on_dead_letter(mut self, what: OnDeadLetter) -> Self {
        self.on_dead_letter = what;
        self
    }

    pub(crate) fn validate(&self, whose: &str) -> Result<(), Error> {
        let fault = if self.max_attempts == 0 {
            "max_attempts must be at least 1"
        } else if self.timeout.is_zero() {
            "timeout must be longer than zero"
        } else if !(0.0..=1.0).contains(&self.jitter) {
            "jitter must lie between 0 and 1"
        } else if !(1.0..=100.0).contains(&self.backoff_factor) {
            "backoff_factor must lie between 1 and 100"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Config, format!("failure policy of {whose}: {fault}")))
    }

    /// What is to be done about a failure. `random` lies between 0 and 1.
    pub(crate) fn decide(&self, failure: &Failure, random: f64) -> Decision {
        match failure.kind {
            FailureKind::Permanent => Decision::DeadLetter,
            FailureKind::Transient if failure.attempts >= self.max_attempts => Decision::DeadLetter,
            FailureKind::Transient => Decision::Retry { after: self.pause(failure.attempts, random), counted: true },
            FailureKind::Infrastructure if failure.held >= self.max_hold => Decision::GiveUp,
            FailureKind::Infrastructure => {
                Decision::Retry { after: self.pause(failure.infrastructure_failures, random), counted: false }
            }
        }
    }

    /// The pause after this many failures, from 1.
    pub(crate) fn pause(&self, failures: u32, random: f64) -> Duration {
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.backoff.as_secs_f64() * self.backoff_factor.powi(exponent);
        let full = Duration::try_from_secs_f64(seconds).unwrap_or(self.max_backoff).min(self.max_backoff);
        // Whole milliseconds: what timers keep, and what a log shows.
        let varied = full.as_secs_f64() * (1.0 + self.jitter * (2.0 * random - 1.0));
        Duration::from_millis((varied * 1000.0).round() as u64)
    }
}

/// One failure, as the policy looks at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// Attempts that count, this one included.
    pub(crate) attempts: u32,
    /// Failures of infrastructure, this one included.
    pub(crate) infrastructure_failures: u32,
    /// Since the first failure.
    pub(crate) held: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Retry {
        after: Duration,
        counted: bool,
    },
    DeadLetter,
    /// Hand the partition back, unsettled.
    GiveUp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(kind: FailureKind, attempts: u32) -> Failure {
        Failure { kind, attempts, infrastructure_failures: attempts, held: Duration::ZERO }
    }

    #[test]
    fn pauses_double_up_to_the_cap_and_vary_by_the_jitter() {
        let policy = FailurePolicy::default();
        let millis = |failures, random| policy.pause(failures, random).as_millis();
        assert_eq!([1, 2, 3, 4].map(|n| millis(n, 0.5)), [200, 400, 800, 1600]);
        assert_eq!(millis(30, 0.5), 30_000);
        assert_eq!(millis(u32::MAX, 0.5), 30_000);
        assert_eq!((millis(1, 0.0), millis(1, 1.0)), (160, 240));
    }

    #[test]
    fn each_kind_of_failure_goes_its_way() {
        let policy = FailurePolicy::default().jitter(0.0);
        let retry = |millis, counted| Decision::Retry { after: Duration::from_millis(millis), counted };
        assert_eq!(policy.decide(&failure(FailureKind::Transient, 4), 0.5), retry(1600, true));
        assert_eq!(policy.decide(&failure(FailureKind::Transient, 5), 0.5), Decision::DeadLetter);
        assert_eq!(policy.decide(&failure(FailureKind::Permanent, 1), 0.5), Decision::DeadLetter);
        assert_eq!(policy.decide(&failure(FailureKind::Infrastructure, 50), 0.5), retry(30_000, false));
        let held = Failure { held: policy.max_hold, ..failure(FailureKind::Infrastructure, 50) };
        assert_eq!(policy.decide(&held, 0.5), Decision::GiveUp);
    }
}
