//! [`MemoryConsumer`]: one instance of a group.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use messaging::{
    Clock, Consumer, DeadLetter, DeadLetterSink, Error, ErrorKind, Intake, Message, PartitionHandle, Position,
    Settlement, Subscription, Tick,
};
use tokio::time::Sleep;

use crate::{
    bus::{Bus, State},
    effects::Effects,
    faults::Fault,
    members::{Member, News},
};

/// Messages of one partition that are handed over before it is the next one's turn.
const TURN: usize = 64;
/// Messages handed over in one call: the lock is held no longer.
const MOST: usize = 1_024;

pub(crate) struct MemoryConsumer {
    bus: Arc<Bus>,
    member: u32,
    /// For leases.
    timer: Option<Pin<Box<Sleep>>>,
    closed: bool,
}

impl MemoryConsumer {
    pub(crate) fn join(bus: &Arc<Bus>, subscription: &Subscription) -> Self {
        let now = bus.clock.now();
        let member = bus.with(|state, effects| {
            let group = state.group(&subscription.group);
            let topics: Vec<u32> = subscription.topics.iter().map(|topic| state.topic(topic)).collect();
            for topic in &topics {
                state.subscribe(group, *topic, subscription.start);
            }
            let mut member = Member::new(group, topics, subscription.revoke_drain);
            if let Some(lease) = state.settings.lease {
                (member.renewed, member.valid_until) = (now, now + lease);
            }
            state.join(member, effects)
        });
        Self { bus: bus.clone(), member, timer: None, closed: false }
    }

    fn leave(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            self.bus.with(|state, effects| state.leave(self.member, effects));
        }
    }

    /// Waits for the next look at the leases. Answers whether it is due.
    fn poll_timer(&mut self, cx: &mut Context<'_>, due: Tick) -> bool {
        let due = self.bus.clock.instant(due);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx).is_ready()
    }
}

impl Consumer for MemoryConsumer {
    fn poll_fill(&mut self, cx: &mut Context<'_>, intake: &mut Intake<'_>) -> Poll<Result<(), Error>> {
        loop {
            let leases = self.bus.settings.lease.map(|_| self.bus.clock.now());
            let (filled, look) = self.bus.with(|state, effects| {
                let filled = state.fill(self.member, leases, cx, intake, effects);
                (filled, leases.and_then(|_| state.next_look(self.member)))
            });
            if let (Poll::Pending, Some(due)) = (&filled, look)
                && self.poll_timer(cx, due)
            {
                continue;
            }
            return filled;
        }
    }

    fn settle(&mut self, settlement: Settlement<'_>) {
        self.bus.with(|state, effects| {
            if let Some(cursor) = state.held(self.member, settlement.partition, settlement.epoch) {
                let positions = settlement.finished.iter().map(|position| position.major);
                state.settle(cursor, positions, effects);
            }
        });
    }

    fn release(&mut self, partition: PartitionHandle) {
        self.bus.with(|state, effects| {
            let cursor = state.members[self.member as usize].as_ref().and_then(|member| member.cursor(partition));
            if let Some(cursor) = cursor {
                state.released(cursor, effects);
            }
        });
    }

    fn begin_close(&mut self) {
        self.bus.with(|state, effects| state.close_soon(self.member, effects));
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.leave();
        Poll::Ready(Ok(()))
    }

    fn dead_letters(&self) -> Option<Arc<dyn DeadLetterSink>> {
        Some(Arc::new(Sink { bus: self.bus.clone(), member: self.member }))
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        self.leave();
    }
}

impl State {
    /// Tells a member's executor its news and hands over what there is; `now` if there are leases.
    fn fill(
        &mut self,
        member: u32,
        now: Option<Tick>,
        cx: &mut Context<'_>,
        intake: &mut Intake<'_>,
        effects: &mut Effects,
    ) -> Poll<Result<(), Error>> {
        let hears = |state: &Self| state.members[member as usize].as_ref().is_some_and(|member| !member.silent);
        let mut more = false;
        if hears(self) {
            if let Some(now) = now {
                self.expire(member, now, effects);
                self.renew(member, now, intake);
            }
            while let Some(news) = self.members[member as usize].as_mut().and_then(|member| member.news.pop_front()) {
                self.report(member, news, intake);
            }
            more = self.hand_over(member, intake);
        }
        let Some(state) = &mut self.members[member as usize] else { return Poll::Ready(Err(gone())) };
        if state.crashed {
            return Poll::Ready(Err(gone()));
        }
        if more {
            return Poll::Ready(Ok(()));
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => state.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn report(&mut self, member: u32, news: News, intake: &mut Intake<'_>) {
        let Self { members, cursors, topics, settings, .. } = self;
        let Some(state) = &mut members[member as usize] else { return };
        let id = match news {
            News::Lost(handle) => return intake.lost(handle),
            News::Assigned(id) | News::Revoking(id) | News::Trimmed(id) => id,
        };
        let cursor = &mut cursors[id as usize];
        if cursor.owner != Some(member) {
            return;
        }
        let topic = &topics[cursor.topic as usize];
        match news {
            News::Assigned(_) if cursor.handle.is_none() => {
                let handle = intake.assigned(&topic.name, cursor.partition, cursor.epoch);
                cursor.handle = Some(handle);
                state.set_handle(handle, id);
                state.ready.push_back(id);
                if settings.lease.is_some() {
                    intake.renewed(handle, state.valid_until);
                }
            }
            News::Revoking(_) if cursor.revoking => {
                if let Some(handle) = cursor.handle {
                    intake.revoking(handle, state.drain);
                }
            }
            _ => {}
        }
        for (first, count) in cursor.take_lost() {
            intake.trimmed(&topic.name, cursor.partition, Position::new(first), Some(count));
        }
    }

    /// Hands over messages of the member's ready partitions in turn, within their credit; answers whether there is more
    /// for which there may be credit.
    fn hand_over(&mut self, member: u32, intake: &mut Intake<'_>) -> bool {
        let Self { members, cursors, topics, .. } = self;
        let Some(member) = &mut members[member as usize] else { return false };
        let mut moved = 0;
        // How many in a row had no credit.
        let mut blocked = 0;
        while moved < MOST && blocked < member.ready.len() {
            let Some(id) = member.ready.pop_front() else { break };
            let cursor = &mut cursors[id as usize];
            let Some(handle) = cursor.handle.filter(|_| !cursor.revoking) else { continue };
            let log = &topics[cursor.topic as usize].partitions[cursor.partition as usize].log;
            let credit = intake.credit(handle).min(TURN);
            let to = log.end().min(cursor.next + credit as u64);
            let mut position = cursor.next;
            let settled_below = cursor.progress.ceiling();
            for entry in log.range(cursor.next, to) {
                if position >= settled_below || !cursor.progress.contains(position) {
                    intake.push(handle, Position::new(position), entry.message.clone());
                    moved += 1;
                }
                position += 1;
            }
            cursor.next = position;
            if position == log.end() {
                cursor.listening = true;
                blocked = 0;
            } else {
                member.ready.push_back(id);
                blocked = if credit == 0 { blocked + 1 } else { 0 };
            }
        }
        blocked < member.ready.len()
    }
}

/// Writes dead letters: the letter is stored and its message settled in one step, unless the owner is an old one.
struct Sink {
    bus: Arc<Bus>,
    member: u32,
}

#[async_trait]
impl DeadLetterSink for Sink {
    async fn dead_letter(
        &self,
        partition: PartitionHandle,
        epoch: u64,
        position: Position,
        letter: Arc<Message>,
    ) -> Result<(), Error> {
        let most = self.bus.settings.max_letter_bytes();
        if letter.weight() > most {
            let weight = letter.weight();
            let message = format!("a dead letter of {weight} bytes for topic {:?}; the limit is {most}", letter.topic);
            return Err(Error::new(ErrorKind::Rejected, message));
        }
        let fault = self.bus.with(|state, effects| {
            let cursor = state.held(self.member, partition, epoch).ok_or_else(|| {
                let message =
                    format!("the partition of position {position} has passed to another owner since epoch {epoch}");
                Error::new(ErrorKind::Closed, message)
            })?;
            let fault = state.faults.of_dead_letter();
            if let Some(Fault::Refuse(reason)) = fault {
                return Err(Error::new(ErrorKind::Rejected, reason));
            }
            // It stands there already if the confirm of an earlier try was lost.
            if !state.cursors[cursor as usize].progress.contains(position.major) {
                let topic = state.topic(&letter.topic);
                state.append(topic, letter.clone(), effects);
                let reason = DeadLetter::read(&letter).map(|letter| letter.error).unwrap_or_default();
                state.bury(cursor, position.major, &reason, effects);
            }
            Ok(fault)
        })?;
        match fault {
            Some(Fault::LoseConfirm) => Err(Error::new(ErrorKind::Unknown, "the confirm was lost")),
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                Ok(())
            }
            Some(Fault::Refuse(_)) | None => Ok(()),
        }
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Closed, "the consumer is no member of its group any more")
}
