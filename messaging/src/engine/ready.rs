//! [`Ready`]: the deliveries that may start, the oldest first.
//!
//! Deliveries are numbered in the order of their arrival, and most that are ready are among the latest: those have a
//! bit each, the few older ones lie in a heap.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{EntryId, seeded::Bug};

#[derive(Debug)]
pub(super) struct Ready {
    /// The latest sequence numbers, 64 to a word; a word's place is its number's remainder by their count.
    words: Box<[Word]>,
    /// The first word that has a place.
    base: u64,
    /// No bit is set in the words before this one.
    first: u64,
    /// Numbers before the first word, with their indices.
    older: BinaryHeap<Reverse<(u64, u32)>>,
    len: usize,
}

/// 64 sequence numbers.
#[derive(Clone, Debug)]
struct Word {
    /// Which of them are ready.
    bits: u64,
    /// The slab's index of each.
    indices: [u32; 64],
}

impl Word {
    fn ids(&self, number: u64) -> impl Iterator<Item = EntryId> {
        let bits = std::iter::successors(Some(self.bits), |bits| Some(bits & bits.wrapping_sub(1)));
        bits.take_while(|bits| *bits != 0).map(move |bits| {
            let bit = bits.trailing_zeros();
            EntryId { seq: number * 64 + u64::from(bit), index: self.indices[bit as usize] }
        })
    }
}

impl Ready {
    /// Has bits for twice as many as are held at most, within reason: what is parked while others pass is soon older.
    pub(super) fn new(held: usize) -> Self {
        let count = held.clamp(32, 32_768).next_power_of_two() / 32;
        let words = vec![Word { bits: 0, indices: [0; 64] }; count].into();
        Self { words, base: 0, first: 0, older: BinaryHeap::new(), len: 0 }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds one that is newer than any before.
    #[inline(always)]
    pub(super) fn append(&mut self, id: EntryId) {
        if id.seq / 64 - self.base >= self.words.len() as u64 {
            self.make_room(id.seq / 64);
        }
        self.len += 1;
        self.set(id);
    }

    /// Adds one; nothing happens if it is there already.
    #[inline(always)]
    pub(super) fn insert(&mut self, id: EntryId) {
        let number = id.seq / 64;
        if number.wrapping_sub(self.base) >= self.words.len() as u64 {
            return self.insert_far(id);
        }
        self.len += usize::from(self.word(number).bits & 1 << (id.seq % 64) == 0);
        self.set(id);
        self.first = self.first.min(number);
    }

    #[cold]
    fn insert_far(&mut self, id: EntryId) {
        if id.seq / 64 >= self.base {
            self.make_room(id.seq / 64);
            self.insert(id);
        } else if !self.older.iter().any(|Reverse((seq, _))| *seq == id.seq) {
            self.older.push(Reverse((id.seq, id.index)));
            self.len += 1;
        }
    }

    #[inline(always)]
    fn set(&mut self, id: EntryId) {
        let word = self.word(id.seq / 64);
        word.bits |= 1 << (id.seq % 64);
        word.indices[(id.seq % 64) as usize] = id.index;
    }

    #[inline(always)]
    fn word(&mut self, number: u64) -> &mut Word {
        let place = number as usize & (self.words.len() - 1);
        &mut self.words[place]
    }

    /// Moves on so far that this word has a place; what is ready before goes to the heap.
    #[cold]
    fn make_room(&mut self, number: u64) {
        let count = self.words.len() as u64;
        let base = number + 1 - count;
        for number in self.base..base.min(self.base + count) {
            let place = number as usize & (self.words.len() - 1);
            self.older.extend(self.words[place].ids(number).map(|id| Reverse((id.seq, id.index))));
            self.words[place].bits = 0;
        }
        self.base = base;
        self.first = self.first.max(base);
    }

    /// Takes out the oldest.
    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<EntryId> {
        if self.len == 0 {
            return None;
        }
        self.len -= 1;
        if !self.older.is_empty() {
            return self.older.pop().map(|Reverse((seq, index))| EntryId { seq, index });
        }
        loop {
            let number = self.first;
            let word = self.word(number);
            if word.bits != 0 {
                let bit = if Bug::StartsYounger.is_on() { word.bits.ilog2() } else { word.bits.trailing_zeros() };
                word.bits &= !(1 << bit);
                return Some(EntryId { seq: number * 64 + u64::from(bit), index: word.indices[bit as usize % 64] });
            }
            // One of the later words has a bit: the count says so.
            self.first += 1;
        }
    }

    /// Keeps those that `keep` says.
    pub(super) fn retain(&mut self, keep: impl Fn(EntryId) -> bool) {
        self.older.retain(|Reverse((seq, index))| keep(EntryId { seq: *seq, index: *index }));
        self.len = self.older.len();
        for number in self.base..self.base + self.words.len() as u64 {
            let word = self.word(number);
            let dropped = word.ids(number).filter(|id| !keep(*id)).fold(0, |bits, id| bits | 1 << (id.seq % 64));
            word.bits &= !dropped;
            let left = word.bits.count_ones() as usize;
            self.len += left;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Numbers come in once, roughly in order, and some come back later, as lanes' followers and parked heads do.
        #[test]
        fn the_oldest_comes_out_first(
            held in 1_usize..100,
            steps in prop::collection::vec((0_u8..6, any::<prop::sample::Index>()), 1..2_000),
        ) {
            let (mut ready, mut model, mut out, mut next) = (Ready::new(held), BTreeSet::new(), Vec::new(), 0_u64);
            for (step, which) in steps {
                match step {
                    0 | 1 => {
                        next += 1;
                        ready.append(EntryId { seq: next, index: next as u32 * 3 });
                        model.insert(next);
                    }
                    2 => {
                        next += 1;
                        out.push(next);
                    }
                    3 => {
                        let popped = ready.pop();
                        let oldest = model.pop_first();
                        prop_assert_eq!(popped.map(|id| (id.seq, id.index)), oldest.map(|seq| (seq, seq as u32 * 3)));
                        out.extend(oldest);
                    }
                    4 if !out.is_empty() => {
                        let seq = out.swap_remove(which.index(out.len()));
                        ready.insert(EntryId { seq, index: seq as u32 * 3 });
                        ready.insert(EntryId { seq, index: seq as u32 * 3 });
                        model.insert(seq);
                    }
                    _ => {
                        let odd = which.index(50) as u64 + 2;
                        ready.retain(|id| id.seq % odd != 0);
                        model.retain(|seq| seq % odd != 0);
                    }
                }
                prop_assert_eq!(ready.len(), model.len());
            }
            let rest: Vec<u64> = std::iter::from_fn(|| ready.pop()).map(|id| id.seq).collect();
            prop_assert_eq!(rest, model.into_iter().collect::<Vec<_>>());
        }
    }
}
