//! Faults on demand, for tests: of the next publishes and dead letters, of a consumer, of an assignment.

use std::{collections::VecDeque, time::Duration};

use hashbrown::HashSet;
use messaging::{Batch, Error, ErrorKind, Name, Outcome, Receipt};

use crate::{
    MemoryBroker,
    bus::{Appended, State},
    effects::Effects,
    inspect::ConsumerId,
    members::Member,
    publisher::receipt,
};

/// What happens to a publish, or to the writing of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is refused for good, for this reason: surely not stored.
    Refuse(String),
    /// It is stored at once and confirmed only after this long.
    Delay(Duration),
    /// It is stored, and its confirm is lost: the outcome is unknown.
    LoseConfirm,
}

/// Faults that wait for their turn.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    publishes: VecDeque<Due>,
    dead_letters: VecDeque<Due>,
}

#[derive(Debug)]
struct Due {
    left: usize,
    fault: Fault,
}

impl Faults {
    #[inline]
    pub(crate) fn on_publish(&self) -> bool {
        !self.publishes.is_empty()
    }

    pub(crate) fn of_dead_letter(&mut self) -> Option<Fault> {
        take(&mut self.dead_letters)
    }
}

fn add(queue: &mut VecDeque<Due>, left: usize, fault: Fault) {
    if left > 0 {
        queue.push_back(Due { left, fault });
    }
}

fn take(queue: &mut VecDeque<Due>) -> Option<Fault> {
    let due = queue.front_mut()?;
    due.left -= 1;
    if due.left > 0 { Some(due.fault.clone()) } else { queue.pop_front().map(|due| due.fault) }
}

/// How long a batch is kept back, and what is confirmed then.
pub(crate) type Late = (Duration, Vec<(usize, Receipt)>);

impl State {
    /// Publishes a batch of which some messages meet faults. After one that was not confirmed, later ones of its key
    /// are not stored. Answers what is to be confirmed later.
    pub(crate) fn publish_with_faults(&mut self, batch: &mut Batch, effects: &mut Effects) -> Option<Late> {
        let mut broken: HashSet<(Name, bytes::Bytes)> = HashSet::new();
        let mut late: Option<Late> = None;
        for index in 0..batch.len() {
            let message = batch.message(index).clone();
            let lane = message.key.clone().map(|key| (message.topic.clone(), key));
            if lane.as_ref().is_some_and(|lane| broken.contains(lane)) {
                batch.complete(index, Outcome::rejected("an earlier message of its key was not confirmed"));
                continue;
            }
            let fault = take(&mut self.faults.publishes);
            if let Some(Fault::Refuse(reason)) = &fault {
                batch.complete(index, Outcome::rejected(reason.clone()));
                broken.extend(lane);
                continue;
            }
            let topic = self.topic(&message.topic);
            let Appended { partition, position, .. } = self.append(topic, message.clone(), effects);
            let receipt = receipt(partition, position);
            match fault {
                Some(Fault::Delay(delay)) => {
                    let (longest, receipts) = late.get_or_insert_default();
                    *longest = delay.max(*longest);
                    receipts.push((index, receipt));
                }
                Some(Fault::LoseConfirm) => {
                    batch.complete(index, Outcome::unknown("the confirm was lost"));
                    broken.extend(lane);
                }
                Some(Fault::Refuse(_)) | None => batch.complete(index, Outcome::Confirmed(receipt)),
            }
        }
        late
    }
}

impl MemoryBroker {
    /// Lets the next `count` messages that are published meet this fault, after those that were asked for before. Dead
    /// letters are not among them, nor what is published until settled.
    pub fn fail_next_publish(&self, count: usize, fault: Fault) {
        self.bus.with(|state, _| add(&mut state.faults.publishes, count, fault));
    }

    /// Lets the next `count` dead letters that any group writes meet this fault, after those that were asked for before.
    /// Each try of a letter counts.
    pub fn fail_next_dead_letter(&self, count: usize, fault: Fault) {
        self.bus.with(|state, _| add(&mut state.faults.dead_letters, count, fault));
    }

    /// Lets no further publish and dead letter fail.
    pub fn stop_failing(&self) {
        self.bus.with(|state, _| state.faults = Faults::default());
    }

    /// Ends a consumer as if its process had died: what it has goes to others at once, its executor learns that
    /// everything is lost, and ends with an error.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is no such consumer.
    pub fn crash(&self, consumer: ConsumerId) -> Result<(), Error> {
        self.bus.with(|state, effects| {
            let group = find(state, consumer)?.group;
            state.take_unasked(consumer.0, effects);
            if let Some(member) = &mut state.members[consumer.0 as usize] {
                member.crashed = true;
                effects.wake(member.waker.take());
            }
            state.rebalance(group, effects);
            Ok(())
        })
    }

    /// Takes a partition back from its owner as a broker does that balances its group: running handlers are waited for.
    /// Another instance gets it then, or the same one if there is no other.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if nobody has that partition.
    pub fn revoke(&self, group: &str, topic: &str, partition: u32) -> Result<(), Error> {
        self.bus.with(|state, effects| {
            let cursor = state.find_cursor(group, topic, partition);
            let owned = cursor.filter(|cursor| state.cursors[*cursor as usize].owner.is_some());
            let cursor = owned.ok_or_else(|| config(format!("nobody in {group:?} has {topic:?}/{partition}")))?;
            state.revoke(cursor, effects);
            Ok(())
        })
    }

    /// Cuts a consumer off without it noticing: it hears nothing, and its lease is not renewed. When that has passed,
    /// others get what it has; it learns so when it is [heard again](Self::restore).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is no such consumer, or the bus gives no [leases](crate::MemoryBuilder::lease).
    pub fn silence(&self, consumer: ConsumerId) -> Result<(), Error> {
        if self.bus.settings.lease.is_none() {
            return Err(config("a consumer of a bus without leases cannot go stale: build it with `lease`".to_owned()));
        }
        self.bus.with(|state, _| {
            find(state, consumer)?;
            if let Some(member) = &mut state.members[consumer.0 as usize] {
                member.silent = true;
            }
            Ok(())
        })
    }

    /// Lets a silenced consumer be heard again.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is no such consumer.
    pub fn restore(&self, consumer: ConsumerId) -> Result<(), Error> {
        self.bus.with(|state, effects| {
            find(state, consumer)?;
            if let Some(member) = &mut state.members[consumer.0 as usize] {
                member.silent = false;
                effects.wake(member.waker.take());
            }
            Ok(())
        })
    }
}

fn find(state: &State, consumer: ConsumerId) -> Result<&Member, Error> {
    let member = state.members.get(consumer.0 as usize).and_then(Option::as_deref);
    member.ok_or_else(|| config(format!("there is no consumer {consumer}")))
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}
