//! How long messages stay: what a group has not settled, and the newest ones; and never more than the hard bound.

use messaging::{Error, ErrorKind, Outcome, Position};

use crate::{MemoryBroker, bus::State, cursor::Cursor, effects::Effects, members::News};

impl State {
    /// Forgets what a partition need not keep.
    pub(crate) fn trim(&mut self, topic: u32, number: u32, effects: &mut Effects) {
        let Self { topics, cursors, settings, .. } = self;
        let partition = &mut topics[topic as usize].partitions[number as usize];
        let log = &mut partition.log;
        let settled = partition.cursors.iter().map(|id| cursors[*id as usize].progress.floor()).min();
        let settled = settled.unwrap_or(log.end()).saturating_sub(log.base());
        let spare = log.len().saturating_sub(settings.retain);
        log.drop_front(spare.min(settled as usize));
        if settings.max_messages.is_some_and(|most| log.len() > most) {
            self.trim_hard(topic, number, effects);
        }
    }

    /// Forgets what exceeds the hard bound, settled or not.
    fn trim_hard(&mut self, topic: u32, number: u32, effects: &mut Effects) {
        let partition = &self.topics[topic as usize].partitions[number as usize];
        let most = self.settings.max_messages.unwrap_or(usize::MAX);
        self.drop_oldest(topic, number, partition.log.len().saturating_sub(most), effects);
    }

    /// Forgets so many of a partition, and notes as lost what a group had not got.
    fn drop_oldest(&mut self, topic: u32, number: u32, count: usize, effects: &mut Effects) {
        let partition = &mut self.topics[topic as usize].partitions[number as usize];
        partition.log.drop_front(count);
        for cursor in partition.cursors.clone() {
            self.lose_what_is_gone(cursor, effects);
        }
    }

    /// Notes as lost what the log has no more and neither the group has settled nor any instance of it has.
    pub(crate) fn lose_what_is_gone(&mut self, id: u32, effects: &mut Effects) {
        let cursor = &mut self.cursors[id as usize];
        let partition = &mut self.topics[cursor.topic as usize].partitions[cursor.partition as usize];
        let base = partition.log.base();
        // What an owner has been given it may still settle.
        let from = if cursor.owner.is_some() { cursor.next } else { cursor.progress.floor() };
        if from >= base {
            return;
        }
        let mut gone = 0;
        for position in from..base {
            if !cursor.progress.settle(position) {
                continue;
            }
            gone += 1;
            cursor.lose(position);
            if let Some(waiting) = partition.waiting.remove(position) {
                let why = format!("position {position} was lost to retention before every group had settled it");
                self.settling.answer(waiting.batch, waiting.index, Outcome::unknown(why), effects);
            }
        }
        cursor.next = cursor.next.max(base);
        let owner = cursor.owner.filter(|_| cursor.handle.is_some());
        self.pending -= gone;
        effects.settled(gone > 0 && self.pending == 0);
        if let Some(owner) = owner
            && gone > 0
        {
            self.tell(owner, News::Trimmed(id), effects);
        }
    }
}

impl MemoryBroker {
    /// Forgets what stands before `first` in a partition, settled or not, as retention would: what a group had not got
    /// by then is reported to it as lost.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is no such topic or partition.
    pub fn forget(&self, topic: &str, partition: u32, first: Position) -> Result<(), Error> {
        self.bus.with(|state, effects| {
            let index = state.find_topic(topic);
            let log = index
                .and_then(|index| state.topics[index as usize].partitions.get(partition as usize))
                .map(|partition| &partition.log);
            let (Some(index), Some(log)) = (index, log) else {
                let message = format!("there is no partition {partition} of a topic {topic:?}");
                return Err(Error::new(ErrorKind::Config, message));
            };
            let count = first.major.min(log.end()).saturating_sub(log.base());
            state.drop_oldest(index, partition, count as usize, effects);
            Ok(())
        })
    }
}

impl Cursor {
    /// What was lost since the last report, as (first position, count) of each run.
    pub(crate) fn take_lost(&mut self) -> impl Iterator<Item = (u64, u64)> + use<> {
        std::mem::take(&mut self.lost).into_iter().map(|run| (run.start, run.end - run.start))
    }
}
