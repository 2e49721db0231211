//! Joining a group: the topics it needs are there, where it begins is committed, then the pump takes over.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use messaging::{Error, ErrorKind, Name, Subscription, TopicSpec, dead_letter_topic, handoff};
use rdkafka::{
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode as Code,
};

use super::{
    KafkaConsumer,
    adopt::first_commit,
    context::{Context, Place},
    inbox::Inbox,
    pump::Pump,
    resolve::{committed, ranges},
};
use crate::{
    admin::KafkaAdmin,
    config::ExpiredOffsets,
    error::{from_creation, from_kafka},
    retry::retry,
};

/// Tells the members of this process apart in the log.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Joins a group as one more member. Waits for the broker.
pub(crate) fn join(admin: KafkaAdmin, subscription: &Subscription) -> Result<KafkaConsumer, Error> {
    let group = &subscription.group;
    let config = admin.config().consumer(group);
    let consumer: BaseConsumer<Context> = config.create_with_context(Context::default()).map_err(from_creation)?;
    let replays: Vec<Name> = subscription.topics.iter().map(|topic| messaging::replay_topic(topic, group)).collect();
    for topic in &subscription.topics {
        let is_replay = replays.contains(topic);
        let spec = if is_replay { derived(&admin) } else { admin.config().topics.clone() };
        let partitions = admin.partitions_or(topic, &spec, &[])?.partitions;
        let letters = dead_letter_topic(topic, group);
        // Looked at before the commits: its maker has committed before it made it.
        let buries = !is_replay && subscription.dead_letters;
        let was_here = buries && admin.partitions_of(&letters)?.is_some();
        begin(&consumer, &admin, subscription, topic, partitions, was_here)?;
        if buries {
            // Dead letters stay until somebody has decided about them.
            admin.partitions_or(&letters, &derived(&admin), &[("retention.ms", "-1"), ("retention.bytes", "-1")])?;
        }
    }
    let names: Vec<&str> = subscription.topics.iter().map(Name::as_str).collect();
    consumer.subscribe(&names).map_err(|error| from_kafka("subscribing", error))?;
    let (out, events) = handoff::handoff();
    let inbox = Arc::new(Inbox::default());
    let pump = Pump::new(consumer, admin, inbox.clone(), out, subscription.topics.clone(), subscription.start)?;
    let thread = std::thread::Builder::new().name(format!("kafka-{group}"));
    let span = tracing::debug_span!("kafka", group = %group, member = NEXT.fetch_add(1, Ordering::Relaxed));
    thread.spawn(move || span.in_scope(|| pump.run())).map_err(|error| {
        Error::new(ErrorKind::Unavailable, "kafka: the consumer's thread could not be started").with_source(error)
    })?;
    Ok(KafkaConsumer::new(events, inbox, subscription.revoke_drain))
}

/// How a group's own topics are made: few messages, read by one.
fn derived(admin: &KafkaAdmin) -> TopicSpec {
    let mut spec = TopicSpec::default();
    spec.partitions = 1;
    spec.replication = admin.config().topics.replication;
    spec
}

/// Commits where the group begins on a topic that it has never been on, so that what is published from now on reaches it
/// even if its first member dies before it reads anything.
fn begin(
    consumer: &BaseConsumer<Context>,
    admin: &KafkaAdmin,
    subscription: &Subscription,
    topic: &Name,
    partitions: u32,
    was_here: bool,
) -> Result<(), Error> {
    let limit = admin.config().connect_timeout;
    let all: Vec<Place> = (0..partitions.cast_signed()).map(|partition| (topic.to_string(), partition)).collect();
    // In this order: a start that another member has committed is never replaced by a later one.
    let ends = retry(limit, || ranges(consumer, &all, limit))?;
    if !retry(limit, || committed(consumer, &all, limit))?.is_empty() {
        return Ok(());
    }
    let mut start = subscription.start;
    if was_here {
        start = match admin.config().expired_offsets {
            ExpiredOffsets::Earliest => messaging::Start::Earliest,
            ExpiredOffsets::Latest => messaging::Start::Latest,
            ExpiredOffsets::Refuse => {
                let group = subscription.group.as_str();
                return Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "group {group:?} has been on topic {topic:?} before (its dead-letter topic is there), but the \
                         broker has no progress of it any more: set option \"expired_offsets\" to `earliest`, to get \
                         again what is still there, or to `latest`, to skip what was published meanwhile"
                    ),
                ));
            }
        };
    }
    let list = first_commit(&ends, start);
    retry(limit, || match consumer.commit(&list, CommitMode::Sync) {
        // The group has members already: one of them commits for all when it is given the topic.
        Err(error) if is_members_business(&error) => Ok(()),
        done => done.map_err(|error| from_kafka("committing where the group begins", error)),
    })
}

fn is_members_business(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(code, Some(Code::UnknownMemberId | Code::IllegalGeneration | Code::RebalanceInProgress))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use messaging::{Position, Start};
    use rdkafka::Offset;

    use super::*;

    #[test]
    fn a_start_becomes_an_offset_within_the_log() {
        let ends: HashMap<Place, (u64, u64)> = [(("t".to_owned(), 0), (5, 9))].into();
        let offset = |start| first_commit(&ends, start).find_partition("t", 0).unwrap().offset();
        assert_eq!(offset(Start::Default), Offset::Offset(5));
        assert_eq!(offset(Start::Latest), Offset::Offset(9));
        assert_eq!(offset(Start::Position(Position::new(7))), Offset::Offset(7));
        assert_eq!(offset(Start::Position(Position::new(70))), Offset::Offset(9));
    }
}
