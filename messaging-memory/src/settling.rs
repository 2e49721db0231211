//! [`Settling`]: publishers that wait until every subscribed group has settled their messages.

use hashbrown::HashMap;
use messaging::{Batch, Outcome, Settling as Settled};

use crate::{
    bus::{Appended, State},
    effects::Effects,
    publisher::Outstanding,
};

/// Positions of one partition that somebody waits for.
#[derive(Debug, Default)]
pub(crate) struct Waiting(HashMap<u64, Waited>);

#[derive(Debug)]
pub(crate) struct Waited {
    pub(crate) batch: u64,
    pub(crate) index: usize,
    /// How many groups have not settled it yet.
    groups: usize,
    /// Why a group dead-lettered it.
    dead: Option<String>,
}

/// Batches that are answered when their messages are settled.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    batches: HashMap<u64, Waiter>,
    last: u64,
}

#[derive(Debug)]
struct Waiter {
    batch: Batch,
    missing: usize,
    publisher: u64,
    _outstanding: Outstanding,
}

impl Waiting {
    #[inline]
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn remove(&mut self, position: u64) -> Option<Waited> {
        if self.0.is_empty() { None } else { self.0.remove(&position) }
    }

    /// One group, whose cursor was `born` at that position, has settled another; the last one's answer is told.
    #[inline]
    fn settled(
        &mut self,
        position: u64,
        born: u64,
        dead: Option<&str>,
        settling: &mut Settling,
        effects: &mut Effects,
    ) {
        // A group that came after the message is not waited for.
        if self.0.is_empty() || position < born {
            return;
        }
        let Some(waited) = self.0.get_mut(&position) else { return };
        waited.groups -= 1;
        if let Some(reason) = dead {
            waited.dead.get_or_insert_with(|| reason.to_owned());
        }
        if waited.groups == 0
            && let Some(Waited { batch, index, dead, .. }) = self.0.remove(&position)
        {
            let settled = dead.map_or(Settled::Handled, Settled::DeadLettered);
            settling.answer(batch, index, Outcome::Settled(settled), effects);
        }
    }
}

impl Settling {
    /// Answers one message of a batch; the batch ends with its last one.
    pub(crate) fn answer(&mut self, batch: u64, index: usize, outcome: Outcome, effects: &mut Effects) {
        let Some(waiter) = self.batches.get_mut(&batch) else { return };
        waiter.batch.complete(index, outcome);
        waiter.missing -= 1;
        if waiter.missing == 0
            && let Some(waiter) = self.batches.remove(&batch)
        {
            effects.end(waiter.batch);
        }
    }

    /// Lets the batches of a publisher end unanswered.
    pub(crate) fn abandon(&mut self, publisher: u64, effects: &mut Effects) {
        let batches = self.batches.extract_if(|_, waiter| waiter.publisher == publisher);
        batches.for_each(|(_, waiter)| effects.end(waiter.batch));
    }
}

impl State {
    /// Publishes a batch whose messages are answered when every subscribed group has settled them. What no group is
    /// subscribed to is not stored: nobody would settle it, and whoever publishes it will again.
    pub(crate) fn publish_until_settled(
        &mut self,
        batch: Batch,
        publisher: u64,
        outstanding: Outstanding,
        effects: &mut Effects,
    ) {
        self.settling.last += 1;
        let (id, missing) = (self.settling.last, batch.len());
        let messages: Vec<_> = (0..missing).map(|index| batch.message(index).clone()).collect();
        self.settling.batches.insert(id, Waiter { batch, missing, publisher, _outstanding: outstanding });
        for (index, message) in messages.into_iter().enumerate() {
            let topic = self.topic(&message.topic);
            if self.topics[topic as usize].partitions[0].cursors.is_empty() {
                self.settling.answer(id, index, Outcome::Settled(Settled::NoGroup), effects);
                continue;
            }
            let Appended { partition, position, .. } = self.append(topic, message, effects);
            let partition = &mut self.topics[topic as usize].partitions[partition as usize];
            let waited = Waited { batch: id, index, groups: partition.cursors.len(), dead: None };
            partition.waiting.0.insert(position, waited);
        }
    }

    /// A group has dead-lettered a position: settled, and pending until its owner is done with it.
    pub(crate) fn bury(&mut self, cursor: u32, position: u64, reason: &str, effects: &mut Effects) {
        let Self { cursors, topics, settling, .. } = self;
        let cursor = &mut cursors[cursor as usize];
        if cursor.progress.settle(position) {
            cursor.buried.push(position);
            let partition = &mut topics[cursor.topic as usize].partitions[cursor.partition as usize];
            partition.waiting.settled(position, cursor.born, Some(reason), settling, effects);
        }
    }

    /// A group has settled positions of a partition.
    #[inline]
    pub(crate) fn settle(&mut self, cursor: u32, positions: impl IntoIterator<Item = u64>, effects: &mut Effects) {
        let Self { cursors, topics, settling, pending, trim_at, .. } = self;
        let cursor = &mut cursors[cursor as usize];
        let (topic, number) = (cursor.topic, cursor.partition);
        let partition = &mut topics[topic as usize].partitions[number as usize];
        let before = *pending;
        let waited_for = !partition.waiting.is_empty();
        for position in positions {
            if cursor.progress.settle(position) {
                *pending -= 1;
                if waited_for {
                    partition.waiting.settled(position, cursor.born, None, settling, effects);
                }
            } else if cursor.done_with_buried(position) {
                *pending -= 1;
            }
        }
        effects.settled(*pending == 0 && before > 0);
        if partition.log.len() > *trim_at {
            self.trim(topic, number, effects);
        }
    }
}
