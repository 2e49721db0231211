//! Reading without joining: a group's progress, and messages at a position.

use std::time::{Duration, Instant};

use messaging::{Delivery, Error, ErrorKind, GroupProgress, Name, Position};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    client::ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaErrorCode as Code,
};

use crate::{
    admin::KafkaAdmin,
    consumer::{committed, ranges},
    error::{from_creation, from_kafka},
    log,
    progress::Progress,
    record,
    retry::retry,
};

/// How long a refusal may take: a broker lets those wait whom it does not know, for 100 ms as it is shipped.
const REFUSAL: Duration = Duration::from_secs(1);

/// A consumer that belongs to no group's membership.
struct Onlooker;

impl ClientContext for Onlooker {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log::line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log::client_error(&error, reason);
    }
}

impl ConsumerContext for Onlooker {}

fn onlooker(admin: &KafkaAdmin, group: &str) -> Result<BaseConsumer<Onlooker>, Error> {
    let mut config = admin.config().consumer(group);
    // Nothing ever joins, and nothing is left behind.
    config.remove("group.instance.id");
    config.create_with_context(Onlooker).map_err(from_creation)
}

/// Whether it is for the user's name, the password or the certificates that no broker answers, as far as it shows soon: a
/// client that only asks is not told, one that reads is.
pub(crate) fn refusal(admin: &KafkaAdmin) -> Option<&'static str> {
    let consumer = onlooker(admin, "messaging-connect").ok()?;
    let deadline = Instant::now() + REFUSAL;
    // It connects once there is something to be asked.
    drop(consumer.fetch_metadata(None, REFUSAL / 2));
    loop {
        let error = consumer.poll(deadline.saturating_duration_since(Instant::now()))?.err()?;
        match error.rdkafka_error_code()? {
            Code::Authentication | Code::SaslAuthenticationFailed => return Some("user and password are refused"),
            Code::SSL => return Some("TLS is refused, or by a certificate that is not trusted"),
            Code::AllBrokersDown => return None,
            _ => {}
        }
    }
}

fn places(admin: &KafkaAdmin, topic: &str) -> Result<Vec<(String, i32)>, Error> {
    let Some(layout) = admin.partitions_of(topic)? else {
        return Err(Error::new(ErrorKind::Config, format!("topic {topic:?} does not exist")));
    };
    Ok((0..layout.partitions.cast_signed()).map(|partition| (topic.to_owned(), partition)).collect())
}

/// How far a group is on a topic, a row for each partition.
pub(crate) fn progress(admin: &KafkaAdmin, group: &str, topic: &Name) -> Result<Vec<GroupProgress>, Error> {
    let limit = admin.config().connect_timeout;
    let consumer = onlooker(admin, group)?;
    let places = places(admin, topic)?;
    let committed = retry(limit, || committed(&consumer, &places, limit))?;
    let ranges = retry(limit, || ranges(&consumer, &places, limit))?;
    let rows = places.iter().filter_map(|place| {
        let (low, high) = *ranges.get(place)?;
        let partition = place.1.unsigned_abs();
        let Some(committed) = committed.get(place) else {
            return Some(GroupProgress::new(topic.clone(), partition, None, high - low));
        };
        let finished = committed.mark.iter().flat_map(|mark| mark.finished(committed.offset));
        let progress = Progress::new(committed.offset, finished);
        let watermark = committed.offset.checked_sub(1).map(Position::new);
        let lag = progress.unfinished(low, high).iter().map(|(_, count)| count).sum();
        Some(GroupProgress::new(topic.clone(), partition, watermark, lag))
    });
    Ok(rows.collect())
}

/// Up to `limit` messages of a partition, from the first at or after a position that is still there.
pub(crate) fn browse(
    admin: &KafkaAdmin,
    topic: &Name,
    partition: u32,
    from: Position,
    limit: usize,
) -> Result<Vec<Delivery>, Error> {
    let doing = "reading a partition";
    let deadline = Instant::now() + admin.config().connect_timeout;
    let consumer = onlooker(admin, "messaging-browse")?;
    let place = places(admin, topic)?.into_iter().find(|(_, number)| number.unsigned_abs() == partition);
    let Some(place) = place else {
        return Err(Error::new(ErrorKind::Config, format!("topic {topic:?} has no partition {partition}")));
    };
    let patience = admin.config().connect_timeout;
    let ends = retry(patience, || ranges(&consumer, std::slice::from_ref(&place), patience))?;
    let (low, high) = ends.get(&place).copied().unwrap_or_default();
    let first = from.major.max(low);
    if first >= high || limit == 0 {
        return Ok(Vec::new());
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&place.0, place.1, Offset::Offset(first.cast_signed()))
        .and_then(|()| consumer.assign(&list))
        .map_err(|error| from_kafka(doing, error))?;
    let mut deliveries = Vec::new();
    // The log may end with records that are no messages: the position tells when it has been read to its end.
    while deliveries.len() < limit && position(&consumer).is_none_or(|position| position < high) {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(record)) if record.offset().unsigned_abs() >= high => break,
            Some(Ok(record)) => {
                let mut delivery = Delivery::new(record::read(topic, &record));
                delivery.partition = partition;
                delivery.position = Position::new(record.offset().unsigned_abs());
                delivery.epoch = 0;
                deliveries.push(delivery);
            }
            Some(Err(error)) => tracing::debug!(%error, "browsing"),
            None => {}
        }
        if Instant::now() >= deadline {
            return Err(Error::new(ErrorKind::Timeout, format!("kafka: {doing} took too long")));
        }
    }
    Ok(deliveries)
}

/// The position after the last message of a partition.
pub(crate) fn end(admin: &KafkaAdmin, topic: &Name, partition: u32) -> Result<Position, Error> {
    retry(admin.config().connect_timeout, || admin.end_of(topic, partition)).map(Position::new)
}

/// Up to `limit` messages of a partition that a group has not finished, from a position on.
pub(crate) fn unsettled(
    admin: &KafkaAdmin,
    group: &str,
    topic: &Name,
    partition: u32,
    from: Position,
    limit: usize,
) -> Result<Vec<Delivery>, Error> {
    let patience = admin.config().connect_timeout;
    let consumer = onlooker(admin, group)?;
    let place = (topic.to_string(), partition.cast_signed());
    let committed = retry(patience, || committed(&consumer, std::slice::from_ref(&place), patience))?;
    let progress = committed.get(&place).map_or_else(Progress::default, |committed| {
        let finished = committed.mark.iter().flat_map(|mark| mark.finished(committed.offset));
        Progress::new(committed.offset, finished)
    });
    let mut next = from.major.max(progress.watermark());
    let mut found: Vec<Delivery> = Vec::new();
    while found.len() < limit {
        // At least some: between two unfinished ones there may be many that are finished.
        let page = browse(admin, topic, partition, Position::new(next), (limit - found.len()).max(100))?;
        let Some(last) = page.last() else { break };
        next = last.position.major + 1;
        found.extend(page.into_iter().filter(|delivery| !progress.is_finished(delivery.position.major)));
    }
    found.truncate(limit);
    Ok(found)
}

/// The offset after the last message that was read.
fn position(consumer: &BaseConsumer<Onlooker>) -> Option<u64> {
    match consumer.position().ok()?.elements().first()?.offset() {
        Offset::Offset(offset) => Some(offset.unsigned_abs()),
        _ => None,
    }
}

/// The groups that have dead letters of a topic, which every group has that has joined. A name may be read in two ways, as
/// names have dots in them: it belongs to the longest topic that there is.
pub(crate) fn groups(topic: &str, topics: &[&str]) -> Vec<Name> {
    let within = |topic: &str, letters: &str| -> Option<Name> {
        let group = letters.strip_suffix(".dlq")?.strip_prefix(topic)?.strip_prefix('.')?;
        Some(Name::from(group))
    };
    let is_of_longer = |letters: &str| {
        topics.iter().any(|other| other.len() > topic.len() && *other != letters && within(other, letters).is_some())
    };
    let named = topics.iter().filter(|letters| !is_of_longer(letters)).filter_map(|letters| within(topic, letters));
    let mut names: Vec<Name> = named.collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::groups;

    #[test]
    fn dead_letters_are_of_the_longest_topic_that_there_is() {
        let topics =
            ["a", "a.b", "a.g.dlq", "a.g.replay", "a.b.c.dlq", "a.b.b.dlq", "a.d.e.dlq", "ab.x.dlq", "b.y.dlq"];
        assert_eq!(groups("a", &topics), ["d.e", "g"]);
        assert_eq!(groups("a.b", &topics), ["b", "c"]);
        assert!(groups("c", &topics).is_empty());
    }
}
