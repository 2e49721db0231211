//! [`Topic`]: what a publisher knows of a topic: where each message of it goes.

use lapin::types::ShortString;
use messaging::{Error, Message, partition_for_key};

use crate::names;

/// A topic that exists in the broker.
pub(super) struct Topic {
    partitions: u32,
    pub(super) exchange: ShortString,
    pub(super) keys: Vec<ShortString>,
    /// Where the next message without a key goes.
    next: u32,
}

impl Topic {
    pub(super) fn new(name: &str, partitions: u32) -> Result<Self, Error> {
        let keys = (0..partitions).map(|partition| names::short(partition.to_string())).collect::<Result<_, _>>()?;
        let next = fastrand::u32(..partitions.max(1));
        Ok(Self { partitions, exchange: names::topic_exchange(name)?, keys, next })
    }

    /// The partition of a message: that of its key, or the next.
    pub(super) fn partition(&mut self, message: &Message) -> u32 {
        match &message.key {
            Some(key) => partition_for_key(key, self.partitions),
            None => {
                self.next = (self.next + 1) % self.partitions;
                self.next
            }
        }
    }
}
