//! [`Ledger`]: accounts for every entry of a partition up to the last one read, so that those show which were trimmed or
//! deleted unread.
//!
//! The server counts what was ever added to a stream, and trimming takes the oldest. So whatever is gone and was not
//! read was lost, exactly; it only has to be told from what was read and trimmed since.

use messaging::Position;

use crate::entry;

/// Entries read since the last balance, after which it is time for the next.
const MUCH: usize = 20_000;

#[derive(Debug)]
pub(crate) struct Ledger {
    /// The last entry that had been delivered when the partition was opened.
    opened_at: Position,
    /// How many entries were ever added up to the last balance, read or lost; `None` if the server does not know.
    accounted: Option<u64>,
    /// Up to where that is.
    balanced_at: Position,
    /// What was read since.
    since: Vec<Position>,
    /// The last of all that was read.
    newest: Position,
    /// How the stream stood when it was last looked at, if the ledger has not been balanced with it.
    standing: Option<Standing>,
}

/// How a stream stands at one instant.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    /// Entries ever added.
    pub(crate) added: u64,
    /// Entries that are there.
    pub(crate) length: u64,
    /// The first of them.
    pub(crate) first: Position,
    /// The last entry that was ever added.
    pub(crate) newest: Position,
    /// The last entry that was delivered to the group.
    pub(crate) delivered: Position,
}

/// Entries that are gone without having been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// None of them is before this.
    pub(crate) first: Position,
    pub(crate) count: u64,
}

impl Ledger {
    /// A ledger of a partition of which so many entries were accounted for, up to the last one delivered.
    pub(crate) fn new(delivered: Position, accounted: Option<u64>) -> Self {
        Self {
            opened_at: delivered,
            accounted,
            balanced_at: delivered,
            since: Vec::new(),
            newest: delivered,
            standing: None,
        }
    }

    /// The last entry that was read, and how many were accounted for up to it.
    pub(crate) fn position(&self) -> (Position, Option<u64>) {
        (self.newest, self.accounted.map(|accounted| accounted + self.since.len() as u64))
    }

    /// An entry was delivered. Those that had been when the partition was opened are accounted for.
    pub(crate) fn read(&mut self, position: Position) {
        if position > self.opened_at {
            self.since.push(position);
            self.newest = self.newest.max(position);
        }
    }

    /// Whether it is time to look at the stream.
    pub(crate) fn is_long(&self) -> bool {
        self.since.len() >= MUCH
    }

    /// Takes note of how the stream stands, unless an earlier look waits to be used.
    pub(crate) fn look(&mut self, standing: Standing) {
        self.standing.get_or_insert(standing);
    }

    /// Compares what was read with how the stream stood; answers what is missing. Waits until everything has arrived
    /// that had been delivered then.
    pub(crate) fn balance(&mut self) -> Option<Lost> {
        let newest = self.newest;
        let stream = self.standing.take_if(|standing| newest >= standing.delivered)?;
        let is_gone = |position: Position| stream.length == 0 || position < stream.first;
        let count =
            |which: &dyn Fn(Position) -> bool| self.since.iter().filter(|position| which(**position)).count() as u64;
        let read_all = newest >= stream.newest;
        let from = entry::after(self.balanced_at);
        let lost = match self.accounted {
            Some(accounted) if read_all => stream.added.saturating_sub(accounted + count(&|at| at <= stream.newest)),
            Some(accounted) if is_gone(from) => {
                (stream.added - stream.length).saturating_sub(accounted + count(&is_gone))
            }
            // The entry after the last balance is there, so nothing after it was trimmed.
            Some(_) | None => 0,
        };
        self.accounted = match self.accounted {
            Some(accounted) => Some(accounted + self.since.len() as u64 + lost),
            None if read_all => Some(stream.added + count(&|at| at > stream.newest)),
            // All that was there then was unread.
            None if stream.delivered < stream.first => {
                Some(stream.added - stream.length + count(&|at| at > stream.delivered))
            }
            None => None,
        };
        self.balanced_at = newest;
        self.since.clear();
        (lost > 0).then_some(Lost { first: from, count: lost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u64) -> Position {
        Position::new(number)
    }

    /// A stream of entries 1 to `added`, of which those up to `trimmed` are gone.
    fn standing(added: u64, trimmed: u64, delivered: u64) -> Standing {
        let first = if trimmed < added { at(trimmed + 1) } else { at(0) };
        Standing { added, length: added - trimmed, first, newest: at(added), delivered: at(delivered) }
    }

    fn read(ledger: &mut Ledger, range: std::ops::RangeInclusive<u64>) {
        range.for_each(|number| ledger.read(at(number)));
    }

    fn balance(ledger: &mut Ledger, standing: Standing) -> Option<(u64, u64)> {
        ledger.look(standing);
        ledger.balance().map(|lost| (lost.first.major, lost.count))
    }

    #[test]
    fn what_was_read_before_it_was_trimmed_is_not_lost() {
        let mut ledger = Ledger::new(at(0), Some(0));
        read(&mut ledger, 1..=60);
        assert_eq!(balance(&mut ledger, standing(100, 50, 60)), None);
        read(&mut ledger, 61..=90);
        assert_eq!(balance(&mut ledger, standing(120, 80, 90)), None);
    }

    #[test]
    fn what_was_trimmed_unread_is_counted_whatever_was_read_since() {
        let mut ledger = Ledger::new(at(0), Some(0));
        read(&mut ledger, 1..=10);
        assert_eq!(balance(&mut ledger, standing(100, 0, 10)), None);
        // 11 to 30 are gone; then 31 to 50 were read, of which 31 to 40 are gone by now.
        read(&mut ledger, 31..=50);
        assert_eq!(balance(&mut ledger, standing(100, 40, 50)), Some((10, 20)));
        read(&mut ledger, 51..=100);
        assert_eq!(balance(&mut ledger, standing(100, 100, 100)), None);
    }

    #[test]
    fn waits_for_what_is_on_its_way() {
        let mut ledger = Ledger::new(at(0), Some(0));
        read(&mut ledger, 1..=10);
        // 11 to 20 were delivered and trimmed, but have not arrived.
        assert_eq!(balance(&mut ledger, standing(30, 20, 20)), None);
        read(&mut ledger, 11..=25);
        assert_eq!(ledger.balance(), None);
        read(&mut ledger, 26..=30);
        assert_eq!(balance(&mut ledger, standing(30, 20, 30)), None);
    }

    #[test]
    fn a_deleted_entry_shows_when_all_are_read() {
        let mut ledger = Ledger::new(at(0), Some(0));
        read(&mut ledger, 1..=4);
        read(&mut ledger, 6..=10);
        let one_deleted = Standing { length: 9, ..standing(10, 0, 10) };
        assert_eq!(balance(&mut ledger, one_deleted), Some((0, 1)));
    }

    #[test]
    fn an_unknown_count_is_known_again_when_all_are_read() {
        let mut ledger = Ledger::new(at(5), None);
        read(&mut ledger, 6..=8);
        assert_eq!(balance(&mut ledger, standing(10, 0, 8)), None);
        read(&mut ledger, 9..=10);
        assert_eq!(balance(&mut ledger, standing(10, 0, 10)), None);
        assert_eq!(balance(&mut ledger, Standing { delivered: at(10), ..standing(20, 15, 0) }), Some((10, 5)));
    }

    #[test]
    fn what_was_delivered_before_is_not_counted_twice() {
        let mut ledger = Ledger::new(at(5), Some(5));
        // Claimed from an owner before.
        read(&mut ledger, 4..=5);
        read(&mut ledger, 6..=6);
        assert_eq!(balance(&mut ledger, standing(6, 0, 6)), None);
        assert_eq!(balance(&mut ledger, standing(7, 7, 6)), Some((6, 1)));
    }
}
