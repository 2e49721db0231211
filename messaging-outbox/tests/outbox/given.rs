//! What the tests start from: an empty database, an outbox in it, a table of a service.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use messaging::{Broker, EventData, Messaging, MessagingOptions};
use messaging_memory::MemoryBroker;
use messaging_outbox::{Connection, Outbox, OutboxSettings, Pool, RelaySettings, Tx};
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, Row as _,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tempfile::TempDir;
use test_brokers::{Postgres, or_skip};

pub(crate) const LIMIT: Duration = Duration::from_secs(30);
pub(crate) const TOPIC: &str = "order-events";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EventData, serde::Serialize, serde::Deserialize)]
#[event(name = "orders.created", topic = "order-events", key = order_id)]
pub(crate) struct OrderCreated {
    pub(crate) order_id: i64,
    pub(crate) sequence: u32,
}

pub(crate) fn order(order_id: i64, sequence: u32) -> OrderCreated {
    OrderCreated { order_id, sequence }
}

/// An empty database.
pub(crate) struct Database {
    pub(crate) pool: Pool,
    url: String,
    _folder: Option<TempDir>,
}

impl Database {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let options = options.journal_mode(SqliteJournalMode::Wal).disable_statement_logging();
        let pool = SqlitePoolOptions::new().max_connections(10).connect_with(options).await.unwrap();
        Self { pool: pool.into(), url: path.display().to_string(), _folder: Some(folder) }
    }

    /// On the server that the tests of this process share.
    pub(crate) async fn postgres() -> Option<Self> {
        let server = or_skip(Postgres::shared().await)?;
        Some(Self::on(&server.url()).await)
    }

    /// On the PostgreSQL server of this URL.
    pub(crate) async fn on(server: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        let name = format!("outbox_{now}_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(server).await.unwrap();
        // Two creations copy the same template, which the server lets one do at a time.
        let lock = sqlx::raw_sql("SELECT pg_advisory_lock(7)");
        lock.execute(&mut connection).await.unwrap();
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::raw_sql(create).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let (base, _) = server.rsplit_once('/').unwrap();
        let url = format!("{base}/{name}");
        Self { pool: postgres_pool(&url, 20).await.into(), url, _folder: None }
    }

    /// Its address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The same database by other connections, as another process has it.
    pub(crate) async fn again(&self) -> Pool {
        match &self.pool {
            Pool::Postgres(_) => postgres_pool(&self.url, 10).await.into(),
            Pool::Sqlite(pool) => {
                let options = pool.connect_options().as_ref().clone();
                SqlitePoolOptions::new().max_connections(10).connect_with(options).await.unwrap().into()
            }
            _ => unreachable!("there are two kinds"),
        }
    }
}

pub(crate) async fn postgres_pool(url: &str, connections: u32) -> sqlx::PgPool {
    let options: PgConnectOptions = url.parse().unwrap();
    PgPoolOptions::new().max_connections(connections).connect_with(options.disable_statement_logging()).await.unwrap()
}

/// An outbox in a database, and the connection that its events go out by.
pub(crate) struct Given {
    pub(crate) database: Database,
    pub(crate) messaging: Messaging,
    pub(crate) outbox: Outbox,
}

impl Given {
    pub(crate) async fn new(database: Database, broker: Arc<dyn Broker>) -> Self {
        let messaging = Messaging::new(broker, MessagingOptions::default()).await.unwrap();
        Self::with(database, messaging).await
    }

    pub(crate) async fn on_bus(database: Database, bus: &MemoryBroker) -> Self {
        Self::with(database, bus.messaging()).await
    }

    async fn with(database: Database, messaging: Messaging) -> Self {
        let outbox = Outbox::open(database.pool.clone(), &messaging, OutboxSettings::default()).await.unwrap();
        execute(&database.pool, "CREATE TABLE things (id BIGINT PRIMARY KEY, word TEXT NOT NULL)").await;
        Self { database, messaging, outbox }
    }

    /// Records orders in one transaction.
    pub(crate) async fn record(&self, orders: impl IntoIterator<Item = OrderCreated>) {
        record(&self.outbox, orders).await;
    }

    pub(crate) async fn count(&self, table: &'static str) -> i64 {
        count(&self.database.pool, table).await
    }

    /// Waits until a table has so many rows.
    pub(crate) async fn until_count(&self, table: &'static str, rows: i64) {
        until(|| async { self.count(table).await == rows }).await;
    }
}

pub(crate) async fn record(outbox: &Outbox, orders: impl IntoIterator<Item = OrderCreated>) {
    let mut tx = outbox.begin().await.unwrap();
    for order in orders {
        tx.publish(&order).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// Waits until something is so.
pub(crate) async fn until<F: Future<Output = bool>>(mut so: impl FnMut() -> F) {
    let waiting = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("what was waited for did not happen");
}

/// Settings with which a test need not wait for long.
pub(crate) fn quick() -> RelaySettings {
    let mut settings = RelaySettings::default();
    settings.backoff = Duration::from_millis(5);
    settings.max_backoff = Duration::from_millis(20);
    settings
}

pub(crate) async fn execute(pool: &Pool, sql: &'static str) {
    match pool {
        Pool::Postgres(pool) => drop(sqlx::query(sql).execute(pool).await.unwrap()),
        Pool::Sqlite(pool) => drop(sqlx::query(sql).execute(pool).await.unwrap()),
        _ => unreachable!("there are two kinds"),
    }
}

pub(crate) async fn number(pool: &Pool, sql: String) -> i64 {
    let sql = sqlx::AssertSqlSafe(sql);
    match pool {
        Pool::Postgres(pool) => sqlx::query(sql).fetch_one(pool).await.unwrap().get(0),
        Pool::Sqlite(pool) => sqlx::query(sql).fetch_one(pool).await.unwrap().get(0),
        _ => unreachable!("there are two kinds"),
    }
}

pub(crate) async fn count(pool: &Pool, table: &str) -> i64 {
    number(pool, format!("SELECT COUNT(*) FROM {table}")).await
}

/// Inserts a row of the service's own.
pub(crate) async fn insert_thing(tx: &mut Tx, id: i64, word: &str) -> Result<(), sqlx::Error> {
    const INSERT: &str = "INSERT INTO things (id, word) VALUES ($1, $2)";
    match tx.connection() {
        Connection::Postgres(connection) => sqlx::query(INSERT).bind(id).bind(word).execute(connection).await.map(drop),
        Connection::Sqlite(connection) => sqlx::query(INSERT).bind(id).bind(word).execute(connection).await.map(drop),
        _ => unreachable!("there are two kinds"),
    }
}

/// Declares each of these tests once for every database. A test is an `async fn` that takes a [`Database`].
macro_rules! on_each_database {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::given::Database::sqlite().await).await;
            })*
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(database) = crate::given::Database::postgres().await {
                    super::$name(database).await;
                }
            })*
        }
    };
}
pub(crate) use on_each_database;
