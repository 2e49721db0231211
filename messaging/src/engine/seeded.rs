//! [`Bug`]: faults that the engine's tests switch on, one at a time, to show that they would be found.
//!
//! Outside of tests none is ever on: the compiler removes every trace of them.

use super::window::Entry;

/// A fault, consulted where a mistake would make it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bug {
    /// What was dropped or given up counts as finished.
    SettlesEarly,
    /// What was finished is settled although the partition is another's.
    SettlesWhenLost,
    /// What is given back is never handed out again.
    LosesOne,
    /// A delivery overtakes the one before it in its lane.
    SwapsTwo,
    /// A start whose partition was lost no longer holds its lane.
    OverlapsLane,
    /// A start without a key is forgotten once its partition was lost.
    OverlapsKeyless,
    /// What waits on a revoked partition stays.
    IgnoresRevoke,
    /// A start at the very end of the validity counts as in time.
    StartsStale,
    /// Dropping one partition's parked deliveries loses the others' times.
    ForgetsParked,
    /// A head that crowds already as it is parked asks for no look.
    OverlooksCrowd,
    /// A crowding head is woken, and keeps its time as well.
    WakesTwice,
    /// Only the window's bound is heeded.
    ExceedsSpan,
    /// A partition is drained although one start of it is still out.
    DrainsEarly,
    /// What runs on a revoked partition is never told to end.
    NeverCancels,
    /// What is ready since its arrival goes before what has become ready.
    StartsYounger,
}

impl Bug {
    #[cfg(not(test))]
    #[inline(always)]
    pub(super) const fn is_on(self) -> bool {
        false
    }

    #[cfg(test)]
    pub(super) fn is_on(self) -> bool {
        ON.get() == Some(self)
    }

    /// Does something with this bug in this thread's engines.
    #[cfg(test)]
    pub(super) fn during<R>(self, act: impl FnOnce() -> R) -> R {
        ON.set(Some(self));
        let result = act();
        ON.set(None);
        result
    }
}

impl<T, N> Entry<T, N> {
    /// What [`Bug::SwapsTwo`] does.
    pub(super) fn trade_places(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.item, &mut other.item);
        std::mem::swap(&mut self.position, &mut other.position);
        std::mem::swap(&mut self.ordinal, &mut other.ordinal);
        std::mem::swap(&mut self.past, &mut other.past);
    }
}

#[cfg(test)]
thread_local! {
    static ON: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}
