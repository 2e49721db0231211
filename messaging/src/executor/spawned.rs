//! [`SpawnedSlots`]: slots whose deliveries run as tasks of their own, for handlers that block their thread.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::task::JoinHandle;
use tower::ServiceExt;

use super::Slots;
use crate::{delivery::Delivery, error::HandlerError, router::HandlerService};

type Task = JoinHandle<Result<(), HandlerError>>;

pub(crate) struct SpawnedSlots {
    service: HandlerService,
    tasks: Vec<Option<Aborting>>,
}

/// A task, aborted when it is dropped.
struct Aborting(Task);

impl SpawnedSlots {
    pub(crate) fn new(service: HandlerService) -> Self {
        Self { service, tasks: Vec::new() }
    }
}

impl Slots for SpawnedSlots {
    fn start(&mut self, slot: usize, delivery: Delivery, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        if self.tasks.len() <= slot {
            self.tasks.resize_with(slot + 1, || None);
        }
        self.tasks[slot] = Some(Aborting(tokio::spawn(self.service.clone().oneshot(delivery))));
        self.poll(slot, cx)
    }

    fn poll(&mut self, slot: usize, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        let Some(Aborting(task)) = &mut self.tasks[slot] else { return Poll::Pending };
        let polled = Pin::new(task).poll(cx).map(|joined| match joined {
            Ok(outcome) => outcome,
            Err(error) if error.is_panic() => Err(HandlerError::panicked(&*error.into_panic())),
            Err(error) => Err(HandlerError::infrastructure(error)),
        });
        if polled.is_ready() {
            self.tasks[slot] = None;
        }
        polled
    }

    /// A task that is inside a poll goes on until that returns.
    fn cancel(&mut self, slot: usize) -> bool {
        if let Some(Aborting(task)) = &self.tasks[slot] {
            task.abort();
        }
        self.tasks[slot].is_none()
    }

    fn another(&self) -> Box<dyn Slots> {
        Box::new(Self::new(self.service.clone()))
    }
}

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}
