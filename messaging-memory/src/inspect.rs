//! What a test looks at: what was published, what was dead-lettered, who has which partition.

use std::{fmt, sync::Arc};

use messaging::{DeadLetter, Error, Event, EventData, Message, Name};
use serde::de::DeserializeOwned;

use crate::MemoryBroker;

/// One consumer of a bus: an instance of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(pub(crate) u32);

impl fmt::Display for ConsumerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A message that a group has dead-lettered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLettered {
    /// What happened.
    pub letter: DeadLetter,
    /// The message as it stands in the dead-letter topic: the original's bytes, key and headers, and the letter's.
    pub message: Arc<Message>,
}

/// Who has a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Assignment {
    /// The topic.
    pub topic: Name,
    /// The partition's number.
    pub partition: u32,
    /// Its owner, told or about to be told.
    pub owner: Option<ConsumerId>,
    /// Counts the owners.
    pub epoch: u64,
}

impl MemoryBroker {
    /// The events of this type that were published to its topic and are still kept, in the order of publishing.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](messaging::ErrorKind::Malformed) if one of that name does not decode.
    pub fn published<T: EventData + DeserializeOwned>(&self) -> Result<Vec<Event<T>>, Error> {
        let messages = self.messages(T::TOPIC).into_iter().filter(|message| message.name() == Some(T::NAME));
        messages.map(|message| Event::decode(message, self.messaging().codecs())).collect()
    }

    /// The messages of a topic that are still kept, in the order of publishing over all its partitions.
    #[must_use]
    pub fn messages(&self, topic: &str) -> Vec<Arc<Message>> {
        self.in_order(|name| name == topic)
    }

    /// The messages that a group has dead-lettered and are still kept, over all its topics, in the order in which it did.
    #[must_use]
    pub fn dead_letters(&self, group: &str) -> Vec<DeadLettered> {
        let suffix = format!(".{group}.dlq");
        let messages = self.in_order(|name| name.ends_with(&suffix)).into_iter();
        let letters = messages.filter_map(|message| {
            let letter = DeadLetter::read(&message).ok()?;
            Some(DeadLettered { letter, message })
        });
        letters.filter(|dead| dead.letter.group == *group).collect()
    }

    /// The consumers of a group, in the order in which they joined.
    #[must_use]
    pub fn consumers(&self, group: &str) -> Vec<ConsumerId> {
        self.bus.read(|state| {
            let group = state.find_group(group).map(|group| &state.groups[group as usize]);
            group.map_or_else(Vec::new, |group| group.members.iter().copied().map(ConsumerId).collect())
        })
    }

    /// Who has which partition in a group.
    #[must_use]
    pub fn assignments(&self, group: &str) -> Vec<Assignment> {
        self.bus.read(|state| {
            let Some(group) = state.find_group(group) else { return Vec::new() };
            let cursors = state.groups[group as usize].cursors.iter().map(|id| &state.cursors[*id as usize]);
            let assignments = cursors.map(|cursor| Assignment {
                topic: state.topics[cursor.topic as usize].name.clone(),
                partition: cursor.partition,
                owner: cursor.owner.map(ConsumerId),
                epoch: cursor.epoch,
            });
            assignments.collect()
        })
    }

    fn in_order(&self, wanted: impl Fn(&str) -> bool) -> Vec<Arc<Message>> {
        let mut found: Vec<(u64, Arc<Message>)> = self.bus.read(|state| {
            let topics = state.topics.iter().filter(|topic| wanted(&topic.name));
            let entries =
                topics.flat_map(|topic| &topic.partitions).flat_map(|partition| partition.log.range(0, u64::MAX));
            entries.map(|entry| (entry.sequence, entry.message.clone())).collect()
        });
        found.sort_unstable_by_key(|(sequence, _)| *sequence);
        found.into_iter().map(|(_, message)| message).collect()
    }
}
