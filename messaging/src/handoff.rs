//! Hands batches from a backend's own thread or task to [`Consumer::poll_fill`](crate::Consumer::poll_fill): a `Vec`
//! swapped under a mutex.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

struct Slot<T> {
    items: Vec<T>,
    waker: Option<Waker>,
    sender_gone: bool,
}

/// The backend's end.
#[derive(Debug)]
pub struct Sender<T>(Arc<Mutex<Slot<T>>>);

/// The consumer's end.
#[derive(Debug)]
pub struct Receiver<T>(Arc<Mutex<Slot<T>>>);

/// Two ends of a hand-off. It has no bound of its own: credit bounds what a backend fetches.
#[must_use]
pub fn handoff<T>() -> (Sender<T>, Receiver<T>) {
    let slot = Arc::new(Mutex::new(Slot { items: Vec::new(), waker: None, sender_gone: false }));
    (Sender(slot.clone()), Receiver(slot))
}

impl<T> Sender<T> {
    /// Hands over everything in `batch`, which is left empty, and wakes the consumer.
    pub fn send(&self, batch: &mut Vec<T>) {
        if batch.is_empty() {
            return;
        }
        let mut slot = self.0.lock();
        if slot.items.is_empty() {
            std::mem::swap(&mut slot.items, batch);
        } else {
            slot.items.append(batch);
        }
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Hands over one item and wakes the consumer.
    pub fn send_one(&self, item: T) {
        let mut slot = self.0.lock();
        slot.items.push(item);
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut slot = self.0.lock();
        slot.sender_gone = true;
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// Swaps what there is into `batch`, which must be empty. `Ready(false)` when the sender has gone and nothing is
    /// left; `Pending` after registering the waker when there is nothing yet.
    pub fn poll_swap(&self, cx: &mut Context<'_>, batch: &mut Vec<T>) -> Poll<bool> {
        debug_assert!(batch.is_empty(), "what is in the batch would be swapped away");
        let mut slot = self.0.lock();
        if !slot.items.is_empty() {
            std::mem::swap(&mut slot.items, batch);
            return Poll::Ready(true);
        }
        if slot.sender_gone {
            return Poll::Ready(false);
        }
        match &mut slot.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => slot.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl<T> std::fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("items", &self.items.len()).finish_non_exhaustive()
    }
}
