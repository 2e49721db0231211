//! [`Tracker`]: which positions of one partition are finished, and the watermark below which all are.

use crate::delivery::Position;

/// The finished set of one partition's assignment, from its oldest unfinished delivery on.
///
/// Deliveries are numbered densely in the order of their arrival (their *ordinal*), because positions may have gaps.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    /// A ring: the mark of an ordinal is at its remainder by the length, which is a power of two.
    marks: Vec<Mark>,
    /// The ordinal of the oldest mark.
    base: u64,
    /// The ordinal of the next delivery.
    end: u64,
    through: Option<Position>,
    /// Finished since the last settlement.
    finished: Vec<Position>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    position: Position,
    finished: bool,
}

impl Tracker {
    /// Takes a delivery in; answers its ordinal.
    #[inline]
    pub(crate) fn push(&mut self, position: Position) -> u64 {
        if self.span() == self.marks.len() {
            self.grow();
        }
        let ordinal = self.end;
        *self.mark(ordinal) = Mark { position, finished: false };
        self.end += 1;
        ordinal
    }

    /// Marks the delivery of this ordinal and position finished. Answers whether anything awaits settlement that did
    /// not before.
    #[inline(always)]
    pub(crate) fn finish(&mut self, ordinal: u64, position: Position) -> bool {
        if ordinal == self.base && ordinal < self.end {
            self.through = Some(position);
            self.base += 1;
            self.pass();
        } else if ordinal < self.base || ordinal >= self.end || !self.finish_ahead(ordinal) {
            return false;
        }
        let first = self.finished.is_empty();
        self.finished.push(position);
        first
    }

    /// Marks a delivery beyond the oldest; answers whether it was not marked before.
    #[inline]
    fn finish_ahead(&mut self, ordinal: u64) -> bool {
        !std::mem::replace(&mut self.mark(ordinal).finished, true)
    }

    /// Lets the watermark pass all that is finished.
    #[inline(always)]
    fn pass(&mut self) {
        while self.base < self.end {
            let mark = *self.mark(self.base);
            if !mark.finished {
                break;
            }
            self.through = Some(mark.position);
            self.base += 1;
        }
    }

    #[inline]
    fn mark(&mut self, ordinal: u64) -> &mut Mark {
        let index = ordinal as usize & (self.marks.len() - 1);
        &mut self.marks[index]
    }

    #[cold]
    fn grow(&mut self) {
        let length = (self.marks.len() * 2).max(64);
        let mut marks = vec![Mark::default(); length];
        for ordinal in self.base..self.end {
            marks[ordinal as usize & (length - 1)] = *self.mark(ordinal);
        }
        self.marks = marks;
    }

    /// How many deliveries lie between the watermark and the newest, finished or not.
    #[inline]
    pub(crate) fn span(&self) -> usize {
        (self.end - self.base) as usize
    }

    /// How many deliveries arrived with or after this one.
    pub(crate) fn span_from(&self, ordinal: u64) -> usize {
        (self.end - ordinal.clamp(self.base, self.end)) as usize
    }

    /// What was finished since the last call of [`clear_finished`](Self::clear_finished), in the order of finishing.
    pub(crate) fn finished(&self) -> &[Position] {
        &self.finished
    }

    /// The position up to which everything is finished, inclusive.
    pub(crate) fn through(&self) -> Option<Position> {
        self.through
    }

    pub(crate) fn clear_finished(&mut self) {
        self.finished.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watermark_waits_for_the_oldest_and_then_passes_all_that_are_finished() {
        let mut tracker = Tracker::default();
        let ordinals: Vec<u64> = [10, 12, 15, 16].into_iter().map(|n| tracker.push(Position::new(n))).collect();
        assert!(tracker.finish(ordinals[1], Position::new(12)));
        assert!(!tracker.finish(ordinals[2], Position::new(15)));
        assert_eq!(tracker.through(), None);
        assert_eq!(tracker.span(), 4);
        tracker.finish(ordinals[0], Position::new(10));
        assert_eq!(tracker.through(), Some(Position::new(15)));
        assert_eq!(tracker.finished(), [12, 15, 10].map(Position::new));
        assert_eq!((tracker.span(), tracker.span_from(ordinals[3])), (1, 1));
    }

    #[test]
    fn finishing_twice_counts_once() {
        let mut tracker = Tracker::default();
        let first = tracker.push(Position::new(1));
        let second = tracker.push(Position::new(2));
        assert!(tracker.finish(second, Position::new(2)));
        assert!(!tracker.finish(second, Position::new(2)));
        tracker.finish(first, Position::new(1));
        assert!(!tracker.finish(first, Position::new(1)));
        assert_eq!(tracker.finished().len(), 2);
    }
}
