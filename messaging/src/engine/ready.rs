//! [`Ready`]: the deliveries that may start, the oldest first.
//!
//! Deliveries are numbered in the order of their arrival, and most that are ready are among the latest: those have a
//! bit each, the few older ones lie in a heap.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{EntryId, seeded::Bug};

#[derive(Debug)]
pub(super) struct Ready {
    /// Of each of the latest sequence numbers, at its remainder by their count, whether it is ready.
    bits: Box<[u64]>,
    /// The slab's index of each of these numbers.
    indices: Box<[u32]>,
    /// The first number that has a bit; a multiple of 64.
    base: u64,
    /// No bit is set in the words before this one, a number divided by 64.
    first_word: u64,
    /// Numbers before `base`, with their indices.
    older: BinaryHeap<Reverse<(u64, u32)>>,
    len: usize,
}

impl Ready {
    /// Bits for twice as many deliveries as are usually held: what is parked while others pass is soon older.
    pub(super) fn with_capacity(held: usize) -> Self {
        let count = (held * 2).next_power_of_two().max(64);
        Self {
            bits: vec![0; count / 64].into(),
            indices: vec![0; count].into(),
            base: 0,
            first_word: 0,
            older: BinaryHeap::new(),
            len: 0,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds one; nothing happens if it is there already.
    #[inline(always)]
    pub(super) fn insert(&mut self, EntryId { seq, index }: EntryId) {
        let count = self.indices.len() as u64;
        if seq.wrapping_sub(self.base) >= count && !self.make_room(seq, index) {
            return;
        }
        let place = seq & (count - 1);
        let bit = 1 << (seq % 64);
        let word = &mut self.bits[(place / 64) as usize];
        self.len += usize::from(*word & bit == 0);
        *word |= bit;
        self.indices[place as usize] = index;
        self.first_word = self.first_word.min(seq / 64);
    }

    /// Moves the bits on so that this number has one, or keeps an older number in the heap. Answers whether it has a bit.
    #[cold]
    fn make_room(&mut self, seq: u64, index: u32) -> bool {
        if seq < self.base {
            if !self.older.iter().any(|Reverse((known, _))| *known == seq) {
                self.older.push(Reverse((seq, index)));
                self.len += 1;
            }
            return false;
        }
        let words = self.bits.len() as u64;
        let base_word = seq / 64 + 1 - words;
        for word in (self.base / 64)..base_word.min(self.base / 64 + words) {
            let mut bits = std::mem::take(&mut self.bits[(word % words) as usize]);
            while bits != 0 {
                let seq = word * 64 + u64::from(bits.trailing_zeros());
                self.older.push(Reverse((seq, self.indices[seq as usize & (self.indices.len() - 1)])));
                bits &= bits - 1;
            }
        }
        self.base = base_word * 64;
        self.first_word = self.first_word.max(base_word);
        true
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
        let words = self.bits.len() as u64;
        loop {
            let word = &mut self.bits[(self.first_word & (words - 1)) as usize];
            if *word != 0 {
                let bit = if Bug::StartsYounger.is_on() { word.ilog2() } else { word.trailing_zeros() };
                *word &= !(1 << bit);
                let seq = self.first_word * 64 + u64::from(bit);
                return Some(EntryId { seq, index: self.indices[seq as usize & (self.indices.len() - 1)] });
            }
            // One of the later words has a bit: the count says so.
            self.first_word += 1;
        }
    }

    /// Keeps those that `keep` says.
    pub(super) fn retain(&mut self, keep: impl Fn(EntryId) -> bool) {
        self.older.retain(|Reverse((seq, index))| keep(EntryId { seq: *seq, index: *index }));
        self.len = self.older.len();
        let words = self.bits.len() as u64;
        for word in (self.base / 64)..(self.base / 64 + words) {
            let bits = self.bits[(word % words) as usize];
            let mut left = bits;
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                let seq = word * 64 + u64::from(bit);
                if keep(EntryId { seq, index: self.indices[seq as usize & (self.indices.len() - 1)] }) {
                    self.len += 1;
                } else {
                    self.bits[(word % words) as usize] &= !(1 << bit);
                }
            }
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
            let (mut ready, mut model, mut out, mut next) = (Ready::with_capacity(held), BTreeSet::new(), Vec::new(), 0_u64);
            for (step, which) in steps {
                match step {
                    0 | 1 => {
                        next += 1;
                        ready.insert(EntryId { seq: next, index: next as u32 * 3 });
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
