//! [`Window`]: the rows of one shard that the relay knows, and which of them may go out now. A plain state machine: rows,
//! outcomes and time go in, batches come out.
//!
//! A key has one event out at a time, so that a later one never overtakes an earlier one that failed. What waits behind a
//! failed event is forgotten and read again when its turn has come: however long the queue of one key, the others go on.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::{HashMap, HashSet};
use messaging::Message;
use tokio::time::Instant;

/// How many rows of one key are kept beside the one that is out.
const PER_LANE: usize = 64;

/// A row to be published.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) lane: Lane,
    /// How often it was refused before.
    pub(crate) attempts: u32,
    pub(crate) message: Arc<Message>,
}

/// What keeps rows in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Rows of one topic and key.
    Key(i64),
    /// A row without a key, in no order.
    Row(i64),
}

#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Where reading goes on: a hint, which may be set back at any time.
    scan_from: i64,
    /// There may be rows above it that are not known.
    unread: bool,
    /// Rows that are here, are out, or were confirmed and are not yet deleted.
    known: HashSet<i64>,
    /// Lanes with a row that is ready or out.
    lanes: HashMap<Lane, Queue>,
    ready: VecDeque<Row>,
    parked: HashMap<Lane, Parked>,
    held: HashSet<Lane>,
    /// How often each lane's head failed in a row.
    failures: HashMap<Lane, u32>,
}

/// What waits behind the row of a lane that is ready or out.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Row>,
    /// The first row that was left in the database; with it, all later ones of the lane.
    left: Option<i64>,
}

/// A lane whose head failed.
#[derive(Clone, Copy, Debug)]
struct Parked {
    until: Instant,
    head: i64,
}

impl Window {
    /// Ids above this one are to be read next.
    pub(crate) fn scan_from(&self) -> i64 {
        self.scan_from
    }

    /// How many rows are known.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there may be rows that are not known.
    pub(crate) fn is_unread(&self) -> bool {
        self.unread
    }

    /// Rows were written.
    pub(crate) fn written(&mut self) {
        self.unread = true;
    }

    /// Reads from the beginning again: ids are given before their transactions commit, so that lower ones may come late.
    pub(crate) fn rescan(&mut self) {
        self.scan_from = 0;
        self.unread = true;
    }

    /// Nothing was found: the next look is at everything.
    pub(crate) fn at_rest(&mut self) {
        self.scan_from = 0;
    }

    /// Takes a page of rows as they were read, in the order of their ids, the last of them `last`; a page that is not
    /// full ends the scan. Answers how many were new.
    pub(crate) fn offer(&mut self, page: Vec<Row>, last: Option<i64>, full: bool) -> usize {
        self.scan_from = last.unwrap_or(self.scan_from);
        self.unread = full;
        page.into_iter().map(|row| usize::from(self.take(row))).sum()
    }

    fn take(&mut self, row: Row) -> bool {
        let (id, lane) = (row.id, row.lane);
        if self.known.contains(&id) || self.held.contains(&lane) {
            return false;
        }
        if let Some(parked) = self.parked.get_mut(&lane) {
            parked.head = parked.head.min(id);
            return false;
        }
        match self.lanes.get_mut(&lane) {
            None => {
                self.lanes.insert(lane, Queue::default());
                self.ready.push_back(row);
            }
            Some(queue) if queue.left.is_none() && queue.waiting.len() < PER_LANE => queue.waiting.push_back(row),
            Some(queue) => {
                queue.left = Some(queue.left.map_or(id, |left| left.min(id)));
                return false;
            }
        }
        self.known.insert(id);
        true
    }

    /// The first of these rows that should have been read before what was read above it, if there is one. Their lanes'
    /// later rows that were left in the database wait for them.
    pub(crate) fn missed(&mut self, rows: &[(i64, Lane)]) -> Option<i64> {
        let mut missed: Option<i64> = None;
        for &(id, lane) in rows {
            if self.known.contains(&id) || self.held.contains(&lane) {
                continue;
            }
            if let Some(parked) = self.parked.get_mut(&lane) {
                parked.head = parked.head.min(id);
            } else if let Some(left) = self.lanes.get_mut(&lane).and_then(|queue| queue.left.as_mut()) {
                *left = id.min(*left);
            } else {
                missed = Some(missed.map_or(id, |missed| missed.min(id)));
            }
        }
        missed
    }

    /// Up to so many rows that may go out, no two of one key, and not more bytes unless it is a single one.
    pub(crate) fn batch(&mut self, max: usize, max_bytes: usize) -> Vec<Row> {
        let mut bytes = 0_usize;
        let fits = |row: &&Row| {
            bytes = bytes.saturating_add(row.message.weight());
            bytes <= max_bytes
        };
        let count = self.ready.iter().take(max).take_while(fits).count().max(1).min(self.ready.len());
        self.ready.drain(..count).collect()
    }

    /// Whether a row could go out.
    pub(crate) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// A row that was out is with the broker. It stays known until it is [deleted](Self::deleted).
    pub(crate) fn confirmed(&mut self, row: &Row) {
        self.failures.remove(&row.lane);
        self.advance(row.lane);
    }

    /// A row that was out failed. Answers how often in a row.
    pub(crate) fn failed(&mut self, row: &Row) -> u32 {
        let failures = self.failures.entry(row.lane).or_default();
        *failures += 1;
        *failures
    }

    /// The lane of a failed row waits until then.
    pub(crate) fn park(&mut self, row: &Row, until: Instant) {
        self.known.remove(&row.id);
        self.forget(row.lane);
        self.parked.insert(row.lane, Parked { until, head: row.id });
    }

    /// A row that was out was given up and is gone. Its lane goes on, or is held.
    pub(crate) fn buried(&mut self, row: &Row, hold: bool) {
        self.known.remove(&row.id);
        self.failures.remove(&row.lane);
        if hold && matches!(row.lane, Lane::Key(_)) {
            self.forget(row.lane);
            self.held.insert(row.lane);
        } else {
            self.advance(row.lane);
        }
    }

    /// These rows are gone.
    pub(crate) fn deleted(&mut self, ids: &[i64]) {
        for id in ids {
            self.known.remove(id);
        }
    }

    /// These lanes are held, and no others.
    pub(crate) fn hold(&mut self, lanes: impl IntoIterator<Item = i64>) {
        let held: HashSet<Lane> = lanes.into_iter().map(Lane::Key).collect();
        let released = self.held.iter().any(|lane| !held.contains(lane));
        self.held = held;
        if released {
            self.rescan();
        }
    }

    /// Lets the lanes go on whose time has come.
    pub(crate) fn wake(&mut self, now: Instant) {
        let mut first: Option<i64> = None;
        self.parked.retain(|_, parked| {
            let due = parked.until <= now;
            if due {
                first = Some(first.map_or(parked.head, |first| first.min(parked.head)));
            }
            !due
        });
        if let Some(first) = first {
            self.rewind(first);
        }
    }

    /// When the next parked lane is to go on.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.parked.values().map(|parked| parked.until).min()
    }

    /// The lane's next row is ready.
    fn advance(&mut self, lane: Lane) {
        let Some(queue) = self.lanes.get_mut(&lane) else { return };
        if let Some(next) = queue.waiting.pop_front() {
            self.ready.push_back(next);
            return;
        }
        let left = queue.left;
        self.lanes.remove(&lane);
        if let Some(left) = left {
            self.rewind(left);
        }
    }

    /// Forgets what waits in a lane, and the lane.
    fn forget(&mut self, lane: Lane) {
        if let Some(queue) = self.lanes.remove(&lane) {
            for row in queue.waiting {
                self.known.remove(&row.id);
            }
        }
    }

    /// Reads this row again, and all that follows.
    pub(crate) fn rewind(&mut self, id: i64) {
        self.scan_from = self.scan_from.min(id - 1);
        self.unread = true;
    }
}

#[cfg(test)]
mod tests;
