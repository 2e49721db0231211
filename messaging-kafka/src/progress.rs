//! [`Progress`]: what is finished on one partition: a watermark, and a bit for each offset beyond it.

use std::collections::VecDeque;

const BITS: u64 = 64;

/// What is finished on one partition. Everything below the watermark is; beyond it a bit says so.
///
/// Offsets that hold no message (compacted, aborted, control records) count as finished as soon as a later one was
/// delivered.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    watermark: u64,
    /// The offset of the first bit, a multiple of 64 at or below the watermark.
    base: u64,
    words: VecDeque<u64>,
    /// The offset after the last one that was delivered, or passed over.
    next: u64,
}

impl Progress {
    /// From a committed watermark and the finished offsets beyond it, as runs of (first, length).
    pub(crate) fn new(watermark: u64, finished: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut progress =
            Self { watermark, base: watermark - watermark % BITS, words: VecDeque::new(), next: watermark };
        for (first, length) in finished {
            progress.set(first, first.saturating_add(length));
        }
        progress.advance();
        progress
    }

    /// The first offset that is not finished: what is committed.
    pub(crate) fn watermark(&self) -> u64 {
        self.watermark
    }

    /// The offset after the last one that was delivered.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Whether an offset is finished.
    pub(crate) fn is_finished(&self, offset: u64) -> bool {
        offset < self.watermark || self.bit(offset)
    }

    /// An offset was read. Answers whether it is to be handed over: it is new, and not finished.
    pub(crate) fn deliver(&mut self, offset: u64) -> bool {
        if offset < self.next {
            return false;
        }
        if offset > self.next {
            self.pass_over(offset);
        }
        self.next = offset + 1;
        !self.is_finished(offset)
    }

    /// There is nothing to deliver before this offset.
    pub(crate) fn pass_over(&mut self, before: u64) {
        if before > self.next {
            self.set(self.next, before);
            self.next = before;
            self.advance();
        }
    }

    /// An offset is finished.
    pub(crate) fn finish(&mut self, offset: u64) {
        if offset >= self.watermark {
            self.set(offset, offset + 1);
            if offset == self.watermark {
                self.advance();
            }
        }
    }

    /// How many offsets in `from..before` are not finished, as (first, length) of each run.
    pub(crate) fn unfinished(&self, from: u64, before: u64) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut offset = from.max(self.watermark);
        let end = self.end();
        while offset < before.min(end) {
            if !self.bit(offset) {
                match runs.last_mut() {
                    Some((first, length)) if *first + *length == offset => *length += 1,
                    _ => runs.push((offset, 1)),
                }
            }
            offset += 1;
        }
        if offset < before {
            match runs.last_mut() {
                Some((first, length)) if *first + *length == offset => *length += before - offset,
                _ => runs.push((offset, before - offset)),
            }
        }
        runs
    }

    /// For each offset from the watermark on that is not finished, how many finished ones follow it at once; up to the
    /// last finished one.
    pub(crate) fn finished_runs(&self) -> Vec<u64> {
        let Some(last) = self.last_finished() else { return Vec::new() };
        let mut runs = Vec::new();
        let mut run = 0;
        for offset in self.watermark + 1..=last {
            if self.bit(offset) {
                run += 1;
            } else {
                runs.push(run);
                run = 0;
            }
        }
        runs.push(run);
        runs
    }

    /// How many offsets below this one are not finished.
    pub(crate) fn count_unfinished(&self, before: u64) -> u64 {
        let Some(span) = before.checked_sub(self.watermark) else { return 0 };
        let finished: u64 = self
            .words
            .iter()
            .enumerate()
            .map(|(index, word)| {
                let first = self.base + index as u64 * BITS;
                u64::from((word & mask(self.watermark, first, true) & mask(before, first, false)).count_ones())
            })
            .sum();
        span - finished
    }

    fn last_finished(&self) -> Option<u64> {
        let (index, word) = self.words.iter().enumerate().rev().find(|(_, word)| **word != 0)?;
        let last = self.base + index as u64 * BITS + (BITS - 1 - u64::from(word.leading_zeros()));
        (last >= self.watermark).then_some(last)
    }

    /// One past the last offset that has a bit.
    fn end(&self) -> u64 {
        self.base + self.words.len() as u64 * BITS
    }

    fn bit(&self, offset: u64) -> bool {
        let Some(index) = offset.checked_sub(self.base) else { return true };
        self.words.get((index / BITS) as usize).is_some_and(|word| word & (1 << (index % BITS)) != 0)
    }

    /// Marks `from..before`.
    fn set(&mut self, from: u64, before: u64) {
        let mut offset = from.max(self.watermark);
        if offset >= before {
            return;
        }
        // A long stretch right at the watermark needs no bits.
        if offset == self.watermark && before - offset >= BITS && before >= self.end() {
            self.words.clear();
            self.watermark = before;
            self.base = before - before % BITS;
            return;
        }
        let words = ((before - 1 - self.base) / BITS + 1) as usize;
        if words > self.words.len() {
            self.words.resize(words, 0);
        }
        while offset < before {
            let index = offset - self.base;
            let first = self.base + index / BITS * BITS;
            self.words[(index / BITS) as usize] |= mask(offset, first, true) & mask(before, first, false);
            offset = first + BITS;
        }
    }

    /// Moves the watermark over what is finished, and drops the bits below it.
    fn advance(&mut self) {
        while let Some(word) = self.words.front() {
            let below = self.watermark - self.base;
            let ones = u64::from((word | ((1 << below) - 1)).trailing_ones());
            self.watermark = self.watermark.max(self.base + ones);
            if ones < BITS {
                return;
            }
            self.words.pop_front();
            self.base += BITS;
        }
    }
}

/// The bits of the word that begins at `first` which lie at or above `offset`, or below it.
fn mask(offset: u64, first: u64, above: bool) -> u64 {
    let below = match offset.saturating_sub(first) {
        bits if bits >= BITS => u64::MAX,
        bits => (1 << bits) - 1,
    };
    if above { !below } else { below }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_watermark_waits_for_the_oldest() {
        let mut progress = Progress::new(100, []);
        for offset in 100..300 {
            assert!(progress.deliver(offset));
        }
        (101..300).for_each(|offset| progress.finish(offset));
        assert_eq!(progress.watermark(), 100);
        assert_eq!(progress.finished_runs(), [199]);
        progress.finish(100);
        assert_eq!((progress.watermark(), progress.finished_runs()), (300, Vec::new()));
    }

    #[test]
    fn gaps_in_the_log_do_not_hold_the_watermark() {
        let mut progress = Progress::new(0, []);
        assert!(progress.deliver(0) && progress.deliver(1_000));
        progress.finish(0);
        assert_eq!(progress.watermark(), 1_000);
    }

    #[test]
    fn what_a_predecessor_finished_is_not_delivered() {
        let mut progress = Progress::new(10, [(12, 3), (20, 1)]);
        let handed_over: Vec<u64> = (10..22).filter(|offset| progress.deliver(*offset)).collect();
        assert_eq!(handed_over, [10, 11, 15, 16, 17, 18, 19, 21]);
        assert!(!progress.deliver(11), "an offset is delivered once");
        assert_eq!(progress.unfinished(10, 25), [(10, 2), (15, 5), (21, 4)]);
        assert_eq!(progress.count_unfinished(22), 8);
    }

    proptest! {
        /// Against a plain set.
        #[test]
        fn agrees_with_a_set(
            start in 0u64..200,
            steps in prop::collection::vec((0u64..6, any::<prop::sample::Index>(), any::<bool>()), 1..400),
        ) {
            let mut progress = Progress::new(start, []);
            let (mut open, mut done) = (BTreeSet::new(), BTreeSet::new());
            let mut next = start;
            for (skip, pick, deliver) in steps {
                if deliver || open.is_empty() {
                    done.extend(next..next + skip);
                    next += skip;
                    prop_assert!(progress.deliver(next));
                    open.insert(next);
                    next += 1;
                } else {
                    let offset = *open.iter().nth(pick.index(open.len())).unwrap();
                    open.remove(&offset);
                    done.insert(offset);
                    progress.finish(offset);
                }
                let watermark = open.first().copied().unwrap_or(next);
                prop_assert_eq!(progress.watermark(), watermark);
                prop_assert_eq!(progress.next(), next);
                prop_assert_eq!(progress.count_unfinished(next), open.len() as u64);
                for offset in watermark..next {
                    prop_assert_eq!(progress.is_finished(offset), done.contains(&offset));
                }
                let unfinished: u64 = progress.unfinished(start, next).iter().map(|(_, length)| length).sum();
                prop_assert_eq!(unfinished, open.len() as u64);
            }
        }
    }
}
