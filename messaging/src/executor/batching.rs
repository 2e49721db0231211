//! [`BatchSlots`]: slots whose deliveries are gathered and run together.
//!
//! Each delivery of a batch has a slot like any other, and with it its own attempts, verdict and lane. Only the future is
//! one for all: the batch's first slot, its *leader*, drives it, and its end wakes the others, which then bring back an
//! outcome each. So nothing outside of this file knows of batches.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::Slots;
use crate::{BoxFuture, delivery::Delivery, error::HandlerError, router::BatchOptions};

type Outcome = Result<(), HandlerError>;

/// Runs a batch; answers an outcome for each delivery.
pub(crate) type RunBatch = Arc<dyn Fn(Vec<Delivery>) -> BoxFuture<Vec<Outcome>> + Send + Sync>;

pub(crate) struct BatchSlots {
    run: RunBatch,
    options: BatchOptions,
    stopping: CancellationToken,
    places: Vec<Place>,
    batches: Vec<Option<Batch>>,
    /// The batch that takes in what starts next.
    open: Option<usize>,
}

/// What is in a slot.
enum Place {
    Empty,
    /// A delivery of this batch.
    In(usize),
    /// One whose batch has ended.
    Ended(Outcome),
}

struct Batch {
    /// The first one leads.
    members: Vec<Member>,
    stage: Stage,
}

struct Member {
    slot: usize,
    delivery: Delivery,
    waker: Waker,
}

enum Stage {
    /// Takes in what may start until nothing more does: it had so many members when its leader last looked.
    Gathering {
        seen: usize,
    },
    /// Takes in what may start until then.
    Lingering(BoxFuture<()>),
    /// Takes nothing more in.
    Full,
    Running(BoxFuture<Vec<Outcome>>),
}

impl BatchSlots {
    pub(crate) fn new(run: RunBatch, options: BatchOptions, stopping: CancellationToken) -> Self {
        Self { run, options, stopping, places: Vec::new(), batches: Vec::new(), open: None }
    }

    /// A batch without members, which takes in what starts next.
    fn open(&mut self) -> usize {
        let stage = if self.options.linger == Duration::ZERO {
            Stage::Gathering { seen: 0 }
        } else {
            let (stopping, until) = (self.stopping.clone(), tokio::time::Instant::now() + self.options.linger);
            Stage::Lingering(Box::pin(async move {
                // Nothing more starts once the group is stopping.
                let _ = tokio::time::timeout_at(until, stopping.cancelled()).await;
            }))
        };
        let batch = Some(Batch { members: Vec::new(), stage });
        let index = match self.batches.iter().position(Option::is_none) {
            Some(index) => {
                self.batches[index] = batch;
                index
            }
            None => {
                self.batches.push(batch);
                self.batches.len() - 1
            }
        };
        self.open = Some(index);
        index
    }

    /// Drives a batch on behalf of its leader, whose outcome it answers.
    fn drive(&mut self, index: usize, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Some(batch) = &mut self.batches[index] else { return Poll::Pending };
        let complete = match &mut batch.stage {
            Stage::Gathering { seen } if *seen < batch.members.len() => {
                // There may be more where these came from: they are taken before the leader is polled again.
                *seen = batch.members.len();
                cx.waker().wake_by_ref();
                false
            }
            Stage::Gathering { .. } | Stage::Full => true,
            Stage::Lingering(until) => until.as_mut().poll(cx).is_ready(),
            Stage::Running(_) => false,
        };
        if complete {
            let deliveries = batch.members.iter().map(|member| member.delivery.clone()).collect();
            batch.stage = Stage::Running((self.run)(deliveries));
            self.open = self.open.filter(|open| *open != index);
        }
        let Stage::Running(future) = &mut batch.stage else { return Poll::Pending };
        let outcomes = match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(outcomes)) => outcomes,
            Err(panic) => {
                let error = HandlerError::panicked(&*panic);
                batch.members.iter().map(|_| Err(error.repeated())).collect()
            }
        };
        self.end(index, outcomes)
    }

    /// Gives each member its outcome; answers the leader's.
    fn end(&mut self, index: usize, outcomes: Vec<Outcome>) -> Poll<Outcome> {
        let Some(Batch { members, stage }) = self.batches[index].take() else { return Poll::Pending };
        drop_caught(stage);
        let mut ended = members.into_iter().zip(outcomes);
        let Some((leader, outcome)) = ended.next() else { return Poll::Pending };
        self.places[leader.slot] = Place::Empty;
        for (member, outcome) in ended {
            self.places[member.slot] = Place::Ended(outcome);
            member.waker.wake();
        }
        Poll::Ready(outcome)
    }

    /// Takes a delivery out of its batch. A run that it is part of is dropped, and begun anew for the others.
    fn leave(&mut self, slot: usize, index: usize) {
        let Some(batch) = &mut self.batches[index] else { return };
        batch.members.retain(|member| member.slot != slot);
        if matches!(batch.stage, Stage::Running(_)) {
            drop_caught(std::mem::replace(&mut batch.stage, Stage::Full));
        }
        match batch.members.first() {
            Some(leader) => leader.waker.wake_by_ref(),
            None => {
                self.batches[index] = None;
                self.open = self.open.filter(|open| *open != index);
            }
        }
    }
}

impl Slots for BatchSlots {
    fn start(&mut self, slot: usize, delivery: Delivery, cx: &mut Context<'_>) -> Poll<Outcome> {
        if self.places.len() <= slot {
            self.places.resize_with(slot + 1, || Place::Empty);
        }
        let index = self.open.unwrap_or_else(|| self.open());
        let Some(batch) = &mut self.batches[index] else { return Poll::Pending };
        batch.members.push(Member { slot, delivery, waker: cx.waker().clone() });
        self.places[slot] = Place::In(index);
        let full = batch.members.len() >= self.options.max;
        if full {
            batch.stage = Stage::Full;
            self.open = None;
        }
        if full || batch.members.len() == 1 {
            batch.members[0].waker.wake_by_ref();
        }
        Poll::Pending
    }

    fn poll(&mut self, slot: usize, cx: &mut Context<'_>) -> Poll<Outcome> {
        match std::mem::replace(&mut self.places[slot], Place::Empty) {
            Place::Empty => Poll::Pending,
            Place::Ended(outcome) => Poll::Ready(outcome),
            Place::In(index) => {
                self.places[slot] = Place::In(index);
                let leader = self.batches[index].as_ref().and_then(|batch| batch.members.first());
                if leader.is_some_and(|leader| leader.slot == slot) { self.drive(index, cx) } else { Poll::Pending }
            }
        }
    }

    fn cancel(&mut self, slot: usize) -> bool {
        if let Place::In(index) = std::mem::replace(&mut self.places[slot], Place::Empty) {
            self.leave(slot, index);
        }
        true
    }

    fn another(&self) -> Box<dyn Slots> {
        Box::new(Self::new(self.run.clone(), self.options, self.stopping.clone()))
    }
}

/// Drops what a panic may have left behind, or what panics when it is dropped.
fn drop_caught(stage: Stage) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(stage))) {
        let error = HandlerError::panicked(&*panic);
        tracing::error!(%error, "a batch handler's future panicked while it was dropped");
    }
}
