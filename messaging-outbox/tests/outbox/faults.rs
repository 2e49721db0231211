//! What goes wrong between process and database, on PostgreSQL: lost answers, held locks, frozen owners.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::Poll,
    time::Duration,
};

use messaging::{
    ErrorKind, Event, FailurePolicy, FromRef, HandlerError, Messaging, MessagingOptions, Outcome, Router, State,
};
use messaging_memory::MemoryBroker;
use messaging_outbox::{Outbox, OutboxSettings, Pool, Tx};
use test_brokers::{Postgres, or_skip};

use crate::{
    broker::{Answering, stored},
    given::{
        Database, Given, LIMIT, OrderCreated, TOPIC, insert_thing, number, order, postgres_pool, quick, record, until,
    },
};

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
    fn new(outbox: &Outbox) -> Self {
        Self { outbox: outbox.clone(), runs: Arc::default() }
    }
}

/// A group without a second attempt.
fn once() -> Router<App> {
    let policy = FailurePolicy::default().max_attempts(1).backoff(Duration::from_millis(10), Duration::from_millis(50));
    Router::new("things").topic(TOPIC).failure_policy(policy).concurrency(1)
}

fn as_postgres(pool: &Pool) -> &sqlx::PgPool {
    match pool {
        Pool::Postgres(pool) => pool,
        _ => unreachable!("these tests are on PostgreSQL"),
    }
}

/// COMMIT happens, its answer does not come: on the only attempt that there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_looked_up_before_anything_counts() {
    let Some(server) = or_skip(Postgres::shared().await) else { return };
    let bus = MemoryBroker::new();
    let given = Given::on_bus(Database::on(&server.url()).await, &bus).await;
    let direct = as_postgres(&given.database.pool);
    // COMMIT takes a while: long enough to be seen at it.
    let slow = "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$; \
                CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON things DEFERRABLE INITIALLY DEFERRED \
                FOR EACH ROW EXECUTE FUNCTION linger()";
    sqlx::raw_sql(slow).execute(direct).await.unwrap();
    let route = server.route().await.unwrap();
    let name = given.database.url().rsplit_once('/').unwrap().1;
    let through = format!("{}/{name}", route.url().rsplit_once('/').unwrap().0);
    let pool = postgres_pool(&through, 5).await;
    let outbox = Outbox::open(pool, &bus.messaging(), OutboxSettings::default()).await.unwrap();
    let app = App::new(&outbox);
    let handler = async |event: Event<OrderCreated>, State(app): State<App>, tx: &mut Tx| {
        app.runs.fetch_add(1, Ordering::SeqCst);
        insert_thing(tx, event.data.order_id, "kept").await?;
        Ok::<_, HandlerError>(())
    };
    let running =
        bus.messaging().run_one(once().on_event("orders.created", handler).with_state(app.clone())).await.unwrap();
    let committing = "SELECT COUNT(*) FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active' \
                      AND datname = current_database()";
    for key in 0..5 {
        bus.publish(&order(key, 0)).await.unwrap();
        until(|| async { number(&given.database.pool, committing.into()).await == 1 }).await;
        route.reset();
        bus.settled().await.unwrap();
    }
    assert_eq!((app.runs.load(Ordering::SeqCst), given.count("things").await), (5, 5));
    assert!(bus.dead_letters("things").is_empty());
    drop(running);
}

#[tokio::test]
async fn a_begin_that_nobody_waits_for_leaves_no_transaction_to_the_pool() {
    let Some(database) = Database::postgres().await else { return };
    let bus = MemoryBroker::new();
    let given = Given::on_bus(database, &bus).await;
    // One connection, so that who comes next has the same one.
    let url = format!("{}?application_name=lonely", given.database.url());
    let pool = postgres_pool(&url, 1).await;
    let outbox = Outbox::open(Pool::from(pool.clone()), &bus.messaging(), OutboxSettings::default()).await.unwrap();
    let open = "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'lonely' \
                AND state = 'idle in transaction'";
    // It is given up once its BEGIN is through, and before it hears of that: where it hears first, another one is tried.
    let begin = 'begun: loop {
        let mut begin = Box::pin(outbox.begin());
        loop {
            match futures::poll!(&mut begin) {
                Poll::Ready(tx) => {
                    tx.unwrap().commit().await.unwrap();
                    break;
                }
                Poll::Pending if number(&given.database.pool, open.into()).await == 1 => break 'begun begin,
                Poll::Pending => {}
            }
        }
    };
    drop(begin);
    sqlx::query("INSERT INTO things VALUES (1, 'alone')").execute(&pool).await.unwrap();
    assert_eq!(given.count("things").await, 1, "what was written in no transaction is there for everybody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_another_owner_is_no_attempt() {
    let Some(database) = Database::postgres().await else { return };
    let bus = MemoryBroker::new();
    let given = Given::on_bus(database, &bus).await;
    let mut settings = OutboxSettings::default();
    settings.lock_timeout = Duration::from_millis(50);
    let outbox = Outbox::open(given.database.pool.clone(), &bus.messaging(), settings).await.unwrap();
    let app = App::new(&outbox);
    let handler = async |event: Event<OrderCreated>, State(app): State<App>, tx: &mut Tx| {
        app.runs.fetch_add(1, Ordering::SeqCst);
        insert_thing(tx, event.data.order_id, "kept").await?;
        Ok::<_, HandlerError>(())
    };
    let running = bus.messaging().run_one(once().on_event("orders.created", handler).with_state(app.clone())).await;
    // Somebody holds the row of the inbox for the first, the row of the service for the second.
    let mut owner = as_postgres(&given.database.pool).begin().await.unwrap();
    let event = Event::new(order(1, 0)).with_source("orders");
    let id = event.id().unwrap().to_string();
    sqlx::query("INSERT INTO messaging_inbox VALUES ('things', 'orders', $1, 0, 0)")
        .bind(id)
        .execute(&mut *owner)
        .await
        .unwrap();
    sqlx::query("INSERT INTO things VALUES (2, 'held')").execute(&mut *owner).await.unwrap();
    bus.messaging().publish_event(event).await.unwrap();
    bus.publish(&order(2, 0)).await.unwrap();
    until(|| async { app.runs.load(Ordering::SeqCst) >= 3 }).await;
    owner.rollback().await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!((given.count("things").await, given.count("messaging_inbox").await), (2, 2));
    assert!(bus.dead_letters("things").is_empty(), "no wait counted as the only attempt");
    drop(running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_stands_idle_is_ended_by_the_server() {
    let Some(database) = Database::postgres().await else { return };
    let given = Given::on_bus(database, &MemoryBroker::new()).await;
    let mut settings = OutboxSettings::default();
    settings.idle_in_transaction = Duration::from_millis(100);
    let outbox = Outbox::open(given.database.pool.clone(), &given.messaging, settings).await.unwrap();
    let mut frozen = outbox.begin().await.unwrap();
    insert_thing(&mut frozen, 1, "held").await.unwrap();
    // Whoever wants the row gets it while the first still has its transaction.
    let mut successor = given.outbox.begin().await.unwrap();
    insert_thing(&mut successor, 1, "mine").await.unwrap();
    successor.commit().await.unwrap();
    frozen.publish(&order(1, 0)).await.unwrap();
    assert_eq!(frozen.commit().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!((given.count("things").await, given.count("messaging_outbox").await), (1, 0));
}

/// Ids are given before their transactions commit: a relay has read beyond an event when it appears, and reads the next
/// one of its key before it looks back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_commits_late_is_not_overtaken_on_its_key() {
    const REFUSED: i64 = 1_000;
    let Some(database) = Database::postgres().await else { return };
    let broker = Answering::new(|order, _| match order.order_id {
        REFUSED.. => Outcome::rejected("not yet"),
        _ => stored(),
    });
    let messaging = Messaging::new(broker.broker(), MessagingOptions::default()).await.unwrap();
    let mut settings = OutboxSettings::default();
    settings.shards = Some(1);
    let open = async |pool: Pool| Outbox::open(pool, &messaging, settings.clone()).await.unwrap();
    // Three processes with an outbox each, so that the relay is not told of what the others record.
    let late = open(postgres_pool(&format!("{}?application_name=late", database.url()), 2).await.into()).await;
    let others = open(database.again().await).await;
    let direct = as_postgres(&database.pool);
    let wait = "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                IF current_setting('application_name') = 'late' THEN PERFORM pg_advisory_xact_lock_shared(7); END IF; \
                RETURN NULL; END $$; \
                CREATE CONSTRAINT TRIGGER late AFTER INSERT ON messaging_outbox DEFERRABLE INITIALLY DEFERRED \
                FOR EACH ROW EXECUTE FUNCTION wait()";
    sqlx::raw_sql(wait).execute(direct).await.unwrap();
    let mut patient = quick();
    patient.backoff = LIMIT;
    patient.max_backoff = LIMIT;
    let relay = open(database.again().await).await.start_relay(patient).await.unwrap();
    for key in 0..20 {
        let mut gate = direct.begin().await.unwrap();
        sqlx::query("SELECT pg_advisory_xact_lock(7)").execute(&mut *gate).await.unwrap();
        let committing = tokio::spawn({
            let late = late.clone();
            async move { record(&late, [order(key, 0)]).await }
        });
        let waiting = "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = \
                       (SELECT oid FROM pg_database WHERE datname = current_database())";
        until(|| async { number(&database.pool, waiting.into()).await == 1 }).await;
        // This one keeps the relay from starting at the beginning again.
        record(&others, [order(REFUSED + key, 0)]).await;
        until(|| async { !broker.ids(&order(REFUSED + key, 0)).is_empty() }).await;
        gate.rollback().await.unwrap();
        committing.await.unwrap();
        record(&others, [order(key, 1)]).await;
    }
    until(|| async { broker.stored().len() == 40 }).await;
    broker.assert_first_occurrences_in_order();
    drop(relay);
}

/// A relay whose process stands still in the middle of a batch, past its lease, and then goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_relay_that_wakes_reverses_no_key() {
    let Some(database) = Database::postgres().await else { return };
    let (freeze, frozen) = mpsc::channel();
    let (thaw, thawed) = mpsc::channel::<()>();
    let thawed = Mutex::new(Some(thawed));
    let broker = Answering::new(move |order, _| {
        let is_frozen = std::thread::current().name() == Some("frozen");
        if is_frozen
            && order.sequence == 3
            && let Some(thawed) = thawed.lock().unwrap().take()
        {
            freeze.send(order.clone()).unwrap();
            thawed.recv_timeout(LIMIT).unwrap();
        }
        stored()
    });
    let given = Given::new(database, broker.broker()).await;
    for sequence in 0..20 {
        given.record((0..50).map(|key| order(key, sequence))).await;
    }
    let mut settings = quick();
    settings.lease = Duration::from_secs(1);
    settings.publish_deadline = Duration::from_millis(500);

    // The first relay has a thread of its own, for all that it does.
    let url = given.database.url().to_owned();
    let (first_settings, first_broker) = (settings.clone(), broker.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let first = std::thread::Builder::new().name("frozen".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let messaging = Messaging::new(first_broker.broker(), MessagingOptions::default()).await.unwrap();
            let pool = postgres_pool(&url, 5).await;
            let outbox = Outbox::open(pool, &messaging, OutboxSettings::default()).await.unwrap();
            let relay = outbox.start_relay(first_settings).await.unwrap();
            let _ = stopped.await;
            drop(relay);
        });
    });
    let first = first.unwrap();
    let stuck_at = tokio::task::spawn_blocking(move || frozen.recv_timeout(LIMIT).unwrap()).await.unwrap();

    let second = given.outbox.start_relay(settings).await.unwrap();
    given.until_count("messaging_outbox", 0).await;
    thaw.send(()).unwrap();
    until(|| async { broker.stored().iter().filter(|order| **order == stuck_at).count() == 2 }).await;
    // Both work on.
    record(&given.outbox, (0..50).map(|key| order(key, 20))).await;
    given.until_count("messaging_outbox", 0).await;
    broker.assert_first_occurrences_in_order();
    let distinct: std::collections::HashSet<_> = broker.stored().into_iter().collect();
    assert_eq!(distinct.len(), 21 * 50);
    stop.send(()).unwrap();
    first.join().unwrap();
    drop(second);
}
