//! The round's visit to the engine: what ended goes back, the broker is told, what may start is taken.

use std::{
    sync::atomic::Ordering,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    RunPhase, State,
    seat::{CutShort, Occupant},
    worker::Worker,
};
use crate::{
    consumer::{Intake, PartitionHandle, Settlement},
    engine::{EntryId, Verdict},
    time::Tick,
};

/// How many starts one visit to the engine takes at most. Bounds how much an owner that was frozen between the check of
/// its validity and the starts can begin too late.
pub(super) const MAX_BURST: usize = 16;
/// About what it takes until a worker that is woken has found a thread and the engine.
const HELP_COMES_AFTER: Duration = Duration::from_micros(100);

pub(super) enum Visit {
    /// There is something to start.
    Starts,
    /// Nothing to do until a wake-up.
    Nothing,
    /// Look again at once.
    Again,
    /// The executor has ended.
    Ended,
}

impl Worker {
    /// The round's visit to the engine: what ended goes back, the broker is told, what may start is taken.
    pub(super) fn visit(&mut self, now: Tick) -> Visit {
        let shared = self.shared.clone();
        let mut guard = shared.state.lock();
        let state = &mut *guard;
        let mut again = false;
        if state.phase == RunPhase::Ended {
            return Visit::Ended;
        }
        state.may_fill |= !self.finished.is_empty() || !self.done.is_empty();
        for id in &self.finished {
            state.engine.complete(*id);
        }
        self.finished.clear();
        if !self.done.is_empty() {
            self.done.drain(..).for_each(|(id, verdict)| state.engine.finish(id, verdict));
        }
        if state.engine.next_deadline().is_some_and(|deadline| deadline <= now) {
            state.engine.advance(now);
        }
        if state.phase == RunPhase::Stopping {
            state.engine.revoke_all(state.stop_by);
        }
        let fill_wanted = shared.wakeups.take_fill();
        settle_and_release(state);
        if fill_wanted || state.fill_again || (state.may_fill && state.engine.is_hungry()) {
            again |= self.fill(state, now);
            settle_and_release(state);
        }
        again |= self.close_when_empty(state);
        if state.phase == RunPhase::Ended {
            return Visit::Ended;
        }
        let known = state.cancels.len();
        state.cancels.extend(state.engine.cancels());
        let added = state.cancels.len() > known;
        if !state.cancels.is_empty() {
            again |= self.cancel(state);
            if added && !state.cancels.is_empty() {
                shared.wakeups.all();
            }
        }
        // Read under the lock that it is written under.
        let paused = shared.paused.load(Ordering::Relaxed);
        let wanted = if paused || self.free.len() == 0 { 0 } else { self.burst.max(self.free.len()).min(MAX_BURST) };
        let gate = state.assignments.gated.then(|| shared.gate.now());
        state.engine.take(gate, wanted, |start| self.starts.push(start));
        self.engine_deadline = state.engine.next_deadline();
        let ready = state.engine.ready();
        if !paused && ready > 0 && !self.manages_alone(ready, now) {
            shared.wakeups.one();
        }
        match (self.starts.is_empty(), again) {
            (false, _) => Visit::Starts,
            (true, true) => Visit::Again,
            (true, false) => {
                // Before the lock is let go: whoever makes something ready from now on sees this worker idle.
                shared.wakeups.rest(self.index);
                Visit::Nothing
            }
        }
    }

    /// Whether this worker will have started what is ready sooner than another one would be there to help: it has slots,
    /// and its last round, which ended just now, was as quick as that. Waking another costs more than short handlers do.
    fn manages_alone(&self, ready: usize, now: Tick) -> bool {
        let Some((began, started)) = self.last_round else { return false };
        let spent = now.since(began).as_nanos();
        self.free.len() > self.starts.len() && spent * ready as u128 <= HELP_COMES_AFTER.as_nanos() * started as u128
    }

    /// Takes in what the consumer has. Answers whether there may be more.
    fn fill(&mut self, state: &mut State, now: Tick) -> bool {
        if !matches!(state.phase, RunPhase::Running | RunPhase::Stopping) {
            return false;
        }
        let before = state.engine.in_flight();
        let mut intake = Intake { engine: &mut state.engine, assignments: &mut state.assignments, now };
        let mut cx = Context::from_waker(&self.fill_waker);
        let filled = state.consumer.poll_fill(&mut cx, &mut intake);
        let in_flight = state.engine.in_flight();
        self.shared.meter.delivered.increment(in_flight.saturating_sub(before) as u64);
        self.shared.meter.in_flight.set(in_flight as f64);
        match filled {
            Poll::Ready(Ok(())) => {
                state.fill_again = true;
                true
            }
            Poll::Pending => {
                state.fill_again = false;
                state.may_fill = false;
                false
            }
            Poll::Ready(Err(error)) => {
                self.shared.end(state, Some(error));
                false
            }
        }
    }

    /// Once stopping has released every partition: closes the consumer. Answers whether to look again.
    fn close_when_empty(&self, state: &mut State) -> bool {
        if state.phase == RunPhase::Stopping && !state.engine.holds_partitions() {
            state.phase = RunPhase::Closing;
        }
        if state.phase != RunPhase::Closing {
            return false;
        }
        let mut cx = Context::from_waker(&self.fill_waker);
        match state.consumer.poll_close(&mut cx) {
            Poll::Pending => false,
            Poll::Ready(result) => {
                self.shared.end(state, result.err());
                true
            }
        }
    }

    /// Drops the futures of this worker that are to be dropped. Answers whether there were any.
    fn cancel(&mut self, state: &mut State) -> bool {
        let before = state.cancels.len();
        for slot in 0..self.seats.len() {
            let seat = &mut self.seats[slot];
            let Some(id) = seat.id() else { continue };
            let Some(found) = state.cancels.iter().position(|cancel| *cancel == id) else { continue };
            state.cancels.swap_remove(found);
            if seat.occupant == Occupant::Handler && !self.routes[seat.run.what.route].slots.cancel(slot) {
                seat.run.cut_short = Some(CutShort::Dropped);
                seat.run.timeout = None;
                continue;
            }
            seat.vacate();
            self.dropped(slot, id);
        }
        // What ended in the meantime needs no cancelling.
        let engine = &state.engine;
        state.cancels.retain(|id| engine.is_running(*id));
        before != state.cancels.len()
    }

    pub(super) fn dropped(&mut self, slot: usize, id: EntryId) {
        self.free.put_back(slot);
        self.done.push((id, Verdict::Dropped));
    }
}

fn settle_and_release(state: &mut State) {
    let consumer = &mut state.consumer;
    state.engine.settlements().each(|settled| {
        consumer.settle(Settlement::new(settled.partition, settled.epoch, settled.finished, settled.through));
    });
    while let Some(partition) = state.engine.drained() {
        consumer.release(PartitionHandle(partition));
        // The consumer may hand over again at once what is unsettled.
        state.may_fill = true;
    }
}
