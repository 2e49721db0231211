//! One partition's assignment inside the engine, and the settlement of what was finished on it.

use super::tracker::Tracker;
use crate::{delivery::Position, time::Tick};

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) phase: Phase,
    pub(super) epoch: u64,
    /// Its number in the topic.
    pub(super) number: u32,
    /// What its topic is called by in every start.
    pub(super) topic: u32,
    pub(super) valid_until: Option<Tick>,
    pub(super) tracker: Tracker,
    /// Starts that are out.
    pub(super) running: u32,
    /// Deliveries held by failures of infrastructure; while there are some, intake pauses.
    pub(super) troubled: u32,
    /// Ready deliveries, as (sequence, index), that wait for the assignment to be renewed.
    pub(super) gated: Vec<(u64, u32)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Assigned,
    /// Being given up; `cancelled` once the deadline has passed.
    Revoking {
        deadline: Tick,
        cancelled: bool,
    },
    /// Taken away; kept until its last start has ended.
    Lost,
    /// The handle may be used again.
    Free,
}

impl Phase {
    /// Assigned, or revoked and not yet released.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self, Self::Assigned | Self::Revoking { .. })
    }
}

impl Partition {
    pub(super) fn new(epoch: u64, number: u32, topic: u32) -> Self {
        Self {
            phase: Phase::Assigned,
            epoch,
            number,
            topic,
            valid_until: None,
            tracker: Tracker::default(),
            running: 0,
            troubled: 0,
            gated: Vec::new(),
        }
    }
}

/// One partition's newly finished deliveries.
#[derive(Debug)]
pub(crate) struct Settled<'a> {
    pub(crate) partition: u32,
    pub(crate) epoch: u64,
    pub(crate) finished: &'a [Position],
    pub(crate) through: Option<Position>,
}

/// Walks over the partitions with something to settle; what was handed out counts as settled.
pub(crate) struct Settlements<'a> {
    partitions: &'a mut [Partition],
    dirty: &'a mut Vec<u32>,
}

impl<'a> Settlements<'a> {
    pub(super) fn new(partitions: &'a mut [Partition], dirty: &'a mut Vec<u32>) -> Self {
        Self { partitions, dirty }
    }

    pub(crate) fn each(self, mut settle: impl FnMut(Settled<'_>)) {
        for partition in self.dirty.drain(..) {
            let state = &mut self.partitions[partition as usize];
            settle(Settled {
                partition,
                epoch: state.epoch,
                finished: state.tracker.finished(),
                through: state.tracker.through(),
            });
            state.tracker.clear_finished();
        }
    }
}
