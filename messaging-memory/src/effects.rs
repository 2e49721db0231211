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
    pub(crate) idle: bool,
}

impl Effects {
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        match waker {
            Some(waker) if self.first.is_none() => self.first = Some(waker),
            waker => self.more.extend(waker),
        }
    }

    /// Lets a batch end: the publisher's front may send the next one from there.
    pub(crate) fn end(&mut self, batch: Batch) {
        self.batches.push(batch);
    }

    #[inline]
    pub(crate) fn run(self) {
        if let Some(waker) = self.first {
            waker.wake();
        }
        self.more.into_iter().for_each(Waker::wake);
        drop(self.batches);
    }
}
