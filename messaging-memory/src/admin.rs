//! The bus's [`Admin`]: topics, progress, and messages without joining a group; and the growth of a topic.

use std::sync::Arc;

use async_trait::async_trait;
use messaging::{
    Admin, Delivery, Error, ErrorKind, GroupProgress, Name, Position, Start, TopicInfo, TopicSpec, validate_name,
};

use crate::{
    MemoryBroker,
    bus::{Bus, State},
    topics::Partition,
};

pub(crate) struct MemoryAdmin(Arc<Bus>);

impl MemoryAdmin {
    pub(crate) fn new(bus: &Arc<Bus>) -> Self {
        Self(bus.clone())
    }
}

#[async_trait]
impl Admin for MemoryAdmin {
    async fn describe(&self, topic: &str) -> Result<Option<TopicInfo>, Error> {
        Ok(self.0.read(|state| {
            let topic = &state.topics[state.find_topic(topic)? as usize];
            Some(TopicInfo::new(topic.name.clone(), topic.count()))
        }))
    }

    async fn ensure_topic(&self, topic: &str, spec: &TopicSpec) -> Result<TopicInfo, Error> {
        validate_name("topic", topic)?;
        if spec.partitions == 0 {
            return Err(config(format!("topic {topic:?} needs at least 1 partition")));
        }
        // What is not kept that long must not be taken for it.
        if spec.retention.is_some() || spec.retention_bytes.is_some() {
            let why = format!(
                "topic {topic:?}: the backend `memory` cannot keep messages by `retention` or `retention_bytes`; `retain` \
                 of its address says how many it keeps"
            );
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        let name = Name::new(topic);
        let there = self.0.with(|state, _| {
            let index = state.find_topic(topic).unwrap_or_else(|| state.add_topic(&name, spec.partitions));
            state.topics[index as usize].count()
        });
        if there != spec.partitions {
            let wanted = spec.partitions;
            return Err(config(format!("topic {topic:?} has {there} partitions, not {wanted}")));
        }
        Ok(TopicInfo::new(name, there))
    }

    async fn groups(&self, topic: &str) -> Result<Vec<Name>, Error> {
        Ok(self.0.read(|state| {
            let Some(topic) = state.find_topic(topic) else { return Vec::new() };
            let reads = |id: &u32| state.cursors[*id as usize].topic == topic;
            let groups = state.groups.iter().filter(|group| group.cursors.iter().any(reads));
            let mut names: Vec<_> = groups.map(|group| group.name.clone()).collect();
            names.sort();
            names
        }))
    }

    async fn progress(&self, group: &str, topic: &str) -> Result<Vec<GroupProgress>, Error> {
        Ok(self.0.read(|state| {
            let (Some(group), Some(index)) = (state.find_group(group), state.find_topic(topic)) else {
                return Vec::new();
            };
            let cursors = state.groups[group as usize].cursors.iter().map(|id| &state.cursors[*id as usize]);
            let mut rows: Vec<_> = cursors
                .filter(|cursor| cursor.topic == index)
                .map(|cursor| {
                    let topic = &state.topics[index as usize];
                    let (lag, _) = cursor.pending(&topic.partitions[cursor.partition as usize].log);
                    let watermark = cursor.progress.floor().checked_sub(1).map(Position::new);
                    GroupProgress::new(topic.name.clone(), cursor.partition, watermark, lag)
                })
                .collect();
            rows.sort_by_key(|row| row.partition);
            rows
        }))
    }

    async fn browse(&self, topic: &str, partition: u32, from: Position, limit: usize) -> Result<Vec<Delivery>, Error> {
        self.0.read(|state| {
            let log = &find_partition(state, topic, partition)?.log;
            let first = from.major.max(log.base());
            let messages = log.range(first, u64::MAX).take(limit).map(|entry| entry.message.clone());
            Ok(messages.zip(first..).map(|(message, position)| browsed(message, partition, position)).collect())
        })
    }

    async fn end(&self, topic: &str, partition: u32) -> Result<Position, Error> {
        self.0.read(|state| Ok(Position::new(find_partition(state, topic, partition)?.log.end())))
    }

    async fn unsettled(
        &self,
        group: &str,
        topic: &str,
        partition: u32,
        from: Position,
        limit: usize,
    ) -> Result<Vec<Delivery>, Error> {
        self.0.read(|state| {
            let log = &find_partition(state, topic, partition)?.log;
            let index = state.find_topic(topic);
            let group = state.find_group(group).map(|group| &state.groups[group as usize]);
            let cursors = group.iter().flat_map(|group| &group.cursors).map(|id| &state.cursors[*id as usize]);
            let progress = cursors
                .filter(|cursor| Some(cursor.topic) == index && cursor.partition == partition)
                .map(|cursor| &cursor.progress)
                .next();
            let first = from.major.max(log.base());
            let messages = (first..).zip(log.range(first, u64::MAX).map(|entry| entry.message.clone()));
            let open = messages
                .filter(|(position, _)| progress.is_none_or(|progress| !progress.contains(*position)))
                .take(limit);
            Ok(open.map(|(position, message)| browsed(message, partition, position)).collect())
        })
    }
}

impl MemoryBroker {
    /// Gives a topic more partitions. Groups get the new ones from their beginning; keys may move, and their order over
    /// the move is not promised.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is no such topic, or it has more than that already.
    pub fn grow_topic(&self, topic: &str, partitions: u32) -> Result<(), Error> {
        self.bus.with(|state, effects| {
            let index = state.find_topic(topic).ok_or_else(|| no_topic(topic))?;
            let there = state.topics[index as usize].count();
            if partitions < there {
                return Err(config(format!(
                    "topic {topic:?} has {there} partitions and cannot shrink to {partitions}"
                )));
            }
            state.topics[index as usize].partitions.resize_with(partitions as usize, Partition::default);
            for group in 0..state.groups.len() as u32 {
                let cursors = &state.groups[group as usize].cursors;
                if cursors.iter().any(|id| state.cursors[*id as usize].topic == index) {
                    state.subscribe(group, index, Start::Earliest);
                    state.rebalance(group, effects);
                }
            }
            Ok(())
        })
    }
}

fn find_partition<'a>(state: &'a State, topic: &str, partition: u32) -> Result<&'a Partition, Error> {
    let index = state.find_topic(topic).ok_or_else(|| no_topic(topic))?;
    let partitions = &state.topics[index as usize].partitions;
    let count = partitions.len();
    let found = partitions.get(partition as usize);
    found.ok_or_else(|| config(format!("topic {topic:?} has {count} partitions and none of number {partition}")))
}

fn browsed(message: Arc<messaging::Message>, partition: u32, position: u64) -> Delivery {
    let mut delivery = Delivery::new(message);
    delivery.partition = partition;
    delivery.position = Position::new(position);
    delivery
}

fn no_topic(topic: &str) -> Error {
    config(format!("there is no topic {topic:?}"))
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}
