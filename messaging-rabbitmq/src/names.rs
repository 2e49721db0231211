//! How exchanges and queues are called.
//!
//! Names of topics and groups hold no colon, so that these names tell for certain what they are of:
//!
//! | name | what | holds |
//! |---|---|---|
//! | `orders` | direct exchange | takes the messages of topic `orders`; the routing key is the partition's number |
//! | `orders.meta` | queue | no message; its arguments say how many partitions the topic has, and its prefetch |
//! | `orders:billing:3` | queue | what group `billing` has not settled of partition 3 |
//! | `orders.billing.dlq:operators:0` | queue | the dead letters of `billing` from `orders` |
//! | `billing:members` | fanout exchange | on which the instances of `billing` announce themselves |
//! | `billing:member:…` | queue | what one instance has not read yet of that |

use lapin::types::ShortString;
use messaging::{Error, Name, dead_letter_topic, replay_topic};

use crate::config::wrong;

/// The group that keeps dead letters until somebody settles them. Its queue is declared with the group whose letters
/// they are, so that none is lost, and is what browsing a dead-letter topic shows.
pub use messaging::OPERATORS;

/// Topics longer than this have a shorter name for their arguments.
const LONG: usize = 80;

/// A name as AMQP takes it.
pub(crate) fn short(name: impl Into<String>) -> Result<ShortString, Error> {
    let name = name.into();
    ShortString::try_new(name.as_str())
        .map_err(|_| wrong(format!("{name:?} is longer than the 255 bytes that a name may have")))
}

pub(crate) fn topic_exchange(topic: &str) -> Result<ShortString, Error> {
    short(topic)
}

/// A long topic's is shortened: what RabbitMQ writes about a clash must tell both values, and is cut at 255 bytes.
pub(crate) fn meta_queue(topic: &str) -> Result<ShortString, Error> {
    if topic.len() <= LONG {
        return short(format!("{topic}.meta"));
    }
    short(format!("{}~{:016x}.meta", &topic[..topic.floor_char_boundary(LONG - 20)], fnv(topic.as_bytes())))
}

pub(crate) fn group_queue(topic: &str, group: &str, partition: u32) -> Result<ShortString, Error> {
    short(format!("{topic}:{group}:{partition}"))
}

pub(crate) fn members_exchange(group: &str) -> Result<ShortString, Error> {
    short(format!("{group}:members"))
}

pub(crate) fn member_queue(group: &str, member: &str) -> Result<ShortString, Error> {
    short(format!("{group}:member:{member}"))
}

/// FNV-1a of 64 bits: the same in every version, as names in the broker have to be.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Whether a topic holds dead letters of some group.
pub(crate) fn is_dead_letters(topic: &str) -> bool {
    topic.ends_with(".dlq")
}

/// The topics that come with a group's subscription to a topic: its dead letters, and their replays. None for a topic of
/// replays, whose dead letters go where those of their source go.
pub(crate) fn companions(topic: &str, group: &str) -> Option<(Name, Name)> {
    let of_replays = topic.strip_suffix(".replay").is_some_and(|source| source.ends_with(&format!(".{group}")));
    (!of_replays).then(|| (dead_letter_topic(topic, group), replay_topic(topic, group)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_brings_its_dead_letters_and_replays() {
        let (letters, replays) = companions("orders", "billing").unwrap();
        assert_eq!((letters.as_str(), replays.as_str()), ("orders.billing.dlq", "orders.billing.replay"));
        assert_eq!(companions("orders.billing.replay", "billing"), None);
        assert!(companions("orders.billing.replay", "other").is_some());
        assert!(is_dead_letters(&letters) && !is_dead_letters(&replays));
    }

    #[test]
    fn long_topics_have_short_names_for_their_arguments() {
        assert_eq!(meta_queue("orders").unwrap().as_str(), "orders.meta");
        let (one, other) = (format!("{}1", "t".repeat(199)), format!("{}2", "t".repeat(199)));
        let (one, other) = (meta_queue(&one).unwrap(), meta_queue(&other).unwrap());
        assert!(one != other && one.as_str().len() <= 85, "{one} {other}");
        // The vector of FNV's authors.
        assert_eq!(fnv(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn names_that_are_too_long_are_refused() {
        assert!(group_queue(&"t".repeat(200), &"g".repeat(50), 15).is_ok());
        let error = group_queue(&"t".repeat(200), &"g".repeat(60), 15).unwrap_err();
        assert!(error.to_string().contains("255"), "{error}");
    }
}
