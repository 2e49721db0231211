//! [`Backlog`]: batches that could not go to the client at once, in their order, and the thread that works them off.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use messaging::{Error, ErrorKind, Name, Outcome};
use parking_lot::{Condvar, Mutex};

use crate::{
    outstanding::Slot,
    publisher::{Sender, Stopped},
};

/// How long to wait before a full queue, or a broker that did not answer, is tried again.
const AGAIN: Duration = Duration::from_millis(5);
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Batches that wait, each with the message at which it goes on.
#[derive(Default)]
pub(crate) struct Backlog {
    waiting: Mutex<VecDeque<(Slot, usize)>>,
    wake: Condvar,
}

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }

    pub(crate) fn push(&self, slot: Slot, next: usize) {
        self.waiting.lock().push_back((slot, next));
        self.wake.notify_one();
    }

    pub(crate) fn wake(&self) {
        // Under the lock, so that it does not fall between a look and the sleep that follows.
        let _waiting = self.waiting.lock();
        self.wake.notify_one();
    }

    fn first(&self) -> Option<(Slot, usize)> {
        self.waiting.lock().front().copied()
    }

    /// The first batch has got to `next`.
    fn advance(&self, next: usize) {
        if let Some(first) = self.waiting.lock().front_mut() {
            first.1 = next;
        }
    }

    fn remove_first(&self) {
        self.waiting.lock().pop_front();
    }

    fn sleep(&self, limit: Duration) {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() {
            self.wake.wait_for(&mut waiting, limit);
        }
    }
}

impl Sender {
    /// The backlog's thread: sends what waits, learns topics.
    pub(crate) fn work_off(&self) {
        loop {
            if self.has_ended() {
                return;
            }
            match self.backlog.first() {
                Some((slot, next)) => self.advance(slot, next),
                None if self.closing().is_some() => self.backlog.sleep(AGAIN),
                None => {
                    self.refresh();
                    self.backlog.sleep(self.admin.config().metadata_refresh);
                }
            }
        }
    }

    /// Brings the first waiting batch as far as it goes.
    fn advance(&self, slot: Slot, from: usize) {
        let mut next = from;
        let mut answered = Vec::new();
        let stopped = {
            let mut state = self.lock();
            let stopped = self.enqueue(&mut state, slot, &mut next, &mut answered);
            match stopped {
                Stopped::Done => self.backlog.remove_first(),
                Stopped::Full | Stopped::UnknownTopic(_) => self.backlog.advance(next),
            }
            stopped
        };
        drop(answered);
        let expired = || self.age(slot) >= self.deadline;
        match stopped {
            Stopped::Done => {}
            Stopped::Full if expired() => self.give_up(slot, next, || timed_out("the queue to the broker was full")),
            Stopped::Full => std::thread::sleep(AGAIN),
            Stopped::UnknownTopic(topic) => match self.learn(&topic) {
                Ok(()) => {}
                Err(error) if error.is_transient() && !expired() => std::thread::sleep(ASK_AGAIN),
                Err(error) if error.is_transient() => {
                    self.give_up(slot, next, || timed_out("the broker did not tell the topic's partitions"));
                }
                Err(error) => self.skip(slot, next, &error),
            },
        }
    }

    /// The first batch's time is up: what it has left was never sent.
    fn give_up(&self, slot: Slot, next: usize, outcome: impl Fn() -> Outcome) {
        {
            let _order = self.lock();
            self.backlog.remove_first();
        }
        self.refuse_rest(slot, next, outcome);
    }

    /// One message's topic cannot be published to; the rest of the batch goes on.
    fn skip(&self, slot: Slot, next: usize, error: &Error) {
        let reason = Outcome::Rejected(Error::new(ErrorKind::Rejected, error.to_string()));
        let answered = {
            let _order = self.lock();
            let last = next + 1 >= self.len(slot);
            let answered = self.refuse_one(slot, next, reason);
            if last {
                self.backlog.remove_first();
            } else {
                self.backlog.advance(next + 1);
            }
            answered
        };
        drop(answered);
    }

    /// Asks the broker for a topic, and makes it if it is missing and may be made.
    fn learn(&self, topic: &Name) -> Result<(), Error> {
        let layout = self.admin.partitions_or_create(topic)?;
        if let Some(most) = self.admin.max_bytes_of(topic) {
            self.batch_at_most(most)?;
        }
        self.lock().topics.learn(topic, layout);
        Ok(())
    }

    /// Asks for new partitions of topics in use.
    fn refresh(&self) {
        let before = Instant::now().checked_sub(self.admin.config().metadata_refresh);
        while let Some(topic) = before.and_then(|before| self.lock().topics.stale(before)) {
            match self.admin.partitions_of(&topic) {
                Ok(Some(layout)) => self.lock().topics.learn(&topic, layout),
                Ok(None) => self.lock().topics.forget(&topic),
                Err(_) => self.lock().topics.put_off(&topic),
            }
        }
    }
}

fn timed_out(what: &str) -> Outcome {
    Outcome::Rejected(Error::new(ErrorKind::Timeout, format!("not sent within the publish deadline: {what}")))
}
