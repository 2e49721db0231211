//! [`Delivery`]: one handing-over of a message to a group, with where it stands and which attempt this is.

use std::{fmt, str::FromStr, sync::Arc};

use serde::Deserialize;

use crate::{
    codec,
    error::{Error, ErrorKind},
    message::Message,
    name::Name,
};

/// Where a message stands in its partition. Positions of one partition order as the log does.
///
/// Kafka's offset, the bus's index and RabbitMQ's delivery tag are a number alone; an entry id of Redis Streams is
/// milliseconds and a sequence number. Prints and parses as `42` or `1700000000000-3`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Position {
    /// The number, or the milliseconds of a stream id.
    pub major: u64,
    /// Zero, or the sequence number of a stream id.
    pub minor: u64,
}

impl Position {
    /// A position that is a number alone.
    #[inline]
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self { major: number, minor: 0 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.minor {
            0 => write!(f, "{}", self.major),
            minor => write!(f, "{}-{minor}", self.major),
        }
    }
}

impl FromStr for Position {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let (major, minor) = text.split_once('-').unwrap_or((text, "0"));
        match (major.parse(), minor.parse()) {
            (Ok(major), Ok(minor)) => Ok(Self { major, minor }),
            _ => Err(Error::new(ErrorKind::Config, format!("position {text:?} is neither `n` nor `ms-seq`"))),
        }
    }
}

/// Who may write: for effects outside a transaction. The receiving side refuses a smaller epoch than it has seen for
/// the partition. Strictly increasing over owners where the backend declares
/// [`fencing_token`](crate::Capabilities::fencing_token).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The topic whose partition this is.
    pub topic: Name,
    /// The partition's number.
    pub partition: u32,
    /// The owner's epoch.
    pub epoch: u64,
}

/// One handing-over of a message to a group: the message, where it stands, and which attempt this is.
///
/// Passed by value to a handler's service; cloning it copies no data.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Delivery {
    /// The message.
    pub message: Arc<Message>,
    /// The partition of the message's topic.
    pub partition: u32,
    /// Where the message stands in the partition.
    pub position: Position,
    /// The epoch of the assignment under which this delivery happens.
    pub epoch: u64,
    /// Which run of the handler this is, from 1. Failures of infrastructure do not count.
    pub attempt: u32,
}

impl Delivery {
    /// A delivery as a test would make it: partition 0, position 0, first attempt.
    #[must_use]
    pub fn new(message: impl Into<Arc<Message>>) -> Self {
        Self { message: message.into(), partition: 0, position: Position::default(), epoch: 1, attempt: 1 }
    }

    /// The payload as JSON, borrowing from it: for views with `&str` fields, without a copy.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`], naming the event and what is wrong with the payload.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Error> {
        codec::decode_json(&self.message)
    }

    /// The fence for effects outside a transaction.
    #[must_use]
    pub fn fence(&self) -> Fence {
        Fence { topic: self.message.topic.clone(), partition: self.partition, epoch: self.epoch }
    }
}
