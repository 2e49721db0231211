//! [`Wakeups`]: who is idle, and how to wake one of them without the executor's lock (a consumer may wake from inside a
//! call that holds it).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Wake, Waker},
};

use atomic_waker::AtomicWaker;

/// At most this many workers, one bit each.
pub(super) const MAX_WORKERS: usize = 64;

/// The workers' wake-ups.
pub(super) struct Wakeups {
    /// The consumer has something to say.
    fill_wanted: AtomicBool,
    /// A bit per worker that has gone, or is about to go, to sleep.
    idle: AtomicU64,
    workers: Vec<Arc<AtomicWaker>>,
}

impl Wakeups {
    pub(super) fn new(workers: usize) -> Self {
        let workers = (0..workers).map(|_| Arc::default()).collect();
        Self { fill_wanted: AtomicBool::new(true), idle: AtomicU64::new(0), workers }
    }

    pub(super) fn worker(&self, index: usize) -> Arc<AtomicWaker> {
        self.workers[index].clone()
    }

    /// Notes that the consumer has something to say. Pairs with [`sleep`](Self::sleep): either the sleeper sees the
    /// note, or this sees the sleeper.
    pub(super) fn fill(&self) {
        self.fill_wanted.store(true, Ordering::SeqCst);
        self.one();
    }

    pub(super) fn take_fill(&self) -> bool {
        self.fill_wanted.load(Ordering::Relaxed) && self.fill_wanted.swap(false, Ordering::SeqCst)
    }

    /// Wakes one idle worker, if there is one; the others look around before they go to sleep.
    pub(super) fn one(&self) {
        let idle = self.idle.load(Ordering::SeqCst);
        if idle != 0 {
            let index = idle.trailing_zeros();
            self.idle.fetch_and(!(1 << index), Ordering::SeqCst);
            self.workers[index as usize].wake();
        }
    }

    pub(super) fn all(&self) {
        for worker in &self.workers {
            worker.wake();
        }
    }

    /// A worker has found nothing to do and may go to sleep.
    pub(super) fn rest(&self, index: usize) {
        self.idle.fetch_or(1 << index, Ordering::SeqCst);
    }

    /// A worker that [rests](Self::rest) is about to sleep; answers `false` if it should look at the consumer first.
    pub(super) fn sleep(&self, index: usize) -> bool {
        if self.fill_wanted.load(Ordering::SeqCst) {
            self.awake(index);
            return false;
        }
        true
    }

    pub(super) fn awake(&self, index: usize) {
        let bit = 1 << index;
        if self.idle.load(Ordering::Relaxed) & bit != 0 {
            self.idle.fetch_and(!bit, Ordering::SeqCst);
        }
    }
}

/// Woken by the consumer: there is something to fill. It holds no more than this, so that a consumer and its executor do
/// not keep each other alive.
impl Wake for Wakeups {
    fn wake(self: Arc<Self>) {
        self.fill();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.fill();
    }
}

/// Which slots of one worker were woken.
pub(super) struct Woken {
    bits: Vec<AtomicU64>,
    worker: Arc<AtomicWaker>,
}

impl Woken {
    pub(super) fn new(slots: usize, worker: Arc<AtomicWaker>) -> Arc<Self> {
        Arc::new(Self { bits: (0..slots.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(), worker })
    }

    /// A waker for each slot.
    pub(super) fn wakers(self: &Arc<Self>, slots: usize) -> Vec<Waker> {
        (0..slots).map(|slot| Waker::from(Arc::new(SlotWaker { woken: self.clone(), slot }))).collect()
    }

    /// Calls `each` with every slot woken since the last call.
    pub(super) fn drain(&self, mut each: impl FnMut(usize)) {
        for (word, bits) in self.bits.iter().enumerate() {
            if bits.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut woken = bits.swap(0, Ordering::Acquire);
            while woken != 0 {
                let bit = woken.trailing_zeros() as usize;
                woken &= woken - 1;
                each(word * 64 + bit);
            }
        }
    }

    pub(super) fn any(&self) -> bool {
        self.bits.iter().any(|bits| bits.load(Ordering::Acquire) != 0)
    }
}

struct SlotWaker {
    woken: Arc<Woken>,
    slot: usize,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.bits[self.slot / 64].fetch_or(1 << (self.slot % 64), Ordering::Release);
        self.woken.worker.wake();
    }
}
