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

use super::{
    Shared, Slots, Trouble,
    burying::Burying,
    reporting::Tally,
    routing::Routing,
    visiting::{MAX_BURST, Visit},
    wakeups::Woken,
};
use crate::{
    delivery::Position,
    engine::{EntryId, Start, Verdict},
    envelope::Timestamp,
    error::HandlerError,
    message::Message,
    time::{Clock, Tick},
};

/// Rounds before the worker lets other tasks of its thread run.
const ROUNDS_PER_POLL: u32 = 32;

pub(super) struct Worker {
    pub(super) index: usize,
    /// Wakes whichever worker is idle when the consumer has something.
    pub(super) fill_waker: Waker,
    pub(super) routes: Vec<Box<dyn Slots>>,
    pub(super) slots: Vec<Occupant>,
    pub(super) free: Vec<usize>,
    pub(super) wakers: Vec<Waker>,
    woken: Arc<Woken>,
    task: Arc<AtomicWaker>,
    pub(super) routing: Routing,
    /// What the last visit took: so many, from the first.
    pub(super) starts: [Option<Start<Arc<Message>, Trouble>>; MAX_BURST],
    pub(super) taken: usize,
    /// Handled or skipped since the last visit to the engine.
    pub(super) finished: Vec<EntryId>,
    /// Ended otherwise since then.
    pub(super) done: Vec<(EntryId, Verdict<Trouble>)>,
    timer: Pin<Box<Sleep>>,
    armed: Option<Tick>,
    /// Whom the timer wakes.
    timer_waker: Option<Waker>,
    /// No handler's timeout is earlier.
    earliest_timeout: Option<Tick>,
    /// When the engine wants to be visited next.
    pub(super) engine_deadline: Option<Tick>,
    /// How many starts to take next: all slots may be used, and more if handlers end at their first poll.
    pub(super) burst: usize,
    pub(super) tallies: Vec<Tally>,
    pub(super) skipped: u64,
    /// The system's time in this round, once it was asked for.
    pub(super) wall: Option<Timestamp>,
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

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, index: usize, slots: usize, routes: Vec<Box<dyn Slots>>) -> Self {
        let task = shared.wakeups.worker(index);
        let woken = Woken::new(slots, task.clone());
        let tallies = routes.iter().map(|_| Tally::default()).collect();
        Self {
            fill_waker: Waker::from(shared.wakeups.clone()),
            index,
            routes,
            slots: (0..slots).map(|_| Occupant::Free).collect(),
            free: (0..slots).rev().collect(),
            wakers: woken.wakers(slots),
            woken,
            task,
            routing: Routing::new(&shared.topics),
            starts: [const { None }; MAX_BURST],
            taken: 0,
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
            random: fastrand::Rng::new(),
            shared,
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
        let entered = run.span.as_ref().map(|span| span.enter());
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
                self.tallies[route].ended_later();
                self.record_age(route, time);
            }
            Poll::Ready(Err(error)) => {
                if let Occupant::Handler(run) = std::mem::replace(&mut self.slots[slot], Occupant::Free) {
                    let error = match run.cut_short {
                        Some(CutShort::Dropped) => return self.dropped(slot, run.what.id),
                        Some(CutShort::TimedOut) => HandlerError::timed_out(self.shared.routes[route].policy.timeout),
                        None => error,
                    };
                    within(run.span.as_deref(), || self.failed(slot, run.what, &error, now));
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
                let timeout = *timeout;
                self.expect_by(Some(timeout));
                continue;
            }
            let limit = self.shared.routes[what.route].policy.timeout;
            if !self.routes[what.route].cancel(slot) {
                run.cut_short = Some(CutShort::TimedOut);
                run.timeout = None;
            } else if let Occupant::Handler(run) = std::mem::replace(&mut self.slots[slot], Occupant::Free) {
                let error = HandlerError::timed_out(limit);
                within(run.span.as_deref(), || self.failed(slot, run.what, &error, now));
            }
        }
    }

    /// A handler runs into its timeout at this time.
    #[inline]
    pub(super) fn expect_by(&mut self, timeout: Option<Tick>) {
        if let Some(timeout) = timeout {
            self.earliest_timeout = Some(self.earliest_timeout.map_or(timeout, |earliest| earliest.min(timeout)));
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

/// Does something within a span, if there is one.
pub(super) fn within<R>(span: Option<&tracing::Span>, act: impl FnOnce() -> R) -> R {
    match span {
        Some(span) => span.in_scope(act),
        None => act(),
    }
}
