//! Crowding: parked heads that are woken early because what waits behind them fills half a bound.

use std::cmp::Reverse;

use super::{Engine, seeded::Bug, window::State};

impl<T: Clone, N> Engine<T, N> {
    /// Whether parked heads are to be looked at. Looking walks lanes, so it waits until the window has taken in a
    /// sixteenth of a bound since the last look: a window that takes nothing in keeps nobody waiting.
    pub(super) fn crowding_is_due(&self) -> bool {
        !self.parked.is_empty() && self.window.pushed() >= self.crowd_check
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
        let half_window = self.limits.in_flight.div_ceil(2);
        let half_span = self.limits.span.div_ceil(2);
        let fullest = self.partitions.iter().map(|state| state.tracker.span()).max().unwrap_or(0);
        if self.window.len() <= half_window && fullest <= half_span {
            return;
        }
        let (window, partitions) = (&self.window, &self.partitions);
        let mut crowding = Vec::new();
        self.parked.retain(|Reverse((_, seq, index))| {
            let crowds = window.get(*index, *seq).is_some_and(|entry| {
                let tracker = &partitions[entry.partition as usize].tracker;
                entry.state == State::Parked
                    && !entry.troubled
                    && (window.has_behind(*index, half_window) || tracker.span_from(entry.ordinal) > half_span)
            });
            if crowds {
                crowding.push((*index, *seq));
            }
            !crowds || Bug::WakesTwice.is_on()
        });
        for (index, seq) in crowding {
            self.window.entry_mut(index).past.get_or_insert_default().crowded = true;
            self.unpark(index, seq);
        }
    }
}
