//! [`Resource`]: what a handler borrows for one run and the framework ends afterwards, such as a transaction.

use std::future::Future;

use crate::{capability::Capability, delivery::Delivery, error::HandlerError, name::Name};

/// What a handler takes as its last argument, `&mut R`: begun before it runs and finished after it, by the framework.
///
/// Waiting in [`begin`](Self::begin) is neither an attempt nor handler time. If the future is dropped in between, the
/// resource is dropped without [`finish`](Self::finish) and must undo what it began.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be borrowed by a handler",
    note = "the last argument of a handler may be `&mut R` where `R: Resource<S>`, such as the outbox's `Tx`; `S` is the router's state"
)]
pub trait Resource<S>: Sized + Send + 'static {
    /// Begins, or recognises a delivery whose effects are there already.
    ///
    /// # Errors
    /// What keeps it from beginning; usually [`HandlerError::infrastructure`], which counts as no attempt.
    fn begin(context: ResourceContext<'_, S>) -> impl Future<Output = Result<Begun<Self>, HandlerError>> + Send;

    /// Ends, within a deadline of its own.
    fn finish(self, ending: Ending) -> impl Future<Output = Finished> + Send;

    /// Looks at a handler's failure before the failure policy does: a resource knows which errors of its own say nothing
    /// about the message.
    #[must_use]
    fn classify(error: HandlerError) -> HandlerError {
        error
    }

    /// Capabilities that it relies on.
    #[must_use]
    fn requires() -> Vec<Capability> {
        Vec::new()
    }
}

/// A resource that several deliveries can share: one begin and one end for a batch.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be borrowed by a batch handler",
    note = "the last argument of a batch handler may be `&mut R` where `R: BatchResource<S>`, such as the outbox's `Tx`; `S` is the router's state"
)]
pub trait BatchResource<S>: Resource<S> {
    /// Begins for these deliveries, of which it may leave some out: an admission for each, in their order.
    ///
    /// # Errors
    /// What keeps it from beginning at all.
    fn begin_batch(
        contexts: &[ResourceContext<'_, S>],
    ) -> impl Future<Output = Result<(Self, Vec<Admission>), HandlerError>> + Send;

    /// Keeps the effects of those that were handled, by their order among the admitted ones, and of no other. At least
    /// one was; if none was, [`finish`](Resource::finish) is asked instead.
    fn finish_batch(self, handled: &[bool]) -> impl Future<Output = Finished> + Send;
}

/// What [`BatchResource::begin_batch`] answers for one delivery.
#[derive(Debug)]
pub enum Admission {
    /// It is part of the batch that the handler gets.
    Run,
    /// Its effects are there: it is settled without the handler, and counted.
    Duplicate,
    /// It fails alone, for this reason.
    Refused(HandlerError),
}

/// What a resource begins for.
#[derive(Debug)]
#[non_exhaustive]
pub struct ResourceContext<'a, S> {
    /// The delivery.
    pub delivery: &'a Delivery,
    /// The group that handles it.
    pub group: &'a Name,
    /// The router's state, where the resource finds its provider.
    pub state: &'a S,
}

/// What [`Resource::begin`] answers.
#[derive(Debug)]
pub enum Begun<R> {
    /// The handler is to run.
    Run(R),
    /// The effects of this delivery are there: it is settled without running the handler, and counted.
    Duplicate,
}

/// How a resource is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The handler succeeded: keep its effects.
    Handled,
    /// The handler failed: undo them.
    Failed,
    /// The delivery was dead-lettered: record that, and nothing else.
    Dead,
}

/// How a resource ended.
#[derive(Debug)]
pub enum Finished {
    /// The effects are kept, or the end is recorded.
    Committed,
    /// They are undone, for this reason.
    RolledBack(HandlerError),
    /// The answer did not come: `begin` is asked again before anything counts as an attempt.
    Unknown(HandlerError),
}
