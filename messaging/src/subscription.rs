//! [`Subscription`]: what a group wants, as plain data, complete before anything connects.

use crate::{
    capability::{Capabilities, Capability},
    delivery::Position,
    error::Error,
    name::Name,
};

/// Where a group starts on a partition that it has never settled anything on. A group that has progress goes on there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Start {
    /// The oldest message that the backend can give.
    #[default]
    Default,
    /// The oldest message; refused where the backend retains no history.
    Earliest,
    /// What is published from now on.
    Latest,
    /// This position, on every partition; refused where the backend retains no history.
    Position(Position),
}

/// What a group of consumers wants: its name, its topics, where it starts, and what it relies on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription {
    /// The group's name: its instances share the work, its progress is kept under it.
    pub group: Name,
    /// The topics, each once.
    pub topics: Vec<Name>,
    /// Where it starts.
    pub start: Start,
    /// Capabilities that the handlers rely on.
    pub requires: Vec<Capability>,
    /// How long running handlers may go on after a partition was revoked from a live owner.
    pub revoke_drain: std::time::Duration,
    /// How long infrastructure failures may hold a message unsettled, the longest of all handlers; refused where the
    /// broker takes back so early what is unsettled.
    pub max_hold: std::time::Duration,
    /// Whether the group may dead-letter, so that topics for that are made with it.
    pub dead_letters: bool,
}

impl Subscription {
    /// A subscription with the default start and no requirements.
    #[must_use]
    pub fn new(group: impl Into<Name>, topics: impl IntoIterator<Item = impl Into<Name>>) -> Self {
        Self {
            group: group.into(),
            topics: topics.into_iter().map(Into::into).collect(),
            start: Start::Default,
            requires: Vec::new(),
            revoke_drain: std::time::Duration::from_secs(1),
            max_hold: std::time::Duration::ZERO,
            dead_letters: true,
        }
    }

    /// With this start.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Checks what the subscription needs against what a backend can do.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), naming the capability, the group and the backend.
    pub fn check(&self, backend: &str, capabilities: &Capabilities) -> Result<(), Error> {
        let history = match self.start {
            Start::Earliest | Start::Position(_) => Some(Capability::RetainsHistory),
            Start::Default | Start::Latest => None,
        };
        let who = format!("group {:?}", self.group.as_str());
        capabilities.check(backend, &who, self.requires.iter().copied().chain(history))
    }
}
