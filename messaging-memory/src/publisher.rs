//! [`MemoryPublisher`]: stores messages at once; only an injected fault makes it wait.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use messaging::{Batch, Error, ErrorKind, Message, Outcome, Position, Publisher, Receipt};
use tokio::sync::{Notify, watch};

use crate::{
    bus::{Appended, Bus, State},
    effects::Effects,
};

static NEXT: AtomicU64 = AtomicU64::new(0);

pub(crate) struct MemoryPublisher {
    /// Weak: a batch that waits in the bus until it is settled holds its publisher.
    bus: Weak<Bus>,
    id: u64,
    closed: AtomicBool,
    out: Arc<Out>,
    /// Told when batches that are out are to end now.
    give_up: watch::Sender<bool>,
}

/// How many batches are out.
#[derive(Debug, Default)]
struct Out {
    count: AtomicUsize,
    none: Notify,
}

/// One batch that is out; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Outstanding(Arc<Out>);

impl MemoryPublisher {
    pub(crate) fn new(bus: &Arc<Bus>) -> Self {
        Self {
            bus: Arc::downgrade(bus),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            closed: AtomicBool::new(false),
            out: Arc::default(),
            give_up: watch::Sender::new(false),
        }
    }

    fn outstanding(&self) -> Outstanding {
        self.out.count.fetch_add(1, Ordering::Relaxed);
        Outstanding(self.out.clone())
    }

    /// Ends a batch after a while, or when the publisher gives up: then what has no answer is unknown.
    fn end_later(&self, mut batch: Batch, delay: Duration, late: Vec<(usize, Receipt)>) {
        let outstanding = self.outstanding();
        let mut give_up = self.give_up.subscribe();
        tokio::spawn(async move {
            if tokio::time::timeout(delay, give_up.wait_for(|give_up| *give_up)).await.is_err() {
                for (index, receipt) in late {
                    batch.complete(index, Outcome::Confirmed(receipt));
                }
            }
            drop(batch);
            drop(outstanding);
        });
    }
}

#[async_trait]
impl Publisher for MemoryPublisher {
    fn send(&self, mut batch: Batch) {
        let Some(bus) = self.bus.upgrade().filter(|_| !self.closed.load(Ordering::Relaxed)) else {
            for index in 0..batch.len() {
                batch.complete(index, Outcome::Rejected(Error::new(ErrorKind::Closed, "the publisher is closed")));
            }
            return;
        };
        if batch.until_settled() {
            let outstanding = self.outstanding();
            return bus.with(|state, effects| state.publish_until_settled(batch, self.id, outstanding, effects));
        }
        // The batch outlives the lock: with its end the next one may come.
        let late = bus.with(|state, effects| {
            if state.faults.on_publish() {
                return state.publish_with_faults(&mut batch, effects);
            }
            state.publish(&mut batch, effects);
            None
        });
        if let Some((delay, late)) = late {
            self.end_later(batch, delay, late);
        }
    }

    #[inline]
    fn send_now(&self, message: &mut Arc<Message>) -> Option<Receipt> {
        // What is out by `send` may be delayed: nothing overtakes it.
        if self.closed.load(Ordering::Relaxed) || self.out.count.load(Ordering::Relaxed) > 0 {
            return None;
        }
        self.bus.upgrade()?.with(|state, effects| {
            if state.faults.on_publish() {
                return None;
            }
            let topic = state.topic(&message.topic);
            let Appended { partition, position, retired } = state.append(topic, message.clone(), effects);
            if let Some(retired) = retired {
                *message = retired;
            }
            Some(receipt(partition, position))
        })
    }

    /// Batches are stored within the call that sends them; those that are out are delayed by a fault, or wait to be
    /// settled beside the others.
    fn depth(&self) -> usize {
        usize::MAX
    }

    async fn close(&self, deadline: Duration) -> Result<(), Error> {
        self.closed.store(true, Ordering::Relaxed);
        if tokio::time::timeout(deadline, self.out.wait_for_none()).await.is_ok() {
            return Ok(());
        }
        let left = self.out.count.load(Ordering::Relaxed);
        self.give_up.send_replace(true);
        if let Some(bus) = self.bus.upgrade() {
            bus.with(|state, effects| state.settling.abandon(self.id, effects));
        }
        Err(Error::new(ErrorKind::Timeout, format!("{left} published batches had no outcome when the bus was closed")))
    }
}

impl State {
    /// Stores the messages of a batch and confirms them.
    #[inline]
    fn publish(&mut self, batch: &mut Batch, effects: &mut Effects) {
        for index in 0..batch.len() {
            let message = batch.message(index);
            let topic = self.topic(&message.topic);
            let Appended { partition, position, .. } = self.append(topic, message.clone(), effects);
            batch.complete(index, Outcome::Confirmed(receipt(partition, position)));
        }
    }
}

pub(crate) fn receipt(partition: u32, position: u64) -> Receipt {
    Receipt::new(partition, Some(Position::new(position)))
}

impl Out {
    async fn wait_for_none(&self) {
        loop {
            let mut none = std::pin::pin!(self.none.notified());
            none.as_mut().enable();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}
