//! Crowding: parked heads that are woken early because what waits behind them fills half a bound.

use std::cmp::Reverse;

use super::{Engine, seeded::Bug, window::State};

/// Fewer behind a parked head are no crowd, however small a bound is. A small one is set for the sake of order or of what
/// a message weighs: there a head has all its retries.
const SMALLEST_CROWD: usize = 16;

/// How many behind a parked head are a crowd: half a bound.
const fn crowd(bound: usize) -> usize {
    let half = bound.div_ceil(2);
    if half < SMALLEST_CROWD { SMALLEST_CROWD } else { half }
}

impl<T: Clone, N> Engine<T, N> {
    /// Whether parked heads are to be looked at. Looking walks lanes, so it waits until the window has taken in a
    /// sixteenth of a bound since the last look. What fills up before a head is parked is seen as it is
    /// [parked](Self::look_if_it_crowds): a full window takes nothing in any more.
    pub(super) fn crowding_is_due(&self) -> bool {
        !self.parked.is_empty() && self.window.pushed() >= self.crowd_check
    }

    /// Asks for a look at once if a head that was just parked crowds already.
    pub(super) fn look_if_it_crowds(&mut self, index: u32, seq: u64) {
        if self.crowds(index, seq) && !Bug::OverlooksCrowd.is_on() {
            self.crowd_check = self.window.pushed();
        }
    }

    /// Whether it is a head parked by a failure of its own, with a crowd behind it.
    fn crowds(&self, index: u32, seq: u64) -> bool {
        self.window.get(index, seq).is_some_and(|entry| {
            let tracker = &self.partitions[entry.partition as usize].tracker;
            entry.state == State::Parked
                && !entry.troubled
                && (self.window.has_behind(index, crowd(self.limits.in_flight))
                    || tracker.span_from(entry.ordinal) > crowd(self.limits.span))
        })
    }

    pub(super) fn postpone_crowding(&mut self) {
        let sixteenth = self.limits.in_flight.min(self.limits.span) / 16;
        self.crowd_check = self.window.pushed() + sixteenth.max(1) as u64;
    }

    /// Wakes the parked heads that hold up half a bound, to be dead-lettered.
    pub(super) fn relieve_crowding(&mut self) {
        if !self.crowding_is_due() {
            return;
        }
        self.postpone_crowding();
        let fullest = self.partitions.iter().map(|state| state.tracker.span()).max().unwrap_or(0);
        if self.window.len() <= crowd(self.limits.in_flight) && fullest <= crowd(self.limits.span) {
            return;
        }
        let mut parked = std::mem::take(&mut self.parked);
        let mut crowding = Vec::new();
        parked.retain(|Reverse((_, seq, index))| {
            let crowds = self.crowds(*index, *seq);
            if crowds {
                crowding.push((*index, *seq));
            }
            !crowds || Bug::WakesTwice.is_on()
        });
        self.parked = parked;
        for (index, seq) in crowding {
            self.window.entry_mut(index).past.get_or_insert_default().crowded = true;
            self.unpark(index, seq);
        }
    }
}
