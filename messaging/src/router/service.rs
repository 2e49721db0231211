//! [`HandlerService`]: a handler as one concrete `tower` service, so that layers can be put around any handler.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use parking_lot::Mutex;
use tower::Service;

use crate::{delivery::Delivery, error::HandlerError};

/// A handler with its type erased, for `tower` layers to wrap. Its future lives in a box that is used again for the next
/// delivery, so that a layer costs no allocation per message.
pub struct HandlerService(Box<dyn Erased>);

impl HandlerService {
    pub(crate) fn new<S>(service: S) -> Self
    where
        S: Service<Delivery, Response = (), Error = HandlerError> + Clone + Send + 'static,
        S::Future: Send + 'static,
    {
        Self(Box::new(Recycling { service, home: Arc::default() }))
    }
}

impl Clone for HandlerService {
    fn clone(&self) -> Self {
        Self(self.0.clone_erased())
    }
}

impl Service<Delivery> for HandlerService {
    type Response = ();
    type Error = HandlerError;
    type Future = HandlerFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, delivery: Delivery) -> HandlerFuture {
        self.0.call(delivery)
    }
}

impl fmt::Debug for HandlerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandlerService")
    }
}

/// The future of a [`HandlerService`].
pub struct HandlerFuture(Option<Box<dyn Running>>);

impl Future for HandlerFuture {
    type Output = Result<(), HandlerError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Some(running) => running.poll(cx),
            None => Poll::Pending,
        }
    }
}

impl Drop for HandlerFuture {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            running.go_home();
        }
    }
}

impl fmt::Debug for HandlerFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandlerFuture")
    }
}

trait Erased: Send {
    fn clone_erased(&self) -> Box<dyn Erased>;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>>;
    fn call(&mut self, delivery: Delivery) -> HandlerFuture;
}

trait Running: Send {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>>;
    fn go_home(self: Box<Self>);
}

/// Where an emptied box waits for the next delivery.
type Home<F> = Arc<Mutex<Option<Box<Cell<F>>>>>;

struct Recycling<S: Service<Delivery>> {
    service: S,
    home: Home<S::Future>,
}

struct Cell<F> {
    future: Pin<Box<Option<F>>>,
    home: Option<Home<F>>,
}

impl<S> Erased for Recycling<S>
where
    S: Service<Delivery, Response = (), Error = HandlerError> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    fn clone_erased(&self) -> Box<dyn Erased> {
        Box::new(Self { service: self.service.clone(), home: Arc::default() })
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, delivery: Delivery) -> HandlerFuture {
        let waiting = self.home.lock().take();
        let mut cell = waiting.unwrap_or_else(|| Box::new(Cell { future: Box::pin(None), home: None }));
        cell.future.as_mut().set(Some(self.service.call(delivery)));
        cell.home = Some(self.home.clone());
        HandlerFuture(Some(cell))
    }
}

impl<F: Future<Output = Result<(), HandlerError>> + Send> Running for Cell<F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        match self.future.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Pending,
        }
    }

    fn go_home(mut self: Box<Self>) {
        self.future.as_mut().set(None);
        if let Some(home) = self.home.take() {
            *home.lock() = Some(self);
        }
    }
}
