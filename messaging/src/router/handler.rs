//! [`Handler`]: the async functions that can handle deliveries, and how one becomes a `tower` service.

use std::{
    future::Future,
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{
    extract::{FromDelivery, Scope},
    resource::{Begun, Ending, Finished, Resource, ResourceContext},
};
use crate::{
    BoxFuture,
    capability::Capability,
    delivery::Delivery,
    error::{FailureKind, HandlerError},
};

/// An async function that handles deliveries.
///
/// Its arguments are taken from the delivery by [`FromDelivery`]; the last one may be `&mut R` for a [`Resource`] such
/// as a transaction. It returns `()` or a `Result<(), E>` whose error turns into a [`HandlerError`].
///
/// When a function is no handler although it looks like one, `#[messaging::debug_handler]` above it says which
/// argument is at fault.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message handler",
    label = "not a handler",
    note = "a handler is an `async fn` whose arguments implement `FromDelivery` (`Event<T>`, `Json<T>`, `State<S>`, …), the last may be `&mut R` where `R: Resource`",
    note = "it returns `()` or `Result<(), E>` where `E` is a `std::error::Error` or a `HandlerError`, and its future is `Send`",
    note = "put `#[messaging::debug_handler]` on the function to see which of these fails"
)]
pub trait Handler<M, S>: Clone + Send + Sync + 'static {
    /// The handler as a service. `scope` is what its arguments are taken from beside the delivery.
    fn into_service(
        self,
        scope: Arc<Scope<S>>,
    ) -> impl Service<Delivery, Response = (), Error = HandlerError, Future: Send + 'static> + Clone + Send + 'static;

    /// Capabilities that its arguments rely on.
    #[must_use]
    fn requires() -> Vec<Capability> {
        Vec::new()
    }

    /// Whether the handler keeps its timeout itself, because it waits for a resource outside of it.
    #[must_use]
    fn keeps_timeout() -> bool {
        false
    }

    /// Records with the handler's resource that a delivery was dead-lettered; `None` if there is no resource.
    fn record_dead(_scope: Arc<Scope<S>>, _delivery: Delivery) -> Option<BoxFuture<Result<(), HandlerError>>> {
        None
    }
}

/// What a handler may return.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    note = "return `()` or `Result<(), E>` where `E` is a `std::error::Error` or a `HandlerError`"
)]
pub trait IntoOutcome {
    /// Success, or what went wrong.
    ///
    /// # Errors
    /// What the handler reported.
    fn into_outcome(self) -> Result<(), HandlerError>;
}

#[diagnostic::do_not_recommend]
impl IntoOutcome for () {
    fn into_outcome(self) -> Result<(), HandlerError> {
        Ok(())
    }
}

#[diagnostic::do_not_recommend]
impl<E: Into<HandlerError>> IntoOutcome for Result<(), E> {
    #[inline]
    fn into_outcome(self) -> Result<(), HandlerError> {
        self.map_err(Into::into)
    }
}

/// A service from a function that is always ready.
#[derive(Clone)]
pub(crate) struct FnService<C>(pub(crate) C);

impl<C, Fut> Service<Delivery> for FnService<C>
where
    C: Fn(Delivery) -> Fut,
    Fut: Future<Output = Result<(), HandlerError>>,
{
    type Response = ();
    type Error = HandlerError;
    type Future = Fut;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, delivery: Delivery) -> Fut {
        (self.0)(delivery)
    }
}

/// Marks handlers whose arguments all come from the delivery.
#[derive(Debug)]
pub struct Plain<A>(std::marker::PhantomData<A>);

/// Marks handlers whose last argument is a resource.
#[derive(Debug)]
pub struct WithResource<A, R>(std::marker::PhantomData<(A, R)>);

macro_rules! handlers {
    ($call:ident: $($arg:ident),*) => {
        impl<F, Fut, Out, S, $($arg),*> Handler<Plain<($($arg,)*)>, S> for F
        where
            F: Fn($($arg),*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = Out> + Send + 'static,
            Out: IntoOutcome,
            S: Send + Sync + 'static,
            $($arg: FromDelivery<S>,)*
        {
            #[allow(non_snake_case, unused_variables, clippy::redundant_closure_call)]
            fn into_service(
                self,
                scope: Arc<Scope<S>>,
            ) -> impl Service<Delivery, Response = (), Error = HandlerError, Future: Send + 'static> + Clone + Send + 'static
            {
                FnService(move |delivery: Delivery| {
                    // Taken here rather than in the future: the future then holds the arguments alone.
                    let future = (|| {
                        $(let $arg = $arg::from_delivery(&delivery, &scope)?;)*
                        Ok(self($($arg),*))
                    })();
                    async move {
                        match future {
                            Ok(future) => future.await.into_outcome(),
                            Err(rejection) => Err(rejection),
                        }
                    }
                })
            }

            fn requires() -> Vec<Capability> {
                let each: Vec<Vec<Capability>> = vec![$($arg::requires()),*];
                each.concat()
            }
        }

        /// A function of these arguments and a resource for any lifetime, with its future named.
        pub trait $call<'a, R: 'a, $($arg),*>: Send + Sync {
            /// What the function returns.
            type Output;
            /// Its future.
            type Future: Future<Output = Self::Output> + Send + 'a;
            /// Calls it.
            #[allow(non_snake_case, clippy::too_many_arguments)]
            fn call(&self, $($arg: $arg,)* resource: &'a mut R) -> Self::Future;
        }

        impl<'a, F, Fut, Out, R: 'a, $($arg),*> $call<'a, R, $($arg),*> for F
        where
            F: Fn($($arg,)* &'a mut R) -> Fut + Send + Sync,
            Fut: Future<Output = Out> + Send + 'a,
        {
            type Output = Out;
            type Future = Fut;
            #[allow(non_snake_case, clippy::too_many_arguments)]
            fn call(&self, $($arg: $arg,)* resource: &'a mut R) -> Fut {
                self($($arg,)* resource)
            }
        }

        impl<F, S, R, $($arg),*> Handler<WithResource<($($arg,)*), R>, S> for F
        where
            F: for<'a> $call<'a, R, $($arg),*> + Clone + Send + Sync + 'static,
            for<'a> <F as $call<'a, R, $($arg),*>>::Output: IntoOutcome,
            S: Send + Sync + 'static,
            R: Resource<S>,
            $($arg: FromDelivery<S> + Send + 'static,)*
        {
            #[allow(non_snake_case, unused_variables)]
            fn into_service(
                self,
                scope: Arc<Scope<S>>,
            ) -> impl Service<Delivery, Response = (), Error = HandlerError, Future: Send + 'static> + Clone + Send + 'static
            {
                let handler = Arc::new(self);
                FnService(move |delivery: Delivery| {
                    let (handler, scope) = (handler.clone(), scope.clone());
                    async move {
                        $(let $arg = $arg::from_delivery(&delivery, &scope)?;)*
                        let context = ResourceContext { delivery: &delivery, group: &scope.group, state: &*scope.state };
                        let mut resource = match R::begin(context).await? {
                            Begun::Run(resource) => resource,
                            Begun::Duplicate => return Ok(scope.duplicate()),
                        };
                        let outcome = {
                            let handling = handler.call($($arg,)* &mut resource);
                            match tokio::time::timeout(scope.timeout, handling).await {
                                Ok(output) => output.into_outcome(),
                                Err(_) => Err(HandlerError::timed_out(scope.timeout)),
                            }
                        };
                        finish(resource, outcome).await
                    }
                })
            }

            fn requires() -> Vec<Capability> {
                let each: Vec<Vec<Capability>> = vec![$($arg::requires(),)* R::requires()];
                each.concat()
            }

            fn keeps_timeout() -> bool {
                true
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

/// Ends a resource as the handler's outcome says; what was not committed is a failure.
async fn finish<R: Resource<S>, S>(resource: R, outcome: Result<(), HandlerError>) -> Result<(), HandlerError> {
    match outcome {
        Ok(()) => match resource.finish(Ending::Handled).await {
            Finished::Committed => Ok(()),
            Finished::RolledBack(error) => Err(error),
            // The next run asks `begin` again, which knows whether this one was committed; until then it is no attempt.
            Finished::Unknown(error) => Err(HandlerError::infrastructure(error.text())),
        },
        Err(error) => {
            resource.finish(Ending::Failed).await;
            Err(R::classify(error))
        }
    }
}

pub(super) async fn record_dead<R: Resource<S>, S: Send + Sync + 'static>(
    scope: Arc<Scope<S>>,
    delivery: Delivery,
) -> Result<(), HandlerError> {
    let context = ResourceContext { delivery: &delivery, group: &scope.group, state: &*scope.state };
    let begun = match R::begin(context).await {
        // What the resource will never begin for has nothing to be recorded.
        Err(error) if error.kind() == FailureKind::Permanent => return Ok(()),
        begun => begun?,
    };
    match begun {
        Begun::Duplicate => Ok(()),
        Begun::Run(resource) => match resource.finish(Ending::Dead).await {
            Finished::Committed => Ok(()),
            Finished::RolledBack(error) | Finished::Unknown(error) => Err(error),
        },
    }
}

handlers!(Call0:);
handlers!(Call1: A1);
handlers!(Call2: A1, A2);
handlers!(Call3: A1, A2, A3);
handlers!(Call4: A1, A2, A3, A4);
handlers!(Call5: A1, A2, A3, A4, A5);
handlers!(Call6: A1, A2, A3, A4, A5, A6);
handlers!(Call7: A1, A2, A3, A4, A5, A6, A7);
handlers!(Call8: A1, A2, A3, A4, A5, A6, A7, A8);
