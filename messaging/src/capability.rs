//! [`Capabilities`]: what a backend can do, as plain data, checked before anything starts.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// What a backend can do. A subscription or publisher that requires what is missing is refused at start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// A confirmed message survives the end of the broker's process.
    pub durable: bool,
    /// A new group can read what was published before it: [`Start::Earliest`](crate::Start::Earliest) and
    /// [`Start::Position`](crate::Start::Position).
    pub retains_history: bool,
    /// Epochs strictly increase over the owners of a partition, so that [`Fence`](crate::Fence) can be relied on.
    pub fencing_token: bool,
    /// A dead letter from an owner that lost its partition is refused.
    pub fenced_dead_letter: bool,
    /// A message that keeps killing its process is recognised and dead-lettered.
    pub counts_deaths: bool,
    /// A topic can grow partitions while it is in use.
    pub partitions_can_grow: bool,
    /// A publish can be answered when every subscribed group has settled it: what stands in for durability.
    pub settles_publishes: bool,
    /// The largest message accepted, in bytes of key, payload and headers; leaves room for a dead letter's headers.
    pub max_message_bytes: usize,
    /// Handlers run only while the assignment is known to be valid.
    pub gates_on_validity: bool,
}

impl Capabilities {
    /// A backend that can do none of the optional things, with this limit on a message's bytes.
    #[must_use]
    pub const fn none(max_message_bytes: usize) -> Self {
        Self {
            durable: false,
            retains_history: false,
            fencing_token: false,
            fenced_dead_letter: false,
            counts_deaths: false,
            partitions_can_grow: false,
            settles_publishes: false,
            max_message_bytes,
            gates_on_validity: false,
        }
    }

    /// Whether the backend has this capability.
    #[must_use]
    pub const fn has(&self, capability: Capability) -> bool {
        match capability {
            Capability::Durable => self.durable,
            Capability::RetainsHistory => self.retains_history,
            Capability::FencingToken => self.fencing_token,
            Capability::FencedDeadLetter => self.fenced_dead_letter,
            Capability::CountsDeaths => self.counts_deaths,
            Capability::PartitionsCanGrow => self.partitions_can_grow,
            Capability::SettlesPublishes => self.settles_publishes,
        }
    }

    /// Checks that all of `required` are there.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], naming the first capability that is missing, who asked for it and the backend.
    pub fn check(
        &self,
        backend: &str,
        who: &dyn fmt::Display,
        required: impl IntoIterator<Item = Capability>,
    ) -> Result<(), Error> {
        match required.into_iter().find(|capability| !self.has(*capability)) {
            None => Ok(()),
            Some(missing) => Err(Error::new(
                ErrorKind::Unsupported,
                format!("{who} requires the capability `{missing}`, which the backend `{backend}` lacks"),
            )),
        }
    }
}

/// The name of one optional capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Capability {
    /// [`Capabilities::durable`]
    Durable,
    /// [`Capabilities::retains_history`]
    RetainsHistory,
    /// [`Capabilities::fencing_token`]
    FencingToken,
    /// [`Capabilities::fenced_dead_letter`]
    FencedDeadLetter,
    /// [`Capabilities::counts_deaths`]
    CountsDeaths,
    /// [`Capabilities::partitions_can_grow`]
    PartitionsCanGrow,
    /// [`Capabilities::settles_publishes`]
    SettlesPublishes,
}

impl Capability {
    /// Every capability, for tables.
    pub const ALL: [Self; 7] = [
        Self::Durable,
        Self::RetainsHistory,
        Self::FencingToken,
        Self::FencedDeadLetter,
        Self::CountsDeaths,
        Self::PartitionsCanGrow,
        Self::SettlesPublishes,
    ];

    /// The name, as errors and tables print it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::RetainsHistory => "retains_history",
            Self::FencingToken => "fencing_token",
            Self::FencedDeadLetter => "fenced_dead_letter",
            Self::CountsDeaths => "counts_deaths",
            Self::PartitionsCanGrow => "partitions_can_grow",
            Self::SettlesPublishes => "settles_publishes",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
