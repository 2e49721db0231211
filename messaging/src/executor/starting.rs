//! Starts what a visit to the engine has taken: finds each delivery's handler, and polls it for the first time.

use std::{
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use super::{
    Trouble,
    seat::Running,
    visiting::MAX_BURST,
    worker::{Worker, within},
};
use crate::{
    delivery::Delivery,
    engine::{Past, Start},
    message::Message,
    policy::OnUnhandled,
    time::Tick,
    trace::{TRACEPARENT, continue_trace},
};

/// A message that ended this many processes is dead-lettered without another attempt.
const MAX_DEATHS: u32 = 3;

impl Worker {
    /// Starts what was taken.
    pub(super) fn start_all(&mut self, now: Tick) {
        let holding = self.shared.holding.load(Ordering::Relaxed);
        let mut all_at_once = true;
        let mut taken = std::mem::take(&mut self.starts);
        let mut starts = taken.drain(..);
        while let Some(slot) = self.free.next()
            && let Some(start) = starts.next()
        {
            all_at_once &= self.start(slot, start, holding, now);
        }
        self.burst = if all_at_once { (self.burst * 2).min(MAX_BURST) } else { 1 };
        if starts.len() > 0 {
            let mut state = self.shared.state.lock();
            starts.by_ref().for_each(|start| state.engine.give_back(start));
        }
        drop(starts);
        self.starts = taken;
        self.report_round(now);
    }

    /// Starts one delivery in the slot that is free next. Answers whether it ended at its first poll.
    #[inline(always)]
    fn start(&mut self, slot: usize, start: Start<Arc<Message>, Trouble>, holding: bool, now: Tick) -> bool {
        // Taken apart at once, so that the fields are read where they are instead of being copied.
        let Start { id, item: message, position, epoch, number, topic, past } = start;
        let route = self.routing.find(topic, message.envelope.as_ref().map(|envelope| &envelope.name));
        match route {
            Some(route) if past.is_none() && !holding => {
                let time = message.envelope.as_ref().and_then(|envelope| envelope.time);
                let what = Running { id, route, number, position, epoch, attempts: 0, time, note: None };
                self.run(slot, what, message, now)
            }
            route => {
                let what = Running {
                    id,
                    route: route.unwrap_or(usize::MAX),
                    number,
                    position,
                    epoch,
                    attempts: 0,
                    time: None,
                    note: None,
                };
                self.consider(slot, what, message, past, now)
            }
        }
    }

    /// Starts a delivery that has something behind it, follows a dead letter or has no handler.
    #[cold]
    fn consider(
        &mut self,
        slot: usize,
        mut what: Running,
        message: Arc<Message>,
        past: Option<Box<Past<Trouble>>>,
        now: Tick,
    ) -> bool {
        let past = past.map_or_else(Past::default, |past| *past);
        let unhandled = what.route == usize::MAX;
        if unhandled && self.shared.on_unhandled == OnUnhandled::Skip && past.note.is_none() {
            self.skipped += 1;
            self.finished.push(what.id);
            return true;
        }
        (what.attempts, what.note) = (past.attempts, past.note);
        let reason = if unhandled {
            format!("no handler for event {:?}", message.name().unwrap_or_default())
        } else if what.note.as_ref().is_some_and(|note| note.condemned) {
            "dead-lettered before".to_owned()
        } else if past.crowded {
            "retries ended early: what waited behind it filled half of what may be in flight".to_owned()
        } else if past.deaths >= MAX_DEATHS {
            "three processes ended while they handled it".to_owned()
        } else if self.shared.holds(&message, what.number) {
            "follows a dead letter of its key".to_owned()
        } else {
            what.time = message.envelope.as_ref().and_then(|envelope| envelope.time);
            return self.run(slot, what, message, now);
        };
        self.condemn(what, &reason, now);
        false
    }

    /// Runs the handler in the slot that is free next. Answers whether it ended well at its first poll.
    #[inline(always)]
    fn run(&mut self, slot: usize, what: Running, message: Arc<Message>, now: Tick) -> bool {
        let span = Some(self.span(&what, &message)).filter(|span| !span.is_disabled());
        let delivery = Delivery {
            message,
            partition: what.number,
            position: what.position,
            epoch: what.epoch,
            attempt: what.attempts + 1,
        };
        let (seat, route) = (&mut self.seats[slot], &mut self.routes[what.route]);
        let mut cx = Context::from_waker(&seat.waker);
        let entered = span.as_ref().map(tracing::Span::enter);
        let polled = route.slots.start(slot, delivery, &mut cx);
        drop(entered);
        match polled {
            Poll::Ready(Ok(())) => {
                route.ended_at_once();
                route.record_age(what.time, &mut self.wall);
                self.finished.push(what.id);
                return true;
            }
            Poll::Ready(Err(error)) => {
                self.free.take(slot);
                within(span.as_ref(), || self.failed(slot, what, &error, now));
            }
            Poll::Pending => {
                let timeout = route.timeout_after(now);
                seat.seat(what, now, timeout, span.map(Box::new));
                self.free.take(slot);
                self.expect_by(timeout);
            }
        }
        false
    }

    /// Dead-letters a delivery without running its handler.
    fn condemn(&mut self, mut what: Running, reason: &str, now: Tick) {
        let Some(slot) = self.free.next() else { return };
        self.free.take(slot);
        let note = Trouble::condemn(what.note.take(), now, reason);
        what.attempts = what.attempts.max(note.attempts_made);
        what.note = Some(note);
        self.bury(slot, what, now);
    }

    #[inline(always)]
    fn span(&self, what: &Running, message: &Message) -> tracing::Span {
        // The names of OpenTelemetry's semantic conventions for messaging.
        let span = tracing::info_span!(
            target: "messaging::deliver",
            "deliver",
            otel.kind = "consumer",
            messaging.operation.r#type = "process",
            messaging.destination.name = %message.topic,
            messaging.destination.partition.id = what.number,
            messaging.consumer.group.name = %self.shared.group,
            messaging.message.id = message.envelope.as_ref().map(|envelope| tracing::field::display(&envelope.id)),
            messaging.message.body.size = message.payload.len(),
            messaging.position = %what.position,
            messaging.event = message.name(),
            messaging.attempt = what.attempts + 1,
            traceparent = message.attributes.get_str(TRACEPARENT),
        );
        if !span.is_disabled() {
            self.join_trace(&span, message);
        }
        span
    }

    /// Lets a delivery's span continue the trace that its event carries.
    #[cold]
    fn join_trace(&self, span: &tracing::Span, message: &Message) {
        if let Some(propagator) = &self.shared.trace_propagator {
            continue_trace(&**propagator, span, &message.attributes);
        }
    }
}
