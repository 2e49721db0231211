//! [`Acks`]: what of one partition is to be acknowledged, and when: one word for everything up to the watermark, a word
//! each for what was finished beyond it, and as few words as the broker's window allows.
//!
//! A word for everything up to a tag must name a tag that is still open: RabbitMQ looks for that very tag, and closes the
//! channel if it does not find it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// How long what is finished up to the watermark waits for more.
const PREFIX_DELAY: Duration = Duration::from_millis(5);
/// How long what is finished beyond it waits for the watermark to pass it.
const SINGLE_DELAY: Duration = Duration::from_millis(25);

/// So many that wait are not kept waiting, in a window of this size.
pub(crate) fn enough(prefetch: u16) -> usize {
    usize::from(prefetch / 4).max(1)
}

/// One acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) tag: u64,
    /// Also of everything before.
    pub(crate) multiple: bool,
}

/// The finished tags of one channel.
#[derive(Debug)]
pub(crate) struct Acks {
    /// Every tag up to here was acknowledged.
    acked_through: u64,
    /// Tags beyond it that were.
    acked: BTreeSet<u64>,
    /// Every tag up to here is finished.
    through: u64,
    /// Tags beyond `through` that are finished and were not acknowledged.
    finished: BTreeSet<u64>,
    /// Since when something up to `through`, and something beyond it, waits.
    prefix_since: Option<Instant>,
    singles_since: Option<Instant>,
    /// So many that wait are not kept waiting.
    enough: usize,
}

impl Acks {
    /// For a channel whose window is `prefetch`.
    pub(crate) fn new(prefetch: u16) -> Self {
        Self {
            acked_through: 0,
            acked: BTreeSet::new(),
            through: 0,
            finished: BTreeSet::new(),
            prefix_since: None,
            singles_since: None,
            enough: enough(prefetch),
        }
    }

    /// How many were handed over and not acknowledged, if `last` was handed over last.
    pub(crate) fn unsettled(&self, last: u64) -> u64 {
        last.saturating_sub(self.acked_through).saturating_sub(self.acked.len() as u64)
    }

    /// Whether anything was acknowledged.
    pub(crate) fn any_taken(&self) -> bool {
        self.acked_through > 0 || !self.acked.is_empty()
    }

    /// These tags were finished, and everything is up to `through`.
    pub(crate) fn note(&mut self, finished: &[u64], through: u64, now: Instant) {
        if through > self.through {
            self.through = through;
            self.finished = self.finished.split_off(&(through + 1));
            self.prefix_since.get_or_insert(now);
        }
        self.finished.extend(finished.iter().filter(|tag| **tag > self.through));
        if self.finished.is_empty() {
            self.singles_since = None;
        } else {
            self.singles_since.get_or_insert(now);
        }
    }

    /// When [`take`](Self::take) should be called.
    pub(crate) fn due(&self) -> Option<Instant> {
        let prefix =
            self.prefix_since.map(|since| if self.waiting() >= self.enough { since } else { since + PREFIX_DELAY });
        let many = self.finished.len() >= self.enough;
        let singles = self.singles_since.map(|since| if many { since } else { since + SINGLE_DELAY });
        prefix.into_iter().chain(singles).min()
    }

    /// What is to be acknowledged now; everything if the partition is to be given up.
    pub(crate) fn take(&mut self, now: Instant, everything: bool, out: &mut Vec<Ack>) {
        let due = |since: Option<Instant>, delay: Duration, many: bool| {
            since.is_some_and(|since| everything || many || since + delay <= now)
        };
        if due(self.prefix_since, PREFIX_DELAY, self.waiting() >= self.enough) {
            self.prefix_since = None;
            self.take_prefix(out);
        }
        if due(self.singles_since, SINGLE_DELAY, self.finished.len() >= self.enough) {
            self.singles_since = None;
            out.extend(self.finished.iter().map(|tag| Ack { tag: *tag, multiple: false }));
            self.acked.append(&mut self.finished);
        }
    }

    fn take_prefix(&mut self, out: &mut Vec<Ack>) {
        // The last open tag up to the watermark.
        let mut last = self.through;
        while last > self.acked_through && self.acked.contains(&last) {
            last -= 1;
        }
        if last > self.acked_through {
            let alone = last == self.acked_through + 1;
            out.push(Ack { tag: last, multiple: !alone });
        }
        self.acked_through = self.through;
        self.acked = self.acked.split_off(&(self.through + 1));
    }

    fn waiting(&self) -> usize {
        usize::try_from(self.through.saturating_sub(self.acked_through)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn one(tag: u64) -> Ack {
        Ack { tag, multiple: false }
    }

    fn up_to(tag: u64) -> Ack {
        Ack { tag, multiple: true }
    }

    fn take(acks: &mut Acks, now: Instant, everything: bool) -> Vec<Ack> {
        let mut out = Vec::new();
        acks.take(now, everything, &mut out);
        out
    }

    #[test]
    fn the_watermark_goes_in_one_word_and_the_rest_one_by_one() {
        let start = Instant::now();
        let mut acks = Acks::new(200);
        acks.note(&[2, 1, 5], 2, start);
        assert_eq!(acks.due(), Some(start + PREFIX_DELAY));
        assert_eq!(take(&mut acks, start, false), []);
        assert_eq!(take(&mut acks, start + PREFIX_DELAY, false), [up_to(2)]);
        assert_eq!(acks.due(), Some(start + SINGLE_DELAY));
        acks.note(&[3, 4], 5, start + PREFIX_DELAY);
        assert_eq!(take(&mut acks, start + SINGLE_DELAY, false), [up_to(5)], "the watermark has passed it");
        assert_eq!(acks.due(), None);
    }

    #[test]
    fn a_word_for_many_names_a_tag_that_is_open() {
        let start = Instant::now();
        let mut acks = Acks::new(200);
        assert!(acks.unsettled(5) == 5 && !acks.any_taken());
        acks.note(&[2, 4], 0, start);
        assert_eq!(take(&mut acks, start, true), [one(2), one(4)]);
        assert!(acks.unsettled(5) == 3 && acks.any_taken());
        acks.note(&[1], 2, start);
        assert_eq!(take(&mut acks, start, true), [one(1)]);
        acks.note(&[3], 4, start);
        assert_eq!(take(&mut acks, start, true), [one(3)]);
        assert_eq!(acks.unsettled(5), 1);
        assert_eq!(take(&mut acks, start, true), []);
    }

    #[test]
    fn a_full_window_waits_for_nothing() {
        let start = Instant::now();
        let mut acks = Acks::new(8);
        acks.note(&[2], 0, start);
        assert_eq!(take(&mut acks, start, false), []);
        acks.note(&[3], 0, start);
        assert_eq!(acks.due(), Some(start));
        assert_eq!(take(&mut acks, start, false), [one(2), one(3)]);
    }

    proptest! {
        /// Against a broker as RabbitMQ is: whatever the order of finishing, every tag is acknowledged once.
        #[test]
        fn every_tag_is_acknowledged_once(
            order in Just((1..=60u64).collect::<Vec<_>>()).prop_shuffle(),
            steps in prop::collection::vec((1usize..8, 0u64..40, any::<bool>()), 1..60),
        ) {
            let mut now = Instant::now();
            let mut acks = Acks::new(40);
            let mut open: BTreeSet<u64> = (1..=60).collect();
            let mut finished = BTreeSet::new();
            let mut order = order.into_iter();
            let mut obey = |acks: &mut Acks, now, everything, finished: &BTreeSet<u64>| {
                for ack in take(acks, now, everything) {
                    prop_assert!(open.contains(&ack.tag), "{ack:?} is not open");
                    let gone: Vec<u64> =
                        open.iter().copied().filter(|tag| *tag == ack.tag || (ack.multiple && *tag < ack.tag)).collect();
                    for tag in gone {
                        prop_assert!(finished.contains(&tag), "{tag} is not finished");
                        open.remove(&tag);
                    }
                }
                Ok(open.len())
            };
            let mut through = 0;
            for (count, millis, everything) in steps {
                let some: Vec<u64> = order.by_ref().take(count).collect();
                finished.extend(some.iter().copied());
                while finished.contains(&(through + 1)) {
                    through += 1;
                }
                acks.note(&some, through, now);
                now += Duration::from_millis(millis);
                obey(&mut acks, now, everything, &finished)?;
            }
            let rest: Vec<u64> = order.collect();
            finished.extend(rest.iter().copied());
            acks.note(&rest, 60, now);
            prop_assert_eq!(obey(&mut acks, now, true, &finished)?, 0);
            prop_assert_eq!(acks.due(), None);
        }
    }
}
