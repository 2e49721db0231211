//! [`Window`]: the deliveries between intake and settlement, chained into lanes, with the ready ones in order of age.

use hashbrown::{HashTable, hash_table};

use super::{EntryId, Incoming, Past, ready::Ready, seeded::Bug};
use crate::delivery::Position;

/// No entry.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Behind the head of its lane, or without a lane behind an orphan.
    Waiting,
    /// Head of its lane; may start.
    Ready,
    /// Head of its lane; its handler runs.
    Running,
    /// Head of its lane; waits for its time.
    Parked,
    /// A slot of the slab without a delivery.
    Free,
}

#[derive(Debug)]
pub(super) struct Entry<T, N> {
    /// `None` only in a free slot.
    pub(super) item: Option<T>,
    pub(super) position: Position,
    /// The order of arrival over all partitions; names the entry together with its index.
    pub(super) seq: u64,
    /// The lane's hash; zero for a lane of its own, which needs no table.
    pub(super) lane: u64,
    pub(super) ordinal: u64,
    pub(super) past: Option<Box<Past<N>>>,
    bytes: u32,
    pub(super) partition: u32,
    /// The next entry of the lane, or of the free list.
    next: u32,
    pub(super) state: State,
    pub(super) troubled: bool,
}

impl<T, N> Entry<T, N> {
    /// A slot of the slab without a delivery.
    fn vacant() -> Self {
        Self {
            item: None,
            position: Position::default(),
            seq: 0,
            lane: 0,
            ordinal: 0,
            past: None,
            bytes: 0,
            partition: 0,
            next: NONE,
            state: State::Free,
            troubled: false,
        }
    }

    /// Becomes such a slot again. The lane stays for the table, which finds a lane by its last entry's.
    #[inline(always)]
    fn vacate(&mut self, next_free: u32) {
        self.item = None;
        self.past = None;
        self.state = State::Free;
        self.next = next_free;
    }
}

/// A slab of entries. A lane is a chain through it from its head; the table knows each keyed lane's *last* entry.
#[derive(Debug)]
pub(super) struct Window<T, N> {
    entries: Vec<Entry<T, N>>,
    free: u32,
    len: usize,
    bytes: usize,
    next_seq: u64,
    lanes: HashTable<u32>,
    ready: Ready,
}

impl<T, N> Window<T, N> {
    /// For so many deliveries; room for all of them is made as they come.
    pub(super) fn new(most: usize) -> Self {
        let capacity = most.min(1_024);
        Self {
            entries: Vec::with_capacity(capacity),
            free: NONE,
            len: 0,
            bytes: 0,
            next_seq: 0,
            lanes: HashTable::with_capacity(capacity),
            ready: Ready::new(most),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many were ever pushed.
    pub(super) fn pushed(&self) -> u64 {
        self.next_seq
    }

    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<T, N>> {
        self.entries.iter()
    }

    pub(super) fn entry_mut(&mut self, index: u32) -> &mut Entry<T, N> {
        &mut self.entries[index as usize]
    }

    pub(super) fn get(&self, index: u32, seq: u64) -> Option<&Entry<T, N>> {
        self.entries.get(index as usize).filter(|entry| entry.seq == seq && entry.state != State::Free)
    }

    pub(super) fn get_mut(&mut self, index: u32, seq: u64) -> Option<&mut Entry<T, N>> {
        self.entries.get_mut(index as usize).filter(|entry| entry.seq == seq && entry.state != State::Free)
    }

    /// Takes a delivery in at the end of its lane.
    #[inline(always)]
    pub(super) fn push(&mut self, incoming: Incoming<T>, partition: u32, ordinal: u64, lane: u64) {
        let index = self.vacancy();
        let tail = if lane == 0 { NONE } else { self.append_to_lane(lane, index) };
        let state = if tail == NONE { State::Ready } else { State::Waiting };
        let id = self.store(incoming, partition, ordinal, lane, state);
        if tail == NONE {
            self.ready.append(id);
        } else if Bug::SwapsTwo.is_on()
            && let Ok([before, entry]) = self.entries.get_disjoint_mut([tail as usize, id.index as usize])
            && before.state == State::Waiting
        {
            before.trade_places(entry);
        }
    }

    /// Takes a delivery in that has no lane and waits all the same, until it is [woken](Self::wake).
    pub(super) fn push_waiting(&mut self, incoming: Incoming<T>, partition: u32, ordinal: u64) -> EntryId {
        self.vacancy();
        self.store(incoming, partition, ordinal, 0, State::Waiting)
    }

    /// Where the next delivery will be stored.
    #[inline(always)]
    fn vacancy(&mut self) -> u32 {
        if self.free == NONE {
            self.free = self.entries.len() as u32;
            self.grow();
        }
        self.free
    }

    #[cold]
    fn grow(&mut self) {
        self.entries.push(Entry::vacant());
    }

    /// Writes a delivery into the vacancy, field by field: built elsewhere it would be copied.
    #[inline(always)]
    fn store(&mut self, incoming: Incoming<T>, partition: u32, ordinal: u64, lane: u64, state: State) -> EntryId {
        let index = self.free;
        let entry = &mut self.entries[index as usize];
        self.free = entry.next;
        self.next_seq += 1;
        entry.item = Some(incoming.item);
        entry.position = incoming.position;
        entry.seq = self.next_seq;
        entry.lane = lane;
        entry.ordinal = ordinal;
        entry.bytes = u32::try_from(incoming.bytes).unwrap_or(u32::MAX);
        entry.partition = partition;
        entry.next = NONE;
        entry.state = state;
        entry.troubled = false;
        if incoming.deaths > 0 {
            entry.past = Past::of_deaths(incoming.deaths);
        }
        self.len += 1;
        self.bytes += entry.bytes as usize;
        EntryId { index, seq: self.next_seq }
    }

    /// Makes `index` the last of the lane; answers the one before, or `NONE` if the lane was empty.
    fn append_to_lane(&mut self, lane: u64, index: u32) -> u32 {
        let entries = &mut self.entries;
        match self.lanes.entry(lane, |tail| entries[*tail as usize].lane == lane, |tail| entries[*tail as usize].lane) {
            hash_table::Entry::Occupied(mut slot) => {
                let tail = std::mem::replace(slot.get_mut(), index);
                self.entries[tail as usize].next = index;
                tail
            }
            hash_table::Entry::Vacant(slot) => {
                slot.insert(index);
                NONE
            }
        }
    }

    /// The oldest entry that is ready, or `None`. It stays in its lane as the head.
    #[inline(always)]
    pub(super) fn pop_ready(&mut self) -> Option<(u64, u32)> {
        loop {
            let EntryId { index, seq } = self.ready.pop()?;
            // One that was dropped with its partition was taken out; this only makes sure.
            if self.get(index, seq).is_some_and(|entry| entry.state == State::Ready) {
                return Some((seq, index));
            }
        }
    }

    /// Puts an entry that is ready back among the ready ones.
    pub(super) fn requeue(&mut self, index: u32, seq: u64) {
        if self.get(index, seq).is_some_and(|entry| entry.state == State::Ready) {
            self.ready.insert(EntryId { index, seq });
        }
    }

    /// Removes the head of a lane; the next one becomes ready.
    pub(super) fn remove_head(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
        let (lane, next) = (entry.lane, entry.next);
        self.release(index);
        self.follow(lane, next);
    }

    /// Removes an entry that runs, unless `settle` answers `false`: [`remove_head`](Self::remove_head) for what every
    /// delivery passes. Answers whether it was removed.
    #[inline(always)]
    pub(super) fn remove_running_if(&mut self, id: EntryId, settle: impl FnOnce(&Entry<T, N>) -> bool) -> bool {
        let Some(entry) = self.entries.get_mut(id.index as usize) else { return false };
        if entry.seq != id.seq || entry.state != State::Running || !settle(entry) {
            return false;
        }
        let (lane, next) = (entry.lane, entry.next);
        entry.vacate(self.free);
        self.free = id.index;
        self.len -= 1;
        self.bytes -= entry.bytes as usize;
        self.follow(lane, next);
        true
    }

    /// The head of a lane was removed: the next one becomes ready.
    #[inline(always)]
    fn follow(&mut self, lane: u64, next: u32) {
        if lane != 0 {
            match next {
                NONE => self.forget_lane(lane),
                next => self.wake(next),
            }
        }
    }

    /// Drops every entry of a partition that does not run.
    pub(super) fn drop_waiting(&mut self, partition: u32) {
        for index in 0..self.entries.len() as u32 {
            let entry = &self.entries[index as usize];
            match entry.state {
                State::Ready | State::Running | State::Parked => self.prune_lane(index, partition),
                State::Waiting if entry.lane == 0 && entry.partition == partition => self.release(index),
                State::Waiting | State::Free => {}
            }
        }
        self.forget_dropped();
    }

    /// Drops a partition's entries from a lane, but for a head that runs. Those of another are in it if that head is
    /// of an earlier assignment, or if hashes collide: they close ranks.
    fn prune_lane(&mut self, head: u32, partition: u32) {
        let lane = self.entries[head as usize].lane;
        let (mut first, mut last) = (NONE, NONE);
        let mut next = head;
        while next != NONE {
            let index = next;
            let entry = &self.entries[index as usize];
            next = entry.next;
            if entry.partition == partition && entry.state != State::Running {
                self.release(index);
                continue;
            }
            match last {
                NONE => first = index,
                last => self.entries[last as usize].next = index,
            }
            last = index;
        }
        if last == NONE {
            self.forget_lane(lane);
            return;
        }
        self.entries[last as usize].next = NONE;
        let entries = &mut self.entries;
        if let Some(tail) = self.lanes.find_mut(lane, |tail| entries[*tail as usize].lane == lane) {
            *tail = last;
        }
        if entries[first as usize].state == State::Waiting {
            self.wake(first);
        }
        if Bug::OverlapsLane.is_on() {
            self.forget_lane(lane);
        }
    }

    /// Makes an entry ready that waited.
    #[inline]
    pub(super) fn wake(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.state = State::Ready;
        self.ready.insert(EntryId { index, seq: entry.seq });
    }

    /// A partition's running entries.
    pub(super) fn running(&self, partition: u32) -> impl Iterator<Item = (EntryId, &Entry<T, N>)> {
        let entries = self.entries.iter().enumerate();
        entries
            .filter(move |(_, entry)| entry.partition == partition && entry.state == State::Running)
            .map(|(index, entry)| (EntryId { index: index as u32, seq: entry.seq }, entry))
    }

    /// Whether at least `count` entries wait behind this head.
    pub(super) fn has_behind(&self, index: u32, count: usize) -> bool {
        let follows = |index: &u32| Some(self.entries[*index as usize].next).filter(|next| *next != NONE);
        std::iter::successors(Some(index), follows).nth(count).is_some()
    }

    fn forget_lane(&mut self, lane: u64) {
        let entries = &self.entries;
        if let Ok(slot) = self.lanes.find_entry(lane, |tail| entries[*tail as usize].lane == lane) {
            slot.remove();
        }
    }

    fn release(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.vacate(self.free);
        self.len -= 1;
        self.bytes -= entry.bytes as usize;
        self.free = index;
    }

    /// Takes what was dropped out of the ready ones.
    fn forget_dropped(&mut self) {
        let entries = &self.entries;
        self.ready.retain(|EntryId { index, seq }| {
            entries.get(index as usize).is_some_and(|entry| entry.seq == seq && entry.state == State::Ready)
        });
    }
}

#[cfg(test)]
impl<T, N> Window<T, N> {
    /// Whether it is empty, down to its lanes, and was never larger than need be.
    pub(super) fn is_blank(&self, most: usize) -> bool {
        let is_blank = |entry: &Entry<T, N>| entry.state == State::Free && entry.item.is_none() && entry.past.is_none();
        self.entries.iter().all(is_blank)
            && self.entries.len() <= most
            && self.len == 0
            && self.bytes == 0
            && self.ready.len() == 0
            && self.lanes.is_empty()
    }
}
