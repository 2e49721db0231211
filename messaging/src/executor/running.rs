//! Starting a group's executor, and [`Running`], the handle by which it is watched and stopped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    Assignments, Ended, RouteInfo, RunPhase, Shared, Slots, State, burial::Burial, own_route::OwnRoute,
    wakeups::MAX_WORKERS, wakeups::Wakeups, worker::Worker,
};
use crate::{
    codec::Codecs,
    consumer::Consumer,
    engine::{Engine, Limits},
    error::{Error, ErrorKind},
    name::Name,
    publish::Front,
    router::{GroupPlan, Seed},
    telemetry::{GroupMeter, RouteMeter},
    time::{Clock, Tick, TokioClock},
    trace::TracePropagator,
};

/// How long settling, leaving and closing may take after the drain.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// What a group is started with beside its plan.
pub(crate) struct GroupSetup {
    pub(crate) consumer: Box<dyn Consumer>,
    pub(crate) front: Arc<Front>,
    pub(crate) codecs: Codecs,
    pub(crate) gate: Arc<dyn Clock>,
    pub(crate) trace_propagator: Option<Arc<dyn TracePropagator>>,
}

/// Starts a group's workers on the present runtime.
pub(crate) fn start(plan: GroupPlan, setup: GroupSetup) -> Group {
    let GroupPlan { subscription, options, routes, topics } = plan;
    let group = subscription.group.clone();
    let stopping = CancellationToken::new();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = tokio::runtime::Handle::current().metrics().num_workers();
    // A batch is gathered in the slots of one worker: each is to have room for the largest.
    let largest = routes.iter().filter_map(|(route, _)| route.batch).map(|batch| batch.max).max().unwrap_or(1);
    let workers = cores.min(threads).min(options.concurrency / largest.max(1)).clamp(1, MAX_WORKERS);
    let mut prototypes: Vec<Box<dyn Slots>> = Vec::with_capacity(routes.len());
    let infos = routes.into_iter().map(|(route, policy)| {
        let label = route.matches.label().clone();
        let meter = RouteMeter::new(&group, &label);
        let built = route.build(Seed {
            group: group.clone(),
            codecs: setup.codecs.clone(),
            timeout: policy.timeout,
            stopping: stopping.clone(),
            meter: meter.clone(),
            slots: (options.concurrency / workers).max(1),
        });
        prototypes.push(built.slots);
        RouteInfo { label, policy, keeps_timeout: built.keeps_timeout, record_dead: built.record_dead, meter }
    });
    let infos: Vec<RouteInfo> = infos.collect();
    let limits =
        Limits { in_flight: options.max_in_flight, bytes: options.max_in_flight_bytes, span: options.max_span };
    let sink = setup.consumer.dead_letters();
    let topic_names = topics.iter().filter_map(|routes| routes.topic.clone()).collect();
    let shared = Arc::new(Shared {
        topics,
        routes: infos,
        on_unhandled: options.on_unhandled,
        revoke_drain: subscription.revoke_drain,
        clock: TokioClock::new(),
        gate: setup.gate,
        trace_propagator: setup.trace_propagator,
        burial: Burial { front: setup.front, sink },
        meter: GroupMeter::new(&group),
        stopping,
        wakeups: Arc::new(Wakeups::new(workers)),
        ended: watch::Sender::new(Ended::NotYet),
        stuck: Arc::new(AtomicUsize::new(0)),
        holding: AtomicBool::new(false),
        paused: AtomicBool::new(false),
        state: Mutex::new(State {
            engine: Engine::new(limits),
            consumer: setup.consumer,
            assignments: Assignments::new(group.clone(), topic_names),
            may_fill: true,
            fill_again: false,
            phase: RunPhase::Running,
            cancels: Vec::new(),
            stop_by: Tick::default(),
        }),
        group,
    });
    let tasks = (0..workers)
        .map(|index| {
            let slots = share(options.concurrency, workers, index);
            let routes = prototypes.iter().zip(&shared.routes);
            let routes = routes.map(|(slots, info)| OwnRoute::new(slots.another(), info)).collect();
            tokio::spawn(Worker::new(shared.clone(), index, slots, routes))
        })
        .collect();
    Group { shared, tasks }
}

/// The part of `total` that falls to one of `parts`; the parts add up to the whole.
fn share(total: usize, parts: usize, index: usize) -> usize {
    total / parts + usize::from(index < total % parts)
}

/// One running group.
pub(crate) struct Group {
    pub(crate) shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Shared {
    /// The executor has ended, with or without an error: workers leave at their next round.
    pub(super) fn end(&self, state: &mut State, error: Option<Error>) {
        if state.phase == RunPhase::Ended {
            return;
        }
        state.phase = RunPhase::Ended;
        if let Some(error) = &error {
            tracing::error!(group = %self.group, error = crate::error::full_text(error), "the consumer ended");
        }
        self.ended.send_replace(error.map_or(Ended::Well, |error| Ended::Failed(Arc::new(error))));
        self.wakeups.all();
    }

    /// Starts nothing and takes nothing in, or goes on.
    fn pause(&self, paused: bool) {
        let mut state = self.state.lock();
        self.paused.store(paused, Ordering::Relaxed);
        state.engine.close_intake(paused);
        state.may_fill = true;
        drop(state);
        self.wakeups.fill();
        self.wakeups.all();
    }

    fn begin_stop(&self, drain: Duration) {
        self.stopping.cancel();
        let mut state = self.state.lock();
        if state.phase == RunPhase::Running {
            state.phase = RunPhase::Stopping;
            state.stop_by = self.clock.now() + drain;
            state.consumer.begin_close();
        }
        drop(state);
        self.wakeups.all();
    }
}

/// Running groups: to be watched, and to be stopped gracefully.
///
/// Dropping it stops at once: running handlers are dropped, and what is unsettled comes back.
#[must_use = "dropping it stops the groups at once"]
pub struct Running {
    pub(crate) groups: Vec<Group>,
}

impl Running {
    /// Stops intake, lets running handlers go on for up to `drain`, settles, leaves the groups and closes.
    ///
    /// With the broker reachable, no message whose handler succeeded is handed over again. Parked retries and what has
    /// not started come back. Not cancel-safe: dropping the future stops at once.
    ///
    /// # Errors
    /// If a consumer could not settle or close in time, or had failed before: unsettled messages come back.
    pub async fn shutdown(mut self, drain: Duration) -> Result<(), Error> {
        for group in &self.groups {
            group.shared.begin_stop(drain);
        }
        let mut first = Ok(());
        for group in &mut self.groups {
            let result = match tokio::time::timeout(drain + CLOSE_DEADLINE, group.ended()).await {
                Ok(result) => result,
                Err(_) => Err(Error::new(
                    ErrorKind::Timeout,
                    format!("group {:?} did not settle and close in time", group.shared.group.as_str()),
                )),
            };
            first = first.and(result);
        }
        first
    }

    /// Starts no more handlers of a group in this process until it is [resumed](Self::resume), and takes nothing more in.
    /// Handlers that run go on; the process keeps its partitions, and other processes of the group go on with theirs.
    /// Answers whether the group runs here.
    pub fn pause(&self, group: &str) -> bool {
        self.set_paused(group, true)
    }

    /// Goes on with a group that was [paused](Self::pause). Answers whether the group runs here.
    pub fn resume(&self, group: &str) -> bool {
        self.set_paused(group, false)
    }

    fn set_paused(&self, group: &str, paused: bool) -> bool {
        let Some(found) = self.groups.iter().find(|running| running.shared.group.as_str() == group) else {
            return false;
        };
        found.shared.pause(paused);
        tracing::info!(group, paused, "a group was paused or resumed");
        true
    }

    /// The groups that are paused.
    #[must_use]
    pub fn paused(&self) -> Vec<Name> {
        let paused = self.groups.iter().filter(|group| group.shared.paused.load(Ordering::Relaxed));
        paused.map(|group| group.shared.group.clone()).collect()
    }

    /// Waits until a group ends by itself, which it does only for an error that cannot be healed. Cancel-safe.
    ///
    /// # Errors
    /// That error.
    pub async fn failed(&self) -> Result<(), Error> {
        let mut ends: Vec<_> = self.groups.iter().map(|group| Box::pin(group.ended())).collect();
        if ends.is_empty() {
            return Ok(());
        }
        std::future::poll_fn(|cx| {
            ends.iter_mut()
                .find_map(|end| match end.as_mut().poll(cx) {
                    std::task::Poll::Ready(result) => Some(std::task::Poll::Ready(result)),
                    std::task::Poll::Pending => None,
                })
                .unwrap_or(std::task::Poll::Pending)
        })
        .await
    }

    /// Whether every group runs and none is stuck, for readiness.
    #[must_use]
    pub fn health(&self) -> Health {
        let stuck = self.groups.iter().map(|group| group.shared.stuck()).sum();
        let failed = self.groups.iter().any(|group| !matches!(*group.shared.ended.borrow(), Ended::NotYet));
        Health { stuck_partitions: stuck, failed }
    }
}

/// How running groups are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Messages whose dead letters are refused for good, each holding up its partition.
    pub stuck_partitions: usize,
    /// A group has ended.
    pub failed: bool,
}

impl Health {
    /// Whether nothing needs attention.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.stuck_partitions == 0 && !self.failed
    }
}

impl Group {
    async fn ended(&self) -> Result<(), Error> {
        let mut ended: watch::Receiver<Ended> = self.shared.ended.subscribe();
        let result = match ended.wait_for(|ended| !matches!(ended, Ended::NotYet)).await {
            Ok(ended) => ended.clone(),
            // The sender lives in `shared`, which `self` keeps.
            Err(_) => Ended::Well,
        };
        match result {
            Ended::Failed(error) => Err(error.duplicate()),
            Ended::Well | Ended::NotYet => Ok(()),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.groups.iter().map(|group| &group.shared.group)).finish()
    }
}
