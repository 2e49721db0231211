//! Events, recorders and routers that the tests share.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use messaging::{Event, EventData, FailurePolicy, Fence, HandlerError, Router};
use messaging_memory::MemoryBroker;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub(crate) const TOPIC: &str = "order-events";

#[derive(EventData, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[event(name = "orders.created", topic = "order-events", key = order_id)]
pub(crate) struct OrderCreated {
    pub(crate) order_id: i64,
    pub(crate) sequence: u32,
}

pub(crate) fn order(order_id: i64, sequence: u32) -> OrderCreated {
    OrderCreated { order_id, sequence }
}

/// What handlers have seen, in their order.
#[derive(Debug)]
pub(crate) struct Seen<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Seen<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone> Seen<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn add(&self, what: T) {
        self.0.lock().push(what);
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.0.lock().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().len()
    }
}

/// Virtual milliseconds since the test began.
#[derive(Clone, Copy)]
pub(crate) struct Watch(Instant);

impl Watch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn ms(&self) -> u128 {
        self.0.elapsed().as_millis()
    }
}

/// A group that notes the orders it sees.
pub(crate) fn notes(group: &str, seen: &Seen<OrderCreated>) -> Router {
    let seen = seen.clone();
    Router::new(group).topic(TOPIC).on_event("orders.created", move |event: Event<OrderCreated>| {
        let seen = seen.clone();
        async move { seen.add(event.data) }
    })
}

/// The default policy without chance in it.
pub(crate) fn exact() -> FailurePolicy {
    FailurePolicy::default().jitter(0.0)
}

pub(crate) fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Watches the lanes of one group: who runs, in which order the orders of each key start first, how many run at once.
#[derive(Clone, Default)]
pub(crate) struct Lanes(Arc<Mutex<Watched>>);

#[derive(Default)]
struct Watched {
    /// Of each key, how many handlers run under each epoch.
    running: HashMap<(i64, u64), usize>,
    now: usize,
    most: usize,
    overlaps: usize,
    /// The same over all epochs.
    overlaps_of_owners: usize,
    /// Starts under an older epoch than the partition has seen.
    stale: usize,
    epochs: HashMap<u32, u64>,
    starts: Vec<OrderCreated>,
    handled: Vec<OrderCreated>,
}

/// One handler that runs.
pub(crate) struct Run {
    lanes: Lanes,
    order: OrderCreated,
    epoch: u64,
}

impl Lanes {
    pub(crate) fn start(&self, order: &OrderCreated, fence: &Fence) -> Run {
        let mut watched = self.0.lock();
        let running = watched.running.entry((order.order_id, fence.epoch)).or_default();
        *running += 1;
        let overlaps = *running > 1;
        watched.overlaps += usize::from(overlaps);
        let of_key = watched.running.iter().filter(|((key, _), _)| *key == order.order_id);
        let owners_overlap = of_key.map(|(_, running)| running).sum::<usize>() > 1;
        watched.overlaps_of_owners += usize::from(owners_overlap);
        watched.now += 1;
        watched.most = watched.most.max(watched.now);
        let newest = watched.epochs.entry(fence.partition).or_default();
        let stale = fence.epoch < *newest;
        *newest = fence.epoch.max(*newest);
        watched.stale += usize::from(stale);
        watched.starts.push(order.clone());
        Run { lanes: self.clone(), order: order.clone(), epoch: fence.epoch }
    }

    /// How many handlers ran at once at most.
    pub(crate) fn most(&self) -> usize {
        self.0.lock().most
    }

    pub(crate) fn handled(&self) -> Vec<OrderCreated> {
        self.0.lock().handled.clone()
    }

    /// How many handlers have started.
    pub(crate) fn started(&self) -> usize {
        self.0.lock().starts.len()
    }

    /// Each key's orders started first in their order and never overlapped under one owner, and no owner started
    /// anything once a later one had.
    #[track_caller]
    pub(crate) fn assert_in_order(&self) {
        let watched = self.0.lock();
        assert_eq!((watched.overlaps, watched.stale), (0, 0));
        let mut first: HashMap<i64, u32> = HashMap::new();
        for order in &watched.starts {
            let next = first.entry(order.order_id).or_default();
            assert!(order.sequence <= *next, "{order:?} started before its predecessor");
            *next = (*next).max(order.sequence + 1);
        }
    }

    /// No owner's handler ran while another's of the same key did.
    #[track_caller]
    pub(crate) fn assert_no_overlap(&self) {
        assert_eq!(self.0.lock().overlaps_of_owners, 0);
    }

    /// Each of these was handled, and nothing else.
    #[track_caller]
    pub(crate) fn assert_all_handled(&self, keys: i64, each: u32) {
        let handled: HashSet<_> = self.handled().into_iter().map(|order| (order.order_id, order.sequence)).collect();
        let missing = (0..keys).flat_map(|key| (0..each).map(move |sequence| (key, sequence)));
        let missing: Vec<_> = missing.filter(|order| !handled.contains(order)).collect();
        assert_eq!(missing, []);
        assert_eq!(handled.len(), keys as usize * each as usize);
    }
}

impl Run {
    /// The handler succeeds.
    pub(crate) fn handled(self) {
        self.lanes.0.lock().handled.push(self.order.clone());
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let mut watched = self.lanes.0.lock();
        watched.now -= 1;
        let lane = (self.order.order_id, self.epoch);
        if let Some(running) = watched.running.remove(&lane).filter(|running| *running > 1) {
            watched.running.insert(lane, running - 1);
        }
    }
}

/// A group that watches its lanes; each handler takes as long as `takes` says.
pub(crate) fn watched<F, D>(group: &str, lanes: &Lanes, takes: F) -> Router
where
    F: Fn(&OrderCreated) -> D + Clone + Send + Sync + 'static,
    D: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    let lanes = lanes.clone();
    Router::new(group).topic(TOPIC).on_event("orders.created", move |event: Event<OrderCreated>, fence: Fence| {
        let run = lanes.start(&event.data, &fence);
        let taking = takes(&event.data);
        async move {
            taking.await?;
            run.handled();
            Ok::<_, HandlerError>(())
        }
    })
}

/// Publishes `each` orders of each of `keys` keys, the keys in turn.
pub(crate) async fn publish_orders(bus: &MemoryBroker, keys: i64, each: u32) {
    for sequence in 0..each {
        publish_sequence(bus, keys, sequence).await;
    }
}

/// Publishes the orders of this sequence number, one of each key.
pub(crate) async fn publish_sequence(bus: &MemoryBroker, keys: i64, sequence: u32) {
    let orders: Vec<_> = (0..keys).map(|key| order(key, sequence)).collect();
    for outcome in bus.messaging().publish_all(&orders).await.unwrap() {
        outcome.confirmed().unwrap();
    }
}

/// What is counted on this thread.
pub(crate) struct Counters {
    snapshots: Snapshotter,
    totals: RefCell<HashMap<String, u64>>,
    _recorder: metrics::LocalRecorderGuard<'static>,
}

impl Counters {
    pub(crate) fn install() -> Self {
        // The handles that the bus keeps outlive the test's end by a little.
        let recorder: &'static DebuggingRecorder = Box::leak(Box::default());
        Self {
            snapshots: recorder.snapshotter(),
            totals: RefCell::default(),
            _recorder: metrics::set_default_local_recorder(recorder),
        }
    }

    /// The sum of a counter over its labels.
    pub(crate) fn total(&self, name: &str) -> u64 {
        let mut totals = self.totals.borrow_mut();
        // A snapshot tells what came since the one before.
        for (key, _, _, value) in self.snapshots.snapshot().into_vec() {
            if let DebugValue::Counter(count) = value {
                *totals.entry(key.key().name().to_owned()).or_default() += count;
            }
        }
        totals.get(name).copied().unwrap_or(0)
    }
}
