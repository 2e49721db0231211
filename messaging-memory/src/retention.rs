//! How long messages stay: what a group has not settled, and the newest ones; and never more than the hard bound.

use messaging::Outcome;

use crate::{bus::State, cursor::Cursor, effects::Effects, members::News};

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
        let partition = &mut self.topics[topic as usize].partitions[number as usize];
        let most = self.settings.max_messages.unwrap_or(usize::MAX);
        partition.log.drop_front(partition.log.len().saturating_sub(most));
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

impl Cursor {
    /// What was lost since the last report, as (first position, count) of each run.
    pub(crate) fn take_lost(&mut self) -> impl Iterator<Item = (u64, u64)> + use<> {
        std::mem::take(&mut self.lost).into_iter().map(|run| (run.start, run.end - run.start))
    }
}
