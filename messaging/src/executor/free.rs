//! [`FreeSlots`]: which of a worker's slots are free, the lowest first.
//!
//! Older deliveries get lower slots, and slots are polled in their order: what was started together and ends together
//! then ends in the order of its arrival, which is the cheap one to settle.

pub(super) struct FreeSlots {
    /// A bit each, set if the slot is free.
    words: Vec<u64>,
    /// No slot is free in the words before this one.
    first: usize,
    len: usize,
}

impl FreeSlots {
    /// So many, all free.
    pub(super) fn all(count: usize) -> Self {
        let word = |from: usize| u64::MAX >> (64 - (count - from).min(64));
        Self { words: (0..count).step_by(64).map(word).collect(), first: 0, len: count }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The one to be used next, which stays free.
    #[inline]
    pub(super) fn next(&mut self) -> Option<usize> {
        loop {
            let word = *self.words.get(self.first)?;
            if word != 0 {
                return Some(self.first * 64 + word.trailing_zeros() as usize);
            }
            self.first += 1;
        }
    }

    /// A free slot is used from now on.
    #[inline]
    pub(super) fn take(&mut self, slot: usize) {
        self.words[slot / 64] &= !(1 << (slot % 64));
        self.len -= 1;
    }

    /// A used slot is free again.
    #[inline]
    pub(super) fn put_back(&mut self, slot: usize) {
        let word = slot / 64;
        self.words[word] |= 1 << (slot % 64);
        self.first = self.first.min(word);
        self.len += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_set(count in 1_usize..200, steps in prop::collection::vec(any::<(bool, prop::sample::Index)>(), 0..500)) {
            let (mut free, mut model) = (FreeSlots::all(count), (0..count).collect::<BTreeSet<_>>());
            for (take, which) in steps {
                let slot = which.index(count);
                if take && let Some(slot) = free.next() {
                    free.take(slot);
                    prop_assert_eq!(Some(slot), model.pop_first());
                } else if model.insert(slot) {
                    free.put_back(slot);
                }
                prop_assert_eq!((free.next(), free.len()), (model.first().copied(), model.len()));
            }
        }
    }
}
