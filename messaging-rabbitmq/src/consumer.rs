//! [`RabbitMqConsumer`]: one instance of a group, on the executor's side. It reads the messages where the client puts
//! them: one more task on their way would cost as much as all the rest. The [session](crate::session) behind it says
//! which partitions there are, and acknowledges.
//!
//! The position of a message is its delivery tag: the broker numbers what it hands over on a channel, and each partition
//! has a channel of its own for as long as it is owned. A position therefore says something only together with the epoch
//! under which it was handed over; a message that comes again comes under another.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use messaging::{
    Consumer, Error, ErrorKind, Intake, Message, Name, PartitionHandle, Position, Settlement, Tick, handoff::Receiver,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    acks,
    feed::{Deliveries, Taken},
    inflow::Inflow,
};

/// Messages of one partition that are handed over before it is the next one's turn.
const TURN: usize = 64;
/// Messages taken in, and handed over, in one call.
const MOST: usize = 1_024;

/// What the session tells.
pub(crate) enum News {
    /// A partition is consumed; when its first message comes, the session wants to know.
    Opened(Box<Deliveries>),
    /// That partition is ours, under this epoch.
    Assigned { slot: usize, epoch: u64, valid_until: Tick },
    /// Another member is to have it.
    Revoking { slot: usize, epoch: u64 },
    /// It is gone.
    Lost { slot: usize, epoch: u64 },
    /// Everything that is ours is, until then.
    Renewed { valid_until: Tick },
    /// Nothing more comes of what was opened.
    Disconnected,
    /// It is over, well or not.
    Closed(Result<(), Error>),
}

/// What the session is told.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) orders: Mutex<Orders>,
    pub(crate) changed: Notify,
}

#[derive(Default)]
pub(crate) struct Orders {
    /// Partitions whose first message came, with the generation of their channel.
    pub(crate) begun: Vec<(usize, u64)>,
    /// Those whose channel has ended, perhaps for a reason.
    pub(crate) ended: Vec<(usize, u64, Option<lapin::Error>)>,
    pub(crate) settled: Vec<Settled>,
    /// The session comes to look soon, whatever is settled meanwhile.
    pub(crate) attended: bool,
    /// Partitions on which nothing runs any more, with their epochs.
    pub(crate) released: Vec<(usize, u64)>,
    /// The instance will close.
    pub(crate) closing: bool,
    /// Nothing is left to be done but to leave; at once, if nobody waits for it.
    pub(crate) leave: Option<Leave>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    Gracefully,
    AtOnce,
}

/// What was finished of one partition since the session has looked.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) slot: usize,
    pub(crate) epoch: u64,
    pub(crate) tags: Vec<u64>,
    pub(crate) through: u64,
}

pub(crate) struct RabbitMqConsumer {
    desk: Arc<Desk>,
    news: Receiver<News>,
    batch: Vec<News>,
    inflow: Inflow,
    revoke_drain: Duration,
    slots: Vec<Slot>,
    /// The slot of each handle.
    handles: Vec<Option<usize>>,
    /// Slots with messages to hand over, in turn.
    ready: VecDeque<usize>,
    closed: Option<Result<(), Error>>,
}

/// One partition of one topic.
struct Slot {
    topic: Name,
    partition: u32,
    /// Of the channel whose messages are taken; of others they are void, and come again.
    generation: Option<u64>,
    epoch: u64,
    handle: Option<PartitionHandle>,
    /// What came and was not handed over; at first it waits for a handle.
    waiting: VecDeque<(u64, Arc<Message>)>,
    /// So many that are settled are worth being told at once.
    enough: usize,
}

impl RabbitMqConsumer {
    pub(crate) fn new(
        desk: Arc<Desk>,
        news: Receiver<News>,
        partitions: impl IntoIterator<Item = (Name, u32, u16)>,
        revoke_drain: Duration,
    ) -> Self {
        let slot = |(topic, partition, prefetch)| Slot {
            topic,
            partition,
            generation: None,
            epoch: 0,
            handle: None,
            waiting: VecDeque::new(),
            enough: acks::enough(prefetch),
        };
        let partitions: Vec<_> = partitions.into_iter().collect();
        Self {
            desk,
            news,
            batch: Vec::new(),
            inflow: Inflow::new(partitions.iter().map(|(_, _, prefetch)| *prefetch)),
            revoke_drain,
            slots: partitions.into_iter().map(slot).collect(),
            handles: Vec::new(),
            ready: VecDeque::new(),
            closed: None,
        }
    }

    fn hear(&mut self, news: News, intake: &mut Intake<'_>) {
        match news {
            News::Opened(deliveries) => {
                let slot = deliveries.slot;
                self.slots[slot].stop();
                self.slots[slot].generation = Some(deliveries.generation);
                self.inflow.open(slot, *deliveries);
            }
            News::Assigned { slot, epoch, valid_until } => {
                let state = &mut self.slots[slot];
                let handle = intake.assigned(&state.topic, state.partition, epoch);
                intake.renewed(handle, valid_until);
                (state.epoch, state.handle) = (epoch, Some(handle));
                if !state.waiting.is_empty() {
                    self.ready.push_back(slot);
                }
                if self.handles.len() <= handle.index() {
                    self.handles.resize(handle.index() + 1, None);
                }
                self.handles[handle.index()] = Some(slot);
            }
            News::Revoking { slot, epoch } => {
                if let Some(handle) = self.current(slot, epoch) {
                    self.slots[slot].stop();
                    intake.revoking(handle, self.revoke_drain);
                }
            }
            News::Lost { slot, epoch } => {
                if let Some(handle) = self.current(slot, epoch) {
                    self.forget(handle);
                    intake.lost(handle);
                }
            }
            News::Renewed { valid_until } => {
                for slot in &self.slots {
                    if let Some(handle) = slot.handle {
                        intake.renewed(handle, valid_until);
                    }
                }
            }
            News::Disconnected => {
                self.inflow.clear();
                self.slots.iter_mut().for_each(Slot::stop);
            }
            News::Closed(result) => self.closed = Some(result),
        }
    }

    /// Takes in what came; answers how much.
    fn take_in(&mut self, cx: &mut Context<'_>) -> usize {
        let mut count = 0;
        while count < MOST
            && let Poll::Ready(taken) = self.inflow.poll(cx)
        {
            count += taken.messages.len();
            self.take(taken);
        }
        count
    }

    fn take(&mut self, Taken { slot, generation, messages, ended, .. }: Taken) {
        let state = &mut self.slots[slot];
        if state.generation != Some(generation) {
            return;
        }
        if let Some(error) = ended {
            state.stop();
            self.order(|orders| orders.ended.push((slot, generation, error)));
            return;
        }
        let first = state.waiting.is_empty();
        state.waiting.extend(messages);
        match state.handle {
            Some(_) if first => self.ready.push_back(slot),
            // The first ones of that channel: they wait for a handle.
            None if first => self.order(|orders| orders.begun.push((slot, generation))),
            _ => {}
        }
    }

    fn current(&self, slot: usize, epoch: u64) -> Option<PartitionHandle> {
        let slot = &self.slots[slot];
        slot.handle.filter(|_| slot.epoch == epoch)
    }

    /// The handle is void. Answers the slot it stood for.
    fn forget(&mut self, handle: PartitionHandle) -> Option<usize> {
        let slot = self.handles.get_mut(handle.index())?.take()?;
        self.slots[slot].handle = None;
        self.slots[slot].stop();
        Some(slot)
    }

    /// Hands over what waits, within the credit; answers how much.
    fn hand_over(&mut self, intake: &mut Intake<'_>) -> usize {
        let mut moved = 0;
        // How many in a row had no credit.
        let mut blocked = 0;
        while moved < MOST && blocked < self.ready.len() {
            let Some(slot) = self.ready.pop_front() else { break };
            let state = &mut self.slots[slot];
            let Some(handle) = state.handle else { continue };
            let count = intake.credit(handle).min(TURN).min(state.waiting.len());
            for (tag, message) in state.waiting.drain(..count) {
                intake.push(handle, Position::new(tag), message);
            }
            moved += count;
            if state.waiting.is_empty() {
                blocked = 0;
            } else {
                self.ready.push_back(slot);
                blocked = if count == 0 { blocked + 1 } else { 0 };
            }
        }
        moved
    }

    fn order(&self, give: impl FnOnce(&mut Orders)) {
        give(&mut self.desk.orders.lock());
        self.desk.changed.notify_one();
    }
}

impl Slot {
    /// Nothing more is taken of its channel.
    fn stop(&mut self) {
        self.generation = None;
        self.waiting.clear();
    }
}

impl Consumer for RabbitMqConsumer {
    fn poll_fill(&mut self, cx: &mut Context<'_>, intake: &mut Intake<'_>) -> Poll<Result<(), Error>> {
        let mut batch = std::mem::take(&mut self.batch);
        let polled = self.news.poll_swap(cx, &mut batch);
        for news in batch.drain(..) {
            self.hear(news, intake);
        }
        self.batch = batch;
        let taken = self.take_in(cx);
        let moved = self.hand_over(intake);
        match polled {
            Poll::Ready(true) => Poll::Ready(Ok(())),
            Poll::Ready(false) => match self.closed.take() {
                Some(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Ready(Err(Error::new(ErrorKind::Closed, "the consumer's connection was ended"))),
            },
            // There may be more of it.
            Poll::Pending if moved > 0 || taken >= MOST => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn settle(&mut self, settlement: Settlement<'_>) {
        let slot = self.handles.get(settlement.partition.index()).copied().flatten();
        let Some(slot) = slot.filter(|slot| self.slots[*slot].epoch == settlement.epoch) else { return };
        let tags = settlement.finished.iter().map(|position| position.major);
        let through = settlement.through.map_or(0, |position| position.major);
        let mut orders = self.desk.orders.lock();
        let known = orders.settled.iter().position(|noted| noted.slot == slot && noted.epoch == settlement.epoch);
        let count = match known {
            Some(known) => {
                let noted = &mut orders.settled[known];
                noted.tags.extend(tags);
                noted.through = noted.through.max(through);
                noted.tags.len()
            }
            None => {
                let noted = Settled { slot, epoch: settlement.epoch, tags: tags.collect(), through };
                let count = noted.tags.len();
                orders.settled.push(noted);
                count
            }
        };
        let told = !orders.attended || count >= self.slots[slot].enough;
        drop(orders);
        if told {
            self.desk.changed.notify_one();
        }
    }

    fn release(&mut self, partition: PartitionHandle) {
        if let Some(slot) = self.forget(partition) {
            let epoch = self.slots[slot].epoch;
            self.order(|orders| orders.released.push((slot, epoch)));
        }
    }

    fn begin_close(&mut self) {
        self.order(|orders| orders.closing = true);
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.order(|orders| {
            orders.closing = true;
            orders.leave.get_or_insert(Leave::Gracefully);
        });
        loop {
            let mut batch = Vec::new();
            match self.news.poll_swap(cx, &mut batch) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(false) => return Poll::Ready(self.closed.take().unwrap_or(Ok(()))),
                Poll::Ready(true) => {
                    for news in batch {
                        if let News::Closed(result) = news {
                            self.closed = Some(result);
                        }
                    }
                }
            }
        }
    }
}

impl Drop for RabbitMqConsumer {
    fn drop(&mut self) {
        self.order(|orders| {
            orders.closing = true;
            orders.leave.get_or_insert(Leave::AtOnce);
        });
    }
}
