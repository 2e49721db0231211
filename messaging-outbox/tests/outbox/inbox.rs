//! What a handler with `Tx` does once, whatever comes again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use messaging::{DeadLetter, Event, EventId, FailurePolicy, FromRef, HandlerError, Position, Router, Running, State};
use messaging_memory::MemoryBroker;
use messaging_outbox::{Outbox, Tx};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use crate::given::{Database, Given, OrderCreated, TOPIC, insert_thing, number, on_each_database, order, quick, until};

on_each_database! {
    a_repeat_is_settled_without_the_handler,
    two_sources_may_both_send_an_id,
    a_failed_run_leaves_nothing_and_runs_again,
    a_dead_letter_is_recorded_and_its_replay_runs_once,
    a_swallowed_error_loses_no_message,
    a_message_without_an_envelope_is_known_by_its_place,
    a_dead_row_of_the_bus_runs_once_more_when_it_is_retried,
    handlers_chain_through_the_outbox,
    fifty_slots_share_one_writer,
}

#[derive(Clone)]
struct App {
    outbox: Outbox,
    runs: Arc<AtomicUsize>,
}

impl FromRef<App> for Outbox {
    fn from_ref(app: &App) -> Self {
        app.outbox.clone()
    }
}

impl App {
    fn new(given: &Given) -> Self {
        Self { outbox: given.outbox.clone(), runs: Arc::default() }
    }

    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    async fn run(&self, router: Router<Self>) -> Running {
        self.outbox.messaging().unwrap().run_one(router.with_state(self.clone())).await.unwrap()
    }

    fn router(&self) -> Router<App> {
        Router::new("things").topic(TOPIC).failure_policy(FailurePolicy::immediate())
    }
}

async fn keep(event: Event<OrderCreated>, State(app): State<App>, tx: &mut Tx) -> Result<(), HandlerError> {
    app.runs.fetch_add(1, Ordering::SeqCst);
    insert_thing(tx, event.data.order_id, "kept").await?;
    Ok(())
}

async fn a_repeat_is_settled_without_the_handler(database: Database) {
    let bus = MemoryBroker::new();
    let given = Given::on_bus(database, &bus).await;
    let app = App::new(&given);
    let recorder: &'static DebuggingRecorder = Box::leak(Box::default());
    let counting = metrics::set_default_local_recorder(recorder);
    let running = app.run(app.router().on_event("orders.created", keep)).await;
    drop(counting);
    let id = EventId::generate();
    for _ in 0..5 {
        given.messaging.publish_event(Event::new(order(1, 0)).with_id(id.clone())).await.unwrap();
    }
    bus.settled().await.unwrap();
    assert_eq!((app.runs(), given.count("things").await, given.count("messaging_inbox").await), (1, 1, 1));
    assert!(bus.dead_letters("things").is_empty());
    let metrics = recorder.snapshotter().snapshot().into_vec();
    let duplicates = metrics.into_iter().find(|(key, ..)| key.key().name() == messaging::telemetry::DUPLICATES);
    assert_eq!(duplicates.unwrap().3, DebugValue::Counter(4));
    drop(running);
}

async fn two_sources_may_both_send_an_id(database: Database) {
    let bus = MemoryBroker::new();
    let given = Given::on_bus(database, &bus).await;
    let app = App::new(&given);
    let running = app.run(app.router().on_event("orders.created", keep)).await;
    for (key, source) in [(1, "a"), (2, "b"), (3, "a")] {
        let event = Event::new(order(key, 0)).with_id(EventId::parse("1")).with_source(source);
        given.messaging.publish_event(event).await.unwrap();
    }
    bus.settled().await.unwrap();
    assert_eq!((app.runs(), given.count("things").await), (2, 2));
    drop(running);
}

async fn a_failed_run_leaves_nothing_and_runs_again(database: Database) {
    let bus = MemoryBroker::new();
    let given = Given::on_bus(database, &bus).await;
    let app = App::new(&given);
    let handler = async |event: Event<OrderCreated>, State(app): State<App>, tx: &mut Tx| {
        insert_thing(tx, event.data.order_id, "kept").await?;
        tx.publish(&order(100, 0)).await?;
        match app.runs.fetch_add(1, Ordering::SeqCst) {
            0..3 => Err(HandlerError::transient("not yet")),
            _ => Ok(()),
        }
    };
    let running = app.run(app.router().on_event("orders.created", handler)).await;
    given.messaging.publish(&order(1, 0)).await.unwrap();
    until(|| async { app.runs() == 4 && given.count("things").await == 1 }).await;
    assert_eq!((given.count("messaging_outbox").await, given.count("messaging_inbox").await), (1, 1));
    drop(running);
}

async fn a_dead_letter_is_recorded_and_its_replay_runs_once(database: Database) {
    let bus = MemoryBroker::new();
    let given = Given::on_bus(database, &bus).await;
    let app = App::new(&given);
    let handler = async |event: Event<OrderCreated>, State(app): State<App>, tx: &mut Tx| {
        insert_thing(tx, event.data.order_id, "kept").await?;
        match app.runs.fetch_add(1, Ordering::SeqCst) {
            0 => Err(HandlerError::permanent("broken")),
            _ => Ok(()),
        }
    };
    let running = app.run(app.router().on_event("orders.created", handler)).await;
    let event = Event::new(order(1, 0)).with_id(EventId::generate());
    given.messaging.publish_event(event.clone()).await.unwrap();
    bus.settled().await.unwrap();
    let dead = || number(&given.database.pool, "SELECT COUNT(*) FROM messaging_inbox WHERE outcome = 1".into());
    assert_eq!((app.runs(), dead().await, given.count("things").await), (1, 1, 0));
    // An ordinary repeat is a duplicate of the dead one.
    given.messaging.publish_event(event).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(app.runs(), 1);
    let letters = bus.dead_letters("things");
    assert_eq!(letters.len(), 1);
    for _ in 0..2 {
        let replay = DeadLetter::replay(&letters[0].message, 0, Position::new(0)).unwrap();
        given.messaging.publish_raw(replay).await.unwrap();
        bus.settled().await.unwrap();
    }
    assert_eq!((app.runs(), dead().await, given.count("things").await), (2, 0, 1));
    drop(running);
}

/// On PostgreSQL the first run's COMMIT would be answered as if it had been one.
async fn a_swallowed_error_loses_no_message(database: Database) {
    let bus = MemoryBroker::new();
    let given = Given::on_bus(database, &bus).await;
    let app = App::new(&given);
    let handler = async |event: Event<OrderCreated>, State(app): State<App>, tx: &mut Tx| {
        insert_thing(tx, event.data.order_id, "kept").await?;
        if app.runs.fetch_add(1, Ordering::SeqCst) == 0 {
            let _ = insert_thing(tx, event.data.order_id, "twice").await;
        }
        Ok::<_, HandlerError>(())
    };
    let running = app.run(app.router().on_event("orders.created", handler)).await;
    given.messaging.publish(&order(1, 0)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!((given.count("things").await, given.count("messaging_inbox").await), (1, 1));
    assert!(bus.dead_letters("things").is_empty());
    drop(running);
}

async fn a_message_without_an_envelope_is_known_by_its_place(database: Database) {
    let bus = MemoryBroker::new();
    let given = Given::on_bus(database, &bus).await;
    let app = App::new(&given);
    let handler = async |_: messaging::Json<serde_json::Value>, State(app): State<App>, _: &mut Tx| match app
        .runs
        .fetch_add(1, Ordering::SeqCst)
    {
        1 => Err(HandlerError::permanent("broken")),
        _ => Ok(()),
    };
    let running = app.run(app.router().topic("raw").on_message("raw", handler)).await;
    for _ in 0..2 {
        given.messaging.publish_raw(messaging::Message::new("raw", "{}").with_key("1")).await.unwrap();
    }
    bus.settled().await.unwrap();
    assert_eq!((app.runs(), given.count("messaging_inbox").await), (2, 2));
    // Its dead letter can be replayed with effect once.
    let letters = bus.dead_letters("things");
    for _ in 0..2 {
        let replay = DeadLetter::replay(&letters[0].message, 0, Position::new(0)).unwrap();
        given.messaging.publish_raw(replay).await.unwrap();
        bus.settled().await.unwrap();
    }
    assert_eq!(app.runs(), 3);
    drop(running);
}

async fn a_dead_row_of_the_bus_runs_once_more_when_it_is_retried(database: Database) {
    let bus = MemoryBroker::new();
    let given = Given::on_bus(database, &bus).await;
    let app = App::new(&given);
    let handler = async |event: Event<OrderCreated>, State(app): State<App>, tx: &mut Tx| {
        insert_thing(tx, event.data.order_id, "kept").await?;
        match app.runs.fetch_add(1, Ordering::SeqCst) {
            0 => Err(HandlerError::permanent("broken")),
            _ => Ok(()),
        }
    };
    let running = app.run(app.router().on_event("orders.created", handler)).await;
    let relay = given.outbox.start_relay(quick()).await.unwrap();
    given.record([order(1, 0)]).await;
    given.until_count("messaging_outbox_dead", 1).await;
    let dead = given.outbox.dead(10).await.unwrap();
    assert!(dead[0].reason.contains("broken"), "{}", dead[0].reason);
    assert!(given.outbox.retry_dead(dead[0].id).await.unwrap());
    bus.settled().await.unwrap();
    assert_eq!((app.runs(), given.count("things").await, given.count("messaging_outbox").await), (2, 1, 0));
    assert_eq!(given.count("messaging_outbox_dead").await, 0);
    drop((relay, running));
}

async fn handlers_chain_through_the_outbox(database: Database) {
    let bus = MemoryBroker::new();
    let given = Given::on_bus(database, &bus).await;
    let app = App::new(&given);
    let relay = given.outbox.start_relay(quick()).await.unwrap();
    // Each order makes the next one, up to the tenth.
    let handler = async |event: Event<OrderCreated>, tx: &mut Tx| {
        insert_thing(tx, event.data.order_id, "kept").await?;
        if event.data.order_id < 10 {
            tx.publish(&order(event.data.order_id + 1, 0)).await?;
        }
        Ok::<_, HandlerError>(())
    };
    let running = app.run(app.router().on_event("orders.created", handler)).await;
    given.record([order(1, 0)]).await;
    bus.settled().await.unwrap();
    assert_eq!((given.count("things").await, given.count("messaging_outbox").await), (10, 0));
    drop((relay, running));
}

/// On SQLite, 96 of 200 begins failed as busy before transactions waited for each other in order.
async fn fifty_slots_share_one_writer(database: Database) {
    let bus = MemoryBroker::new();
    let given = Given::on_bus(database, &bus).await;
    let app = App::new(&given);
    let handler = async |event: Event<OrderCreated>, State(app): State<App>, tx: &mut Tx| {
        app.runs.fetch_add(1, Ordering::SeqCst);
        insert_thing(tx, event.data.order_id, "kept").await?;
        tokio::time::sleep(Duration::from_millis(2)).await;
        tx.publish_raw(&messaging::Message::new("elsewhere", "")).await?;
        Ok::<_, HandlerError>(())
    };
    let router = app.router().concurrency(50).on_event("orders.created", handler);
    let running = app.run(router).await;
    let orders: Vec<_> = (0..200).map(|key| order(key, 0)).collect();
    given.messaging.publish_all(&orders).await.unwrap();
    until(|| async { given.count("things").await == 200 }).await;
    assert_eq!(app.runs(), 200, "none failed");
    assert_eq!(given.count("messaging_outbox").await, 200);
    drop(running);
}
