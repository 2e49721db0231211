//! [`Outstanding`]: the batches that are with the client, found again by the number that each of their messages carries
//! through librdkafka.

use std::{sync::Arc, time::Instant};

use messaging::{Batch, Message, Outcome, Receipt};
use parking_lot::Mutex;
use rdkafka::{error::KafkaError, message::Message as _, producer::DeliveryResult};

use crate::outcome;

/// One batch, from its hand-over to its last answer.
pub(crate) struct Sent {
    batch: Batch,
    unanswered: usize,
    handed_over: Instant,
    /// Messages that ended without a confirm: later ones of their keys are held back.
    unconfirmed: Vec<usize>,
}

/// A batch that has all its answers; to be dropped where no lock is held, since that lets the next one in.
#[must_use]
pub(crate) struct Answered(#[expect(dead_code, reason = "held for its drop")] Option<Batch>);

impl Sent {
    pub(crate) fn len(&self) -> usize {
        self.batch.len()
    }

    pub(crate) fn message(&self, index: usize) -> &Arc<Message> {
        self.batch.message(index)
    }

    /// The client has copied a message.
    pub(crate) fn release(&mut self, index: usize) {
        self.batch.release(index);
    }

    pub(crate) fn age(&self) -> std::time::Duration {
        self.handed_over.elapsed()
    }

    /// Whether an earlier message of this one's key ended without a confirm.
    pub(crate) fn follows_unconfirmed(&self, index: usize) -> bool {
        let message = self.batch.message(index);
        message.key.is_some()
            && self.unconfirmed.iter().any(|earlier| {
                let earlier = self.batch.message(*earlier);
                earlier.key == message.key && earlier.topic == message.topic
            })
    }

    /// Answers a message.
    pub(crate) fn answer(&mut self, index: usize, outcome: Outcome) {
        if !matches!(outcome, Outcome::Confirmed(_)) {
            self.unconfirmed.push(index);
        }
        self.batch.complete(index, outcome);
        self.unanswered -= 1;
    }
}

/// Names a batch that is with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u32);

/// All batches that are with the client.
#[derive(Default)]
pub(crate) struct Outstanding {
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    sent: Vec<Option<Arc<Mutex<Option<Sent>>>>>,
    free: Vec<u32>,
}

impl Outstanding {
    /// Takes a batch in.
    pub(crate) fn insert(&self, batch: Batch) -> Slot {
        let unanswered = batch.len();
        let sent = Sent { batch, unanswered, handed_over: Instant::now(), unconfirmed: Vec::new() };
        let sent = Some(Arc::new(Mutex::new(Some(sent))));
        let mut slots = self.slots.lock();
        match slots.free.pop() {
            Some(slot) => {
                slots.sent[slot as usize] = sent;
                Slot(slot)
            }
            None => {
                slots.sent.push(sent);
                Slot(slots.sent.len() as u32 - 1)
            }
        }
    }

    /// The number that a message carries through the client.
    pub(crate) fn opaque(slot: Slot, index: usize) -> usize {
        ((slot.0 as usize) << 32) | index
    }

    /// Works on a batch; gives it back if it has all its answers then.
    pub(crate) fn with<R>(&self, slot: Slot, work: impl FnOnce(&mut Sent) -> R) -> (Option<R>, Answered) {
        let cell = self.slots.lock().sent.get(slot.0 as usize).cloned().flatten();
        let Some(cell) = cell else { return (None, Answered(None)) };
        let mut guard = cell.lock();
        let Some(sent) = guard.as_mut() else { return (None, Answered(None)) };
        let result = work(sent);
        if sent.unanswered > 0 {
            return (Some(result), Answered(None));
        }
        let batch = guard.take().map(|sent| sent.batch);
        drop(guard);
        let mut slots = self.slots.lock();
        slots.sent[slot.0 as usize] = None;
        slots.free.push(slot.0);
        (Some(result), Answered(batch))
    }

    /// The client's answer to one message.
    pub(crate) fn delivered(&self, opaque: usize, result: &DeliveryResult<'_>) {
        let (slot, index) = (Slot((opaque >> 32) as u32), opaque & 0xffff_ffff);
        let (_, answered) = self.with(slot, |sent| {
            let outcome = match result {
                Ok(message) => {
                    let position = u64::try_from(message.offset()).ok().map(messaging::Position::new);
                    Outcome::Confirmed(Receipt::new(message.partition().unsigned_abs(), position))
                }
                Err((error, _)) => Self::failed(sent, index, error),
            };
            sent.answer(index, outcome);
        });
        drop(answered);
    }

    fn failed(sent: &Sent, index: usize, error: &KafkaError) -> Outcome {
        outcome::failed(&sent.message(index).topic, error, sent.age())
    }

    /// Whether every batch has its answers.
    pub(crate) fn is_empty(&self) -> bool {
        let slots = self.slots.lock();
        slots.free.len() == slots.sent.len()
    }

    /// Gives up every batch: what has no answer is unknown.
    pub(crate) fn abandon(&self) {
        let cells: Vec<_> = self.slots.lock().sent.iter().flatten().cloned().collect();
        for cell in cells {
            // Taken under its lock, dropped outside: ending a batch may hand the next one in.
            let sent = cell.lock().take();
            drop(sent);
        }
        *self.slots.lock() = Slots::default();
    }
}
