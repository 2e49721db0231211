//! [`Topics`]: how many partitions each topic has, and which partition a message goes to.

use std::time::Instant;

use hashbrown::HashMap;
use messaging::{Message, Name, partition_for_key};

/// After so many bytes messages without a key move on to another partition: enough to fill a request, as the Java
/// client does it (KIP-794).
const STICKY_BYTES: usize = 16 << 10;

/// What the publisher knows about topics.
#[derive(Default)]
pub(crate) struct Topics {
    known: HashMap<Name, Topic>,
}

/// A topic as the broker describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) partitions: u32,
    /// Partitions that have a leader now.
    pub(crate) led: Vec<u32>,
}

struct Topic {
    layout: Layout,
    /// Where messages without a key go, and how many bytes still do.
    sticky: u32,
    sticky_left: usize,
    /// Published to since it was last refreshed.
    used: bool,
    refreshed: Instant,
}

impl Topics {
    /// The partition of a message; `None` if its topic is not known.
    pub(crate) fn partition(&mut self, message: &Message) -> Option<u32> {
        let topic = self.known.get_mut(&message.topic)?;
        topic.used = true;
        match &message.key {
            Some(key) => Some(partition_for_key(key, topic.layout.partitions)),
            None => {
                let bytes = message.weight();
                if topic.sticky_left == 0 {
                    topic.move_on();
                }
                topic.sticky_left = topic.sticky_left.saturating_sub(bytes.max(1));
                Some(topic.sticky)
            }
        }
    }

    /// Learns a topic, or learns it anew.
    pub(crate) fn learn(&mut self, name: &Name, mut layout: Layout) {
        if layout.led.is_empty() {
            layout.led = (0..layout.partitions).collect();
        }
        match self.known.get_mut(name) {
            Some(topic) => {
                topic.layout = layout;
                topic.used = false;
                topic.refreshed = Instant::now();
                topic.sticky_left = 0;
            }
            None => {
                let mut topic = Topic { layout, sticky: 0, sticky_left: 0, used: false, refreshed: Instant::now() };
                topic.move_on();
                self.known.insert(name.clone(), topic);
            }
        }
    }

    /// Forgets a topic: the broker says that it is not there, or not as it was.
    pub(crate) fn forget(&mut self, name: &str) {
        self.known.remove(name);
    }

    /// A topic that is in use and was not refreshed since `before`.
    pub(crate) fn stale(&self, before: Instant) -> Option<Name> {
        self.known.iter().find(|(_, topic)| topic.used && topic.refreshed < before).map(|(name, _)| name.clone())
    }

    /// Counts a topic as refreshed: the broker did not answer, it is asked again later.
    pub(crate) fn put_off(&mut self, name: &str) {
        if let Some(topic) = self.known.get_mut(name) {
            topic.refreshed = Instant::now();
        }
    }
}

impl Topic {
    fn move_on(&mut self) {
        let others: Vec<u32> = self.layout.led.iter().copied().filter(|partition| *partition != self.sticky).collect();
        let candidates = if others.is_empty() { &self.layout.led } else { &others };
        self.sticky = fastrand::choice(candidates.iter().copied()).unwrap_or(0);
        self.sticky_left = STICKY_BYTES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_they_belong_and_others_wander() {
        let mut topics = Topics::default();
        let keyed = Message::new("t", "x").with_key("key");
        assert_eq!(topics.partition(&keyed), None);
        topics.learn(&"t".into(), Layout { partitions: 8, led: Vec::new() });
        assert_eq!(topics.partition(&keyed), Some(partition_for_key(b"key", 8)));
        let plain = Message::new("t", vec![0; 1024]);
        let visited: Vec<u32> = (0..4_000).filter_map(|_| topics.partition(&plain)).collect();
        assert!((0..8).all(|partition| visited.contains(&partition)), "{visited:?}");
        let moves = visited.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!((240..=250).contains(&moves), "a request's worth goes to one partition: {moves} moves in 4,000 KiB");
    }

    #[test]
    fn messages_without_a_key_avoid_partitions_without_a_leader() {
        let mut topics = Topics::default();
        topics.learn(&"t".into(), Layout { partitions: 4, led: vec![1, 3] });
        let plain = Message::new("t", vec![0; 32 << 10]);
        let visited: Vec<u32> = (0..20).filter_map(|_| topics.partition(&plain)).collect();
        assert!(visited.iter().all(|partition| [1, 3].contains(partition)), "{visited:?}");
    }
}
