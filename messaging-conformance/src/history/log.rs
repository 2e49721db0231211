//! [`Log`]: takes records while a run goes on, counts along, and lets a test wait for what it needs to see.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{End, History, Record, What};

/// The records of a run so far. Cheap to write to: a lock and a push.
#[derive(Debug, Default)]
pub struct Log {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    records: Vec<Record>,
    tally: Tally,
}

/// A group, and a message by its number.
type RunOf = (Arc<str>, u64);
/// Which instance ran it last, and which run of that instance it was.
type LastRun = (Arc<str>, Option<u64>);

/// What has been seen so far, counted.
#[derive(Debug, Default)]
pub struct Tally {
    groups: HashMap<Arc<str>, GroupTally>,
    runs: HashMap<RunOf, LastRun>,
    stopped: HashSet<Arc<str>>,
    confirmed: HashSet<u64>,
    answered: usize,
}

/// What has been seen of one group.
#[derive(Debug, Default)]
pub struct GroupTally {
    /// Members that joined.
    pub joined: usize,
    /// Handlers that started.
    pub started: usize,
    /// Handlers that run now, as far as anyone knows: those of killed members stay.
    pub running: usize,
    /// Runs that succeeded.
    pub handled: usize,
    /// Runs that failed.
    pub failed: usize,
    handled_ids: HashSet<u64>,
    started_ids: HashSet<u64>,
    handled_by: HashMap<Arc<str>, usize>,
    started_by: HashMap<Arc<str>, usize>,
    ended_by: HashMap<Arc<str>, usize>,
}

impl GroupTally {
    /// How many different messages were handled.
    #[must_use]
    pub fn distinct(&self) -> usize {
        self.handled_ids.len()
    }

    /// Whether this message was handled.
    #[must_use]
    pub fn has_handled(&self, id: u64) -> bool {
        self.handled_ids.contains(&id)
    }

    /// Whether a handler has started on this message.
    #[must_use]
    pub fn has_started(&self, id: u64) -> bool {
        self.started_ids.contains(&id)
    }

    /// Runs of one member that succeeded.
    #[must_use]
    pub fn handled_by(&self, who: &str) -> usize {
        self.handled_by.get(who).copied().unwrap_or(0)
    }

    /// Handlers that run now at one member, as far as anyone knows.
    #[must_use]
    pub fn running_at(&self, who: &str) -> usize {
        self.started_by(who) - self.ended_by.get(who).copied().unwrap_or(0)
    }

    /// Handlers that one member has started.
    #[must_use]
    pub fn started_by(&self, who: &str) -> usize {
        self.started_by.get(who).copied().unwrap_or(0)
    }
}

impl Tally {
    /// What has been seen of this group.
    #[must_use]
    pub fn group(&self, group: &str) -> &GroupTally {
        static NONE: std::sync::LazyLock<GroupTally> = std::sync::LazyLock::new(GroupTally::default);
        self.groups.get(group).unwrap_or(&NONE)
    }

    /// Whether this member has stopped or was killed.
    #[must_use]
    pub fn has_stopped(&self, who: &str) -> bool {
        self.stopped.contains(who)
    }

    /// How many publishes were confirmed.
    #[must_use]
    pub fn confirmed(&self) -> usize {
        self.confirmed.len()
    }

    /// The messages that are confirmed and that this group has not handled.
    #[must_use]
    pub fn unhandled(&self, group: &str) -> Vec<u64> {
        let group = self.group(group);
        self.confirmed.iter().copied().filter(|id| !group.has_handled(*id)).collect()
    }

    /// How many publishes have an outcome.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.answered
    }

    fn note(&mut self, record: &Record) {
        match &record.what {
            What::Confirmed { id, .. } => {
                self.confirmed.insert(*id);
                self.answered += 1;
            }
            What::Rejected { .. } | What::Unknown { .. } => self.answered += 1,
            What::Joined { group } => self.groups.entry(group.clone()).or_default().joined += 1,
            What::Started(start) => {
                let group = self.groups.entry(start.group.clone()).or_default();
                group.started += 1;
                group.running += 1;
                *group.started_by.entry(record.who.clone()).or_default() += 1;
                group.started_ids.extend(start.id);
                self.runs.insert((record.who.clone(), start.run), (start.group.clone(), start.id));
            }
            What::Ended { run, how } => {
                let Some((group, id)) = self.runs.remove(&(record.who.clone(), *run)) else { return };
                let group = self.groups.entry(group).or_default();
                group.running -= 1;
                *group.ended_by.entry(record.who.clone()).or_default() += 1;
                match how {
                    End::Handled => {
                        group.handled += 1;
                        group.handled_ids.extend(id);
                        *group.handled_by.entry(record.who.clone()).or_default() += 1;
                    }
                    End::Failed => group.failed += 1,
                    End::Dropped => {}
                }
            }
            What::Stopped | What::Killed => {
                self.stopped.insert(record.who.clone());
            }
            _ => {}
        }
    }
}

/// Something did not happen in the time it had.
#[derive(Debug, Clone)]
pub struct Overdue {
    what: String,
    after: Duration,
}

impl fmt::Display for Overdue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not within {:.1} s: {}", self.after.as_secs_f64(), self.what)
    }
}

impl std::error::Error for Overdue {}

impl Log {
    /// Records that this happens now.
    pub fn record(&self, who: &Arc<str>, what: What) {
        let mut inner = self.inner.lock();
        // The time is read under the lock, so that the log is in the order of time.
        let record = Record::now(who.clone(), what);
        inner.tally.note(&record);
        inner.records.push(record);
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Takes in a record of another process.
    pub fn append(&self, record: Record) {
        let mut inner = self.inner.lock();
        inner.tally.note(&record);
        inner.records.push(record);
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Looks at the counts so far.
    pub fn look<T>(&self, look: impl FnOnce(&Tally) -> T) -> T {
        look(&self.inner.lock().tally)
    }

    /// Waits until the counts are as wanted. Cancel-safe.
    ///
    /// # Errors
    /// [`Overdue`] after `within`, which is recorded too.
    pub async fn wait(
        &self,
        within: Duration,
        what: &str,
        mut wanted: impl FnMut(&Tally) -> bool,
    ) -> Result<(), Overdue> {
        let wait = async {
            loop {
                // Registered before looking, so that no change slips between.
                let changed = self.changed.notified();
                if self.look(&mut wanted) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(within, wait).await.is_ok() {
            return Ok(());
        }
        let overdue = Overdue { what: what.to_owned(), after: within };
        self.record(&"test".into(), What::Overdue { what: overdue.to_string() });
        Err(overdue)
    }

    /// Everything so far.
    #[must_use]
    pub fn history(&self) -> History {
        History::new(self.inner.lock().records.clone())
    }
}
