//! Batch handlers: what a batch holds, and that each of its messages goes its own way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use messaging::{BatchOptions, Event, HandlerError, Message, Position, Route, Router, Shared, State};
use messaging_memory::{DeadLettered, MemoryBroker};

use crate::given::{OrderCreated, Seen, TOPIC, Watch, exact, millis, order, publish_orders};

type Outcomes = Vec<Result<(), HandlerError>>;

/// One run of a batch handler: when it began, and what it was given.
type Run = (u128, Vec<(i64, u32)>);

fn one_partition() -> MemoryBroker {
    MemoryBroker::builder().partitions(1).build().unwrap()
}

/// A group that notes its batches, of which each takes `takes`, and does with each message what `outcome` says.
fn batches<F>(seen: &Seen<Run>, options: BatchOptions, takes: Duration, outcome: F) -> Router
where
    F: Fn(&OrderCreated) -> Result<(), HandlerError> + Clone + Send + Sync + 'static,
{
    let (seen, watch) = (seen.clone(), Watch::start());
    let handler = move |batch: Vec<Event<OrderCreated>>| {
        let (seen, outcome) = (seen.clone(), outcome.clone());
        async move {
            seen.add((watch.ms(), batch.iter().map(|event| (event.data.order_id, event.data.sequence)).collect()));
            tokio::time::sleep(takes).await;
            batch.iter().map(|event| outcome(&event.data)).collect::<Outcomes>()
        }
    };
    Router::new("search").topic(TOPIC).failure_policy(exact()).route(Route::batch("orders.created", options, handler))
}

fn default() -> BatchOptions {
    BatchOptions::default()
}

fn sizes(seen: &Seen<Run>) -> Vec<usize> {
    seen.all().iter().map(|(_, batch)| batch.len()).collect()
}

/// The dead letters in the order of their keys.
fn dead(bus: &MemoryBroker) -> Vec<DeadLettered> {
    let mut dead = bus.dead_letters("search");
    dead.sort_by(|a, b| a.message.key.cmp(&b.message.key));
    dead
}

#[tokio::test(start_paused = true)]
async fn a_batch_holds_what_may_start_and_one_message_of_a_key() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    publish_orders(&bus, 30, 3).await;
    let _running = bus.messaging().run_one(batches(&seen, default(), millis(10), |_| Ok(()))).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.all().iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 10, 20]);
    for (sequence, (_, mut batch)) in seen.all().into_iter().enumerate() {
        batch.sort_unstable();
        assert_eq!(batch, (0..30).map(|key| (key, sequence as u32)).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn each_key_keeps_its_order_across_batches_that_overlap() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let running: Arc<parking_lot::Mutex<Vec<i64>>> = Arc::default();
    let (noted, overlaps) = (seen.clone(), Arc::new(AtomicUsize::new(0)));
    let (most, overlapped) = (Arc::new(AtomicUsize::new(0)), overlaps.clone());
    let at_most = most.clone();
    let handler = move |batch: Vec<Event<OrderCreated>>| {
        let (seen, running, most, overlaps) = (noted.clone(), running.clone(), most.clone(), overlaps.clone());
        async move {
            let keys: Vec<i64> = batch.iter().map(|event| event.data.order_id).collect();
            {
                let mut running = running.lock();
                overlaps.fetch_add(keys.iter().filter(|key| running.contains(key)).count(), Ordering::SeqCst);
                running.extend(&keys);
                most.fetch_max(running.len(), Ordering::SeqCst);
            }
            let pause =
                batch.iter().map(|event| (event.data.order_id * 7 + i64::from(event.data.sequence)) % 13).sum::<i64>();
            tokio::time::sleep(millis(pause as u64 % 29)).await;
            running.lock().retain(|key| !keys.contains(key));
            batch.into_iter().for_each(|event| seen.add(event.data));
        }
    };
    let router = Router::new("search").topic(TOPIC).concurrency(20);
    let router = router.route(Route::batch("orders.created", default().max(5), handler));
    let _running = bus.messaging().run_one(router).await.unwrap();
    publish_orders(&bus, 50, 20).await;
    bus.settled().await.unwrap();
    assert_eq!((seen.count(), overlapped.load(Ordering::SeqCst)), (1_000, 0));
    assert_eq!(at_most.load(Ordering::SeqCst), 20);
    for key in 0..50 {
        let sequences = seen.all().into_iter().filter(|order| order.order_id == key).map(|order| order.sequence);
        assert_eq!(sequences.collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn messages_without_a_key_share_a_batch() {
    let (bus, seen) = (one_partition(), Seen::new());
    for sequence in 0..10 {
        let event = Event::new(order(1, sequence)).keyed_by(&None::<i64>);
        bus.messaging().publish_event(event).await.unwrap();
    }
    let _running = bus.messaging().run_one(batches(&seen, default(), millis(1), |_| Ok(()))).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(sizes(&seen), [10]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_no_larger_than_it_may_be() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    publish_orders(&bus, 25, 1).await;
    let _running = bus.messaging().run_one(batches(&seen, default().max(10), millis(5), |_| Ok(()))).await.unwrap();
    bus.settled().await.unwrap();
    let mut sizes = sizes(&seen);
    sizes.sort_unstable();
    assert_eq!(sizes.iter().sum::<usize>(), 25);
    assert_eq!(sizes.last(), Some(&10));
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_no_larger_than_the_concurrency_that_was_asked_for() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    publish_orders(&bus, 8, 1).await;
    let options = default().linger(Duration::from_secs(60));
    let router = batches(&seen, options, millis(5), |_| Ok(())).concurrency(4);
    let _running = bus.messaging().run_one(router).await.unwrap();
    bus.settled().await.unwrap();
    // A batch that cannot grow does not linger.
    assert_eq!(seen.all().iter().map(|(at, batch)| (*at, batch.len())).collect::<Vec<_>>(), [(0, 4), (5, 4)]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_lingers_for_more_and_no_longer_than_it_may() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let options = default().max(3).linger(millis(100));
    let _running = bus.messaging().run_one(batches(&seen, options, millis(0), |_| Ok(()))).await.unwrap();
    bus.publish(&order(0, 0)).await.unwrap();
    tokio::time::sleep(millis(60)).await;
    bus.publish(&order(1, 0)).await.unwrap();
    tokio::time::sleep(millis(100)).await;
    // From 160 ms on three more, of which the last fills the batch.
    for key in 2..5 {
        bus.publish(&order(key, 0)).await.unwrap();
        tokio::time::sleep(millis(20)).await;
    }
    bus.settled().await.unwrap();
    let runs = seen.all();
    assert_eq!(runs, [(100, vec![(0, 0), (1, 0)]), (200, vec![(2, 0), (3, 0), (4, 0)])]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_fails_is_tried_again_alone() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    publish_orders(&bus, 5, 1).await;
    let outcome = |order: &OrderCreated| match order.order_id {
        2 => Err(HandlerError::transient("away")),
        3 => Err(HandlerError::permanent("broken")),
        _ => Ok(()),
    };
    let _running = bus.messaging().run_one(batches(&seen, default(), millis(0), outcome)).await.unwrap();
    bus.settled().await.unwrap();
    let runs = seen.all();
    assert_eq!(runs[0].1.len(), 5);
    let alone = |at| (at, vec![(2, 0)]);
    assert_eq!(runs[1..], [alone(200), alone(600), alone(1400), alone(3000)]);
    let dead = dead(&bus);
    let told: Vec<_> = dead.iter().map(|dead| (dead.letter.attempts, dead.letter.error.as_str())).collect();
    assert_eq!(told, [(5, "away"), (1, "broken")]);
    assert_eq!(dead[0].letter.handler, "orders.created");
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_failed_message_of_its_key_waits_for_it() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    publish_orders(&bus, 2, 2).await;
    let fails = Arc::new(AtomicUsize::new(1));
    let outcome = move |order: &OrderCreated| match order {
        OrderCreated { order_id: 1, sequence: 0 } if fails.swap(0, Ordering::SeqCst) == 1 => {
            Err(HandlerError::transient("away"))
        }
        _ => Ok(()),
    };
    let _running = bus.messaging().run_one(batches(&seen, default(), millis(10), outcome)).await.unwrap();
    bus.settled().await.unwrap();
    let mut runs = seen.all();
    runs[0].1.sort_unstable();
    let expected = [(0, vec![(0, 0), (1, 0)]), (10, vec![(0, 1)]), (210, vec![(1, 0)]), (220, vec![(1, 1)])];
    assert_eq!(runs, expected);
}

/// A group whose batches all fail in the same way.
fn failing<H, M>(handler: H) -> Router
where
    H: messaging::BatchHandler<M, ()>,
{
    let policy = exact().max_attempts(3).timeout(millis(1_000));
    Router::new("search").topic(TOPIC).failure_policy(policy).on_batch("orders.created", handler)
}

/// Each of three orders is dead-lettered with this many attempts and this error.
async fn assert_all_dead(bus: &MemoryBroker, attempts: u32, error: &str) {
    bus.settled().await.unwrap();
    let dead = dead(bus);
    let told: Vec<_> = dead.iter().map(|dead| (dead.letter.attempts, dead.letter.error.as_str())).collect();
    assert_eq!(told, [(attempts, error); 3]);
}

#[tokio::test(start_paused = true)]
async fn one_error_is_that_of_each() {
    let (bus, runs) = (MemoryBroker::new(), Arc::new(AtomicUsize::new(0)));
    publish_orders(&bus, 3, 1).await;
    let counted = runs.clone();
    let router = failing(move |_: Vec<Event<OrderCreated>>| {
        let runs = counted.clone();
        async move {
            runs.fetch_add(1, Ordering::SeqCst);
            Err::<(), _>(HandlerError::transient("away"))
        }
    });
    let _running = bus.messaging().run_one(router).await.unwrap();
    assert_all_dead(&bus, 3, "away").await;
    // Parked for the same time, they come back together.
    assert_eq!(runs.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_the_failure_of_each() {
    let bus = MemoryBroker::new();
    publish_orders(&bus, 3, 1).await;
    let router = failing(async |batch: Vec<Event<OrderCreated>>| {
        tokio::time::sleep(millis(1)).await;
        if !batch.is_empty() {
            panic!("at a loss");
        }
    });
    let _running = bus.messaging().run_one(router).await.unwrap();
    assert_all_dead(&bus, 3, "handler panicked: at a loss").await;
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_the_failure_of_each() {
    let (bus, watch) = (MemoryBroker::new(), Watch::start());
    publish_orders(&bus, 3, 1).await;
    let router = failing(async |_: Vec<Event<OrderCreated>>| tokio::time::sleep(millis(1_001)).await);
    let _running = bus.messaging().run_one(router).await.unwrap();
    assert_all_dead(&bus, 3, "handler timed out after 1000 ms").await;
    assert_eq!(watch.ms(), 3 * 1_000 + 200 + 400);
}

#[tokio::test(start_paused = true)]
async fn too_few_outcomes_are_a_fault_of_the_handler() {
    let bus = MemoryBroker::new();
    publish_orders(&bus, 3, 1).await;
    let router = failing(async |_: Vec<Event<OrderCreated>>| vec![Ok::<_, HandlerError>(())]);
    let _running = bus.messaging().run_one(router).await.unwrap();
    assert_all_dead(&bus, 1, "the batch handler answered 1 outcomes for 3 messages").await;
}

#[tokio::test(start_paused = true)]
async fn garbage_fails_alone_even_if_the_batch_does() {
    for panics in [false, true] {
        let (bus, seen) = (one_partition(), Seen::new());
        bus.publish(&order(0, 0)).await.unwrap();
        let mut garbage = Arc::unwrap_or_clone(bus.messaging().encode(&order(1, 0)).unwrap());
        garbage.payload = "{".into();
        bus.messaging().publish_raw(garbage).await.unwrap();
        bus.publish(&order(2, 0)).await.unwrap();
        let outcome = move |_: &OrderCreated| if panics { panic!("at a loss") } else { Ok(()) };
        let _running = bus.messaging().run_one(batches(&seen, default(), millis(0), outcome)).await.unwrap();
        bus.settled().await.unwrap();
        assert_eq!(seen.all()[0].1, [(0, 0), (2, 0)]);
        let dead = dead(&bus);
        let garbage = dead.iter().find(|dead| dead.letter.position == Position::new(1)).unwrap();
        assert_eq!((dead.len(), garbage.letter.attempts), (if panics { 3 } else { 1 }, 1));
        assert!(garbage.letter.error.contains("orders.created"), "{}", garbage.letter.error);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_nothing_but_garbage_runs_no_handler() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let mut garbage = Arc::unwrap_or_clone(bus.messaging().encode(&order(1, 0)).unwrap());
    garbage.payload = "{".into();
    bus.messaging().publish_raw(garbage).await.unwrap();
    let _running = bus.messaging().run_one(batches(&seen, default(), millis(0), |_| Ok(()))).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!((seen.count(), dead(&bus).len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn stopping_lets_a_batch_end_and_settles_it() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    publish_orders(&bus, 10, 2).await;
    let running = bus.messaging().run_one(batches(&seen, default(), millis(500), |_| Ok(()))).await.unwrap();
    tokio::time::sleep(millis(100)).await;
    running.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(sizes(&seen), [10]);
    let again = Seen::new();
    let _running = bus.messaging().run_one(batches(&again, default(), millis(0), |_| Ok(()))).await.unwrap();
    bus.settled().await.unwrap();
    let second: Vec<u32> = again.all().into_iter().flat_map(|(_, batch)| batch).map(|(_, sequence)| sequence).collect();
    assert_eq!(second, [1; 10]);
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_the_linger() {
    let (bus, seen, watch) = (MemoryBroker::new(), Seen::new(), Watch::start());
    bus.publish(&order(0, 0)).await.unwrap();
    let options = default().linger(Duration::from_secs(60));
    let running = bus.messaging().run_one(batches(&seen, options, millis(0), |_| Ok(()))).await.unwrap();
    tokio::time::sleep(millis(100)).await;
    running.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!((seen.all(), watch.ms()), (vec![(100, vec![(0, 0)])], 100));
    bus.settled().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_short_by_a_stop_comes_back() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    publish_orders(&bus, 10, 1).await;
    let running = bus.messaging().run_one(batches(&seen, default(), millis(5_000), |_| Ok(()))).await.unwrap();
    tokio::time::sleep(millis(100)).await;
    running.shutdown(Duration::from_secs(1)).await.unwrap();
    let again = Seen::new();
    let _running = bus.messaging().run_one(batches(&again, default(), millis(0), |_| Ok(()))).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!((sizes(&seen), sizes(&again)), (vec![10], vec![10]));
}

/// When a partition moves and its drain is over, the batch is begun anew for the messages of the others.
#[tokio::test(start_paused = true)]
async fn a_revoked_partition_leaves_the_batch_and_the_others_go_on() {
    let (bus, first, second) = (MemoryBroker::builder().partitions(2).build().unwrap(), Seen::new(), Seen::new());
    let of = |number| (0..).find(|key: &i64| messaging::partition_for_key(key.to_string().as_bytes(), 2) == number);
    let keys = [of(0).unwrap(), of(1).unwrap()];
    let one = bus.messaging();
    let _one = one.run_one(batches(&first, default(), millis(3_000), |_| Ok(()))).await.unwrap();
    for key in keys {
        bus.publish(&order(key, 0)).await.unwrap();
    }
    tokio::time::sleep(millis(100)).await;
    let _two = bus.messaging().run_one(batches(&second, default(), millis(3_000), |_| Ok(()))).await.unwrap();
    bus.settled().await.unwrap();
    let handed: Vec<i64> = second.all().into_iter().flat_map(|(_, batch)| batch).map(|(key, _)| key).collect();
    assert_eq!(handed.len(), 1);
    let kept: Vec<i64> = keys.into_iter().filter(|key| *key != handed[0]).collect();
    let runs: Vec<Vec<i64>> =
        first.all().into_iter().map(|(_, batch)| batch.into_iter().map(|(key, _)| key).collect()).collect();
    assert_eq!(runs.len(), 2, "{runs:?}");
    assert_eq!((runs[0].len(), &runs[1]), (2, &kept));
    assert_eq!(dead(&bus), []);
}

#[tokio::test(start_paused = true)]
async fn a_batch_handler_takes_state_and_leaves_single_handlers_as_they_are() {
    let bus = MemoryBroker::new();
    let sum = Arc::new(AtomicUsize::new(0));
    let in_batches = async |batch: Vec<Event<OrderCreated>>,
                            State(sum): State<Arc<AtomicUsize>>,
                            shared: Shared<Arc<AtomicUsize>>| {
        assert_eq!(sum.load(Ordering::SeqCst), shared.load(Ordering::SeqCst));
        sum.fetch_add(batch.len(), Ordering::SeqCst);
    };
    let single = async |_: bytes::Bytes, State(sum): State<Arc<AtomicUsize>>| {
        sum.fetch_add(100, Ordering::SeqCst);
    };
    let router = Router::new("search").topic(TOPIC).on_batch("orders.created", in_batches).on_message("raw", single);
    let _running = bus.messaging().run_one(router.with_state(sum.clone())).await.unwrap();
    publish_orders(&bus, 7, 3).await;
    bus.messaging().publish_raw(Message::new("raw", "")).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(sum.load(Ordering::SeqCst), 121);
}

#[tokio::test(start_paused = true)]
async fn what_batch_handlers_do_not_have_is_refused_at_start() {
    let bus = MemoryBroker::new();
    let refused = async |router: Router| bus.messaging().run_one(router).await.unwrap_err().to_string();
    let router = || batches(&Seen::new(), default(), millis(0), |_| Ok(()));
    assert_eq!(
        refused(router().layer(tower::layer::util::Identity::new())).await,
        r#"batch handler "orders.created" of group "search" cannot have a layer: that is for handlers of one delivery"#
    );
    let handler = async |_: Vec<Event<OrderCreated>>| {};
    let spawned =
        Router::new("search").topic(TOPIC).route(Route::batch("orders.created", default(), handler).spawned());
    assert_eq!(
        refused(spawned).await,
        r#"batch handler "orders.created" of group "search" cannot have a task of its own: that is for handlers of one delivery"#
    );
    assert_eq!(
        refused(batches(&Seen::new(), default().max(0), millis(0), |_| Ok(()))).await,
        r#"batch handler "orders.created" of group "search" may hold no message (max is 0)"#
    );
}

/// On several threads and in real time: nothing is lost, nothing repeated, no order broken.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn batches_keep_the_order_on_several_threads() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let noted = seen.clone();
    let handler = move |batch: Vec<Event<OrderCreated>>| {
        let seen = noted.clone();
        async move {
            tokio::task::yield_now().await;
            batch.into_iter().for_each(|event| seen.add(event.data));
        }
    };
    let router = Router::new("search").topic(TOPIC).concurrency(64);
    let router = router.route(Route::batch("orders.created", default().max(16), handler));
    let _running = bus.messaging().run_one(router).await.unwrap();
    publish_orders(&bus, 100, 50).await;
    bus.settled_within(Duration::from_secs(60)).await.unwrap();
    assert_eq!(seen.count(), 5_000);
    for key in 0..100 {
        let sequences = seen.all().into_iter().filter(|order| order.order_id == key).map(|order| order.sequence);
        assert_eq!(sequences.collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    }
}
