//! [`Effects`]: what has to happen after the bus's lock was let go: wakers run and batches end outside of it.

use std::task::Waker;

use messaging::Batch;

#[derive(Default)]
pub(crate) struct Effects {
    /// Most calls wake one consumer, if any: no allocation for that.
    first: Option<Waker>,
    more: Option<Box<More>>,
    idle: bool,
}

#[derive(Default)]
struct More {
    wakers: Vec<Waker>,
    batches: Vec<Batch>,
}

impl Effects {
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        match waker {
            Some(waker) if self.first.is_some() => self.more.get_or_insert_default().wakers.push(waker),
            Some(waker) => self.first = Some(waker),
            None => {}
        }
    }

    /// Lets a batch end: the publisher's front may send the next one from there.
    pub(crate) fn end(&mut self, batch: Batch) {
        self.more.get_or_insert_default().batches.push(batch);
    }

    /// Nothing is pending any more, if `idle`.
    #[inline]
    pub(crate) fn settled(&mut self, idle: bool) {
        self.idle |= idle;
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.idle
    }

    #[inline]
    pub(crate) fn run(self) {
        if self.first.is_some() || self.more.is_some() {
            self.run_all();
        }
    }

    #[inline(never)]
    fn run_all(self) {
        if let Some(waker) = self.first {
            waker.wake();
        }
        if let Some(more) = self.more {
            more.wakers.into_iter().for_each(Waker::wake);
        }
    }
}
