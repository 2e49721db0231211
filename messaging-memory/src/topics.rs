//! [`Topic`]s and their partitions: a log each, which every group reads by a cursor of its own.

use std::{collections::VecDeque, sync::Arc};

use messaging::{Message, Name, partition_for_key};

use crate::settling::Waiting;

/// Messages without a key go to one partition for this many messages, then to the next: batches stay together.
const STICKINESS: u32 = 16;

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Name,
    pub(crate) partitions: Vec<Partition>,
    /// Messages without a key so far.
    unkeyed: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Partition {
    pub(crate) log: Log,
    /// The groups' cursors, as indices into the bus's.
    pub(crate) cursors: Vec<u32>,
    /// Publishers that wait until these positions are settled.
    pub(crate) waiting: Waiting,
}

/// A partition's messages from `base` on.
#[derive(Debug, Default)]
pub(crate) struct Log {
    base: u64,
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    /// Its place among all messages of the bus.
    pub(crate) sequence: u64,
    pub(crate) message: Arc<Message>,
}

impl Topic {
    pub(crate) fn new(name: Name, partitions: u32) -> Self {
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        Self { name, partitions, unkeyed: 0 }
    }

    pub(crate) fn count(&self) -> u32 {
        self.partitions.len() as u32
    }

    /// The partition of the next message.
    #[inline]
    pub(crate) fn choose(&mut self, key: Option<&[u8]>) -> u32 {
        let count = self.count();
        match key {
            Some(key) => partition_for_key(key, count),
            None => {
                let partition = (self.unkeyed / STICKINESS) % count;
                self.unkeyed = self.unkeyed.wrapping_add(1);
                partition
            }
        }
    }
}

impl Log {
    /// Takes a message in; answers its position.
    #[inline]
    pub(crate) fn push(&mut self, sequence: u64, message: Arc<Message>) -> u64 {
        self.entries.push_back(Entry { sequence, message });
        self.end() - 1
    }

    /// The oldest position that is there.
    #[inline]
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// The position of the next message.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries of these positions, as far as they are there.
    #[inline]
    pub(crate) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = &Entry> {
        let offset = |position: u64| (position.clamp(self.base, self.end()) - self.base) as usize;
        self.entries.range(offset(from)..offset(to).max(offset(from)))
    }

    /// Forgets the oldest entry; answers its message.
    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<Arc<Message>> {
        let entry = self.entries.pop_front()?;
        self.base += 1;
        Some(entry.message)
    }

    /// Forgets the oldest entries.
    pub(crate) fn drop_front(&mut self, count: usize) {
        for _ in 0..count {
            self.pop_front();
        }
        // A backlog that was worked off gives its room back.
        if self.entries.capacity() > 4_096 && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_without_a_key_take_the_partitions_in_turn() {
        let mut topic = Topic::new("t".into(), 3);
        let chosen: Vec<u32> = (0..STICKINESS * 4).map(|_| topic.choose(None)).collect();
        let turns: Vec<u32> = chosen.chunks(STICKINESS as usize).map(|turn| turn[0]).collect();
        assert_eq!(turns, [0, 1, 2, 0]);
        assert!(chosen.chunks(STICKINESS as usize).all(|turn| turn.iter().all(|partition| *partition == turn[0])));
    }

    #[test]
    fn a_range_holds_what_is_left_of_it() {
        let mut log = Log::default();
        for sequence in 0..10 {
            log.push(sequence, Arc::new(Message::new("t", "")));
        }
        log.drop_front(4);
        let sequences = |from, to| log.range(from, to).map(|entry| entry.sequence).collect::<Vec<_>>();
        assert_eq!(sequences(0, 6), [4, 5]);
        assert_eq!(sequences(8, 100), [8, 9]);
        assert_eq!(sequences(0, 3), [0; 0]);
        assert_eq!((log.base(), log.end(), log.len()), (4, 10, 6));
    }
}
