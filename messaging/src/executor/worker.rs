//! [`Worker`]: one of a group's tasks. A round: poll what was woken, bring back what ended and take what may start
//! (one visit to the engine), start it.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use atomic_waker::AtomicWaker;
use tokio::time::Sleep;

use super::{RunPhase, Shared, Slots, State, Trouble, burying::Burying, wakeups::Woken};
use crate::{
    consumer::{Intake, PartitionHandle, Settlement},
    delivery::{Delivery, Position},
    engine::{EntryId, Start, Verdict},
    envelope::Timestamp,
    error::HandlerError,
    message::Message,
    time::{Clock, Tick},
};

/// How many starts one visit to the engine takes at most. Bounds how much an owner that was frozen between the check of
/// its validity and the starts can begin too late.
const MAX_BURST: usize = 16;
/// Rounds before the worker lets other tasks of its thread run.
const ROUNDS_PER_POLL: u32 = 32;

pub(super) struct Worker {
    index: usize,
    /// Wakes whichever worker is idle when the consumer has something.
    fill_waker: Waker,
    pub(super) routes: Vec<Box<dyn Slots>>,
    pub(super) slots: Vec<Occupant>,
    pub(super) free: Vec<usize>,
    pub(super) wakers: Vec<Waker>,
    woken: Arc<Woken>,
    task: Arc<AtomicWaker>,
    starts: Vec<Start<Arc<Message>, Trouble>>,
    /// Handled or skipped since the last visit to the engine.
    finished: Vec<EntryId>,
    /// Ended otherwise since then.
    pub(super) done: Vec<(EntryId, Verdict<Trouble>)>,
    timer: Pin<Box<Sleep>>,
    armed: Option<Tick>,
    /// Whom the timer wakes.
    timer_waker: Option<Waker>,
    /// No handler's timeout is earlier.
    earliest_timeout: Option<Tick>,
    /// When the engine wants to be visited next.
    engine_deadline: Option<Tick>,
    /// How many starts to take next: all slots may be used, and more if handlers end at their first poll.
    burst: usize,
    tallies: Vec<Tally>,
    skipped: u64,
    /// The system's time in this round, once it was asked for.
    wall: Option<Timestamp>,
    /// Index of the last delivery's topic; the next one's is usually the same.
    last_topic: usize,
    pub(super) random: fastrand::Rng,
    /// Dropped last: the consumer goes with it, and a partition must not reach its next owner before the handlers here
    /// are gone.
    pub(super) shared: Arc<Shared>,
}

/// What a slot is used for.
pub(super) enum Occupant {
    Free,
    Handler(Run),
    Burial(Burying),
}

/// One handler run that has not ended at its first poll.
pub(super) struct Run {
    pub(super) what: Running,
    timeout: Option<Tick>,
    started: Tick,
    span: tracing::Span,
    /// It was to be dropped and goes on for now: it holds its slot and its lane until it ends.
    cut_short: Option<CutShort>,
}

#[derive(Clone, Copy, Debug)]
enum CutShort {
    TimedOut,
    /// The partition is given up or lost.
    Dropped,
}

/// One delivery whose handler has started.
pub(super) struct Running {
    pub(super) id: EntryId,
    pub(super) route: usize,
    pub(super) handle: u32,
    /// The partition's number in its topic.
    pub(super) number: u32,
    pub(super) position: Position,
    pub(super) epoch: u64,
    /// Attempts that counted before this one.
    pub(super) attempts: u32,
    pub(super) time: Option<Timestamp>,
    pub(super) note: Option<Box<Trouble>>,
}

/// What one route did since it was last reported.
#[derive(Default)]
struct Tally {
    handled: u64,
    /// Of these, how many ended at their first poll of this round.
    at_once: usize,
}

enum Visit {
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
    pub(super) fn new(shared: Arc<Shared>, index: usize, slots: usize, routes: Vec<Box<dyn Slots>>) -> Self {
        let task = shared.wakeups.worker(index);
        let woken = Woken::new(slots, task.clone());
        let tallies = routes.iter().map(|_| Tally::default()).collect();
        Self {
            fill_waker: Waker::from(shared.wakeups.clone()),
            shared,
            index,
            routes,
            slots: (0..slots).map(|_| Occupant::Free).collect(),
            free: (0..slots).rev().collect(),
            wakers: woken.wakers(slots),
            woken,
            task,
            starts: Vec::with_capacity(MAX_BURST),
            finished: Vec::with_capacity(MAX_BURST),
            done: Vec::new(),
            timer: Box::pin(tokio::time::sleep(std::time::Duration::ZERO)),
            armed: None,
            timer_waker: None,
            earliest_timeout: None,
            engine_deadline: None,
            burst: 1,
            tallies,
            skipped: 0,
            wall: None,
            last_topic: 0,
            random: fastrand::Rng::new(),
        }
    }

    fn poll_woken(&mut self, now: Tick) {
        let woken = self.woken.clone();
        woken.drain(|slot| self.poll_slot(slot, now));
    }

    /// Polls what is in a slot, where it is: only what has ended is moved.
    fn poll_slot(&mut self, slot: usize, now: Tick) {
        let run = match &self.slots[slot] {
            Occupant::Handler(run) => run,
            Occupant::Free => return,
            Occupant::Burial(_) => return self.poll_burial_in(slot, now),
        };
        let route = run.what.route;
        let mut cx = Context::from_waker(&self.wakers[slot]);
        let entered = (!run.span.is_disabled()).then(|| run.span.enter());
        let polled = self.routes[route].poll(slot, &mut cx);
        drop(entered);
        match polled {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                let (id, time) = (run.what.id, run.what.time);
                let seconds = now.since(run.started).as_secs_f64();
                self.shared.routes[route].meter.seconds.record(seconds);
                self.slots[slot] = Occupant::Free;
                self.free.push(slot);
                self.finished.push(id);
                self.tallies[route].handled += 1;
                self.record_age(route, time);
            }
            Poll::Ready(Err(error)) => {
                if let Occupant::Handler(run) = std::mem::replace(&mut self.slots[slot], Occupant::Free) {
                    let error = match run.cut_short {
                        Some(CutShort::Dropped) => return self.dropped(slot, run.what.id),
                        Some(CutShort::TimedOut) => HandlerError::timed_out(self.shared.routes[route].policy.timeout),
                        None => error,
                    };
                    run.span.in_scope(|| self.failed(slot, run.what, &error, now));
                }
            }
        }
    }

    fn poll_burial_in(&mut self, slot: usize, now: Tick) {
        if let Occupant::Burial(burying) = std::mem::replace(&mut self.slots[slot], Occupant::Free) {
            self.poll_burial(slot, burying, now);
        }
    }

    /// Ends the handlers whose time is up.
    fn time_out(&mut self, now: Tick) {
        if self.earliest_timeout.is_none_or(|earliest| earliest > now) {
            return;
        }
        self.earliest_timeout = None;
        for slot in 0..self.slots.len() {
            let Occupant::Handler(run) = &mut self.slots[slot] else { continue };
            let Run { timeout: Some(timeout), what, .. } = run else { continue };
            if *timeout > now {
                self.earliest_timeout = Some(self.earliest_timeout.map_or(*timeout, |earliest| earliest.min(*timeout)));
                continue;
            }
            let limit = self.shared.routes[what.route].policy.timeout;
            if !self.routes[what.route].cancel(slot) {
                run.cut_short = Some(CutShort::TimedOut);
                run.timeout = None;
            } else if let Occupant::Handler(run) = std::mem::replace(&mut self.slots[slot], Occupant::Free) {
                run.span.in_scope(|| self.failed(slot, run.what, &HandlerError::timed_out(limit), now));
            }
        }
    }

    /// The round's visit to the engine: what ended goes back, the broker is told, what may start is taken.
    fn visit(&mut self, now: Tick) -> Visit {
        let shared = self.shared.clone();
        let mut guard = shared.state.lock();
        let state = &mut *guard;
        let mut again = false;
        if state.phase == RunPhase::Ended {
            return Visit::Ended;
        }
        state.may_fill |= !self.finished.is_empty() || !self.done.is_empty();
        for id in self.finished.drain(..) {
            state.engine.complete(id);
        }
        for (id, verdict) in self.done.drain(..) {
            state.engine.finish(id, verdict);
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
        let wanted = if self.free.is_empty() { 0 } else { self.burst.max(self.free.len()).min(MAX_BURST) };
        let gate = state.assignments.gated.then(|| shared.gate.now());
        state.engine.take(gate, wanted, &mut self.starts);
        self.engine_deadline = state.engine.next_deadline();
        if state.engine.ready() > 0 {
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
        for slot in 0..self.slots.len() {
            let id = match &self.slots[slot] {
                Occupant::Free => continue,
                Occupant::Handler(run) => run.what.id,
                Occupant::Burial(burying) => burying.what.id,
            };
            let Some(found) = state.cancels.iter().position(|cancel| *cancel == id) else { continue };
            state.cancels.swap_remove(found);
            if let Occupant::Handler(run) = &mut self.slots[slot]
                && !self.routes[run.what.route].cancel(slot)
            {
                run.cut_short = Some(CutShort::Dropped);
                run.timeout = None;
                continue;
            }
            self.slots[slot] = Occupant::Free;
            self.dropped(slot, id);
        }
        // What ended in the meantime needs no cancelling.
        let engine = &state.engine;
        state.cancels.retain(|id| engine.is_running(*id));
        before != state.cancels.len()
    }

    fn dropped(&mut self, slot: usize, id: EntryId) {
        self.free.push(slot);
        self.done.push((id, Verdict::Dropped));
    }

    /// Starts what was taken.
    fn start_all(&mut self, now: Tick) {
        let mut starts = std::mem::take(&mut self.starts);
        let mut all_at_once = true;
        let mut unstarted = Vec::new();
        for start in starts.drain(..) {
            if self.free.is_empty() {
                unstarted.push(start);
            } else {
                all_at_once &= self.start(start, now);
            }
        }
        self.burst = if all_at_once { (self.burst * 2).min(MAX_BURST) } else { 1 };
        if !unstarted.is_empty() {
            let mut state = self.shared.state.lock();
            unstarted.into_iter().for_each(|start| state.engine.give_back(start));
        }
        self.starts = starts;
        self.report_round(now);
    }

    /// Starts one delivery. Answers whether it ended at its first poll.
    #[inline]
    fn start(&mut self, start: Start<Arc<Message>, Trouble>, now: Tick) -> bool {
        let Some(route) = self.route(&start.item) else { return self.unhandled(start, now) };
        if let Some(reason) = self.condemned(&start) {
            self.condemn(start, route, reason, now);
            return false;
        }
        let Some(slot) = self.free.last().copied() else { return false };
        let span = self.span(&start);
        let Start { id, item: message, partition: handle, number, position, epoch, attempts, note, .. } = start;
        let time = message.envelope.as_ref().and_then(|envelope| envelope.time);
        let delivery = Delivery { message, partition: number, position, epoch, attempt: attempts + 1 };
        let mut cx = Context::from_waker(&self.wakers[slot]);
        let entered = (!span.is_disabled()).then(|| span.enter());
        let polled = self.routes[route].start(slot, delivery, &mut cx);
        drop(entered);
        if let Poll::Ready(Ok(())) = polled {
            let tally = &mut self.tallies[route];
            tally.handled += 1;
            tally.at_once += 1;
            self.record_age(route, time);
            self.finished.push(id);
            return true;
        }
        self.free.pop();
        let what = Running { id, route, handle, number, position, epoch, attempts, time, note };
        if let Poll::Ready(Err(error)) = polled {
            span.in_scope(|| self.failed(slot, what, &error, now));
        } else {
            let info = &self.shared.routes[route];
            let timeout = (!info.keeps_timeout).then(|| now + info.policy.timeout);
            if let Some(timeout) = timeout {
                self.earliest_timeout = Some(self.earliest_timeout.map_or(timeout, |earliest| earliest.min(timeout)));
            }
            self.slots[slot] = Occupant::Handler(Run { what, timeout, started: now, span, cut_short: None });
        }
        false
    }

    /// Dead-letters a delivery without running its handler.
    fn condemn(&mut self, start: Start<Arc<Message>, Trouble>, route: usize, reason: &str, now: Tick) {
        let Some(slot) = self.free.pop() else { return };
        let note = Trouble::condemn(start.note, now, reason);
        let what = Running {
            id: start.id,
            route,
            handle: start.partition,
            number: start.number,
            position: start.position,
            epoch: start.epoch,
            attempts: start.attempts.max(note.attempts_made),
            time: None,
            note: Some(note),
        };
        self.bury(slot, what, now);
    }

    #[inline]
    fn route(&mut self, message: &Message) -> Option<usize> {
        let topics = &self.shared.topics;
        let is_topic =
            |index: usize| topics.get(index).is_some_and(|routes| routes.topic.as_ref() == Some(&message.topic));
        if !is_topic(self.last_topic) {
            self.last_topic = (0..topics.len()).find(|index| is_topic(*index))?;
        }
        topics[self.last_topic].find(message.name())
    }

    /// A delivery that no handler of the group wants. Answers as [`start`](Self::start).
    fn unhandled(&mut self, start: Start<Arc<Message>, Trouble>, now: Tick) -> bool {
        if self.shared.on_unhandled == crate::OnUnhandled::Skip && start.note.is_none() {
            self.skipped += 1;
            self.finished.push(start.id);
            return true;
        }
        let reason = format!("no handler for event {:?}", start.item.name().unwrap_or_default());
        self.condemn(start, usize::MAX, &reason, now);
        false
    }

    #[inline]
    fn span(&self, start: &Start<Arc<Message>, Trouble>) -> tracing::Span {
        let message = &start.item;
        // The names of OpenTelemetry's semantic conventions for messaging.
        tracing::info_span!(
            target: "messaging::deliver",
            "deliver",
            otel.kind = "consumer",
            messaging.operation.r#type = "process",
            messaging.destination.name = %message.topic,
            messaging.destination.partition.id = start.number,
            messaging.consumer.group.name = %self.shared.group,
            messaging.message.id = message.envelope.as_ref().map(|envelope| tracing::field::display(&envelope.id)),
            messaging.message.body.size = message.payload.len(),
            messaging.position = %start.position,
            messaging.event = message.name(),
            messaging.attempt = start.attempts + 1,
            traceparent = message.attributes.get_str("traceparent"),
        )
    }

    #[inline]
    fn record_age(&mut self, route: usize, time: Option<Timestamp>) {
        if let Some(time) = time {
            let wall = *self.wall.get_or_insert_with(Timestamp::now);
            self.shared.routes[route].meter.age.record(time.age(wall).as_secs_f64());
        }
    }

    /// Reports what the round did: one call per metric, however many deliveries there were.
    fn report_round(&mut self, started: Tick) {
        let at_once: usize = self.tallies.iter().map(|tally| tally.at_once).sum();
        self.wall = None;
        // What ended at its first poll is not timed one by one: a reading of the clock may cost more than the handler.
        let each = (at_once > 0).then(|| self.shared.clock.now().since(started).as_secs_f64() / at_once as f64);
        for (tally, info) in self.tallies.iter_mut().zip(&self.shared.routes) {
            if tally.handled > 0 {
                info.meter.handled.increment(std::mem::take(&mut tally.handled));
            }
            let at_once = std::mem::take(&mut tally.at_once);
            if let Some(each) = each
                && at_once > 0
            {
                info.meter.seconds.record_many(each, at_once);
            }
        }
        if self.skipped > 0 {
            self.shared.meter.skipped.increment(std::mem::take(&mut self.skipped));
        }
    }

    /// Sets the timer to the earliest of what is due. Answers whether that has passed already.
    fn arm(&mut self, cx: &mut Context<'_>) -> bool {
        let due = match (self.earliest_timeout, self.engine_deadline) {
            (Some(a), Some(b)) => a.min(b),
            (Some(due), None) | (None, Some(due)) => due,
            (None, None) => {
                self.armed = None;
                return false;
            }
        };
        // A timer that is set wakes by itself: it is polled only to be set, or to learn of another waker.
        let told = self.timer_waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if self.armed == Some(due) && told {
            return false;
        }
        if self.armed != Some(due) {
            self.timer.as_mut().reset(self.shared.clock.instant(due));
            self.armed = Some(due);
        }
        if !told {
            self.timer_waker = Some(cx.waker().clone());
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            self.armed = None;
            return true;
        }
        false
    }
}

impl Future for Worker {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let worker = &mut *self;
        worker.task.register(cx.waker());
        worker.shared.wakeups.awake(worker.index);
        for _ in 0..ROUNDS_PER_POLL {
            let now = worker.shared.clock.now();
            worker.armed = worker.armed.filter(|armed| *armed > now);
            worker.poll_woken(now);
            worker.time_out(now);
            match worker.visit(now) {
                Visit::Ended => return Poll::Ready(()),
                Visit::Again => continue,
                Visit::Starts => {
                    worker.start_all(now);
                    continue;
                }
                Visit::Nothing => {}
            }
            worker.report_round(now);
            if worker.arm(cx) || !worker.finished.is_empty() || !worker.done.is_empty() || worker.woken.any() {
                worker.shared.wakeups.awake(worker.index);
                continue;
            }
            if worker.shared.wakeups.sleep(worker.index) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
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
