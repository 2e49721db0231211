//! The names of the keys in Redis: what lies where, and in which slot of a cluster.
//!
//! Everything about one partition carries the hash tag `{topic:partition}`, so that one script may touch all of it, and
//! so that the partitions of many topics spread over the slots.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `{orders:3}` | stream | the messages of partition 3 of `orders` |
//! | `{orders:3}.billing.lease` | hash | who of group `billing` owns that partition, and what was lost |
//! | `{orders:3}.billing.dlq` | stream | what `billing` dead-lettered from it: partition 3 of `orders.billing.dlq` |
//! | `{orders:3}.trim` | string | that somebody trimmed a moment ago |
//! | `{orders}.topic` | hash | how many partitions there are, how long messages are kept |
//! | `{orders}.billing.members` | hash | the instances of `billing` that live, and what each holds |

use messaging::{Error, ErrorKind, Name, validate_name};

/// The hash that holds what is to be known of a topic.
pub(crate) fn topic_key(topic: &str) -> String {
    format!("{{{topic}}}.topic")
}

/// The hash of the members of a group on a topic.
pub(crate) fn members_key(topic: &str, group: &str) -> String {
    format!("{{{topic}}}.{group}.members")
}

/// The lease of a group on the partition that this stream is.
pub(crate) fn lease_key(stream: &str, group: &str) -> String {
    format!("{stream}.{group}.lease")
}

/// The stream of the dead letters of a group from the partition that this stream is.
pub(crate) fn dead_letter_key(stream: &str, group: &str) -> String {
    format!("{stream}.{group}.dlq")
}

/// The note that a stream was trimmed a moment ago.
pub(crate) fn trim_key(stream: &str) -> String {
    format!("{stream}.trim")
}

/// Where a topic's streams lie: a topic of its own, or the dead letters of a group from another topic, which lie in the
/// slots of the messages they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The topic whose name is in the hash tag.
    pub(crate) root: Name,
    /// What follows the hash tag.
    pub(crate) suffix: String,
}

impl Layout {
    pub(crate) fn of_its_own(topic: &Name) -> Self {
        Self { root: topic.clone(), suffix: String::new() }
    }

    /// The layout of a group's dead letters from a topic that lies so.
    pub(crate) fn dead_letters(&self, group: &str) -> Self {
        Self { root: self.root.clone(), suffix: format!("{}.{group}.dlq", self.suffix) }
    }

    /// The stream of a partition.
    pub(crate) fn stream(&self, partition: u32) -> String {
        format!("{{{}:{partition}}}{}", self.root, self.suffix)
    }

    /// Whether the topic has its own streams, as any topic but one of dead letters.
    pub(crate) fn is_own(&self) -> bool {
        self.suffix.is_empty()
    }
}

/// Checks the name of a topic, which may be as long as Kafka's: 249 characters, for the sake of the suffixes of dead
/// letters.
pub(crate) fn check_topic(topic: &str) -> Result<(), Error> {
    if topic.len() <= 200 {
        return validate_name("topic", topic);
    }
    if topic.len() > 249 {
        return Err(Error::new(ErrorKind::Config, format!("topic {topic:?} is longer than 249 characters")));
    }
    let (head, tail) = topic.split_at(topic.floor_char_boundary(200));
    validate_name("topic", head).and(validate_name("topic", tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_a_partition_carries_its_tag() {
        let orders = Layout::of_its_own(&"orders".into());
        let stream = orders.stream(3);
        assert_eq!(stream, "{orders:3}");
        assert_eq!(lease_key(&stream, "billing"), "{orders:3}.billing.lease");
        let letters = orders.dead_letters("billing");
        assert_eq!(letters.stream(3), dead_letter_key(&stream, "billing"));
        assert_eq!(letters.dead_letters("ops").stream(3), "{orders:3}.billing.dlq.ops.dlq");
    }

    #[test]
    fn names_of_dead_letter_topics_may_be_longer() {
        assert!(check_topic(&"t".repeat(249)).is_ok());
        assert!(check_topic(&"t".repeat(250)).is_err());
        assert!(check_topic("a b").is_err());
    }
}
