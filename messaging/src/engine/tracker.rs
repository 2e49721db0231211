//! [`Tracker`]: which positions of one partition are finished, and the watermark below which all are.

use std::collections::VecDeque;

use crate::delivery::Position;

/// The finished set of one partition's assignment, from its oldest unfinished delivery on.
///
/// Deliveries are numbered densely in the order of their arrival (their *ordinal*), because positions may have gaps.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    /// The ordinal of `marks[0]`.
    base: u64,
    marks: VecDeque<Mark>,
    through: Option<Position>,
    /// Finished since the last settlement.
    finished: Vec<Position>,
}

#[derive(Debug)]
struct Mark {
    position: Position,
    finished: bool,
}

impl Tracker {
    /// Takes a delivery in; answers its ordinal.
    #[inline]
    pub(crate) fn push(&mut self, position: Position) -> u64 {
        self.marks.push_back(Mark { position, finished: false });
        self.base + self.marks.len() as u64 - 1
    }

    /// Marks a delivery finished. Answers whether anything awaits settlement that did not before.
    #[inline]
    pub(crate) fn finish(&mut self, ordinal: u64) -> bool {
        let first = self.finished.is_empty();
        // The oldest one, with nothing finished behind it: the usual case while all goes well.
        if ordinal == self.base
            && let Some(oldest) = self.marks.front()
            && !self.marks.get(1).is_some_and(|next| next.finished)
        {
            self.finished.push(oldest.position);
            self.through = Some(oldest.position);
            self.marks.pop_front();
            self.base += 1;
            return first;
        }
        let Some(mark) = ordinal.checked_sub(self.base).and_then(|offset| self.marks.get_mut(offset as usize)) else {
            return false;
        };
        if std::mem::replace(&mut mark.finished, true) {
            return false;
        }
        self.finished.push(mark.position);
        while let Some(Mark { position, finished: true }) = self.marks.front() {
            self.through = Some(*position);
            self.marks.pop_front();
            self.base += 1;
        }
        first
    }

    /// How many deliveries lie between the watermark and the newest, finished or not.
    #[inline]
    pub(crate) fn span(&self) -> usize {
        self.marks.len()
    }

    /// How many deliveries arrived with or after this one.
    pub(crate) fn span_from(&self, ordinal: u64) -> usize {
        self.marks.len().saturating_sub(ordinal.saturating_sub(self.base) as usize)
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
        assert!(tracker.finish(ordinals[1]));
        assert!(!tracker.finish(ordinals[2]));
        assert_eq!(tracker.through(), None);
        assert_eq!(tracker.span(), 4);
        tracker.finish(ordinals[0]);
        assert_eq!(tracker.through(), Some(Position::new(15)));
        assert_eq!(tracker.finished(), [12, 15, 10].map(Position::new));
        assert_eq!((tracker.span(), tracker.span_from(ordinals[3])), (1, 1));
    }

    #[test]
    fn finishing_twice_counts_once() {
        let mut tracker = Tracker::default();
        let first = tracker.push(Position::new(1));
        let second = tracker.push(Position::new(2));
        assert!(tracker.finish(second));
        assert!(!tracker.finish(second));
        tracker.finish(first);
        assert!(!tracker.finish(first));
        assert_eq!(tracker.finished().len(), 2);
    }
}
