//! [`KafkaConsumer`]: the executor's side of a member of a group. Everything that waits for the broker happens on the
//! [pump](pump)'s thread; this side only swaps what is there.

mod adopt;
mod commits;
mod committer;
mod context;
mod event;
mod fetched;
mod inbox;
mod pump;
mod resolve;
mod revoke;
mod standstill;
mod start;
mod tenure;

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    task::{Context as TaskContext, Poll, ready},
    time::Duration,
};

use messaging::{Consumer, Error, ErrorKind, Intake, Message, PartitionHandle, Position, Settlement, handoff};

use self::{
    event::Event,
    inbox::{Inbox, TenureId},
    tenure::Flow,
};
pub(crate) use self::{
    resolve::{committed, ranges},
    start::join,
};

/// How many messages one partition may push before the next has its turn.
const TURN: usize = 256;

/// A member of a group.
pub(crate) struct KafkaConsumer {
    events: handoff::Receiver<Event>,
    inbox: Arc<Inbox>,
    batch: Vec<Event>,
    /// By slot.
    tenures: Vec<Option<Held>>,
    /// The slot of each handle.
    slots: Vec<u32>,
    /// The slot that pushes first next time.
    turn: usize,
    revoke_drain: Duration,
    closing: bool,
    closed: Option<Result<(), Error>>,
    failed: Option<Error>,
}

/// A partition that the executor has.
struct Held {
    id: TenureId,
    handle: PartitionHandle,
    waiting: VecDeque<(u64, Arc<Message>)>,
    flow: Arc<Flow>,
}

impl KafkaConsumer {
    fn new(events: handoff::Receiver<Event>, inbox: Arc<Inbox>, revoke_drain: Duration) -> Self {
        Self {
            events,
            inbox,
            batch: Vec::new(),
            tenures: Vec::new(),
            slots: Vec::new(),
            turn: 0,
            revoke_drain,
            closing: false,
            closed: None,
            failed: None,
        }
    }

    fn held(&mut self, handle: PartitionHandle) -> Option<&mut Option<Held>> {
        let slot = *self.slots.get(handle.index())?;
        self.tenures.get_mut(slot as usize).filter(|held| held.as_ref().is_some_and(|held| held.handle == handle))
    }

    fn held_as(&self, id: TenureId) -> Option<&Held> {
        self.tenures.get(id.slot as usize)?.as_ref().filter(|held| held.id == id)
    }

    /// Takes one event in.
    fn take(&mut self, event: Event, intake: &mut Intake<'_>) {
        match event {
            Event::Message { slot, offset, message } => {
                if let Some(Some(held)) = self.tenures.get_mut(slot as usize) {
                    held.waiting.push_back((offset, message));
                }
            }
            Event::Assigned(assigned) => {
                let handle = intake.assigned(&assigned.topic, assigned.partition, assigned.id.epoch);
                intake.renewed(handle, assigned.valid_until);
                let held = Held { id: assigned.id, handle, waiting: VecDeque::new(), flow: assigned.flow };
                put(&mut self.tenures, assigned.id.slot as usize, Some(held));
                put(&mut self.slots, handle.index(), assigned.id.slot);
            }
            Event::Revoking(id) => {
                let drain = self.revoke_drain;
                if let Some(held) = self.held_as(id) {
                    intake.revoking(held.handle, drain);
                }
            }
            Event::Lost(id) => {
                if let Some(held) = self.held_as(id) {
                    intake.lost(held.handle);
                    self.tenures[id.slot as usize] = None;
                }
            }
            Event::Renewed(until) => {
                self.tenures.iter().flatten().for_each(|held| intake.renewed(held.handle, until));
            }
            Event::Trimmed(trimmed) => {
                let first = Position::new(trimmed.first);
                intake.trimmed(&trimmed.topic, trimmed.partition, first, Some(trimmed.count));
            }
            Event::Failed(error) => self.failed = Some(error),
            Event::Closed(result) => self.closed = Some(result),
        }
    }

    /// Pushes what waits, as far as the credit goes, the partitions in turn. Answers whether anything was pushed.
    fn push(&mut self, intake: &mut Intake<'_>) -> bool {
        let count = self.tenures.len();
        let mut pushed = false;
        loop {
            let mut round = false;
            for step in 0..count {
                let slot = (self.turn + step) % count;
                round |= self.tenures[slot].as_mut().is_some_and(|held| held.push(intake, &self.inbox));
            }
            self.turn = (self.turn + 1) % count.max(1);
            pushed |= round;
            if !round {
                return pushed;
            }
        }
    }

    /// Takes in whatever the pump has handed over. `Ready` if there was something.
    fn swap(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Error>> {
        match ready!(self.events.poll_swap(cx, &mut self.batch)) {
            true => Poll::Ready(Ok(())),
            false => Poll::Ready(Err(Error::new(ErrorKind::Internal, "kafka: the consumer's thread has ended"))),
        }
    }
}

impl Held {
    /// One turn's worth. Answers whether there was anything.
    fn push(&mut self, intake: &mut Intake<'_>, inbox: &Inbox) -> bool {
        if self.waiting.is_empty() || self.flow.held.load(Ordering::Relaxed) {
            return false;
        }
        let count = intake.credit(self.handle).min(TURN).min(self.waiting.len());
        let mut bytes = 0;
        for (offset, message) in self.waiting.drain(..count) {
            bytes += message.weight();
            self.flow.taken_before.store(offset + 1, Ordering::Relaxed);
            intake.push(self.handle, Position::new(offset), message);
        }
        if count > 0 {
            self.flow.subtract(count, bytes);
            if self.flow.paused.load(Ordering::Relaxed) {
                inbox.wake();
            }
        }
        count > 0
    }
}

/// Puts a value at an index, growing by defaults up to it.
fn put<T: Default>(list: &mut Vec<T>, index: usize, value: T) {
    if index >= list.len() {
        list.resize_with(index + 1, T::default);
    }
    list[index] = value;
}

impl Consumer for KafkaConsumer {
    fn poll_fill(&mut self, cx: &mut TaskContext<'_>, intake: &mut Intake<'_>) -> Poll<Result<(), Error>> {
        let mut any = false;
        loop {
            match self.swap(cx) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.failed.take().unwrap_or(error))),
                Poll::Ready(Ok(())) => {
                    any = true;
                    let mut batch = std::mem::take(&mut self.batch);
                    batch.drain(..).for_each(|event| self.take(event, intake));
                    self.batch = batch;
                }
            }
        }
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        any |= self.push(intake);
        if any { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn settle(&mut self, settlement: Settlement<'_>) {
        let epoch = settlement.epoch;
        if let Some(Some(held)) = self.held(settlement.partition)
            && held.id.epoch == epoch
        {
            let id = held.id;
            self.inbox.finished(id, settlement.finished.iter().map(|position| position.major));
        }
    }

    fn release(&mut self, partition: PartitionHandle) {
        if let Some(held) = self.held(partition).and_then(Option::take) {
            self.inbox.release(held.id);
        }
    }

    fn begin_close(&mut self) {
        self.inbox.begin_close();
    }

    fn poll_close(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Error>> {
        if !std::mem::replace(&mut self.closing, true) {
            self.inbox.close();
        }
        loop {
            if let Some(result) = self.closed.take() {
                return Poll::Ready(result);
            }
            ready!(self.swap(cx))?;
            // Nothing is taken in any more; only the end counts.
            for event in self.batch.drain(..) {
                if let Event::Closed(result) = event {
                    self.closed = Some(result);
                }
            }
        }
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        self.inbox.close();
    }
}
