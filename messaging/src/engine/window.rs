//! [`Window`]: the deliveries between intake and settlement, chained into lanes, with the ready ones in order of age.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, VecDeque},
};

use hashbrown::{HashTable, hash_table};

use super::{EntryId, Incoming, seeded::Bug};
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
    pub(super) note: Option<Box<N>>,
    bytes: u32,
    pub(super) partition: u32,
    /// The next entry of the lane, or of the free list.
    next: u32,
    pub(super) attempts: u32,
    pub(super) deaths: u8,
    pub(super) state: State,
    pub(super) troubled: bool,
    pub(super) crowded: bool,
}

impl<T, N> Entry<T, N> {
    pub(super) fn new(incoming: Incoming<T>, partition: u32, ordinal: u64, lane: u64) -> Self {
        Self {
            item: Some(incoming.item),
            position: incoming.position,
            seq: 0,
            lane,
            ordinal,
            note: None,
            bytes: u32::try_from(incoming.bytes).unwrap_or(u32::MAX),
            partition,
            next: NONE,
            attempts: 0,
            deaths: u8::try_from(incoming.deaths).unwrap_or(u8::MAX),
            state: State::Ready,
            troubled: false,
            crowded: false,
        }
    }
}

/// A slab of entries. A lane is a chain through it from its head; the table knows each keyed lane's *last* entry.
#[derive(Debug)]
pub(super) struct Window<T, N> {
    entries: Vec<Entry<T, N>>,
    free: u32,
    len: usize,
    bytes: usize,
    ready: usize,
    next_seq: u64,
    lanes: HashTable<u32>,
    /// Ready since their arrival, hence in order of age.
    fresh: VecDeque<Ticket>,
    /// Ready again (freed by the one before, back from parking): by age.
    returned: BinaryHeap<Reverse<Ticket>>,
}

/// An entry among the ready ones; the older one comes first. No two have the same `seq`.
#[derive(Clone, Copy, Debug)]
struct Ticket {
    seq: u64,
    index: u32,
}

impl Ord for Ticket {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.seq.cmp(&other.seq)
    }
}

impl PartialOrd for Ticket {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ticket {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq
    }
}

impl Eq for Ticket {}

impl<T, N> Window<T, N> {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self {
            entries: Vec::with_capacity(capacity),
            free: NONE,
            len: 0,
            bytes: 0,
            ready: 0,
            next_seq: 0,
            lanes: HashTable::with_capacity(capacity),
            fresh: VecDeque::with_capacity(capacity),
            returned: BinaryHeap::with_capacity(capacity),
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
        self.ready
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

    /// Takes an entry in at the end of its lane.
    #[inline]
    pub(super) fn push(&mut self, mut entry: Entry<T, N>) {
        let index = self.next_index();
        let tail = if entry.lane == 0 { NONE } else { self.append_to_lane(entry.lane, index) };
        if tail == NONE {
            self.fresh.push_back(Ticket { seq: self.next_seq + 1, index });
            self.ready += 1;
        } else {
            entry.state = State::Waiting;
            let before = &mut self.entries[tail as usize];
            if Bug::SwapsTwo.is_on() && before.state == State::Waiting {
                before.trade_places(&mut entry);
            }
        }
        self.store(entry);
    }

    /// Takes an entry in that has no lane and waits all the same, until it is [woken](Self::wake).
    pub(super) fn push_waiting(&mut self, mut entry: Entry<T, N>) -> (u32, u64) {
        let index = self.next_index();
        entry.state = State::Waiting;
        self.store(entry);
        (index, self.next_seq)
    }

    /// Where the next entry will be stored.
    #[inline]
    fn next_index(&self) -> u32 {
        match self.free {
            NONE => self.entries.len() as u32,
            free => free,
        }
    }

    #[inline]
    fn store(&mut self, mut entry: Entry<T, N>) {
        self.next_seq += 1;
        entry.seq = self.next_seq;
        self.len += 1;
        self.bytes += entry.bytes as usize;
        match self.free {
            NONE => self.entries.push(entry),
            free => {
                self.free = self.entries[free as usize].next;
                self.entries[free as usize] = entry;
            }
        }
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
    #[inline]
    pub(super) fn pop_ready(&mut self) -> Option<(u64, u32)> {
        loop {
            let from_fresh = match (self.fresh.front(), self.returned.peek()) {
                (Some(fresh), Some(Reverse(returned))) => fresh < returned || Bug::StartsYounger.is_on(),
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => return None,
            };
            let ticket =
                if from_fresh { self.fresh.pop_front() } else { self.returned.pop().map(|Reverse(ticket)| ticket) };
            let Ticket { seq, index } = ticket?;
            // A ticket outlives an entry that was dropped with its partition.
            if self.get(index, seq).is_some_and(|entry| entry.state == State::Ready) {
                self.ready -= 1;
                return Some((seq, index));
            }
        }
    }

    /// Puts an entry that is ready back among the ready ones.
    pub(super) fn requeue(&mut self, index: u32, seq: u64) {
        if self.get(index, seq).is_some_and(|entry| entry.state == State::Ready) {
            self.returned.push(Reverse(Ticket { seq, index }));
            self.ready += 1;
        }
    }

    /// Removes the head of a lane; the next one becomes ready.
    #[inline]
    pub(super) fn remove_head(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
        let (lane, next) = (entry.lane, entry.next);
        if next != NONE {
            self.wake(next);
        } else if lane != 0 {
            self.forget_lane(lane);
        }
        self.release(index);
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
        self.recount_ready();
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
    pub(super) fn wake(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.state = State::Ready;
        self.returned.push(Reverse(Ticket { seq: entry.seq, index }));
        self.ready += 1;
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
        entry.item = None;
        entry.note = None;
        entry.state = State::Free;
        entry.next = self.free;
        self.len -= 1;
        self.bytes -= entry.bytes as usize;
        self.free = index;
    }

    /// Counts the ready tickets anew, dropping stale ones.
    fn recount_ready(&mut self) {
        let entries = &self.entries;
        let live = |Ticket { seq, index }: &Ticket| {
            entries.get(*index as usize).is_some_and(|entry| entry.seq == *seq && entry.state == State::Ready)
        };
        self.fresh.retain(live);
        self.returned.retain(|Reverse(ticket)| live(ticket));
        self.ready = self.fresh.len() + self.returned.len();
    }
}

#[cfg(test)]
impl<T, N> Window<T, N> {
    /// Whether it is empty, down to its lanes, and was never larger than need be.
    pub(super) fn is_blank(&self, most: usize) -> bool {
        let is_blank = |entry: &Entry<T, N>| entry.state == State::Free && entry.item.is_none() && entry.note.is_none();
        self.entries.iter().all(is_blank)
            && self.entries.len() <= most
            && self.len == 0
            && self.bytes == 0
            && self.ready == 0
            && self.lanes.is_empty()
    }
}
