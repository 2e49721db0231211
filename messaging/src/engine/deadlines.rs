//! What is due at a time, and when something is due next.

use std::cmp::Reverse;

use super::{
    Engine,
    partitions::{Partition, Phase},
    seeded::Bug,
    window::State,
};
use crate::time::Tick;

impl<T: Clone, N> Engine<T, N> {
    /// Makes ready what was parked until `now` or before, and cancels what a revocation's deadline has overtaken.
    pub(crate) fn advance(&mut self, now: Tick) {
        while let Some(Reverse((until, seq, index))) = self.parked.peek().copied() {
            if until > now {
                break;
            }
            self.parked.pop();
            self.unpark(index, seq);
        }
        for partition in 0..self.partitions.len() {
            let state = &mut self.partitions[partition];
            if let Phase::Revoking { deadline, cancelled } = &mut state.phase
                && *deadline <= now
                && !std::mem::replace(cancelled, true)
            {
                if Bug::NeverCancels.is_on() {
                    continue;
                }
                self.cancels.extend(self.window.running(partition as u32).map(|(id, _)| id));
            }
        }
        let ahead = |state: &Partition| matches!(state.phase, Phase::Revoking { cancelled: false, .. });
        self.revoking = self.partitions.iter().any(ahead);
        self.relieve_crowding();
    }

    /// When [`advance`](Self::advance) has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Tick> {
        if self.crowding_is_due() {
            return Some(Tick::default());
        }
        let parked = self.parked.peek().map(|Reverse((until, ..))| *until);
        if !self.revoking {
            return parked;
        }
        let revoking = self.partitions.iter().filter_map(|state| match state.phase {
            Phase::Revoking { deadline, cancelled: false } => Some(deadline),
            _ => None,
        });
        parked.into_iter().chain(revoking).min()
    }

    pub(super) fn unpark(&mut self, index: u32, seq: u64) {
        if let Some(entry) = self.window.get_mut(index, seq).filter(|entry| entry.state == State::Parked) {
            entry.state = State::Ready;
            self.window.requeue(index, seq);
        }
    }
}
