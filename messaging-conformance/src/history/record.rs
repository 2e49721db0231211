//! [`Record`]: one thing that happened.

use std::{hash::BuildHasher, sync::Arc};

use messaging::{BootClock, Clock, Position};
use serde::{Deserialize, Serialize};

/// One thing that happened, when, and to whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When, in nanoseconds of the machine's boot clock, which all its processes share.
    pub at: u64,
    /// Which publisher or member.
    pub who: Arc<str>,
    /// What.
    pub what: What,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum What {
    /// A publisher is about to publish a message.
    Attempted {
        /// The message, unique in the history.
        id: u64,
        /// Its topic.
        topic: Arc<str>,
        /// Its key, escaped.
        key: Option<Arc<str>>,
        /// Its number among those that this publisher sent with this key.
        seq: u64,
        /// The hash of its payload.
        hash: u64,
    },
    /// The publish was confirmed.
    Confirmed {
        /// The message.
        id: u64,
        /// Where it went.
        partition: u32,
        /// Its position there, if the broker told.
        #[serde(with = "optional_position")]
        position: Option<Position>,
    },
    /// The publish was refused: the message is surely not stored.
    Rejected {
        /// The message.
        id: u64,
        /// Why.
        reason: String,
    },
    /// Nobody knows whether the message is stored.
    Unknown {
        /// The message.
        id: u64,
        /// Why.
        reason: String,
    },
    /// A member has joined its group.
    Joined {
        /// The group.
        group: Arc<str>,
    },
    /// A handler started.
    Started(Start),
    /// A handler ended.
    Ended {
        /// Which run of this member.
        run: u64,
        /// How.
        how: End,
    },
    /// A dead letter was found.
    DeadLettered {
        /// The group that gave the message up.
        group: Arc<str>,
        /// The message, if the letter still tells.
        id: Option<u64>,
        /// The hash of the letter's payload.
        hash: u64,
        /// How many attempts the letter tells of.
        attempts: u32,
    },
    /// The group says that it skipped so many deliveries, in all.
    Skipped {
        /// The group.
        group: Arc<str>,
        /// How many.
        count: u64,
    },
    /// The group says that so many messages were gone before it got them, in all.
    ReportedLost {
        /// The group.
        group: Arc<str>,
        /// How many.
        count: u64,
    },
    /// The broker says how far a group is on a partition.
    Watermark {
        /// The group.
        group: Arc<str>,
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// Everything up to here is settled.
        #[serde(with = "optional_position")]
        through: Option<Position>,
    },
    /// What the broker still has for a group when everything should be done.
    Residue {
        /// The group.
        group: Arc<str>,
        /// The topic.
        topic: Arc<str>,
        /// Messages that are not settled.
        lag: u64,
    },
    /// The member stopped gracefully: it has settled and left.
    Stopped,
    /// The member was killed.
    Killed,
    /// The member was frozen.
    Frozen,
    /// The member goes on.
    Thawed,
    /// The broker or the way to it is harmed from now on.
    Harmed {
        /// How.
        how: String,
    },
    /// The broker and the way to it are well again.
    Healed,
    /// Something did not happen in the time it had.
    Overdue {
        /// What.
        what: String,
    },
}

/// The start of a handler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Which run of this member; its [`What::Ended`] has the same number.
    pub run: u64,
    /// The group.
    pub group: Arc<str>,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// Where the message stands there.
    #[serde(with = "position")]
    pub position: Position,
    /// Under which epoch.
    pub epoch: u64,
    /// Which attempt.
    pub attempt: u32,
    /// The message's key, escaped.
    pub key: Option<Arc<str>>,
    /// The message, if it says.
    pub id: Option<u64>,
    /// The hash of its payload.
    pub hash: u64,
}

/// How a handler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It succeeded.
    Handled,
    /// It failed or panicked.
    Failed,
    /// Its future was dropped before it ended.
    Dropped,
}

impl Record {
    /// A record of this time.
    #[must_use]
    pub fn new(at: u64, who: impl Into<Arc<str>>, what: What) -> Self {
        Self { at, who: who.into(), what }
    }

    /// A record of now.
    #[must_use]
    pub fn now(who: Arc<str>, what: What) -> Self {
        Self { at: now(), who, what }
    }
}

/// The present time as records have it.
pub(crate) fn now() -> u64 {
    u64::try_from(BootClock.now().since_start().as_nanos()).unwrap_or(u64::MAX)
}

/// The hash by which payloads are compared; the same in every process of one build.
#[must_use]
pub fn payload_hash(payload: &[u8]) -> u64 {
    foldhash::fast::FixedState::default().hash_one(payload)
}

mod position {
    use messaging::Position;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(position: &Position, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(position)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Position, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

mod optional_position {
    use messaging::Position;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(position: &Option<Position>, serializer: S) -> Result<S::Ok, S::Error> {
        match position {
            Some(position) => serializer.collect_str(position),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Position>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}
