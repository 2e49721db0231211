//! The life of a partition here: assigned, renewed, then revoked and drained, or lost.

use std::cmp::Reverse;

use super::{
    Engine, EntryId,
    orphans::Place,
    partitions::{Partition, Phase, Settlements},
    seeded::Bug,
    window::State,
};
use crate::time::Tick;

impl<T: Clone, N> Engine<T, N> {
    /// The partition of this number in its topic is ours under `epoch`; every start of it says `topic`. Answers the
    /// handle under which everything about it is said from now on.
    pub(crate) fn assign(&mut self, number: u32, epoch: u64, topic: u32) -> u32 {
        let partition = Partition::new(epoch, number, topic);
        match self.partitions.iter().position(|partition| partition.phase == Phase::Free) {
            Some(index) => {
                self.partitions[index] = partition;
                index as u32
            }
            None => {
                self.partitions.push(partition);
                self.partitions.len() as u32 - 1
            }
        }
    }

    /// Nothing of the partition starts at or after this time, until it is renewed.
    pub(crate) fn renew(&mut self, partition: u32, valid_until: Tick) {
        let Some(state) = self.partitions.get_mut(partition as usize) else { return };
        state.valid_until = Some(valid_until);
        for (seq, index) in std::mem::take(&mut state.gated) {
            self.window.requeue(index, seq);
        }
    }

    /// A live owner gives the partition up: nothing of it starts any more, what is parked or waiting is dropped, what
    /// runs may finish until `deadline`. When none runs any more it is [`drained`](Self::drained).
    pub(crate) fn revoke(&mut self, partition: u32, deadline: Tick) {
        let Some(state) = self.partitions.get_mut(partition as usize) else { return };
        match &mut state.phase {
            Phase::Assigned => {
                state.phase = Phase::Revoking { deadline, cancelled: false };
                self.revoking = true;
                if !Bug::IgnoresRevoke.is_on() {
                    self.drop_waiting(partition);
                }
                if self.partitions[partition as usize].running == 0 {
                    self.drained.push(partition);
                }
            }
            Phase::Revoking { deadline: earlier, .. } => *earlier = deadline.min(*earlier),
            Phase::Lost | Phase::Free => {}
        }
    }

    /// The partition is somebody else's already: nothing of it starts, what runs is cancelled, nothing is settled.
    pub(crate) fn lose(&mut self, partition: u32) {
        let Some(state) = self.partitions.get_mut(partition as usize) else { return };
        if !state.phase.is_ours() {
            return;
        }
        state.phase = Phase::Lost;
        self.dirty.retain(|dirty| *dirty != partition);
        self.drained.retain(|drained| *drained != partition);
        self.drop_waiting(partition);
        let state = &mut self.partitions[partition as usize];
        if state.running == 0 {
            state.phase = Phase::Free;
        }
        for (id, entry) in self.window.running(partition) {
            self.cancels.push(id);
            if !Bug::OverlapsKeyless.is_on() {
                self.orphans.add(id, Place { number: state.number, position: entry.position });
            }
        }
    }

    /// Deliveries whose futures are to be dropped and then finished as [`Verdict::Dropped`].
    pub(crate) fn cancels(&mut self) -> std::vec::Drain<'_, EntryId> {
        self.cancels.drain(..)
    }

    /// What was finished since the last call, a partition at a time.
    pub(crate) fn settlements(&mut self) -> Settlements<'_> {
        Settlements::new(&mut self.partitions, &mut self.dirty)
    }

    /// A revoked partition on which nothing runs any more; after its last settlement it can be released, and its
    /// handle is free.
    pub(crate) fn drained(&mut self) -> Option<u32> {
        debug_assert!(self.drained.is_empty() || self.dirty.is_empty(), "settle before releasing");
        let partition = self.drained.pop()?;
        self.partitions[partition as usize].phase = Phase::Free;
        Some(partition)
    }

    /// Every partition that is assigned, to stop.
    pub(crate) fn revoke_all(&mut self, deadline: Tick) {
        for partition in 0..self.partitions.len() as u32 {
            self.revoke(partition, deadline);
        }
    }

    /// Drops what does not run, and every ticket of it: a stale one would ask for a look in vain.
    fn drop_waiting(&mut self, partition: u32) {
        self.partitions[partition as usize].gated.clear();
        self.window.drop_waiting(partition);
        let window = &self.window;
        self.orphans.retain_waiting(|id| window.get(id.index, id.seq).is_some());
        self.parked.retain(|Reverse((_, seq, index))| {
            window.get(*index, *seq).is_some_and(|entry| entry.state == State::Parked && !Bug::ForgetsParked.is_on())
        });
    }
}
