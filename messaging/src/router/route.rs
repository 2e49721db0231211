//! [`Route`]: one handler of a router, with what it matches and options of its own.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};

use super::{BatchHandler, BatchOptions, Handler, HandlerService, Scope};
use crate::{
    BoxFuture,
    capability::Capability,
    codec::Codecs,
    delivery::Delivery,
    error::HandlerError,
    executor::{BatchSlots, RunBatch, Slots, SpawnedSlots, TypedSlots},
    name::Name,
    policy::FailurePolicy,
    telemetry::RouteMeter,
};

/// One handler: which deliveries it gets, and options that differ from its router's.
#[must_use = "a route does nothing until it is added to a router"]
pub struct Route<S = ()> {
    pub(crate) matches: Matches,
    pub(crate) requires: Vec<Capability>,
    pub(crate) policy: Option<FailurePolicy>,
    /// If its handler takes batches.
    pub(crate) batch: Option<BatchOptions>,
    /// An option that batch handlers do not have.
    pub(crate) refused: Option<&'static str>,
    spawned: bool,
    build: Box<dyn FnOnce(Seed, Arc<S>) -> Parts + Send + Sync>,
}

/// Which deliveries a route gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Matches {
    /// Events of this name.
    Event { name: Name },
    /// Everything on this topic that no event route matches.
    Message { topic: Name },
}

impl Matches {
    /// How the handler is called in metrics, spans and dead letters.
    pub(crate) fn label(&self) -> &Name {
        match self {
            Self::Event { name } => name,
            Self::Message { topic } => topic,
        }
    }
}

/// What a route's handler is built with once its group starts.
#[derive(Clone)]
pub(crate) struct Seed {
    pub(crate) group: Name,
    pub(crate) codecs: Codecs,
    pub(crate) timeout: Duration,
    pub(crate) stopping: CancellationToken,
    /// How many slots every worker has at least.
    pub(crate) slots: usize,
    pub(crate) meter: RouteMeter,
}

/// Records with a handler's resource that a delivery was dead-lettered.
type RecordDead = Arc<dyn Fn(Delivery) -> Option<BoxFuture<Result<(), HandlerError>>> + Send + Sync>;

/// A handler as a service, before its type is erased into slots.
struct Parts {
    service: Built,
    keeps_timeout: bool,
    record_dead: RecordDead,
}

/// Either kept typed, or already erased for a layer.
struct Built {
    slots: Box<dyn Slots>,
    /// For layers and tasks of its own; a batch handler has neither.
    service: Option<Box<dyn Fn() -> HandlerService + Send>>,
}

impl Built {
    fn new<V>(service: V) -> Self
    where
        V: Service<Delivery, Response = (), Error = HandlerError> + Clone + Send + 'static,
        V::Future: Send + 'static,
    {
        let for_layers = service.clone();
        Self {
            slots: Box::new(TypedSlots::new(service)),
            service: Some(Box::new(move || HandlerService::new(for_layers.clone()))),
        }
    }
}

/// A route that is ready to run.
pub(crate) struct BuiltRoute {
    pub(crate) slots: Box<dyn Slots>,
    pub(crate) keeps_timeout: bool,
    pub(crate) record_dead: RecordDead,
}

impl<S: Send + Sync + 'static> Route<S> {
    /// The events of this name, on every topic of the router.
    pub fn event<H, M>(name: impl Into<Name>, handler: H) -> Self
    where
        H: Handler<M, S>,
    {
        Self::new(Matches::Event { name: name.into() }, handler)
    }

    /// Every delivery of this topic that no event route matches.
    pub fn message<H, M>(topic: impl Into<Name>, handler: H) -> Self
    where
        H: Handler<M, S>,
    {
        Self::new(Matches::Message { topic: topic.into() }, handler)
    }

    pub(super) fn new<H, M>(matches: Matches, handler: H) -> Self
    where
        H: Handler<M, S>,
    {
        let build = move |seed: Seed, state: Arc<S>| {
            let Seed { group, codecs, timeout, stopping, meter, .. } = seed;
            let scope = Arc::new(Scope { state, group, codecs, timeout, stopping, meter });
            let service = Built::new(handler.into_service(scope.clone()));
            let record_dead: RecordDead = Arc::new(move |delivery| H::record_dead(scope.clone(), delivery));
            Parts { service, keeps_timeout: H::keeps_timeout(), record_dead }
        };
        Self::built_by(matches, H::requires(), None, build)
    }

    /// The events of this name in batches, on every topic of the router; see [`Router::on_batch`](super::Router::on_batch).
    ///
    /// Layers and [`spawned`](Self::spawned) are not for batch handlers: the group is refused at its start.
    pub fn batch<H, M>(name: impl Into<Name>, options: BatchOptions, handler: H) -> Self
    where
        H: BatchHandler<M, S>,
    {
        let build = move |seed: Seed, state: Arc<S>| {
            let Seed { group, codecs, timeout, stopping, meter, slots } = seed;
            let options = options.max(options.max.min(slots));
            let scope = Arc::new(Scope { state, group, codecs, timeout, stopping: stopping.clone(), meter });
            let running = scope.clone();
            let run: RunBatch = Arc::new(move |deliveries| handler.run(deliveries, running.clone()));
            let service = Built { slots: Box::new(BatchSlots::new(run, options, stopping)), service: None };
            let record_dead: RecordDead = Arc::new(move |delivery| H::record_dead(scope.clone(), delivery));
            // The time to gather a batch is none of its handler's.
            Parts { service, keeps_timeout: true, record_dead }
        };
        Self::built_by(Matches::Event { name: name.into() }, H::requires(), Some(options), build)
    }

    fn built_by(
        matches: Matches,
        requires: Vec<Capability>,
        batch: Option<BatchOptions>,
        build: impl FnOnce(Seed, Arc<S>) -> Parts + Send + Sync + 'static,
    ) -> Self {
        Self { matches, requires, policy: None, batch, refused: None, spawned: false, build: Box::new(build) }
    }

    /// Puts a `tower` layer around the handler, outside of those it has.
    pub fn layer<L>(self, layer: L) -> Self
    where
        L: Layer<HandlerService> + Send + Sync + 'static,
        L::Service: Service<Delivery, Response = (), Error = HandlerError> + Clone + Send + 'static,
        <L::Service as Service<Delivery>>::Future: Send + 'static,
    {
        if self.batch.is_some() {
            return Self { refused: Some("a layer"), ..self };
        }
        self.map_service(move |service| Built::new(layer.layer(service())))
    }

    /// Runs the handler, with all its layers, as a task of its own: for one that computes for long between two awaits
    /// and would hold up the others of its worker. Costs a task per message. A run that is cut short (timeout, lost
    /// partition) is aborted; while it blocks its thread it cannot be, and holds its slot and lane until it returns.
    pub fn spawned(mut self) -> Self {
        if self.batch.is_some() {
            self.refused = Some("a task of its own");
        }
        self.spawned = true;
        self
    }

    /// What becomes of its failed deliveries.
    pub fn failure_policy(mut self, policy: FailurePolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    pub(crate) fn with_state(self, state: Arc<S>) -> Route {
        let build = self.build;
        Route {
            matches: self.matches,
            requires: self.requires,
            policy: self.policy,
            batch: self.batch,
            refused: self.refused,
            spawned: self.spawned,
            build: Box::new(move |seed, _| build(seed, state)),
        }
    }

    fn map_service(
        self,
        map: impl FnOnce(Box<dyn Fn() -> HandlerService + Send>) -> Built + Send + Sync + 'static,
    ) -> Self {
        let build = self.build;
        let mapped = move |seed: Seed, state: Arc<S>| {
            let parts = build(seed, state);
            let service = match parts.service.service {
                Some(service) => map(service),
                None => parts.service,
            };
            Parts { service, ..parts }
        };
        Self { build: Box::new(mapped), ..self }
    }
}

impl Route {
    pub(crate) fn build(self, seed: Seed) -> BuiltRoute {
        let Parts { service, keeps_timeout, record_dead } = (self.build)(seed, Arc::new(()));
        let slots = match service.service {
            Some(service) if self.spawned => Box::new(SpawnedSlots::new(service())),
            _ => service.slots,
        };
        BuiltRoute { slots, keeps_timeout, record_dead }
    }
}

impl<S> std::fmt::Debug for Route<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Route").field("matches", &self.matches).field("policy", &self.policy).finish_non_exhaustive()
    }
}
