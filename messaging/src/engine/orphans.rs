//! [`Orphans`]: starts that are still out although their partition was lost, and the deliveries that wait for them.
//!
//! A start with a key holds its lane, whatever becomes of its partition. One without a key has no lane, but its message
//! may be handed over again under the next assignment: that delivery waits here until the start has ended. Two topics
//! may have a partition of one number; a delivery may then wait for a start of the other topic, and no more than wait.

use super::EntryId;
use crate::delivery::Position;

#[derive(Debug, Default)]
pub(super) struct Orphans {
    running: Vec<(EntryId, Place)>,
    waiting: Vec<(EntryId, Place)>,
}

/// Where a message stands: a partition's number in its topic, and the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) number: u32,
    pub(super) position: Position,
}

impl Orphans {
    /// Whether an orphan may be running the message at this place.
    #[inline]
    pub(super) fn run(&self, place: Place) -> bool {
        self.running.iter().any(|(_, running)| *running == place)
    }

    pub(super) fn add(&mut self, id: EntryId, place: Place) {
        self.running.push((id, place));
    }

    pub(super) fn wait(&mut self, id: EntryId, place: Place) {
        self.waiting.push((id, place));
    }

    /// An orphan has ended. Answers what need not wait any more.
    pub(super) fn end(&mut self, id: EntryId) -> impl Iterator<Item = EntryId> {
        self.running.retain(|(running, _)| *running != id);
        let running = &self.running;
        let is_free = |(_, place): &mut (EntryId, Place)| running.iter().all(|(_, other)| other != place);
        self.waiting.extract_if(.., is_free).map(|(id, _)| id)
    }

    /// Forgets what waited and is dropped.
    pub(super) fn retain_waiting(&mut self, mut keep: impl FnMut(EntryId) -> bool) {
        self.waiting.retain(|(id, _)| keep(*id));
    }

    #[cfg(test)]
    pub(super) fn is_blank(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }
}
