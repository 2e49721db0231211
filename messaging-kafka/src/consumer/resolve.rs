//! Where things stand at the broker: the ends of a partition's log, and what a group has committed. Each question waits for
//! its answer, as long as it is told at most.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use messaging::Error;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    topic_partition_list::TopicPartitionListElem,
    types::RDKafkaErrorCode as Code,
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
    let ask = || {
        let answer = consumer.offsets_for_times(list, limit)?;
        answer.elements().iter().try_for_each(TopicPartitionListElem::error)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error: KafkaError| {
        // No broker was asked: the client answered from what it knows. A timeout has taken its time already.
        if matches!(error.rdkafka_error_code(), Some(Code::UnknownPartition | Code::LeaderNotAvailable)) {
            look_again(consumer, places, limit);
        }
        from_kafka(doing, error)
    })?;
    let mut found = HashMap::with_capacity(places.len());
    for element in answer.elements() {
        if let Offset::Offset(offset) = element.offset() {
            found.insert((element.topic().to_owned(), element.partition()), offset.unsigned_abs());
        }
    }
    Ok(found)
}

/// Has the client look at these partitions' topics anew. It takes a partition whose leader was not elected when it last
/// looked, as in a topic just made, for one without a leader until then, and it looks every five minutes.
fn look_again<C: ConsumerContext>(consumer: &BaseConsumer<C>, places: &[Place], limit: Duration) {
    let deadline = Instant::now() + limit;
    let topics: BTreeSet<&str> = places.iter().map(|(topic, _)| topic.as_str()).collect();
    for topic in topics {
        // What the broker says is kept by the client; if it says nothing, the next question fails as this one did.
        let _ = consumer.fetch_metadata(Some(topic), deadline.saturating_duration_since(Instant::now()));
    }
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

#[cfg(test)]
mod tests {
    use rdkafka::{ClientConfig, mocking::MockCluster};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// A topic of two partitions is asked about while these have no leader, and again when they have one.
    fn found_when_elected(leaderless: &[i32]) {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("letters", 2, 1).unwrap();
        let elect = |leader| {
            leaderless.iter().for_each(|partition| cluster.partition_leader("letters", *partition, leader).unwrap());
        };
        elect(None);
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("group.id", "readers")
            .create()
            .unwrap();
        let places = [("letters".to_owned(), 0), ("letters".to_owned(), 1)];
        let error = ranges(&consumer, &places, LIMIT).unwrap_err();
        assert!(error.is_transient(), "{error}");

        elect(Some(1));
        // The first answer may still be of the leaderless time; what it has looked at anew is the second's.
        let found = ranges(&consumer, &places, LIMIT).or_else(|_| ranges(&consumer, &places, LIMIT)).unwrap();
        assert_eq!(found, places.into_iter().map(|place| (place, (0, 0))).collect());
    }

    #[test]
    fn partitions_whose_leaders_are_elected_later_are_found_then() {
        found_when_elected(&[0, 1]);
    }

    #[test]
    fn one_partition_whose_leader_is_elected_later_is_found_then() {
        found_when_elected(&[1]);
    }
}
