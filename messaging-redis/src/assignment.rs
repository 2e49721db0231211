//! [`Assignment`]: one partition that this instance owns, as the tasks of a consumer share it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
};

use messaging::{Message, Position, Tick};
use parking_lot::Mutex;

use crate::{entry, ledger::Ledger, topics::Topic};

/// No handle of the executor's.
const NO_HANDLE: u32 = u32::MAX;

/// One partition under one epoch. A partition that is lost and taken again is another assignment.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) topic: Arc<Topic>,
    pub(crate) partition: u32,
    pub(crate) stream: Arc<str>,
    pub(crate) lease: String,
    pub(crate) epoch: u64,
    /// When its lease was asked for.
    pub(crate) taken_at: Tick,
    /// Entries handed over that the executor has not taken yet; no more are fetched while there are any.
    waiting: AtomicUsize,
    /// The owner was asked to let it go.
    revoking: AtomicBool,
    /// The executor has let it go.
    released: AtomicBool,
    /// The server has forgotten what it had confirmed.
    regressed: AtomicBool,
    /// Handed over and not settled at the server.
    outstanding: AtomicUsize,
    /// The run of the server that is known to remember what was settled.
    trusted_run: Mutex<Arc<str>>,
    handle: AtomicU32,
    settled: Mutex<Settled>,
    /// What the last entries lay in, for the next.
    spare: Mutex<Vec<(Position, Arc<Message>)>>,
    pub(crate) cursor: Mutex<Cursor>,
}

/// Settled positions that the server has not been told. Large buffers are used again: a large allocation has the
/// allocator tidy up all that the small ones have left, which costs more than everything else about settling.
#[derive(Debug, Default)]
struct Settled {
    positions: Vec<Position>,
    /// What those lay in that the server was told last.
    spare: Vec<Position>,
}

/// How far a partition was read.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) stage: Stage,
    /// The last entry that was handed over.
    pub(crate) last: Position,
    pub(crate) ledger: Ledger,
}

/// What is to be read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// What was delivered before, to whomever, and not settled: from this entry on, so many at once.
    Claiming { next: Position, page: usize },
    /// New entries.
    Live,
    /// Nothing any more.
    Stopped,
}

impl Assignment {
    pub(crate) fn new(
        topic: Arc<Topic>,
        partition: u32,
        group: &str,
        (epoch, taken_at): (u64, Tick),
        run: Arc<str>,
        ledger: Ledger,
    ) -> Self {
        let stream = topic.streams[partition as usize].clone();
        Self {
            lease: crate::keys::lease_key(&stream, group),
            topic,
            partition,
            stream,
            epoch,
            taken_at,
            waiting: AtomicUsize::new(0),
            revoking: AtomicBool::new(false),
            released: AtomicBool::new(false),
            regressed: AtomicBool::new(false),
            outstanding: AtomicUsize::new(0),
            trusted_run: Mutex::new(run),
            handle: AtomicU32::new(NO_HANDLE),
            settled: Mutex::default(),
            spare: Mutex::default(),
            cursor: Mutex::new(Cursor { stage: Stage::from_the_start(), last: Position::default(), ledger }),
        }
    }

    /// Notes the executor's handle.
    pub(crate) fn set_handle(&self, handle: usize) {
        self.handle.store(u32::try_from(handle).unwrap_or(NO_HANDLE), Ordering::Relaxed);
    }

    pub(crate) fn handle(&self) -> Option<usize> {
        Some(self.handle.load(Ordering::Relaxed)).filter(|handle| *handle != NO_HANDLE).map(|handle| handle as usize)
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// So many entries have been handed over.
    pub(crate) fn handed_over(&self, count: usize) {
        self.waiting.fetch_add(count, Ordering::AcqRel);
        self.outstanding.fetch_add(count, Ordering::AcqRel);
    }

    /// The executor has taken so many of them; answers whether that was the last.
    pub(crate) fn taken(&self, count: usize) -> bool {
        count > 0 && self.waiting.fetch_sub(count, Ordering::AcqRel) == count
    }

    /// An empty buffer for entries.
    pub(crate) fn buffer(&self) -> Vec<(Position, Arc<Message>)> {
        std::mem::take(&mut self.spare.lock())
    }

    /// Takes back a buffer that was emptied.
    pub(crate) fn give_back(&self, buffer: Vec<(Position, Arc<Message>)>) {
        *self.spare.lock() = buffer;
    }

    pub(crate) fn settle(&self, positions: &[Position]) {
        self.settled.lock().positions.extend_from_slice(positions);
    }

    pub(crate) fn take_settled(&self) -> Vec<Position> {
        let mut settled = self.settled.lock();
        let spare = std::mem::take(&mut settled.spare);
        std::mem::replace(&mut settled.positions, spare)
    }

    /// Puts back what the server could not be told.
    pub(crate) fn settle_again(&self, mut positions: Vec<Position>) {
        let mut settled = self.settled.lock();
        positions.append(&mut settled.positions);
        settled.positions = positions;
    }

    /// The server was told that these are settled.
    pub(crate) fn acknowledged(&self, mut positions: Vec<Position>) {
        self.outstanding.fetch_sub(positions.len(), Ordering::AcqRel);
        positions.clear();
        self.settled.lock().spare = positions;
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Acquire)
    }

    /// Whether this run of the server may have forgotten what an earlier one was told.
    pub(crate) fn doubts(&self, run: &str) -> bool {
        **self.trusted_run.lock() != *run
    }

    pub(crate) fn trust(&self, run: &Arc<str>) {
        *self.trusted_run.lock() = run.clone();
    }

    pub(crate) fn is_settled_up(&self) -> bool {
        self.settled.lock().positions.is_empty()
    }

    pub(crate) fn stop(&self) {
        self.cursor.lock().stage = Stage::Stopped;
    }

    /// What was read last was earlier than what had been read: everything is to begin anew.
    pub(crate) fn regress(&self) {
        self.stop();
        self.regressed.store(true, Ordering::Release);
    }

    pub(crate) fn has_regressed(&self) -> bool {
        self.regressed.load(Ordering::Acquire)
    }

    /// The executor has let it go, and will say no more of it.
    pub(crate) fn release(&self) {
        self.released.store(true, Ordering::Release);
    }

    pub(crate) fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    /// Another instance is to have it: nothing of it is read any more.
    pub(crate) fn revoke(&self) {
        self.revoking.store(true, Ordering::Release);
        self.stop();
    }

    pub(crate) fn is_revoking(&self) -> bool {
        self.revoking.load(Ordering::Acquire)
    }

    /// The page to be claimed next, if it may be.
    pub(crate) fn to_claim(&self) -> Option<(Position, usize)> {
        match self.cursor.lock().stage {
            Stage::Claiming { next, page } if !self.is_waiting() => Some((next, page)),
            _ => None,
        }
    }

    /// The last entry that was read, and how many were accounted for up to it.
    pub(crate) fn position(&self) -> (Position, Option<u64>) {
        self.cursor.lock().ledger.position()
    }

    /// Whether new entries are to be read.
    pub(crate) fn is_live(&self) -> bool {
        self.cursor.lock().stage == Stage::Live
    }
}

impl Stage {
    /// Everything that was delivered and not settled.
    pub(crate) const fn from_the_start() -> Self {
        Self::Claiming { next: Position::new(0), page: FIRST_PAGE }
    }
}

/// Pages begin small, as their entries may be large.
const FIRST_PAGE: usize = 16;
const LARGEST_PAGE: usize = 256;

impl Cursor {
    /// After an error of the reading connection: what it was sent and we did not get has been delivered, and is to be
    /// claimed.
    pub(crate) fn reclaim(&mut self) {
        if self.stage == Stage::Live {
            self.stage = Stage::Claiming { next: entry::after(self.last), page: FIRST_PAGE };
        }
    }

    /// A page was claimed, and this is where the next begins; `None` after the last.
    pub(crate) fn claimed(&mut self, next: Option<Position>) {
        if let Stage::Claiming { page, .. } = self.stage {
            self.stage = match next {
                Some(next) => Stage::Claiming { next, page: (page * 2).min(LARGEST_PAGE) },
                None => Stage::Live,
            };
        }
    }

    /// Takes note of entries that are handed over. `false` if they are not all later than what was handed over before:
    /// then the server has forgotten what it had confirmed.
    pub(crate) fn advance(&mut self, entries: &[(Position, Arc<Message>)]) -> bool {
        let mut last = self.last;
        for (position, _) in entries {
            if *position <= last && last != Position::default() {
                return false;
            }
            last = *position;
        }
        self.last = last;
        for (position, _) in entries {
            self.ledger.read(*position);
        }
        true
    }
}
