//! [`Settler`]: joins a group to settle single messages by hand and leave the others as they are, as an operator does
//! with dead letters.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    broker::Broker,
    consumer::{Consumer, Intake, PartitionHandle, Settlement},
    delivery::Delivery,
    engine::{Engine, EntryId, Limits, Start, Verdict},
    error::{Error, ErrorKind},
    executor::{Assignments, Trouble},
    message::Message,
    name::Name,
    subscription::Subscription,
    time::{Clock, Tick, TokioClock},
};

/// How many messages may be held unsettled.
const IN_FLIGHT: usize = 50_000;
/// How many bytes they may have.
const BYTES: usize = 256 * 1024 * 1024;
/// How far settled messages may lie beyond the first one that is not.
const SPAN: usize = 100_000;
/// How long a look at the consumer may be put off while nothing wakes it.
const LOOK: Duration = Duration::from_millis(100);

/// One instance of a group whose messages are settled by hand, in any order.
///
/// ```
/// # use std::time::Duration;
/// # use messaging::{Broker, DeadLetter, Error, OPERATORS, Settler, dead_letter_topic};
/// /// Drops the dead letters of one handler.
/// async fn drop_letters_of(broker: &dyn Broker, handler: &str) -> Result<(), Error> {
///     let mut operator = Settler::join(broker, OPERATORS, dead_letter_topic("orders", "billing")).await?;
///     while let Some(letter) = operator.next(Duration::from_secs(10)).await? {
///         if DeadLetter::read(&letter.delivery.message)?.handler == *handler {
///             operator.settle(&letter);
///         }
///     }
///     operator.leave(Duration::from_secs(10)).await
/// }
/// ```
///
/// No handler runs, nothing is retried or dead-lettered. What is not settled when it [`leave`](Self::leave)s, or when it
/// is dropped, comes back to the group.
pub struct Settler {
    consumer: Box<dyn Consumer>,
    engine: Engine<Arc<Message>, Trouble>,
    assignments: Assignments,
    clock: TokioClock,
    /// The clock of `valid_until`.
    gate: Arc<dyn Clock>,
    group: Name,
}

/// A message that its group has not settled, as a [`Settler`] has it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unsettled {
    /// The message and where it stands.
    pub delivery: Delivery,
    entry: EntryId,
}

impl Settler {
    /// Joins a group as one more instance, on one topic.
    ///
    /// # Errors
    /// What keeps it from joining: see [`Broker::consumer`].
    pub async fn join(broker: &dyn Broker, group: impl Into<Name>, topic: impl Into<Name>) -> Result<Self, Error> {
        let (group, topic) = (group.into(), topic.into());
        let mut subscription = Subscription::new(group.clone(), [topic.clone()]);
        subscription.dead_letters = false;
        subscription.check(broker.name(), broker.capabilities())?;
        let mut assignments = Assignments::new(group.clone(), vec![topic]);
        assignments.unordered = true;
        Ok(Self {
            consumer: broker.consumer(&subscription).await?,
            engine: Engine::new(Limits { in_flight: IN_FLIGHT, bytes: BYTES, span: SPAN }),
            assignments,
            clock: TokioClock::new(),
            gate: broker.clock(),
            group,
        })
    }

    /// The next message that the group has not settled, each once while this instance has its partition; `None` after
    /// `patience` without one. Cancel-safe. It is also what keeps the assignment alive: more than a second between two
    /// calls may cost it.
    ///
    /// # Errors
    /// What the consumer cannot heal.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<Unsettled>, Error> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let now = tokio::time::Instant::now();
            let look = (now + LOOK).min(deadline);
            match tokio::time::timeout_at(look, std::future::poll_fn(|cx| self.poll_next(cx))).await {
                Ok(found) => return found.map(Some),
                Err(_) if look >= deadline => return Ok(None),
                Err(_) => {}
            }
        }
    }

    /// The message need not come back. Takes note; the broker is told with the next call, at the latest when leaving.
    /// Answers whether the message was still this instance's to settle.
    pub fn settle(&mut self, message: &Unsettled) -> bool {
        let ours = self.engine.item(message.entry).is_some() && self.engine.is_running(message.entry);
        if ours {
            self.engine.complete(message.entry);
        }
        self.settle_and_release();
        ours
    }

    /// Tells the broker what is settled, gives back the rest, and leaves the group.
    ///
    /// # Errors
    /// If the broker could not be told by the deadline: what it was not told comes back.
    pub async fn leave(mut self, deadline: Duration) -> Result<(), Error> {
        self.consumer.begin_close();
        let leaving = async {
            loop {
                let polled = std::future::poll_fn(|cx| self.poll_leave(cx));
                if let Ok(left) = tokio::time::timeout(LOOK, polled).await {
                    return left;
                }
            }
        };
        match tokio::time::timeout(deadline, leaving).await {
            Ok(left) => left,
            Err(_) => {
                let message = format!("group {:?} did not settle and leave in time", self.group.as_str());
                Err(Error::new(ErrorKind::Timeout, message))
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Unsettled, Error>> {
        loop {
            let again = self.fill(cx)?;
            let mut found = None;
            let gate = self.assignments.gated.then(|| self.gate.now());
            self.engine.take(gate, 1, |start| found = Some(start));
            if let Some(start) = found {
                return Poll::Ready(Ok(unsettled(start)));
            }
            if !again {
                return Poll::Pending;
            }
        }
    }

    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Polled on until the last partition is released, so that what is still settled counts.
        while self.engine.holds_partitions() {
            let now = self.clock.now();
            self.engine.revoke_all(now);
            self.give_back(now);
            self.settle_and_release();
            if self.engine.holds_partitions() && !self.fill(cx)? {
                return Poll::Pending;
            }
        }
        self.consumer.poll_close(cx)
    }

    /// Takes in what the consumer has. Answers whether there may be more.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let now = self.clock.now();
        self.give_back(now);
        self.settle_and_release();
        let mut intake = Intake { engine: &mut self.engine, assignments: &mut self.assignments, now };
        let again = match self.consumer.poll_fill(cx, &mut intake) {
            Poll::Ready(filled) => filled.map(|()| true)?,
            Poll::Pending => false,
        };
        self.give_back(now);
        self.settle_and_release();
        Ok(again)
    }

    /// Lets go of what was lost, or revoked longer ago than the drain.
    fn give_back(&mut self, now: Tick) {
        self.engine.advance(now);
        let dropped: Vec<EntryId> = self.engine.cancels().collect();
        for entry in dropped {
            self.engine.finish(entry, Verdict::Dropped);
        }
    }

    fn settle_and_release(&mut self) {
        let consumer = &mut self.consumer;
        self.engine.settlements().each(|settled| {
            consumer.settle(Settlement::new(settled.partition, settled.epoch, settled.finished, settled.through));
        });
        while let Some(partition) = self.engine.drained() {
            consumer.release(PartitionHandle(partition));
        }
    }
}

fn unsettled(start: Start<Arc<Message>, Trouble>) -> Unsettled {
    let delivery = Delivery {
        message: start.item,
        partition: start.number,
        position: start.position,
        epoch: start.epoch,
        attempt: 1,
    };
    Unsettled { delivery, entry: start.id }
}

impl std::fmt::Debug for Settler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settler").field("group", &self.group).finish_non_exhaustive()
    }
}
