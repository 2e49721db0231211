//! Batch handlers with `Tx`: one transaction, and each message takes effect alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use messaging::{
    BatchOptions, DeadLetter, Event, EventId, FailurePolicy, FromRef, HandlerError, Position, Result, Route, Router,
    Running, State,
};
use messaging_memory::MemoryBroker;
use messaging_outbox::{Outbox, Tx};

use crate::given::{Database, Given, OrderCreated, TOPIC, insert_thing, number, on_each_database, order, until};

on_each_database! {
    a_message_that_fails_takes_back_its_own_effects_alone,
    a_failed_statement_is_its_own_messages,
    what_was_handled_before_is_left_out,
    an_error_of_the_batch_keeps_nothing,
    a_failure_outside_of_a_savepoint_keeps_nothing,
    a_dead_letter_of_a_batch_is_recorded,
    a_savepoint_without_an_end_keeps_nothing,
    savepoints_within_one_another_are_taken_back_alone,
}

type Outcomes = Vec<Result<()>>;

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

    /// Counts a run; answers how many there were before.
    fn run(&self) -> usize {
        self.runs.fetch_add(1, Ordering::SeqCst)
    }

    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    /// A group of batches of as many messages as there will be. They are there before it may start any: it lingers for
    /// their intake alone.
    async fn start<H, M>(&self, messages: usize, handler: H) -> Running
    where
        H: messaging::BatchHandler<M, Self>,
    {
        let options = BatchOptions::default().max(messages).linger(Duration::from_millis(200));
        let policy = FailurePolicy::immediate().max_attempts(3);
        let router = Router::new("things").topic(TOPIC).failure_policy(policy);
        let router = router.route(Route::batch("orders.created", options, handler));
        self.outbox.messaging().unwrap().run_one(router.with_state(self.clone())).await.unwrap()
    }
}

async fn keep(batch: Vec<Event<OrderCreated>>, State(app): State<App>, tx: &mut Tx) -> Result<Outcomes> {
    app.run();
    let mut outcomes = Vec::new();
    for event in batch {
        let mut savepoint = tx.savepoint().await?;
        let outcome = insert_thing(&mut savepoint, event.data.order_id, "kept").await;
        outcomes.push(savepoint.end(outcome).await?);
    }
    Ok(outcomes)
}

async fn publish(given: &Given, orders: impl IntoIterator<Item = i64>) {
    for key in orders {
        given.messaging.publish(&order(key, 0)).await.unwrap();
    }
}

async fn a_message_that_fails_takes_back_its_own_effects_alone(database: Database) {
    let bus = MemoryBroker::new();
    let given = Given::on_bus(database, &bus).await;
    let app = App::new(&given);
    let handler = async |batch: Vec<Event<OrderCreated>>, State(app): State<App>, tx: &mut Tx| {
        let first = app.run() == 0;
        let mut outcomes = Vec::new();
        for event in batch {
            let key = event.data.order_id;
            let mut savepoint = tx.savepoint().await?;
            insert_thing(&mut savepoint, key, if first { "first" } else { "again" }).await?;
            savepoint.publish(&order(100 + key, 0)).await?;
            let outcome = if first && key == 2 { Err(HandlerError::transient("not yet")) } else { Ok(()) };
            outcomes.push(savepoint.end(outcome).await?);
        }
        Ok::<_, HandlerError>(outcomes)
    };
    publish(&given, 1..=4).await;
    let running = app.start(4, handler).await;
    until(|| async { given.count("things").await == 4 }).await;
    let word = |word| number(&given.database.pool, format!("SELECT COUNT(*) FROM things WHERE word = '{word}'"));
    assert_eq!((word("first").await, word("again").await, app.runs()), (3, 1, 2));
    let outbox = number(&given.database.pool, "SELECT COUNT(*) FROM messaging_outbox".into()).await;
    assert_eq!((outbox, given.count("messaging_inbox").await), (4, 4));
    drop(running);
}

async fn a_failed_statement_is_its_own_messages(database: Database) {
    let bus = MemoryBroker::new();
    let given = Given::on_bus(database, &bus).await;
    let app = App::new(&given);
    let mut tx = given.outbox.begin().await.unwrap();
    insert_thing(&mut tx, 2, "there").await.unwrap();
    tx.commit().await.unwrap();
    publish(&given, 1..=3).await;
    let running = app.start(3, keep).await;
    bus.settled().await.unwrap();
    // Twice more alone, and then dead-lettered.
    assert_eq!((app.runs(), given.count("things").await, bus.dead_letters("things").len()), (3, 3, 1));
    assert_eq!(bus.dead_letters("things")[0].letter.attempts, 3);
    drop(running);
}

async fn what_was_handled_before_is_left_out(database: Database) {
    let bus = MemoryBroker::new();
    let given = Given::on_bus(database, &bus).await;
    let app = App::new(&given);
    let id = EventId::generate();
    for key in [1, 2] {
        // The same event under two keys: both may be in one batch.
        given.messaging.publish_event(Event::new(order(key, 0)).with_id(id.clone())).await.unwrap();
    }
    publish(&given, [3]).await;
    let running = app.start(3, keep).await;
    bus.settled().await.unwrap();
    assert_eq!((app.runs(), given.count("things").await, given.count("messaging_inbox").await), (1, 2, 2));
    given.messaging.publish_event(Event::new(order(4, 0)).with_id(id)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!((app.runs(), given.count("things").await), (1, 2));
    assert_eq!(bus.dead_letters("things"), []);
    drop(running);
}

async fn an_error_of_the_batch_keeps_nothing(database: Database) {
    let bus = MemoryBroker::new();
    let given = Given::on_bus(database, &bus).await;
    let app = App::new(&given);
    let handler = async |batch: Vec<Event<OrderCreated>>, State(app): State<App>, tx: &mut Tx| {
        let first = app.run() == 0;
        for event in batch {
            insert_thing(tx, event.data.order_id, if first { "first" } else { "again" }).await?;
        }
        if first { Err(HandlerError::transient("not yet")) } else { Ok(()) }
    };
    publish(&given, 1..=3).await;
    let running = app.start(3, handler).await;
    bus.settled().await.unwrap();
    let again = number(&given.database.pool, "SELECT COUNT(*) FROM things WHERE word = 'again'".into()).await;
    assert_eq!((again, given.count("things").await, given.count("messaging_inbox").await), (3, 3, 3));
    drop(running);
}

async fn a_failure_outside_of_a_savepoint_keeps_nothing(database: Database) {
    let bus = MemoryBroker::new();
    let given = Given::on_bus(database, &bus).await;
    let app = App::new(&given);
    let handler = async |batch: Vec<Event<OrderCreated>>, State(app): State<App>, tx: &mut Tx| {
        let run = app.run();
        let mut outcomes = Vec::new();
        for event in batch {
            let word = if run == 0 { "first" } else { "again" };
            let inserted = insert_thing(tx, event.data.order_id, word).await;
            let fails = event.data.order_id == 2;
            outcomes.push(if fails { Err(HandlerError::permanent("broken")) } else { Ok(inserted?) });
        }
        Ok::<_, HandlerError>(outcomes)
    };
    publish(&given, 1..=3).await;
    let running = app.start(3, handler).await;
    bus.settled().await.unwrap();
    let again = number(&given.database.pool, "SELECT COUNT(*) FROM things WHERE word = 'again'".into()).await;
    assert_eq!((again, given.count("things").await), (2, 2));
    let dead = bus.dead_letters("things");
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].letter.error.as_str(), dead[0].letter.attempts), ("broken", 1));
    drop(running);
}

async fn a_dead_letter_of_a_batch_is_recorded(database: Database) {
    let bus = MemoryBroker::new();
    let given = Given::on_bus(database, &bus).await;
    let app = App::new(&given);
    let handler = async |batch: Vec<Event<OrderCreated>>, State(app): State<App>, tx: &mut Tx| {
        let run = app.run();
        let mut outcomes = Vec::new();
        for event in batch {
            let mut savepoint = tx.savepoint().await?;
            insert_thing(&mut savepoint, event.data.order_id, "kept").await?;
            let outcome = match (run, event.data.order_id) {
                (0, 2) => Err(HandlerError::permanent("broken")),
                (1, 2) => Err(HandlerError::transient("not yet")),
                _ => Ok(()),
            };
            outcomes.push(savepoint.end(outcome).await?);
        }
        Ok::<_, HandlerError>(outcomes)
    };
    publish(&given, 1..=3).await;
    let running = app.start(3, handler).await;
    bus.settled().await.unwrap();
    let dead = || number(&given.database.pool, "SELECT COUNT(*) FROM messaging_inbox WHERE outcome = 1".into());
    let letters = bus.dead_letters("things");
    assert_eq!((dead().await, given.count("things").await, letters.len()), (1, 2, 1));
    // Its replay fails once beside another message, and then takes effect; one more has none.
    let replay = || DeadLetter::replay(&letters[0].message, 0, Position::new(0)).unwrap();
    assert!(running.pause("things"));
    given.messaging.publish_raw(replay()).await.unwrap();
    publish(&given, [4]).await;
    assert!(running.resume("things"));
    bus.settled().await.unwrap();
    assert_eq!((dead().await, given.count("things").await, app.runs()), (0, 4, 3));
    given.messaging.publish_raw(replay()).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!((dead().await, given.count("things").await, app.runs()), (0, 4, 3));
    drop(running);
}

async fn a_savepoint_without_an_end_keeps_nothing(database: Database) {
    let given = Given::on_bus(database, &MemoryBroker::new()).await;
    let mut tx = given.outbox.begin().await.unwrap();
    insert_thing(&mut tx, 1, "before").await.unwrap();
    let mut savepoint = tx.savepoint().await.unwrap();
    insert_thing(&mut savepoint, 2, "within").await.unwrap();
    drop(savepoint);
    let error = tx.commit().await.unwrap_err();
    assert_eq!(error.to_string(), "a savepoint of the transaction was dropped before its end");
    assert_eq!(given.count("things").await, 0);
}

async fn savepoints_within_one_another_are_taken_back_alone(database: Database) {
    let given = Given::on_bus(database, &MemoryBroker::new()).await;
    let mut tx = given.outbox.begin().await.unwrap();
    let mut outer = tx.savepoint().await.unwrap();
    insert_thing(&mut outer, 1, "outer").await.unwrap();
    outer.publish(&order(1, 0)).await.unwrap();
    let mut inner = outer.savepoint().await.unwrap();
    insert_thing(&mut inner, 2, "inner").await.unwrap();
    inner.publish(&order(2, 0)).await.unwrap();
    let outcome = inner.end(Err(HandlerError::transient("not this"))).await.unwrap();
    assert_eq!(outcome.unwrap_err().to_string(), "not this");
    outer.end(Ok::<_, HandlerError>(())).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    let outer = number(&given.database.pool, "SELECT COUNT(*) FROM things WHERE word = 'outer'".into()).await;
    assert_eq!((outer, given.count("things").await, given.count("messaging_outbox").await), (1, 1, 1));
}
