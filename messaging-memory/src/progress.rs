//! [`Progress`]: which positions of a partition a group has settled: all below the floor, and some beyond it.

use std::{collections::VecDeque, ops::Range};

const BITS: u64 = u64::BITS as u64;

/// Everything below the floor is settled; beyond it a bit each.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    floor: u64,
    /// Bit 0 of the first word is the floor rounded down to a word; bits below the floor mean nothing. Empty while
    /// settlements come in order.
    words: VecDeque<u64>,
}

impl Progress {
    pub(crate) fn starting_at(floor: u64) -> Self {
        Self { floor, words: VecDeque::new() }
    }

    /// The first position that is not settled.
    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    /// No position from here on is settled.
    pub(crate) fn ceiling(&self) -> u64 {
        if self.words.is_empty() { self.floor } else { self.first_word() * BITS + self.words.len() as u64 * BITS }
    }

    pub(crate) fn contains(&self, position: u64) -> bool {
        if position < self.floor {
            return true;
        }
        let word = self.words.get((position / BITS - self.first_word()) as usize);
        word.is_some_and(|word| word >> (position % BITS) & 1 == 1)
    }

    /// Settles a position; answers whether it was not settled before.
    #[inline]
    pub(crate) fn settle(&mut self, position: u64) -> bool {
        if position == self.floor && self.words.is_empty() {
            self.floor += 1;
            return true;
        }
        self.settle_out_of_order(position)
    }

    /// How many positions of a range are settled.
    pub(crate) fn count(&self, range: Range<u64>) -> u64 {
        let below = self.floor.clamp(range.start, range.end) - range.start;
        let beyond = range.start.max(self.floor)..range.end.min(self.ceiling());
        below + beyond.filter(|position| self.contains(*position)).count() as u64
    }

    fn settle_out_of_order(&mut self, position: u64) -> bool {
        if position < self.floor {
            return false;
        }
        let index = (position / BITS - self.first_word()) as usize;
        if self.words.len() <= index {
            self.words.resize(index + 1, 0);
        }
        let bit = 1 << (position % BITS);
        if self.words[index] & bit != 0 {
            return false;
        }
        self.words[index] |= bit;
        if position == self.floor {
            self.advance();
        }
        true
    }

    fn advance(&mut self) {
        while let Some(word) = self.words.front() {
            let rest = word >> (self.floor % BITS);
            let settled = u64::from(rest.trailing_ones());
            self.floor += settled;
            if settled > 0 && self.floor.is_multiple_of(BITS) {
                self.words.pop_front();
            } else {
                // The last word with nothing beyond the floor: back to settlements in order.
                if self.words.len() == 1 && rest >> settled == 0 {
                    self.words.clear();
                }
                break;
            }
        }
    }

    fn first_word(&self) -> u64 {
        self.floor / BITS
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn floor_waits_for_the_oldest_and_then_passes_all_that_are_settled() {
        let mut progress = Progress::starting_at(60);
        assert!(progress.settle(61) && progress.settle(200) && !progress.settle(61) && !progress.settle(59));
        assert_eq!((progress.floor(), progress.count(50..300)), (60, 12));
        assert!(progress.settle(60));
        assert_eq!((progress.floor(), progress.contains(62), progress.contains(200)), (62, false, true));
        (62..200).for_each(|position| assert!(progress.settle(position)));
        assert_eq!((progress.floor(), progress.ceiling()), (201, 201));
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(start in 0u64..130, order in Just((0u64..300).collect::<Vec<_>>()).prop_shuffle()) {
            let mut progress = Progress::starting_at(start);
            let mut model: BTreeSet<u64> = (0..start).collect();
            for position in order {
                prop_assert_eq!(progress.settle(position), model.insert(position));
                let floor = (0..).find(|position| !model.contains(position)).unwrap_or_default();
                prop_assert_eq!(progress.floor(), floor);
                prop_assert_eq!(progress.contains(position + 1), model.contains(&(position + 1)));
                prop_assert_eq!(progress.count(70..190), model.range(70..190).count() as u64);
                prop_assert!(model.iter().all(|settled| *settled < progress.ceiling()));
            }
        }
    }
}
