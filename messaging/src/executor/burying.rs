//! What a worker does about a failed delivery: park it for another attempt, give it up, or write its dead letter.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use super::{Trouble, burial::Unburied, failure::Stuck, seat::Running, worker::Worker};
use crate::{
    BoxFuture,
    dead_letter::{DeadLetter, Shape},
    delivery::Delivery,
    engine::Verdict,
    error::{Error, ErrorKind, FailureKind, HandlerError},
    policy::{Decision, OnDeadLetter},
    time::Tick,
};

/// How often a dead letter that was refused for good is tried again, in case the broker's limit was raised.
const STUCK_PAUSE: Duration = Duration::from_secs(30);

/// A dead letter on its way, in a slot of its own.
pub(super) struct Burying {
    pub(super) what: Running,
    future: BoxFuture<Result<Shape, Unburied>>,
}

impl Worker {
    /// A handler failed: the policy decides. The slot is free afterwards, or used for the dead letter.
    pub(super) fn failed(&mut self, slot: usize, mut what: Running, error: &HandlerError, now: Tick) {
        let info = &self.shared.routes[what.route];
        let (note, failure) = Trouble::add(what.note.take(), error, what.attempts, now);
        let decision = info.policy.decide(&failure, self.random.f64());
        let (attempts, kind) = (failure.attempts, failure.kind);
        let event = info.label.as_str();
        match decision {
            Decision::Retry { after, counted } => {
                let retried = match kind {
                    FailureKind::Infrastructure => &info.meter.retried_infrastructure,
                    FailureKind::Transient | FailureKind::Permanent => &info.meter.retried_transient,
                };
                retried.increment(1);
                tracing::warn!(
                    group = %self.shared.group, handler = event, position = %what.position, attempts,
                    error = note.error, retry_in_ms = after.as_millis() as u64, "handler failed"
                );
                self.done.push((what.id, Verdict::Park { until: now + after, counted, note: Some(note) }));
                self.free.put_back(slot);
            }
            Decision::GiveUp => {
                tracing::error!(
                    group = %self.shared.group, handler = event, position = %what.position, error = note.error,
                    "held for too long by failures of infrastructure: giving the partition up"
                );
                self.done.push((what.id, Verdict::GiveUp { drain_until: now + self.shared.revoke_drain }));
                self.free.put_back(slot);
            }
            Decision::DeadLetter => {
                what.attempts = attempts;
                what.note = Some(note);
                self.bury(slot, what, now);
            }
        }
    }

    /// Writes the dead letter of what is in trouble; `what.attempts` is how many were made.
    pub(super) fn bury(&mut self, slot: usize, mut what: Running, now: Tick) {
        let shared = self.shared.clone();
        let held = shared.state.lock().engine.held(what.id).map(|(message, handle)| (message.clone(), handle));
        let Some((message, handle)) = held else {
            // The partition was lost: whoever has it now decides anew.
            self.done.push((what.id, Verdict::Dropped));
            self.free.put_back(slot);
            return;
        };
        let mut note = what.note.take().unwrap_or_else(|| Trouble::new(now, String::new()));
        note.condemned = true;
        let info = shared.routes.get(what.route);
        let letter = DeadLetter {
            topic: shared.letters_of(&message.topic),
            partition: what.number,
            position: what.position,
            epoch: what.epoch,
            group: shared.group.clone(),
            handler: info.map_or_else(|| message.topic.clone(), |info| info.label.clone()),
            attempts: what.attempts,
            first_failed_at: note.first_failed_at,
            last_failed_at: note.last_failed_at(),
            error: note.error.clone(),
            shape: Shape::Full,
        };
        let delivery = Delivery {
            message: message.clone(),
            partition: what.number,
            position: what.position,
            epoch: what.epoch,
            attempt: what.attempts.max(1),
        };
        let burial = shared.burial.clone();
        let record_dead = info.map(|info| info.record_dead.clone());
        let future = Box::pin(async move {
            let shape = burial.bury(handle, letter, &message).await?;
            // After the letter: a record without a letter would pass for a duplicate, and the message would be gone.
            if let Some(recording) = record_dead.and_then(|record| record(delivery)) {
                recording.await.map_err(|error| Unburied::Later(Error::new(ErrorKind::Unavailable, error.text())))?;
            }
            Ok(shape)
        });
        what.note = Some(note);
        self.poll_burial(slot, Box::new(Burying { what, future }), now);
    }

    pub(super) fn poll_burial(&mut self, slot: usize, mut burying: Box<Burying>, now: Tick) {
        let mut cx = Context::from_waker(&self.seats[slot].waker);
        match Pin::new(&mut burying.future).poll(&mut cx) {
            Poll::Pending => self.seats[slot].bury(burying),
            Poll::Ready(result) => {
                let verdict = self.buried(burying.what, result, now);
                self.done.push(verdict);
                self.free.put_back(slot);
            }
        }
    }

    fn buried(
        &mut self,
        mut what: Running,
        result: Result<Shape, Unburied>,
        now: Tick,
    ) -> (crate::engine::EntryId, Verdict<Trouble>) {
        let shared = self.shared.clone();
        let mut note = what.note.take().unwrap_or_else(|| Trouble::new(now, String::new()));
        let (group, position, attempts) = (&shared.group, what.position, what.attempts);
        let info = shared.routes.get(what.route);
        let policy = info.map(|info| &info.policy);
        let pause = match result {
            Ok(shape) => {
                tracing::error!(%group, %position, attempts, ?shape, error = note.error, "dead-lettered");
                if let Some(info) = info {
                    info.meter.dead_lettered.increment(1);
                }
                if policy.is_some_and(|policy| policy.on_dead_letter == OnDeadLetter::HoldKey) {
                    let message = shared.state.lock().engine.item(what.id).cloned();
                    if let Some(message) = message {
                        shared.hold(&message, what.number);
                    }
                }
                return (what.id, Verdict::Finished);
            }
            Err(Unburied::Later(error)) => {
                note.burials_failed += 1;
                let default = crate::FailurePolicy::default();
                let pause = policy.unwrap_or(&default).pause(note.burials_failed, self.random.f64());
                let pause = pause.max(Duration::from_millis(10));
                tracing::error!(
                    %group, %position, error = crate::error::full_text(&error),
                    retry_in_ms = pause.as_millis() as u64, "the dead letter could not be written"
                );
                pause
            }
            Err(Unburied::Refused(error)) => {
                note.stuck.get_or_insert_with(|| Stuck::new(&shared.stuck));
                shared.meter.stuck.set(shared.stuck() as f64);
                tracing::error!(
                    %group, %position, error = crate::error::full_text(&error),
                    "the dead letter is refused in every shape: the partition is stuck"
                );
                STUCK_PAUSE
            }
        };
        // The attempts made are kept for the next try's letter; a parked burial counts none.
        note.attempts_made = what.attempts;
        (what.id, Verdict::Park { until: now + pause, counted: false, note: Some(note) })
    }
}
