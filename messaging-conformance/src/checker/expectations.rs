//! [`Expectations`]: what the checker cannot know from the history: which groups are owed what, and what was poisoned.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// What a history is held to beside the contract.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    pub(super) groups: Vec<GroupExpectation>,
}

impl Expectations {
    /// Of no group: only publishing is judged.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The groups' names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.groups.iter().map(|group| &group.group)
    }

    /// And of this group.
    #[must_use]
    pub fn group(mut self, group: GroupExpectation) -> Self {
        self.groups.push(group);
        self
    }
}

impl From<GroupExpectation> for Expectations {
    fn from(group: GroupExpectation) -> Self {
        Self::new().group(group)
    }
}

/// What one group is held to.
#[derive(Clone, Debug)]
pub struct GroupExpectation {
    pub(super) group: Arc<str>,
    pub(super) topics: Vec<Arc<str>>,
    pub(super) only: Option<BTreeSet<u64>>,
    pub(super) poison: BTreeMap<u64, Option<u32>>,
    pub(super) skipped: u64,
    pub(super) lost: u64,
    pub(super) repeats: Repeats,
    pub(super) concurrency: Option<usize>,
    pub(super) strict_epochs: bool,
    pub(super) lapse: Option<Duration>,
    pub(super) drained: bool,
    pub(super) complete: bool,
}

/// How many times a message that was handled may be handled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// Only what was finished by a member that was killed or frozen then, or while broker or network were harmed.
    Excused,
    /// Of these, at most so many in all.
    AtMost(usize),
    /// Never.
    Never,
}

impl GroupExpectation {
    /// The group is owed every confirmed message of these topics, nothing was poisoned, nothing skipped, nothing lost.
    #[must_use]
    pub fn new(group: impl Into<Arc<str>>, topics: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        Self {
            group: group.into(),
            topics: topics.into_iter().map(Into::into).collect(),
            only: None,
            poison: BTreeMap::new(),
            skipped: 0,
            lost: 0,
            repeats: Repeats::Excused,
            concurrency: None,
            strict_epochs: false,
            lapse: None,
            drained: false,
            complete: true,
        }
    }

    /// It is owed only these messages: it started later than the topic. That it gets others is no fault.
    #[must_use]
    pub fn only(mut self, ids: impl IntoIterator<Item = u64>) -> Self {
        self.only = Some(ids.into_iter().collect());
        self
    }

    /// Not everything was awaited: that something is missing is no fault, everything else is.
    #[must_use]
    pub fn incomplete(mut self) -> Self {
        self.complete = false;
        self
    }

    /// These must be dead letters, and no others, after exactly so many attempts if it says.
    #[must_use]
    pub fn poison(mut self, ids: impl IntoIterator<Item = (u64, Option<u32>)>) -> Self {
        self.poison.extend(ids);
        self
    }

    /// So many must be reported as skipped.
    #[must_use]
    pub fn skipped(mut self, count: u64) -> Self {
        self.skipped = count;
        self
    }

    /// So many must be reported as lost, and no more may be missing.
    #[must_use]
    pub fn lost(mut self, count: u64) -> Self {
        self.lost = count;
        self
    }

    /// How often messages may be handled again.
    #[must_use]
    pub fn repeats(mut self, repeats: Repeats) -> Self {
        self.repeats = repeats;
        self
    }

    /// No member may run more handlers than this at once.
    #[must_use]
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = Some(handlers);
        self
    }

    /// Epochs must grow from owner to owner, not only never shrink.
    #[must_use]
    pub fn strict_epochs(mut self, strict: bool) -> Self {
        self.strict_epochs = strict;
        self
    }

    /// A member that is frozen for so long loses what it owns to others: what it starts after that under an epoch of before
    /// is late, whether or not the next owner has begun anything. Only where epochs grow from owner to owner.
    #[must_use]
    pub fn lapse(mut self, after: Duration) -> Self {
        self.lapse = Some(after);
        self
    }

    /// The broker must have nothing left for the group, by the last [`Residue`](crate::What::Residue) of each topic.
    #[must_use]
    pub fn drained(mut self) -> Self {
        self.drained = true;
        self
    }
}
