//! Where things stand at the broker: the ends of a partition's log, and what a group has committed. Each question waits for
//! its answer, a second at most.

use std::{collections::HashMap, time::Duration};

use messaging::Error;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
};

use super::context::Place;
use crate::{error::from_kafka, mark::Mark};

/// The first offset of a log, and the one that comes next.
pub(crate) type Range = (u64, u64);

/// What a group has committed on one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The first offset that is not finished.
    pub(crate) offset: u64,
    /// What else it says; `None` if another client wrote it.
    pub(crate) mark: Option<Mark>,
}

/// The ends of these partitions' logs, up to the last stable offset.
pub(crate) fn ranges<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    places: &[Place],
    limit: Duration,
) -> Result<HashMap<Place, Range>, Error> {
    let lows = ends(consumer, places, Offset::Beginning, limit)?;
    let highs = ends(consumer, places, Offset::End, limit)?;
    Ok(lows
        .into_iter()
        .filter_map(|(place, low)| {
            let high = *highs.get(&place)?;
            // Retention may have moved on between the two questions.
            Some((place, (low.min(high), high)))
        })
        .collect())
}

/// One end of these partitions' logs.
pub(super) fn ends<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    places: &[Place],
    end: Offset,
    limit: Duration,
) -> Result<HashMap<Place, u64>, Error> {
    let doing = "asking for the ends of partitions";
    if places.is_empty() {
        return Ok(HashMap::new());
    }
    // A list of "timestamps", among which the protocol counts the two ends of a log.
    let mut list = list_of(places);
    list.set_all_offsets(end).map_err(|error| from_kafka(doing, error))?;
    let answer = consumer.offsets_for_times(list, limit).map_err(|error| from_kafka(doing, error))?;
    let mut found = HashMap::with_capacity(places.len());
    for element in answer.elements() {
        element.error().map_err(|error| from_kafka(doing, error))?;
        if let Offset::Offset(offset) = element.offset() {
            found.insert((element.topic().to_owned(), element.partition()), offset.unsigned_abs());
        }
    }
    Ok(found)
}

/// What the consumer's group has committed on these partitions; nothing for those where it has not.
pub(crate) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    places: &[Place],
    limit: Duration,
) -> Result<HashMap<Place, Committed>, Error> {
    let doing = "asking for a group's progress";
    if places.is_empty() {
        return Ok(HashMap::new());
    }
    let answer = consumer.committed_offsets(list_of(places), limit).map_err(|error| from_kafka(doing, error))?;
    let mut found = HashMap::with_capacity(places.len());
    for element in answer.elements() {
        element.error().map_err(|error| from_kafka(doing, error))?;
        if let Offset::Offset(offset) = element.offset() {
            let committed = Committed { offset: offset.unsigned_abs(), mark: Mark::read(element.metadata()) };
            found.insert((element.topic().to_owned(), element.partition()), committed);
        }
    }
    Ok(found)
}

/// A list of these partitions.
pub(crate) fn list_of(places: &[Place]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(places.len());
    for (topic, partition) in places {
        list.add_partition(topic, *partition);
    }
    list
}

/// Adds what is to be committed on one partition.
pub(crate) fn add_commit(list: &mut TopicPartitionList, topic: &str, partition: i32, offset: u64, mark: &str) {
    let mut element = list.add_partition(topic, partition);
    element.set_metadata(mark);
    // An offset of Kafka is an `i64`, so that it fits and is not negative.
    let _ = element.set_offset(Offset::Offset(offset.cast_signed()));
}
