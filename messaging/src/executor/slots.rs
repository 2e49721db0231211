//! Typed, reused slots for the futures of one handler, behind one erased trait: no allocation and no boxed future per
//! message.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use tower::Service;

use crate::{delivery::Delivery, error::HandlerError};

/// One handler, from which every worker gets slots of its own.
pub(crate) trait Slots: Send {
    /// Starts a delivery in a slot and polls it once.
    fn start(&mut self, slot: usize, delivery: Delivery, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>>;

    /// Polls the future in a slot.
    fn poll(&mut self, slot: usize, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>>;

    /// Drops the future in a slot. Answers whether it is gone; if not, the slot is to be polled until its end comes,
    /// which may yet be a success.
    #[must_use]
    fn cancel(&mut self, slot: usize) -> bool;

    /// Slots for another worker.
    fn another(&self) -> Box<dyn Slots>;
}

pub(crate) struct TypedSlots<S: Service<Delivery>> {
    service: S,
    slots: Vec<Slot<S>>,
}

struct Slot<S: Service<Delivery>> {
    /// A clone per slot: readiness that was polled for one delivery is not taken by another.
    service: S,
    /// The delivery, until the service is ready for it.
    waiting: Option<Delivery>,
    future: Pin<Box<Option<S::Future>>>,
}

impl<S> TypedSlots<S>
where
    S: Service<Delivery, Response = (), Error = HandlerError> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    pub(crate) fn new(service: S) -> Self {
        Self { service, slots: Vec::new() }
    }
}

impl<S> Slots for TypedSlots<S>
where
    S: Service<Delivery, Response = (), Error = HandlerError> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    #[inline]
    fn start(&mut self, index: usize, delivery: Delivery, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        while self.slots.len() <= index {
            self.slots.push(Slot { service: self.service.clone(), waiting: None, future: Box::pin(None) });
        }
        let slot = &mut self.slots[index];
        slot.caught(|slot| {
            if let Poll::Ready(ready) = slot.service.poll_ready(cx) {
                ready?;
                slot.future.as_mut().set(Some(slot.service.call(delivery)));
                slot.poll_future(cx)
            } else {
                slot.waiting = Some(delivery);
                Poll::Pending
            }
        })
    }

    #[inline]
    fn poll(&mut self, index: usize, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        self.slots[index].caught(|slot| slot.poll(cx))
    }

    fn cancel(&mut self, index: usize) -> bool {
        if let Err(panic) = self.slots[index].clear() {
            tracing::error!(error = %panic, "a handler's future panicked while it was dropped");
        }
        true
    }

    fn another(&self) -> Box<dyn Slots> {
        Box::new(Self::new(self.service.clone()))
    }
}

impl<S> Slot<S>
where
    S: Service<Delivery, Response = (), Error = HandlerError> + Clone,
{
    /// Polls by `poll`; a panic is a failure like any other, also one of a destructor.
    #[inline]
    fn caught(
        &mut self,
        poll: impl FnOnce(&mut Self) -> Poll<Result<(), HandlerError>>,
    ) -> Poll<Result<(), HandlerError>> {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let polled = poll(self);
            if polled.is_ready() {
                self.future.as_mut().set(None);
            }
            polled
        }));
        polled.unwrap_or_else(|panic| {
            // What a panic left behind may panic again when dropped; the first one is told.
            drop(self.clear());
            Poll::Ready(Err(panicked(&*panic)))
        })
    }

    #[inline]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        if let Some(delivery) = self.waiting.take() {
            match self.service.poll_ready(cx) {
                Poll::Ready(Ok(())) => self.future.as_mut().set(Some(self.service.call(delivery))),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.waiting = Some(delivery);
                    return Poll::Pending;
                }
            }
        }
        self.poll_future(cx)
    }

    #[inline]
    fn poll_future(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        match self.future.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Pending,
        }
    }

    /// Drops the future; its destructor may panic.
    fn clear(&mut self) -> Result<(), HandlerError> {
        self.waiting = None;
        catch_unwind(AssertUnwindSafe(|| self.future.as_mut().set(None))).map_err(|panic| panicked(&*panic))
    }
}

fn panicked(payload: &(dyn Any + Send)) -> HandlerError {
    HandlerError::panicked(payload)
}
