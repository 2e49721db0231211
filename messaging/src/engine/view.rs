//! What the engine can be asked.

use std::cmp::Reverse;

use super::{Engine, EntryId, partitions::Phase, seeded::Bug, window::State};
use crate::{delivery::Position, time::Tick};

impl<T: Clone, N> Engine<T, N> {
    /// How many deliveries of this partition may be pushed now.
    pub(crate) fn credit(&self, partition: u32) -> usize {
        let Some(state) = self.partitions.get(partition as usize) else { return 0 };
        if self.closed
            || state.phase != Phase::Assigned
            || state.troubled > 0
            || self.window.bytes() >= self.limits.bytes
        {
            return 0;
        }
        let span = if Bug::ExceedsSpan.is_on() { 0 } else { state.tracker.span() };
        self.limits.in_flight.saturating_sub(self.window.len()).min(self.limits.span.saturating_sub(span))
    }

    /// The item of a start that is out and its partition, unless that was lost.
    pub(crate) fn held(&self, id: EntryId) -> Option<(&T, u32)> {
        let entry = self.window.get(id.index, id.seq)?;
        let state = &self.partitions[entry.partition as usize];
        entry.item.as_ref().filter(|_| state.phase.is_ours()).map(|item| (item, entry.partition))
    }

    /// The item of a start that is out, unless its partition was lost.
    pub(crate) fn item(&self, id: EntryId) -> Option<&T> {
        self.held(id).map(|(item, _)| item)
    }

    /// Whether a start is still out.
    pub(crate) fn is_running(&self, id: EntryId) -> bool {
        self.window.get(id.index, id.seq).is_some_and(|entry| entry.state == State::Running)
    }

    /// How many deliveries may start now, as far as their lanes go.
    #[inline]
    pub(crate) fn ready(&self) -> usize {
        self.window.ready()
    }

    /// How many deliveries are in the window.
    #[inline]
    pub(crate) fn in_flight(&self) -> usize {
        self.window.len()
    }

    /// Whether intake is worth while: the window is less than half full, or nothing in it may start.
    #[inline]
    pub(crate) fn is_hungry(&self) -> bool {
        let len = self.window.len();
        !self.closed && (len * 2 <= self.limits.in_flight || (self.window.ready() == 0 && len < self.limits.in_flight))
    }

    /// From now on nothing more is taken in, or it is again: what waits behind a parked head does not grow meanwhile.
    pub(crate) fn close_intake(&mut self, closed: bool) {
        self.closed = closed;
    }

    /// Whether any partition is held: assigned, or revoked and not yet released.
    pub(crate) fn holds_partitions(&self) -> bool {
        self.partitions.iter().any(|state| state.phase.is_ours())
    }

    /// The items that are parked, with when they are due.
    pub(crate) fn parked(&self) -> impl Iterator<Item = (&T, u32, Position, Tick)> {
        self.parked.iter().filter_map(|Reverse((until, seq, index))| {
            let entry = self.window.get(*index, *seq).filter(|entry| entry.state == State::Parked)?;
            Some((entry.item.as_ref()?, entry.partition, entry.position, *until))
        })
    }

    /// The items whose handlers run.
    pub(crate) fn running(&self) -> impl Iterator<Item = (&T, u32, Position)> {
        self.window
            .iter()
            .filter(|entry| entry.state == State::Running)
            .filter_map(|entry| Some((entry.item.as_ref()?, entry.partition, entry.position)))
    }
}

#[cfg(test)]
impl<T, N> Engine<T, N> {
    /// Whether nothing is held at all, not even by a ticket that has gone stale.
    pub(super) fn is_blank(&self) -> bool {
        self.window.is_blank(self.limits.in_flight)
            && self.parked.is_empty()
            && self.dirty.is_empty()
            && self.cancels.is_empty()
            && self.drained.is_empty()
            && self.orphans.is_blank()
            && self.partitions.iter().all(|state| state.phase == Phase::Free && state.gated.is_empty())
    }
}

impl<T, N> std::fmt::Debug for Engine<T, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("in_flight", &self.window.len()).field("parked", &self.parked.len()).finish()
    }
}
