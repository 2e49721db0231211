//! The outbox on PostgreSQL with durable commits: how fast a backlog drains, in order; and what the inbox adds to a
//! handler that writes to the database anyway.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use messaging::{
    Admin, Batch, Broker, Capabilities, Consumer, Envelope, Error, Event, EventData, EventId, FromRef, HandlerError,
    Message, Messaging, MessagingOptions, Name, Outcome, Publisher, PublisherOptions, Receipt, Router, State,
    Subscription, Timestamp,
};
use messaging_memory::MemoryBroker;
use messaging_outbox::{Outbox, OutboxSettings, RelaySettings, Tx};
use parking_lot::Mutex;
use sqlx::{PgPool, postgres::PgPoolOptions};
use test_brokers::Postgres;

use crate::report::{self, Row};

const ROWS: u64 = 1_000_000;
const KEYS: u64 = 10_000;
/// With key, names and the rest, about 256 bytes a row.
const PAYLOAD: usize = 128;
/// Events of one transaction while the backlog is written.
const TRANSACTION: u64 = 10_000;
const MESSAGES: u64 = 20_000;
const SLOTS: usize = 16;

/// A broker that confirms everything at once, and checks that each key's events come in order.
#[derive(Clone)]
struct Counting(Arc<Counted>);

struct Counted {
    capabilities: Capabilities,
    admin: Arc<dyn Admin>,
    /// The next event of each key.
    next: Mutex<Vec<u64>>,
    out_of_order: AtomicU64,
    count: AtomicU64,
}

impl Counting {
    fn new() -> Self {
        let mut capabilities = Capabilities::none(1 << 20);
        capabilities.durable = true;
        Self(Arc::new(Counted {
            capabilities,
            admin: MemoryBroker::new().messaging().admin(),
            next: Mutex::new(vec![0; KEYS as usize]),
            out_of_order: AtomicU64::new(0),
            count: AtomicU64::new(0),
        }))
    }
}

#[async_trait::async_trait]
impl Publisher for Counting {
    fn send(&self, mut batch: Batch) {
        let mut next = self.0.next.lock();
        for index in 0..batch.len() {
            let number = number(&batch.message(index).payload);
            let next = &mut next[(number % KEYS) as usize];
            self.0.out_of_order.fetch_add(u64::from(number / KEYS != *next), Ordering::Relaxed);
            *next = number / KEYS + 1;
            self.0.count.fetch_add(1, Ordering::Relaxed);
            batch.complete(index, Outcome::Confirmed(Receipt::new(0, None)));
        }
    }

    fn depth(&self) -> usize {
        64
    }

    async fn close(&self, _: Duration) -> Result<(), Error> {
        Ok(())
    }
}

#[async_trait::async_trait]
impl Broker for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    async fn publisher(&self, _: PublisherOptions) -> Result<Arc<dyn Publisher>, Error> {
        Ok(Arc::new(self.clone()))
    }

    async fn consumer(&self, _: &Subscription) -> Result<Box<dyn Consumer>, Error> {
        Err(Error::new(messaging::ErrorKind::Unsupported, "nobody subscribes here"))
    }

    fn admin(&self) -> Arc<dyn Admin> {
        self.0.admin.clone()
    }

    async fn ping(&self, _: Duration) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self, _: Duration) -> Result<(), Error> {
        Ok(())
    }
}

fn number(payload: &[u8]) -> u64 {
    payload.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
}

/// Event `number`: its key is the remainder by the number of keys, its place among the key's the quotient.
fn message(number: u64) -> Message {
    let mut payload = vec![0x20; PAYLOAD];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    let envelope = Envelope {
        id: EventId::generate(),
        source: Name::from_static("bench"),
        name: Name::from_static("orders.created"),
        time: Some(Timestamp::now()),
    };
    Message::new("order-events", payload).with_key((number % KEYS).to_string()).with_envelope(envelope)
}

/// Prints the tables and the lines.
///
/// # Errors
/// If there is no PostgreSQL, or it fails.
pub async fn run() -> anyhow::Result<()> {
    let rows = match std::env::var("OUTBOX_ROWS") {
        Ok(rows) => rows.parse().context("OUTBOX_ROWS is no number")?,
        Err(_) => ROWS,
    };
    let durable = Postgres::options().setting("fsync", "on").setting("full_page_writes", "on");
    let server = durable.setting("shared_buffers", "256MB").setting("max_wal_size", "4GB").start().await?;
    let pool = PgPoolOptions::new().max_connections(SLOTS as u32 + 4).connect(&server.url()).await?;
    let title = format!("Outbox on PostgreSQL: {rows} rows of {KEYS} keys drained, order checked");
    report::print(&title, &[drain(&pool, rows).await?]);
    let title = format!("Inbox on PostgreSQL: {MESSAGES} messages, {SLOTS} slots, one INSERT each");
    report::print(&title, &inbox(&pool).await?);
    Ok(())
}

async fn drain(pool: &PgPool, rows: u64) -> anyhow::Result<Row> {
    let broker = Counting::new();
    let messaging = Messaging::new(Arc::new(broker.clone()), MessagingOptions::default()).await?;
    let outbox = Outbox::open(pool.clone(), &messaging, OutboxSettings::default()).await?;
    let started = Instant::now();
    for first in (0..rows).step_by(TRANSACTION as usize) {
        let mut tx = outbox.begin().await?;
        for number in first..rows.min(first + TRANSACTION) {
            tx.publish_raw(&message(number)).await?;
        }
        tx.commit().await?;
    }
    let recorded = rows as f64 / started.elapsed().as_secs_f64();
    let started = Instant::now();
    let relay = outbox.start_relay(RelaySettings::default()).await?;
    messaging.settled(Duration::from_secs(600)).await?;
    let drained = rows as f64 / started.elapsed().as_secs_f64();
    let by_then = broker.0.count.load(Ordering::Relaxed);
    anyhow::ensure!(by_then == rows, "{by_then} had come when the outbox said that it was empty");
    relay.shutdown(Duration::from_secs(10)).await?;
    let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM messaging_outbox").fetch_one(pool).await?;
    let (count, out_of_order) = (broker.0.count.load(Ordering::Relaxed), broker.0.out_of_order.load(Ordering::Relaxed));
    anyhow::ensure!(
        (count, out_of_order, left) == (rows, 0, 0),
        "{count} came, {out_of_order} out of order, {left} left"
    );
    let figures = vec![("rows_per_second", drained), ("recorded_per_second", recorded)];
    Ok(Row { bench: "outbox/drain".to_owned(), figures, bar: "≥ 50,000 rows/s".to_owned() })
}

#[derive(EventData, serde::Serialize, serde::Deserialize)]
#[event(name = "orders.created", topic = "orders", key = order_id)]
struct OrderCreated {
    order_id: i64,
}

#[derive(Clone)]
struct App {
    outbox: Outbox,
    pool: PgPool,
    handled: Arc<AtomicU64>,
}

impl FromRef<App> for Outbox {
    fn from_ref(app: &App) -> Self {
        app.outbox.clone()
    }
}

const INSERT: &str = "INSERT INTO notifications (order_id) VALUES ($1)";

async fn with_inbox(event: Event<OrderCreated>, State(app): State<App>, tx: &mut Tx) -> Result<(), HandlerError> {
    sqlx::query(INSERT).bind(event.data.order_id).execute(tx.postgres()?).await?;
    app.handled.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

async fn without(event: Event<OrderCreated>, State(app): State<App>) -> Result<(), HandlerError> {
    let mut transaction = app.pool.begin().await?;
    sqlx::query(INSERT).bind(event.data.order_id).execute(&mut *transaction).await?;
    transaction.commit().await?;
    app.handled.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// The same handler with `Tx` and with a transaction of its own, in turn.
async fn inbox(pool: &PgPool) -> anyhow::Result<Vec<Row>> {
    sqlx::query("CREATE TABLE notifications (order_id BIGINT)").execute(pool).await?;
    let mut best = [f64::MAX; 2];
    for round in 0..6 {
        let bus = MemoryBroker::builder().build()?;
        let outbox = Outbox::open(pool.clone(), &bus.messaging(), OutboxSettings::default()).await?;
        let app = App { outbox, pool: pool.clone(), handled: Arc::default() };
        let router = Router::new("bench").topic("orders").concurrency(SLOTS);
        let router = match round % 2 {
            0 => router.on_event("orders.created", with_inbox),
            _ => router.on_event("orders.created", without),
        };
        let running = bus.messaging().run_one(router.with_state(app.clone())).await?;
        let orders: Vec<_> = (0..MESSAGES as i64).map(|order_id| OrderCreated { order_id }).collect();
        let started = Instant::now();
        bus.messaging().publish_all(&orders).await?;
        bus.settled_within(Duration::from_secs(300)).await?;
        let micros = started.elapsed().as_secs_f64() * 1e6 / MESSAGES as f64;
        let handled = app.handled.load(Ordering::Relaxed);
        anyhow::ensure!(handled == MESSAGES, "{handled} of {MESSAGES} were handled");
        best[round % 2] = best[round % 2].min(micros);
        running.shutdown(Duration::from_secs(10)).await?;
    }
    let [with_inbox, without] = best;
    let figures = vec![
        ("microseconds_per_message", with_inbox),
        ("without_inbox", without),
        ("overhead_microseconds", with_inbox - without),
    ];
    Ok(vec![Row { bench: "outbox/inbox".to_owned(), figures, bar: "reported".to_owned() }])
}
