//! [`BatchHandler`]: the async functions that handle several deliveries in one run, each with an outcome of its own.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use super::{
    extract::{Cancellation, FromDelivery, FromRef, Scope, Shared, State},
    handler::{Call1, Call2, Call3, Call4, Call5, Plain, WithResource, record_dead},
    resource::{Admission, BatchResource, Ending, Finished, ResourceContext},
};
use crate::{BoxFuture, capability::Capability, delivery::Delivery, error::HandlerError};

/// How the batches of a [`BatchHandler`] are gathered.
///
/// ```
/// use std::time::Duration;
///
/// use messaging::BatchOptions;
///
/// let options = BatchOptions::default().max(500).linger(Duration::from_millis(20));
/// assert_eq!((options.max, options.linger), (500, Duration::from_millis(20)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchOptions {
    /// How many messages a batch holds at most; 100 by default, and never more than the group's concurrency.
    pub max: usize,
    /// How long a batch that is not full waits for more messages from its first one on. Zero by default: a batch is what
    /// may start now.
    pub linger: Duration,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self { max: 100, linger: Duration::ZERO }
    }
}

impl BatchOptions {
    /// At most this many messages in a batch.
    #[must_use]
    pub fn max(mut self, messages: usize) -> Self {
        self.max = messages;
        self
    }

    /// Waits this long for more messages.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }
}

/// An async function that handles several deliveries in one run.
///
/// Its first argument is `Vec<Event<T>>`, or a `Vec` of anything else that implements [`FromDelivery`]. The others come
/// from what surrounds the handler, by [`FromScope`]; the last one may be `&mut R` for a [`BatchResource`] such as a
/// transaction. It returns one outcome for all messages, `()` or `Result<(), E>`, or one for each in the batch's order,
/// `Vec<Result<(), E>>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a batch handler",
    label = "not a batch handler",
    note = "a batch handler is an `async fn` whose first argument is `Vec<Event<T>>`, whose others implement `FromScope` (`State<S>`, `Shared<S>`, `Cancellation`), the last may be `&mut R` where `R: BatchResource`",
    note = "it returns `()`, `Result<(), E>` or `Vec<Result<(), E>>` where `E` is a `std::error::Error` or a `HandlerError`, and its future is `Send`"
)]
pub trait BatchHandler<M, S>: Clone + Send + Sync + 'static {
    /// Handles these deliveries; answers an outcome for each, in their order.
    fn run(&self, deliveries: Vec<Delivery>, scope: Arc<Scope<S>>) -> BoxFuture<Vec<Result<(), HandlerError>>>;

    /// Capabilities that its arguments rely on.
    #[must_use]
    fn requires() -> Vec<Capability> {
        Vec::new()
    }

    /// Records with the handler's resource that a delivery was dead-lettered; `None` if there is no resource.
    fn record_dead(_scope: Arc<Scope<S>>, _delivery: Delivery) -> Option<BoxFuture<Result<(), HandlerError>>> {
        None
    }
}

/// A batch handler's argument that is the same for every message, taken from the [`Scope`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a batch handler",
    label = "is not the same for every message of a batch",
    note = "after the batch come `State<S>`, `Shared<S>`, `Cancellation` or a type of yours that implements `FromScope`; what belongs to one message is in its `Event<T>`"
)]
pub trait FromScope<S>: Sized {
    /// Takes the argument.
    fn from_scope(scope: &Scope<S>) -> Self;
}

impl<S, T: FromRef<S>> FromScope<S> for State<T> {
    fn from_scope(scope: &Scope<S>) -> Self {
        Self(T::from_ref(&scope.state))
    }
}

impl<S> FromScope<S> for Shared<S> {
    fn from_scope(scope: &Scope<S>) -> Self {
        Self(scope.state.clone())
    }
}

impl<S> FromScope<S> for Cancellation {
    fn from_scope(scope: &Scope<S>) -> Self {
        Self::of(scope)
    }
}

/// What a batch handler may return.
#[diagnostic::on_unimplemented(
    message = "a batch handler cannot return `{Self}`",
    note = "return `()`, `Result<(), E>`, `Vec<Result<(), E>>` or `Result<Vec<Result<(), E>>, E>` where `E` is a `std::error::Error` or a `HandlerError`"
)]
pub trait IntoBatchOutcome {
    /// The outcome of each of so many messages, in their order.
    ///
    /// # Errors
    /// What went wrong for all of them.
    fn into_outcomes(self, messages: usize) -> Result<Vec<Result<(), HandlerError>>, HandlerError>;
}

#[diagnostic::do_not_recommend]
impl IntoBatchOutcome for () {
    fn into_outcomes(self, messages: usize) -> Result<Vec<Result<(), HandlerError>>, HandlerError> {
        Ok((0..messages).map(|_| Ok(())).collect())
    }
}

#[diagnostic::do_not_recommend]
impl<E: Into<HandlerError>> IntoBatchOutcome for Result<(), E> {
    fn into_outcomes(self, messages: usize) -> Result<Vec<Result<(), HandlerError>>, HandlerError> {
        self.map_err(Into::into)?;
        ().into_outcomes(messages)
    }
}

#[diagnostic::do_not_recommend]
impl<E: Into<HandlerError>> IntoBatchOutcome for Vec<Result<(), E>> {
    fn into_outcomes(self, messages: usize) -> Result<Vec<Result<(), HandlerError>>, HandlerError> {
        if self.len() != messages {
            return Err(HandlerError::permanent(format!(
                "the batch handler answered {} outcomes for {messages} messages",
                self.len()
            )));
        }
        Ok(self.into_iter().map(|outcome| outcome.map_err(Into::into)).collect())
    }
}

#[diagnostic::do_not_recommend]
impl<E: Into<HandlerError>, F: Into<HandlerError>> IntoBatchOutcome for Result<Vec<Result<(), E>>, F> {
    fn into_outcomes(self, messages: usize) -> Result<Vec<Result<(), HandlerError>>, HandlerError> {
        self.map_err(Into::into)?.into_outcomes(messages)
    }
}

/// The deliveries of one run: what the handler is given, and what became of the others.
struct Sorted<B> {
    batch: Vec<B>,
    /// The place of each of the batch among the deliveries.
    places: Vec<usize>,
    /// By delivery, of those that are not in the batch.
    outcomes: Vec<Option<Result<(), HandlerError>>>,
}

impl<B> Sorted<B> {
    /// What cannot be read fails alone.
    fn read<S>(deliveries: &[Delivery], scope: &Scope<S>) -> Self
    where
        B: FromDelivery<S>,
    {
        let mut sorted = Self { batch: Vec::new(), places: Vec::new(), outcomes: Vec::new() };
        for (place, delivery) in deliveries.iter().enumerate() {
            let reading = catch_unwind(AssertUnwindSafe(|| B::from_delivery(delivery, scope)));
            match reading.unwrap_or_else(|panic| Err(HandlerError::panicked(&*panic))) {
                Ok(item) => {
                    sorted.batch.push(item);
                    sorted.places.push(place);
                    sorted.outcomes.push(None);
                }
                Err(error) => sorted.outcomes.push(Some(Err(error))),
            }
        }
        sorted
    }

    /// Leaves out what the resource does not admit.
    fn admit<S>(&mut self, admissions: Vec<Admission>, scope: &Scope<S>) {
        let batch = std::mem::take(&mut self.batch).into_iter().zip(std::mem::take(&mut self.places));
        for ((item, place), admission) in batch.zip(admissions) {
            match admission {
                Admission::Run => {
                    self.batch.push(item);
                    self.places.push(place);
                }
                Admission::Duplicate => {
                    scope.duplicate();
                    self.outcomes[place] = Some(Ok(()));
                }
                Admission::Refused(error) => self.outcomes[place] = Some(Err(error)),
            }
        }
    }

    /// An outcome for each delivery, once the handler's are known.
    fn settle(mut self, handled: Result<Vec<Result<(), HandlerError>>, HandlerError>) -> Vec<Result<(), HandlerError>> {
        match handled {
            Ok(outcomes) => {
                self.places.iter().zip(outcomes).for_each(|(place, outcome)| self.outcomes[*place] = Some(outcome));
            }
            Err(error) => {
                self.places.iter().for_each(|place| self.outcomes[*place] = Some(Err(error.repeated())));
            }
        }
        let missing = || Err(HandlerError::infrastructure("the batch's resource left it out without a reason"));
        self.outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect()
    }
}

/// Runs a handler within its timeout; a panic is a failure like any other.
async fn guarded<T>(timeout: Duration, handling: impl Future<Output = T>) -> Result<T, HandlerError> {
    let mut handling = std::pin::pin!(handling);
    let caught = std::future::poll_fn(move |cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(cx)));
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(panic) => std::task::Poll::Ready(Err(HandlerError::panicked(&*panic))),
        }
    });
    tokio::time::timeout(timeout, caught).await.unwrap_or_else(|_| Err(HandlerError::timed_out(timeout)))
}

/// Ends the resource as the outcomes say; what was not committed is a failure.
async fn finish<R: BatchResource<S>, S>(
    resource: R,
    handled: Result<Vec<Result<(), HandlerError>>, HandlerError>,
) -> Result<Vec<Result<(), HandlerError>>, HandlerError> {
    let outcomes = match handled {
        Ok(outcomes) if outcomes.iter().any(Result::is_ok) => outcomes,
        Ok(outcomes) => {
            resource.finish(Ending::Failed).await;
            return Ok(outcomes.into_iter().map(|outcome| outcome.map_err(R::classify)).collect());
        }
        Err(error) => {
            resource.finish(Ending::Failed).await;
            return Err(R::classify(error));
        }
    };
    let kept: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
    let lost = match resource.finish_batch(&kept).await {
        Finished::Committed => None,
        Finished::RolledBack(error) => Some(error),
        // The next run asks `begin` again, which knows whether this one was committed; until then it is no attempt.
        Finished::Unknown(error) => Some(HandlerError::infrastructure(error.text())),
    };
    let outcome = |outcome: Result<(), HandlerError>| match (outcome, &lost) {
        (Err(error), _) => Err(R::classify(error)),
        (Ok(()), Some(error)) => Err(error.repeated()),
        (Ok(()), None) => Ok(()),
    };
    Ok(outcomes.into_iter().map(outcome).collect())
}

macro_rules! batch_handlers {
    ($call:ident: $($arg:ident),*) => {
        impl<F, Fut, Out, S, B, $($arg),*> BatchHandler<Plain<(B, $($arg,)*)>, S> for F
        where
            F: Fn(Vec<B>, $($arg),*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = Out> + Send + 'static,
            Out: IntoBatchOutcome,
            S: Send + Sync + 'static,
            B: FromDelivery<S> + Send + 'static,
            $($arg: FromScope<S> + Send + 'static,)*
        {
            #[allow(non_snake_case)]
            fn run(&self, deliveries: Vec<Delivery>, scope: Arc<Scope<S>>) -> BoxFuture<Vec<Result<(), HandlerError>>> {
                let handler = self.clone();
                Box::pin(async move {
                    let mut sorted = Sorted::<B>::read(&deliveries, &scope);
                    let batch = std::mem::take(&mut sorted.batch);
                    if batch.is_empty() {
                        return sorted.settle(Ok(Vec::new()));
                    }
                    let messages = batch.len();
                    let handling = async {
                        $(let $arg = $arg::from_scope(&scope);)*
                        handler(batch, $($arg),*).await.into_outcomes(messages)
                    };
                    sorted.settle(guarded(scope.timeout, handling).await.flatten())
                })
            }

            fn requires() -> Vec<Capability> {
                B::requires()
            }
        }

        impl<F, S, R, B, $($arg),*> BatchHandler<WithResource<(B, $($arg,)*), R>, S> for F
        where
            F: for<'a> $call<'a, R, Vec<B>, $($arg),*> + Clone + Send + Sync + 'static,
            for<'a> <F as $call<'a, R, Vec<B>, $($arg),*>>::Output: IntoBatchOutcome,
            S: Send + Sync + 'static,
            R: BatchResource<S>,
            B: FromDelivery<S> + Send + 'static,
            $($arg: FromScope<S> + Send + 'static,)*
        {
            #[allow(non_snake_case)]
            fn run(&self, deliveries: Vec<Delivery>, scope: Arc<Scope<S>>) -> BoxFuture<Vec<Result<(), HandlerError>>> {
                let handler = self.clone();
                Box::pin(async move {
                    let mut sorted = Sorted::<B>::read(&deliveries, &scope);
                    if sorted.batch.is_empty() {
                        return sorted.settle(Ok(Vec::new()));
                    }
                    let begun = {
                        let context = |place: &usize| ResourceContext {
                            delivery: &deliveries[*place],
                            group: &scope.group,
                            state: &*scope.state,
                        };
                        let contexts: Vec<_> = sorted.places.iter().map(context).collect();
                        R::begin_batch(&contexts).await
                    };
                    let mut resource = match begun {
                        Ok((resource, admissions)) => {
                            sorted.admit(admissions, &scope);
                            resource
                        }
                        Err(error) => return sorted.settle(Err(error)),
                    };
                    let batch = std::mem::take(&mut sorted.batch);
                    if batch.is_empty() {
                        resource.finish(Ending::Failed).await;
                        return sorted.settle(Ok(Vec::new()));
                    }
                    let messages = batch.len();
                    let handled = {
                        let resource = &mut resource;
                        let handling = async {
                            $(let $arg = $arg::from_scope(&scope);)*
                            handler.call(batch, $($arg,)* resource).await.into_outcomes(messages)
                        };
                        guarded(scope.timeout, handling).await.flatten()
                    };
                    sorted.settle(finish(resource, handled).await)
                })
            }

            fn requires() -> Vec<Capability> {
                [B::requires(), R::requires()].concat()
            }

            fn record_dead(
                scope: Arc<Scope<S>>,
                delivery: Delivery,
            ) -> Option<BoxFuture<Result<(), HandlerError>>> {
                Some(Box::pin(record_dead::<R, S>(scope, delivery)))
            }
        }
    };
}

batch_handlers!(Call1:);
batch_handlers!(Call2: A1);
batch_handlers!(Call3: A1, A2);
batch_handlers!(Call4: A1, A2, A3);
batch_handlers!(Call5: A1, A2, A3, A4);
