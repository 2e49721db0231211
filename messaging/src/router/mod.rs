//! [`Router`]: a group, its topics and its handlers, as `axum` has it for paths.

mod batch;
pub mod checked;
mod extract;
mod handler;
mod plan;
mod resource;
mod route;
mod service;

pub use batch::{BatchHandler, BatchOptions, FromScope, IntoBatchOutcome};
pub use extract::{Attempt, Cancellation, FromDelivery, FromRef, Json, Scope, Shared, State};
pub use handler::{Handler, IntoOutcome, Plain, WithResource};
pub(crate) use plan::{GroupPlan, TopicRoutes};
pub use resource::{Admission, BatchResource, Begun, Ending, Finished, Resource, ResourceContext};
pub use route::Route;
pub(crate) use route::{Matches, Seed};
pub use service::{HandlerFuture, HandlerService};

use std::sync::Arc;

use tower::Layer;

use crate::{
    capability::{Capabilities, Capability},
    delivery::Delivery,
    error::{Error, HandlerError},
    name::Name,
    policy::{FailurePolicy, OnUnhandled},
    subscription::{Start, Subscription},
};

/// A group of consumers: its topics, and its handlers by event name.
///
/// ```
/// use messaging::{Event, EventData, HandlerError, Router};
/// # #[derive(EventData, serde::Serialize, serde::Deserialize)]
/// # #[event(name = "orders.created", topic = "order-events", key = order_id)]
/// # struct OrderCreated { order_id: i64 }
///
/// async fn on_order_created(event: Event<OrderCreated>) -> Result<(), HandlerError> {
///     println!("order {}", event.data.order_id);
///     Ok(())
/// }
///
/// let router: Router = Router::new("notifications").topic("order-events").on_event("orders.created", on_order_created);
/// # drop(router);
/// ```
///
/// `S` is the state that handlers take by [`State`]; [`with_state`](Self::with_state) supplies it.
#[must_use = "a router does nothing until it is run"]
pub struct Router<S = ()> {
    pub(crate) subscription: Subscription,
    pub(crate) routes: Vec<Route<S>>,
    pub(crate) options: GroupOptions,
}

/// How a group runs; routers of one group must agree.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GroupOptions {
    pub(crate) policy: FailurePolicy,
    pub(crate) on_unhandled: OnUnhandled,
    pub(crate) concurrency: usize,
    /// It was asked for; otherwise the size of batches may raise it.
    pub(crate) concurrency_given: bool,
    pub(crate) max_in_flight: usize,
    pub(crate) max_in_flight_bytes: usize,
    pub(crate) max_span: usize,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            policy: FailurePolicy::default(),
            on_unhandled: OnUnhandled::Skip,
            concurrency: 16,
            concurrency_given: false,
            max_in_flight: 4_096,
            max_in_flight_bytes: 64 * 1024 * 1024,
            max_span: 100_000,
        }
    }
}

impl<S: Send + Sync + 'static> Router<S> {
    /// A router of this group, without topics and handlers.
    pub fn new(group: impl Into<Name>) -> Self {
        let subscription = Subscription::new(group, std::iter::empty::<Name>());
        Self { subscription, routes: Vec::new(), options: GroupOptions::default() }
    }

    /// Subscribes to a topic.
    pub fn topic(mut self, topic: impl Into<Name>) -> Self {
        let topic = topic.into();
        if !self.subscription.topics.contains(&topic) {
            self.subscription.topics.push(topic);
        }
        self
    }

    /// Handles the events of this name, on every topic of the router.
    pub fn on_event<H, M>(self, name: impl Into<Name>, handler: H) -> Self
    where
        H: Handler<M, S>,
    {
        self.route(Route::event(name, handler))
    }

    /// Handles the events of this name in batches, on every topic of the router: at most 100 messages, of those that may
    /// start now. Options are taken by [`Route::batch`].
    ///
    /// A batch holds at most one message of a key, the next one that may be handled; later ones wait until the batch has
    /// ended. Each message has its own outcome: one that fails is tried again or dead-lettered alone.
    ///
    /// ```
    /// use messaging::{Event, EventData, HandlerError, Router};
    /// # #[derive(EventData, serde::Serialize, serde::Deserialize)]
    /// # #[event(name = "orders.created", topic = "order-events", key = order_id)]
    /// # struct OrderCreated { order_id: i64 }
    ///
    /// async fn index(batch: Vec<Event<OrderCreated>>) -> Vec<Result<(), HandlerError>> {
    ///     let index = |event: Event<OrderCreated>| match event.data.order_id {
    ///         0 => Err(HandlerError::permanent("no such order")),
    ///         _ => Ok(()),
    ///     };
    ///     batch.into_iter().map(index).collect()
    /// }
    ///
    /// let router: Router = Router::new("search").topic("order-events").on_batch("orders.created", index);
    /// # drop(router);
    /// ```
    pub fn on_batch<H, M>(self, name: impl Into<Name>, handler: H) -> Self
    where
        H: BatchHandler<M, S>,
    {
        self.route(Route::batch(name, BatchOptions::default(), handler))
    }

    /// Handles every delivery of a topic that no event handler matches, and subscribes to the topic.
    pub fn on_message<H, M>(self, topic: impl Into<Name>, handler: H) -> Self
    where
        H: Handler<M, S>,
    {
        self.route(Route::message(topic, handler))
    }

    /// Adds a handler with options of its own.
    pub fn route(mut self, route: Route<S>) -> Self {
        if let Matches::Message { topic } = &route.matches {
            let topic = topic.clone();
            self = self.topic(topic);
        }
        if let Some(batch) = &route.batch
            && !self.options.concurrency_given
        {
            self.options.concurrency = self.options.concurrency.max(batch.max);
        }
        self.routes.push(route);
        self
    }

    /// Puts a `tower` layer around every handler added so far, outside of their own layers. Batch handlers take none: the
    /// group is refused at its start.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<HandlerService> + Clone + Send + Sync + 'static,
        L::Service: tower::Service<Delivery, Response = (), Error = HandlerError> + Clone + Send + 'static,
        <L::Service as tower::Service<Delivery>>::Future: Send + 'static,
    {
        self.routes = self.routes.into_iter().map(|route| route.layer(layer.clone())).collect();
        self
    }

    /// What becomes of failed deliveries, where a route says nothing else.
    pub fn failure_policy(mut self, policy: FailurePolicy) -> Self {
        self.options.policy = policy;
        self
    }

    /// What becomes of deliveries without a handler; they are skipped by default.
    pub fn on_unhandled(mut self, what: OnUnhandled) -> Self {
        self.options.on_unhandled = what;
        self
    }

    /// How many deliveries are handled at once by this instance; 16 by default, or as many as its largest batch may hold.
    /// Deliveries of one key never are. Each message of a batch counts: for several batches at once, it takes as many times
    /// the size of one.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.options.concurrency = handlers;
        self.options.concurrency_given = true;
        self
    }

    /// How many deliveries may be held between the broker and the handlers; 4,096 by default.
    ///
    /// A parked delivery behind which half as many wait in its lane, and 16 at least, is dead-lettered before its retries are
    /// used up. With 16 or fewer it has them all, and others may wait for it.
    pub fn max_in_flight(mut self, deliveries: usize) -> Self {
        self.options.max_in_flight = deliveries;
        self
    }

    /// How many bytes they may have together; 64 MiB by default. The cap is this and one fetch.
    pub fn max_in_flight_bytes(mut self, bytes: usize) -> Self {
        self.options.max_in_flight_bytes = bytes;
        self
    }

    /// How far a partition may get ahead of its oldest unfinished delivery; 100,000 by default.
    pub fn max_span(mut self, deliveries: usize) -> Self {
        self.options.max_span = deliveries;
        self
    }

    /// Where the group starts on a partition on which it has settled nothing yet.
    pub fn start(mut self, start: Start) -> Self {
        self.subscription.start = start;
        self
    }

    /// Refuses to start on a backend that lacks this capability.
    pub fn requires(mut self, capability: Capability) -> Self {
        self.subscription.requires.push(capability);
        self
    }

    /// How long running handlers may go on when a partition moves to another live instance; 1 s by default.
    pub fn revoke_drain(mut self, drain: std::time::Duration) -> Self {
        self.subscription.revoke_drain = drain;
        self
    }

    /// Supplies the state that handlers take by [`State`].
    pub fn with_state(self, state: S) -> Router {
        self.with_shared_state(Arc::new(state))
    }

    /// Supplies the state that handlers take by [`State`] or [`Shared`].
    pub fn with_shared_state(self, state: Arc<S>) -> Router {
        Router {
            subscription: self.subscription,
            routes: self.routes.into_iter().map(|route| route.with_state(state.clone())).collect(),
            options: self.options,
        }
    }

    /// What the group wants of a backend, complete: for checks without a connection.
    #[must_use]
    pub fn subscription(&self) -> Subscription {
        let mut subscription = self.subscription.clone();
        subscription.requires.extend(self.routes.iter().flat_map(|route| route.requires.iter().copied()));
        subscription.requires.sort_unstable();
        subscription.requires.dedup();
        let policies = self.routes.iter().map(|route| route.policy.as_ref().unwrap_or(&self.options.policy));
        subscription.max_hold = policies.map(|policy| policy.max_hold).max().unwrap_or_default();
        subscription
    }

    /// Checks by configuration alone that the router works on a backend of these capabilities.
    ///
    /// ```
    /// # use messaging::{Capabilities, Fence, Router};
    /// async fn writes_elsewhere(fence: Fence) {}
    ///
    /// let router: Router = Router::new("billing").on_message("invoices", writes_elsewhere);
    /// let error = router.check("queue", &Capabilities::none(1024)).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     r#"group "billing" requires the capability `fencing_token`, which the backend `queue` lacks"#
    /// );
    /// ```
    ///
    /// # Errors
    /// The first capability that is missing, with the group and the backend.
    pub fn check(&self, backend: &str, capabilities: &Capabilities) -> Result<(), Error> {
        self.subscription().check(backend, capabilities)
    }
}

impl<S> std::fmt::Debug for Router<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router")
            .field("subscription", &self.subscription)
            .field("routes", &self.routes)
            .field("options", &self.options)
            .finish()
    }
}

/// What can be run as a router: routers, and the values of types with [`#[consumer]`](crate::consumer).
pub trait IntoRouter {
    /// The router.
    fn into_router(self) -> Router;
}

impl IntoRouter for Router {
    fn into_router(self) -> Router {
        self
    }
}
