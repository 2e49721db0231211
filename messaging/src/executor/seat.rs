//! [`Seat`]: one of a worker's slots, and the run that is in it.

use std::task::Waker;

use super::{Trouble, burying::Burying};
use crate::{delivery::Position, engine::EntryId, time::Tick, timestamp::Timestamp};

/// One slot of a worker.
///
/// A run lies in it flat, and is written field by field where it stays: as a part of an enum it would be built elsewhere
/// and copied, coming and going.
pub(super) struct Seat {
    /// Wakes the worker for what is in this slot.
    pub(super) waker: Waker,
    pub(super) occupant: Occupant,
    /// If a handler runs here; nothing of it means anything otherwise.
    pub(super) run: Run,
    /// If a dead letter is written here.
    burying: Option<Box<Burying>>,
}

/// What a slot is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occupant {
    Nobody,
    Handler,
    Burial,
}

/// One handler run that has not ended at its first poll.
#[derive(Default)]
pub(super) struct Run {
    pub(super) what: Running,
    pub(super) timeout: Option<Tick>,
    pub(super) started: Tick,
    /// If somebody listens for spans.
    pub(super) span: Option<Box<tracing::Span>>,
    /// It was to be dropped and goes on for now: it holds its slot and its lane until it ends.
    pub(super) cut_short: Option<CutShort>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum CutShort {
    TimedOut,
    /// The partition is given up or lost.
    Dropped,
}

/// One delivery whose handler has started.
#[derive(Default)]
pub(super) struct Running {
    pub(super) id: EntryId,
    pub(super) route: usize,
    /// The partition's number in its topic.
    pub(super) number: u32,
    pub(super) position: Position,
    pub(super) epoch: u64,
    /// Attempts that counted before this one.
    pub(super) attempts: u32,
    pub(super) time: Option<Timestamp>,
    pub(super) note: Option<Box<Trouble>>,
}

impl Seat {
    pub(super) fn new(waker: Waker) -> Self {
        Self { waker, occupant: Occupant::Nobody, run: Run::default(), burying: None }
    }

    /// A handler that has not ended goes on here, where nobody was.
    #[inline(always)]
    pub(super) fn seat(
        &mut self,
        what: Running,
        started: Tick,
        timeout: Option<Tick>,
        span: Option<Box<tracing::Span>>,
    ) {
        let run = &mut self.run;
        run.what.id = what.id;
        run.what.route = what.route;
        run.what.number = what.number;
        run.what.position = what.position;
        run.what.epoch = what.epoch;
        run.what.attempts = what.attempts;
        run.what.time = what.time;
        run.timeout = timeout;
        run.started = started;
        run.cut_short = None;
        // Mostly there is neither, and nothing was left of the run before.
        if what.note.is_some() {
            run.what.note = what.note;
        }
        if span.is_some() {
            run.span = span;
        }
        self.occupant = Occupant::Handler;
    }

    /// The handler has ended well: nobody is here any more.
    #[inline(always)]
    pub(super) fn leave(&mut self) {
        self.occupant = Occupant::Nobody;
        self.run.what.note = None;
        self.run.span = None;
    }

    /// Takes out the run of a handler that has ended otherwise.
    pub(super) fn take_run(&mut self) -> Run {
        self.occupant = Occupant::Nobody;
        std::mem::take(&mut self.run)
    }

    /// A dead letter is written here.
    pub(super) fn bury(&mut self, burying: Box<Burying>) {
        self.occupant = Occupant::Burial;
        self.burying = Some(burying);
    }

    /// Takes out the writing of a dead letter.
    pub(super) fn take_burying(&mut self) -> Option<Box<Burying>> {
        self.occupant = Occupant::Nobody;
        self.burying.take()
    }

    /// Whatever is here goes.
    pub(super) fn vacate(&mut self) {
        drop(self.take_run());
        drop(self.take_burying());
    }

    /// Who is here.
    pub(super) fn id(&self) -> Option<EntryId> {
        match self.occupant {
            Occupant::Nobody => None,
            Occupant::Handler => Some(self.run.what.id),
            Occupant::Burial => self.burying.as_ref().map(|burying| burying.what.id),
        }
    }
}
