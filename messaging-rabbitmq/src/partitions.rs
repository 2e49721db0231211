//! [`Partitions`]: the channels of a session, one for each partition that is consumed, and what becomes of them.
//!
//! A partition is *waiting* from its first consume on: another member may still be the queue's active consumer. With the
//! first message it is *active*, which the broker makes us only after the one before has closed its channel or lost it.
//! It is given up by closing its channel, never by cancelling its consumer: a cancel would hand the queue to the next
//! while we still hold messages, and these would come back behind newer ones.

use std::{collections::BTreeSet, future::pending, pin::Pin, sync::Arc, time::Instant};

use futures::{StreamExt as _, stream::FuturesUnordered};
use lapin::{Channel, options::BasicAckOptions, types::ShortString};
use messaging::{Error, Name};

use crate::{
    acks::{Ack, Acks},
    announcement::Holdings,
    feed::{self, Deliveries, LastTag, Quiet},
    link::{Link, send},
    membership::INTERVAL,
};

/// One partition of one topic: what does not change.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) topic: Name,
    pub(crate) partition: u32,
    pub(crate) queue: ShortString,
    pub(crate) prefetch: u16,
    /// A quorum queue, not a classic one.
    pub(crate) quorum: bool,
}

/// What happens on the channels.
pub(crate) enum Event {
    /// A partition is consumed: its messages are here, once it is its turn.
    Opened(Box<Deliveries>),
    /// A partition that was wanted could not be consumed.
    Failed { slot: usize, error: Error },
    /// A partition was given up.
    Closed,
}

pub(crate) struct Partitions {
    pub(crate) places: Arc<[Place]>,
    slots: Vec<Slot>,
    changes: FuturesUnordered<Pin<Box<dyn Future<Output = Change> + Send>>>,
    /// Of the channel that was opened last: no two have the same, whatever their connections.
    generation: u64,
    acks: Vec<Ack>,
}

struct Slot {
    /// Of whichever channel is or was the last: what older ones say is void.
    generation: u64,
    phase: Phase,
    /// Not before then, after a failure.
    retry_at: Option<Instant>,
    /// The last tag that was handed over on its channel.
    last: LastTag,
}

enum Phase {
    Idle,
    Opening {
        wanted: bool,
    },
    Waiting {
        channel: Channel,
    },
    Active {
        channel: Channel,
        epoch: u64,
        acks: Acks,
        revoking: bool,
    },
    /// With so many messages that go back.
    Closing {
        unsettled: u64,
    },
}

enum Change {
    Opened { slot: usize, generation: u64, result: Result<Box<(Channel, Quiet)>, Error> },
    Closed { slot: usize, generation: u64 },
}

impl Partitions {
    pub(crate) fn new(places: Arc<[Place]>) -> Self {
        let slot = |_: &Place| Slot { generation: 0, phase: Phase::Idle, retry_at: None, last: LastTag::default() };
        Self {
            slots: places.iter().map(slot).collect(),
            places,
            changes: FuturesUnordered::new(),
            generation: 0,
            acks: Vec::new(),
        }
    }

    /// The connection was lost, and every channel with it.
    pub(crate) fn clear(&mut self) {
        for slot in &mut self.slots {
            (slot.phase, slot.retry_at) = (Phase::Idle, None);
        }
        self.changes.clear();
    }

    /// Begins to consume a partition, unless that is so already or it was tried a moment ago. Answers whether it has begun.
    pub(crate) fn want(&mut self, link: &Arc<Link>, slot: usize, now: Instant) -> bool {
        let state = &mut self.slots[slot];
        match &mut state.phase {
            Phase::Idle if state.retry_at.is_none_or(|at| at <= now) => {}
            Phase::Opening { wanted } => {
                *wanted = true;
                return false;
            }
            _ => return false,
        }
        self.generation += 1;
        (state.generation, state.phase) = (self.generation, Phase::Opening { wanted: true });
        let (link, place, generation) = (link.clone(), self.places[slot].clone(), self.generation);
        self.changes.push(Box::pin(async move {
            Change::Opened { slot, generation, result: feed::consume(&link, &place).await.map(Box::new) }
        }));
        true
    }

    /// Ends a partition that is not ours any more, if nothing of it was handed over; answers the epoch under which it has
    /// to be asked back otherwise, once.
    pub(crate) fn unwant(&mut self, link: &Arc<Link>, slot: usize) -> Option<u64> {
        match &mut self.slots[slot].phase {
            Phase::Idle | Phase::Closing { .. } => None,
            Phase::Opening { wanted } => {
                *wanted = false;
                None
            }
            Phase::Waiting { .. } => {
                self.close(link, slot);
                None
            }
            Phase::Active { epoch, revoking, .. } => (!std::mem::replace(revoking, true)).then_some(*epoch),
        }
    }

    /// Nothing of an active partition runs any more: acknowledges the last of it, and closes its channel. Answers whether
    /// it had been asked back.
    pub(crate) fn release(&mut self, link: &Arc<Link>, slot: usize, epoch: u64) -> Option<bool> {
        let Phase::Active { epoch: current, revoking, .. } = &self.slots[slot].phase else { return None };
        if *current != epoch {
            return None;
        }
        let asked_back = *revoking;
        self.acknowledge(slot, Instant::now(), true);
        self.close(link, slot);
        Some(asked_back)
    }

    /// A partition is active from now on if it waits on this channel, on which the first message came. Answers whether
    /// it does.
    pub(crate) fn activate(&mut self, slot: usize, generation: u64, epoch: impl FnOnce() -> u64) -> Option<u64> {
        let prefetch = self.places[slot].prefetch;
        let state = &mut self.slots[slot];
        let Phase::Waiting { channel } = &state.phase else { return None };
        if state.generation != generation {
            return None;
        }
        let (channel, epoch) = (channel.clone(), epoch());
        state.phase = Phase::Active { channel, epoch, acks: Acks::new(prefetch), revoking: false };
        Some(epoch)
    }

    /// A channel has ended by itself. Answers whether it was still one of ours, and the epoch of what is lost with it.
    pub(crate) fn ended(&mut self, slot: usize, generation: u64, now: Instant) -> Option<Option<u64>> {
        let epoch = self.epoch(slot);
        let state = &mut self.slots[slot];
        if state.generation != generation || !matches!(state.phase, Phase::Waiting { .. } | Phase::Active { .. }) {
            return None;
        }
        (state.phase, state.retry_at) = (Phase::Idle, Some(now + INTERVAL));
        Some(epoch)
    }

    /// The epoch of a partition that is active.
    pub(crate) fn epoch(&self, slot: usize) -> Option<u64> {
        match &self.slots[slot].phase {
            Phase::Active { epoch, .. } => Some(*epoch),
            _ => None,
        }
    }

    /// These were finished.
    pub(crate) fn note(&mut self, slot: usize, epoch: u64, tags: &[u64], through: u64, now: Instant) {
        if let Phase::Active { epoch: current, acks, .. } = &mut self.slots[slot].phase
            && *current == epoch
        {
            acks.note(tags, through, now);
        }
    }

    /// Acknowledges what is due, on every partition.
    pub(crate) fn acknowledge_due(&mut self, now: Instant) {
        for slot in 0..self.slots.len() {
            self.acknowledge(slot, now, false);
        }
    }

    /// When something is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        let due = |slot: &Slot| match &slot.phase {
            Phase::Active { acks, .. } => acks.due(),
            _ => None,
        };
        self.slots.iter().filter_map(due).min()
    }

    fn acknowledge(&mut self, slot: usize, now: Instant, everything: bool) {
        let Phase::Active { channel, acks, .. } = &mut self.slots[slot].phase else { return };
        acks.take(now, everything, &mut self.acks);
        for Ack { tag, multiple } in self.acks.drain(..) {
            send(channel.basic_ack(tag, BasicAckOptions { multiple }));
        }
    }

    /// Closes the channel of a partition, once the queue has taken every acknowledgement.
    fn close(&mut self, link: &Arc<Link>, slot: usize) {
        let state = &mut self.slots[slot];
        let (channel, acks) = match std::mem::replace(&mut state.phase, Phase::Idle) {
            Phase::Waiting { channel } => (channel, None),
            Phase::Active { channel, acks, .. } => (channel, Some(acks)),
            other => {
                state.phase = other;
                return;
            }
        };
        state.phase = Phase::Closing { unsettled: acks.as_ref().map_or(0, |acks| acks.unsettled(state.last.get())) };
        let place = &self.places[slot];
        let settled = acks.is_some_and(|acks| acks.any_taken()) && place.quorum;
        let queue = settled.then(|| place.queue.clone());
        let (link, generation) = (link.clone(), state.generation);
        self.changes.push(Box::pin(async move {
            feed::close(&link, &channel, queue).await;
            Change::Closed { slot, generation }
        }));
    }

    /// What this member has, and what it stands in line for.
    pub(crate) fn holdings(&self) -> Holdings {
        let mut holdings = Holdings::default();
        for (slot, place) in self.slots.iter().zip(&*self.places) {
            let (places, unsettled) = match &slot.phase {
                Phase::Idle | Phase::Opening { wanted: false } => continue,
                Phase::Waiting { .. } | Phase::Opening { wanted: true } => (&mut holdings.waiting, 0),
                Phase::Active { revoking: false, acks, .. } => (&mut holdings.active, acks.unsettled(slot.last.get())),
                Phase::Active { acks, .. } => (&mut holdings.releasing, acks.unsettled(slot.last.get())),
                Phase::Closing { unsettled } => (&mut holdings.releasing, *unsettled),
            };
            let topic = place.topic.to_string();
            if unsettled > 0 {
                holdings.unsettled.entry(topic.clone()).or_default().insert(place.partition, unsettled);
            }
            places.entry(topic).or_insert_with(BTreeSet::new).insert(place.partition);
        }
        holdings
    }

    /// Whether nothing is consumed any more.
    pub(crate) fn is_idle(&self) -> bool {
        self.slots.iter().all(|slot| matches!(slot.phase, Phase::Idle))
    }

    /// What was active when the connection was lost.
    pub(crate) fn active(&self) -> impl Iterator<Item = (usize, u64)> {
        (0..self.slots.len()).filter_map(|slot| Some((slot, self.epoch(slot)?)))
    }

    /// Waits for what happens next.
    pub(crate) async fn next(&mut self, link: &Arc<Link>) -> Event {
        loop {
            let Some(change) = self.changes.next().await else { return pending().await };
            if let Some(event) = self.changed(link, change) {
                return event;
            }
        }
    }

    fn changed(&mut self, link: &Arc<Link>, change: Change) -> Option<Event> {
        match change {
            Change::Opened { slot, generation, result } => {
                let state = &mut self.slots[slot];
                let Phase::Opening { wanted } = state.phase else { return None };
                match result {
                    Ok(opened) => {
                        let (channel, consumer) = *opened;
                        state.retry_at = None;
                        state.phase = Phase::Waiting { channel };
                        if !wanted {
                            self.close(link, slot);
                            return None;
                        }
                        state.last = LastTag::default();
                        let topic = self.places[slot].topic.clone();
                        let deliveries = Deliveries::new(slot, generation, topic, state.last.clone(), consumer);
                        Some(Event::Opened(Box::new(deliveries)))
                    }
                    Err(error) => {
                        state.phase = Phase::Idle;
                        state.retry_at = Some(Instant::now() + INTERVAL);
                        Some(Event::Failed { slot, error })
                    }
                }
            }
            Change::Closed { slot, generation } if self.slots[slot].generation == generation => {
                self.slots[slot].phase = Phase::Idle;
                Some(Event::Closed)
            }
            Change::Closed { .. } => None,
        }
    }
}
