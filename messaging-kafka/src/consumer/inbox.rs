//! [`Inbox`]: what the executor tells the pump: finished deliveries, released partitions, the close.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::Thread,
};

use parking_lot::Mutex;

/// Names one tenure of a partition: a slot, used again, and the epoch that tells its users apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TenureId {
    pub(super) slot: u32,
    pub(super) epoch: u64,
}

/// What the executor tells the pump, in its order.
#[derive(Debug, Default)]
pub(super) struct Letters {
    /// Finished deliveries.
    pub(super) finished: Vec<(TenureId, u64)>,
    /// Partitions on which nothing runs any more; to be looked at after the finished ones.
    pub(super) released: Vec<TenureId>,
    /// Take nothing up any more.
    pub(super) closing: bool,
    /// Leave the group and end.
    pub(super) close: bool,
}

/// The pump's letter box.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    letters: Mutex<Letters>,
    /// The pump will look soon without being woken.
    attentive: AtomicBool,
    pump: OnceLock<Thread>,
}

impl Inbox {
    /// Lets the current thread be woken by what arrives.
    pub(super) fn attend(&self) {
        // One pump attends an inbox, once.
        let _ = self.pump.set(std::thread::current());
    }

    /// Wakes the pump, or keeps it from going to sleep.
    pub(super) fn wake(&self) {
        if let Some(pump) = self.pump.get() {
            pump.unpark();
        }
    }

    /// Notes finished deliveries.
    pub(super) fn finished(&self, tenure: TenureId, offsets: impl Iterator<Item = u64>) {
        self.letters.lock().finished.extend(offsets.map(|offset| (tenure, offset)));
        if !self.attentive.swap(true, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// The pump goes to sleep, to look again soon by itself or only when it is woken. Answers whether it may:
    /// not if there is something to look at already.
    pub(super) fn may_sleep(&self, soon: bool) -> bool {
        self.attentive.store(soon, Ordering::SeqCst);
        soon || self.letters.lock().finished.is_empty()
    }

    pub(super) fn release(&self, tenure: TenureId) {
        self.letters.lock().released.push(tenure);
        self.wake();
    }

    pub(super) fn begin_close(&self) {
        self.letters.lock().closing = true;
    }

    pub(super) fn close(&self) {
        self.letters.lock().close = true;
        self.wake();
    }

    /// Swaps what has arrived into `letters`, which is emptied.
    pub(super) fn take(&self, letters: &mut Letters) {
        letters.finished.clear();
        letters.released.clear();
        let mut arrived = self.letters.lock();
        std::mem::swap(&mut *arrived, letters);
        (arrived.closing, arrived.close) = (letters.closing, letters.close);
    }
}
