//! [`Report`]: what the checker found.

use std::{fmt, time::Duration};

/// What a history violated, and its figures.
#[derive(Clone, Debug, Default)]
pub struct Report {
    violations: Vec<Violation>,
    /// What was counted.
    pub figures: Figures,
}

/// What may happen a little, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Publishes begun.
    pub attempted: usize,
    /// Publishes confirmed.
    pub confirmed: usize,
    /// Runs that succeeded, in all groups.
    pub handled: usize,
    /// Runs on messages that had been handled before, in all groups.
    pub repeated: usize,
    /// Runs that overlapped another of their lane because their owner was lost.
    pub overlapped: usize,
    /// Runs that an owner which had been frozen started after the next owner had begun, or after its assignment had
    /// lapsed.
    pub late_starts: usize,
    /// How long the partitions of a killed or frozen member stood still until another member handled something of
    /// them, each time.
    pub recoveries: Vec<Duration>,
}

impl Figures {
    /// Adds those of another history.
    pub(crate) fn add(&mut self, other: &Self) {
        self.attempted += other.attempted;
        self.confirmed += other.confirmed;
        self.handled += other.handled;
        self.repeated += other.repeated;
        self.overlapped += other.overlapped;
        self.late_starts += other.late_starts;
        self.recoveries.extend(&other.recoveries);
    }
}

/// A rule of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rule {
    /// Every confirmed message is handled, dead-lettered, skipped or reported lost.
    Lost,
    /// Nothing is handled that was not published, and payloads and keys are as published.
    Phantom,
    /// A message is stored once, and what one publisher sent stands in the log in its order.
    Stored,
    /// First starts of a lane are in the log's order.
    Order,
    /// Two handlers of a lane never run at once.
    Overlap,
    /// What is handed over again is contiguous per lane, from the first unfinished message on.
    Replay,
    /// Nothing unfinished is settled.
    SettledEarly,
    /// Nothing that was handled comes back without a cause.
    Repeated,
    /// The dead letters are exactly the poisoned messages, byte for byte, after the exact number of attempts.
    DeadLetters,
    /// Handlers at once are bounded.
    Bounded,
    /// An owner that was lost starts nothing more.
    Late,
    /// Epochs do not shrink from owner to owner, and grow where they must.
    Epochs,
    /// Nothing takes longer than its deadline.
    Overdue,
    /// At the end the broker has nothing left for the group.
    Residue,
}

/// One violation of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// What happened, with message, lane and member.
    pub detail: String,
}

/// More violations of one rule than this are only counted when shown.
const SHOWN: usize = 5;

impl Report {
    pub(super) fn violate(&mut self, rule: Rule, detail: impl Into<String>) {
        self.violations.push(Violation { rule, detail: detail.into() });
    }

    /// What was violated.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// The rules that were violated, each once, in their order.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        let mut rules: Vec<Rule> = self.violations.iter().map(|violation| violation.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    /// The report, if nothing was violated.
    ///
    /// # Errors
    /// The report, if something was.
    pub fn verdict(self) -> Result<Self, Self> {
        if self.violations.is_empty() { Ok(self) } else { Err(self) }
    }
}

impl std::error::Error for Report {}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in self.rules() {
            let of_rule: Vec<_> = self.violations.iter().filter(|violation| violation.rule == rule).collect();
            writeln!(f, "{rule:?}: {} violations", of_rule.len())?;
            for violation in of_rule.iter().take(SHOWN) {
                writeln!(f, "  {}", violation.detail)?;
            }
        }
        self.figures.fmt(f)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempted, confirmed, handled, repeated, overlapped, late_starts, recoveries } = self;
        let percent = if *handled == 0 { 0.0 } else { 100.0 * *repeated as f64 / *handled as f64 };
        write!(
            f,
            "{confirmed} of {attempted} confirmed, {handled} handled, {repeated} repeated ({percent:.2} %), \
             {overlapped} overlapped, {late_starts} late starts"
        )?;
        if recoveries.is_empty() {
            return Ok(());
        }
        let mut sorted = recoveries.clone();
        sorted.sort_unstable();
        let [p50, p99, longest] = [50, 99, 100].map(|percent| percentile(&sorted, percent).as_secs_f64());
        let count = sorted.len();
        write!(f, ", {count} recoveries, p50 {p50:.1} s, p99 {p99:.1} s, the longest {longest:.1} s")
    }
}

/// The smallest that so many in a hundred do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}
