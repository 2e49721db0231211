//! [`Cursor`]: how far one group is on one partition, and which of its instances has the partition.

use std::ops::Range;

use messaging::{PartitionHandle, Start};

use crate::{progress::Progress, topics::Log};

#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) group: u32,
    pub(crate) topic: u32,
    /// The partition's number in its topic.
    pub(crate) partition: u32,
    pub(crate) progress: Progress,
    /// Where the log ended when the group came.
    pub(crate) born: u64,
    /// Counts the owners.
    pub(crate) epoch: u64,
    /// Who has the partition, told or about to be told.
    pub(crate) owner: Option<u32>,
    /// Who is to have it.
    pub(crate) target: Option<u32>,
    /// By which name the owner's executor knows it, once told.
    pub(crate) handle: Option<PartitionHandle>,
    /// The owner is, or is about to be, asked to give it back.
    pub(crate) revoking: bool,
    /// What the owner gets next.
    pub(crate) next: u64,
    /// A message that arrives makes the cursor ready, and wakes its owner.
    pub(crate) listening: bool,
    /// Positions that are settled by a dead letter, of which the owner has not said yet that it is done with them.
    pub(crate) buried: Vec<u64>,
    /// Positions that retention took before the group got them, not reported yet.
    pub(crate) lost: Vec<Range<u64>>,
}

impl Cursor {
    /// A cursor of a group that comes to a partition. A position that retention has taken already is lost from there
    /// on; one that is not there yet starts at the end.
    pub(crate) fn new(group: u32, topic: u32, partition: u32, start: Start, log: &Log) -> Self {
        let (floor, lost) = match start {
            Start::Default | Start::Earliest => (log.base(), None),
            Start::Latest => (log.end(), None),
            Start::Position(position) => {
                let floor = position.major.clamp(log.base(), log.end());
                (floor, Some(position.major..floor).filter(|lost| !lost.is_empty()))
            }
        };
        Self {
            group,
            topic,
            partition,
            progress: Progress::starting_at(floor),
            born: log.end(),
            epoch: 0,
            owner: None,
            target: None,
            handle: None,
            revoking: false,
            next: floor,
            listening: false,
            buried: Vec::new(),
            lost: lost.into_iter().collect(),
        }
    }

    /// How many messages of the log are not done with, and of those, how many an instance has.
    pub(crate) fn pending(&self, log: &Log) -> (u64, u64) {
        let unsettled = |to: u64| to.saturating_sub(self.progress.floor()) - self.settled_beyond(to);
        let buried = self.buried.len() as u64;
        (unsettled(log.end()) + buried, unsettled(self.next) + buried)
    }

    /// The owner is done with a position; answers whether that was dead-lettered before.
    #[inline]
    pub(crate) fn done_with_buried(&mut self, position: u64) -> bool {
        let index = self.buried.iter().position(|buried| *buried == position);
        index.map(|index| self.buried.swap_remove(index)).is_some()
    }

    /// Notes that positions are gone before the group got them.
    pub(crate) fn lose(&mut self, position: u64) {
        match self.lost.last_mut() {
            Some(run) if run.end == position => run.end += 1,
            _ => self.lost.push(position..position + 1),
        }
    }

    fn settled_beyond(&self, to: u64) -> u64 {
        let floor = self.progress.floor();
        if to <= floor { 0 } else { self.progress.count(floor..to) }
    }
}
