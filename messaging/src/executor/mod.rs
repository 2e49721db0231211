//! The executor: drives the [`engine`](crate::engine) with a consumer on one side and handlers on the other.
//!
//! A few worker tasks share the engine behind one mutex. Each owns some slots; a round takes what may start, polls it,
//! and brings back what has ended. Read on in `worker`.

mod batching;
mod burial;
mod burying;
mod failure;
mod free;
mod own_route;
mod reporting;
mod routing;
mod running;
mod seat;
mod slots;
mod spawned;
mod starting;
mod visiting;
mod wakeups;
mod worker;

pub(crate) use batching::{BatchSlots, RunBatch};
pub(crate) use failure::Trouble;
pub use running::Health;
pub use running::Running;
pub(crate) use running::{GroupSetup, start};
pub(crate) use slots::{Slots, TypedSlots};
pub(crate) use spawned::SpawnedSlots;

use std::{
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use hashbrown::HashSet;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::{burial::Burial, wakeups::Wakeups};
use crate::{
    consumer::Consumer,
    delivery::Position,
    engine::{Engine, EntryId},
    error::Error,
    message::Message,
    name::Name,
    policy::{FailurePolicy, OnUnhandled},
    router::TopicRoutes,
    telemetry::{GroupMeter, RouteMeter, report_lost},
    time::{Clock, Tick, TokioClock},
    trace::TracePropagator,
};

/// What the workers of one group share.
pub(crate) struct Shared {
    group: Name,
    topics: Vec<TopicRoutes>,
    routes: Vec<RouteInfo>,
    on_unhandled: OnUnhandled,
    revoke_drain: std::time::Duration,
    clock: TokioClock,
    /// The clock of `valid_until`.
    gate: Arc<dyn Clock>,
    trace_propagator: Option<Arc<dyn TracePropagator>>,
    burial: Burial,
    meter: GroupMeter,
    stopping: CancellationToken,
    wakeups: Arc<Wakeups>,
    ended: watch::Sender<Ended>,
    stuck: Arc<AtomicUsize>,
    /// Whether any lane follows a dead letter: read before each start.
    holding: AtomicBool,
    /// Nothing is started.
    paused: AtomicBool,
    state: Mutex<State>,
}

/// One route, as every worker sees it.
struct RouteInfo {
    label: Name,
    policy: FailurePolicy,
    keeps_timeout: bool,
    record_dead: RecordDead,
    meter: RouteMeter,
}

type RecordDead =
    Arc<dyn Fn(crate::Delivery) -> Option<crate::BoxFuture<Result<(), crate::HandlerError>>> + Send + Sync>;

/// What only one worker touches at a time.
struct State {
    engine: Engine<Arc<Message>, Trouble>,
    consumer: Box<dyn Consumer>,
    assignments: Assignments,
    /// The last fill brought something, or deliveries have ended since: there may be more.
    may_fill: bool,
    /// The consumer has more, and nobody will be woken for it.
    fill_again: bool,
    phase: RunPhase,
    /// Futures to be dropped by whichever worker has them.
    cancels: Vec<EntryId>,
    /// When handlers are cut short, once stopping.
    stop_by: Tick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunPhase {
    Running,
    /// Partitions are being drained.
    Stopping,
    /// All were released; the consumer is closing.
    Closing,
    Ended,
}

/// How a group's executor ended.
#[derive(Clone, Debug, Default)]
enum Ended {
    #[default]
    NotYet,
    Well,
    Failed(Arc<Error>),
}

/// What the executor knows of each assigned partition, by its handle.
pub(crate) struct Assignments {
    group: Name,
    /// The group's topics, in the order of its routes.
    topics: Vec<Name>,
    hasher: foldhash::fast::RandomState,
    entries: Vec<Assignment>,
    /// Lanes that follow a dead letter, as (topic, partition, key), for as long as the partition is ours.
    held: HashSet<(Name, u32, Vec<u8>)>,
    /// Some backend speaks of validity: ask the clock before each round of starts.
    pub(crate) gated: bool,
    /// Every delivery is a lane of its own, whatever its key.
    pub(crate) unordered: bool,
}

struct Assignment {
    topic: Name,
    partition: u32,
    seed: u64,
}

impl Assignments {
    pub(crate) fn new(group: Name, topics: Vec<Name>) -> Self {
        Self {
            group,
            topics,
            hasher: foldhash::fast::RandomState::default(),
            entries: Vec::new(),
            held: HashSet::new(),
            gated: false,
            unordered: false,
        }
    }

    /// What a start says of its topic: the index of the topic's routes.
    pub(crate) fn topic_index(&self, topic: &Name) -> u32 {
        self.topics.iter().position(|known| known == topic).map_or(u32::MAX, |index| index as u32)
    }

    pub(crate) fn set(&mut self, handle: u32, topic: &Name, partition: u32, epoch: u64) {
        let assignment =
            Assignment { topic: topic.clone(), partition, seed: self.hasher.hash_one((topic.as_str(), partition)) };
        self.held.retain(|(held, number, _)| held != topic || *number != partition);
        let index = handle as usize;
        if index < self.entries.len() {
            self.entries[index] = assignment;
        } else {
            self.entries.push(assignment);
        }
        tracing::debug!(group = %self.group, %topic, partition, epoch, "partition assigned");
    }

    /// The lane of a key on a partition: the same for the same topic, partition number and key under every epoch.
    #[inline]
    pub(crate) fn lane(&self, handle: u32, key: &[u8]) -> u64 {
        let seed = self.entries.get(handle as usize).map_or(0, |assignment| assignment.seed);
        self.hasher.hash_one(key) ^ seed
    }

    pub(crate) fn trimmed(&mut self, topic: &Name, partition: u32, first: Position, count: Option<u64>) {
        tracing::error!(
            group = %self.group, %topic, partition, %first, count,
            "messages were gone before the group got them: lost"
        );
        report_lost(&self.group, topic, partition, count);
    }

    fn partition(&self, handle: u32) -> (&Name, u32) {
        let assignment = &self.entries[handle as usize];
        (&assignment.topic, assignment.partition)
    }
}

impl Shared {
    /// What is parked or running, a line each.
    pub(crate) fn describe(&self) -> Vec<String> {
        let state = self.state.lock();
        let now = self.clock.now();
        let place = |handle: u32, position: Position| {
            let (topic, partition) = state.assignments.partition(handle);
            format!("group {} on {topic}/{partition}@{position}", self.group)
        };
        let name = |message: &Message| message.name().unwrap_or("message").to_owned();
        let parked = state.engine.parked().map(|(message, handle, position, until)| {
            let due = until.since(now).as_millis();
            format!("{} of {} is parked, due in {due} ms", name(message), place(handle, position))
        });
        let running = state
            .engine
            .running()
            .map(|(message, handle, position)| format!("{} of {} is running", name(message), place(handle, position)));
        parked.chain(running).collect()
    }

    /// The topic under which a message's dead letters are kept: its own, or the one that it replays.
    fn letters_of(&self, topic: &Name) -> Name {
        let routes = self.topics.iter().find(|routes| routes.topic.as_ref() == Some(topic));
        routes.and_then(|routes| routes.replays.clone()).unwrap_or_else(|| topic.clone())
    }

    /// Whether a message follows a dead letter of its key.
    fn holds(&self, message: &Message, partition: u32) -> bool {
        message.key.as_ref().is_some_and(|key| {
            self.state.lock().assignments.held.contains(&(message.topic.clone(), partition, key.to_vec()))
        })
    }

    /// Lets later messages of this one's key follow it to the dead letters.
    fn hold(&self, message: &Message, partition: u32) {
        if let Some(key) = &message.key {
            self.state.lock().assignments.held.insert((message.topic.clone(), partition, key.to_vec()));
            self.holding.store(true, Ordering::Relaxed);
        }
    }

    /// Partitions that cannot go on because their dead letter is refused for good.
    pub(crate) fn stuck(&self) -> usize {
        self.stuck.load(Ordering::Relaxed)
    }
}
