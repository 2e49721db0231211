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
    Shared, Trouble,
    free::FreeSlots,
    own_route::OwnRoute,
    routing::Routing,
    seat::{CutShort, Occupant, Seat},
    visiting::{MAX_BURST, Visit},
    wakeups::Woken,
};
use crate::{
    engine::{EntryId, Start, Verdict},
    error::HandlerError,
    message::Message,
    time::{Clock, Tick},
    timestamp::Timestamp,
};

/// Rounds before the worker lets other tasks of its thread run.
const ROUNDS_PER_POLL: u32 = 32;

pub(super) struct Worker {
    pub(super) index: usize,
    /// Wakes whichever worker is idle when the consumer has something.
    pub(super) fill_waker: Waker,
    pub(super) routes: Vec<OwnRoute>,
    pub(super) seats: Vec<Seat>,
    pub(super) free: FreeSlots,
    woken: Arc<Woken>,
    task: Arc<AtomicWaker>,
    pub(super) routing: Routing,
    /// What the last visit took.
    pub(super) starts: Vec<Start<Arc<Message>, Trouble>>,
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
    /// When the round before this one began and how many it started, if it started some.
    pub(super) last_round: Option<(Tick, usize)>,
    pub(super) skipped: u64,
    /// The system's time in this round, once it was asked for.
    pub(super) wall: Option<Timestamp>,
    pub(super) random: fastrand::Rng,
    /// Dropped last: the consumer goes with it, and a partition must not reach its next owner before the handlers here
    /// are gone.
    pub(super) shared: Arc<Shared>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, index: usize, slots: usize, routes: Vec<OwnRoute>) -> Self {
        let task = shared.wakeups.worker(index);
        let woken = Woken::new(slots, task.clone());
        Self {
            fill_waker: Waker::from(shared.wakeups.clone()),
            index,
            routes,
            seats: woken.wakers(slots).into_iter().map(Seat::new).collect(),
            free: FreeSlots::all(slots),
            woken,
            task,
            routing: Routing::new(&shared.topics),
            starts: Vec::with_capacity(MAX_BURST),
            finished: Vec::with_capacity(MAX_BURST),
            done: Vec::new(),
            timer: Box::pin(tokio::time::sleep(std::time::Duration::ZERO)),
            armed: None,
            timer_waker: None,
            earliest_timeout: None,
            engine_deadline: None,
            burst: 1,
            last_round: None,
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

    /// Polls what is in a slot, where it is: only what has failed is moved.
    #[inline(always)]
    fn poll_slot(&mut self, slot: usize, now: Tick) {
        let seat = &mut self.seats[slot];
        match seat.occupant {
            Occupant::Handler => {}
            Occupant::Nobody => return,
            Occupant::Burial => return self.poll_burial_in(slot, now),
        }
        let run = &seat.run;
        let route = &mut self.routes[run.what.route];
        let mut cx = Context::from_waker(&seat.waker);
        let entered = run.span.as_ref().map(|span| span.enter());
        let polled = route.slots.poll(slot, &mut cx);
        drop(entered);
        match polled {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                self.finished.push(run.what.id);
                route.ended_later(now.since(run.started));
                route.record_age(run.what.time, &mut self.wall);
                seat.leave();
                self.free.put_back(slot);
            }
            Poll::Ready(Err(error)) => self.failed_in(slot, error, now),
        }
    }

    #[cold]
    fn failed_in(&mut self, slot: usize, error: HandlerError, now: Tick) {
        let run = self.seats[slot].take_run();
        let error = match run.cut_short {
            Some(CutShort::Dropped) => return self.dropped(slot, run.what.id),
            Some(CutShort::TimedOut) => HandlerError::timed_out(self.shared.routes[run.what.route].policy.timeout),
            None => error,
        };
        within(run.span.as_deref(), || self.failed(slot, run.what, &error, now));
    }

    #[cold]
    fn poll_burial_in(&mut self, slot: usize, now: Tick) {
        if let Some(burying) = self.seats[slot].take_burying() {
            self.poll_burial(slot, burying, now);
        }
    }

    /// Ends the handlers whose time is up.
    fn time_out(&mut self, now: Tick) {
        if self.earliest_timeout.is_none_or(|earliest| earliest > now) {
            return;
        }
        self.earliest_timeout = None;
        for slot in 0..self.seats.len() {
            let seat = &mut self.seats[slot];
            let (Occupant::Handler, Some(timeout)) = (&seat.occupant, seat.run.timeout) else { continue };
            if timeout > now {
                self.expect_by(Some(timeout));
                continue;
            }
            let route = seat.run.what.route;
            if !self.routes[route].slots.cancel(slot) {
                seat.run.cut_short = Some(CutShort::TimedOut);
                seat.run.timeout = None;
                continue;
            }
            let run = seat.take_run();
            let error = HandlerError::timed_out(self.shared.routes[route].policy.timeout);
            within(run.span.as_deref(), || self.failed(slot, run.what, &error, now));
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
                    worker.last_round = Some((now, worker.starts.len()));
                    worker.start_all(now);
                    continue;
                }
                Visit::Nothing => worker.last_round = None,
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
