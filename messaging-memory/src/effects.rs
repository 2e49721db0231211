//! [`Effects`]: what has to happen after the bus's lock was let go: wakers run and batches end outside of it.

use std::task::Waker;

use messaging::Batch;

#[derive(Default)]
pub(crate) struct Effects {
    /// Most calls wake one consumer: no allocation for that.
    first: Option<Waker>,
    more: Vec<Waker>,
    batches: Vec<Batch>,
    /// Nothing is pending any more.
    idle: bool,
    /// Whether there is anything to do; mostly there is not.
    pub(crate) any: bool,
}

impl Effects {
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        self.any |= waker.is_some();
        match waker {
            Some(waker) if self.first.is_none() => self.first = Some(waker),
            waker => self.more.extend(waker),
        }
    }

    /// Lets a batch end: the publisher's front may send the next one from there.
    pub(crate) fn end(&mut self, batch: Batch) {
        self.any = true;
        self.batches.push(batch);
    }

    /// Nothing is pending any more, if `idle`.
    #[inline]
    pub(crate) fn settled(&mut self, idle: bool) {
        self.idle |= idle;
        self.any |= idle;
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.idle
    }

    pub(crate) fn run(self) {
        if let Some(waker) = self.first {
            waker.wake();
        }
        self.more.into_iter().for_each(Waker::wake);
        drop(self.batches);
    }
}
