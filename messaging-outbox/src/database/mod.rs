//! The database under outbox and inbox, PostgreSQL or SQLite: connections, transactions, statements. The two dialects
//! differ in this folder and nowhere else.

mod connection;
mod failure;
#[cfg(feature = "postgres")]
mod held;
mod insert;
mod migrations;
mod sql;
mod value;

pub use connection::Connection;
pub(crate) use connection::{Ended, Transaction};
pub(crate) use failure::{failed, is_passing, is_unsure};
pub(crate) use insert::NewRow;
pub(crate) use sql::Sql;
pub(crate) use value::{Argument, Record};

use std::{fmt, future::Future, sync::Arc, time::Duration};

use messaging::{Error, ErrorKind};
use tokio::sync::Semaphore;

/// The pool of connections that an [`Outbox`](crate::Outbox) works on, of either kind of database.
#[derive(Clone)]
#[non_exhaustive]
pub enum Pool {
    /// PostgreSQL, 12 or later.
    #[cfg(feature = "postgres")]
    Postgres(sqlx::PgPool),
    /// SQLite, by preference with its write-ahead log on.
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::SqlitePool),
}

#[cfg(feature = "postgres")]
impl From<sqlx::PgPool> for Pool {
    fn from(pool: sqlx::PgPool) -> Self {
        Self::Postgres(pool)
    }
}

#[cfg(feature = "sqlite")]
impl From<sqlx::SqlitePool> for Pool {
    fn from(pool: sqlx::SqlitePool) -> Self {
        Self::Sqlite(pool)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "Pool(PostgreSQL)",
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => "Pool(SQLite)",
        })
    }
}

/// Connections that a relay has beside those of the pool.
const RELAY_CONNECTIONS: u32 = 4;

/// How long the database may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// For a connection and the start of a transaction, waiting for SQLite's one writer included.
    pub(crate) begin: Duration,
    /// For one statement, or one COMMIT.
    pub(crate) statement: Duration,
    /// How long a transaction may stand idle, on PostgreSQL.
    pub(crate) idle: Duration,
    /// How long a statement may wait for a lock, on PostgreSQL.
    pub(crate) lock: Duration,
}

/// A pool, and who may write.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    pub(super) pool: Pool,
    /// SQLite has one writer: transactions wait here in the order of their coming, instead of failing as busy.
    #[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "only SQLite has one writer"))]
    pub(super) writer: Arc<Semaphore>,
    pub(super) deadlines: Deadlines,
    /// PostgreSQL's BEGIN, with what holds for the transaction.
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "only PostgreSQL has these settings"))]
    pub(super) begin: Arc<str>,
}

impl Database {
    pub(crate) fn new(pool: Pool, deadlines: Deadlines) -> Self {
        let begin = format!(
            "BEGIN; SET LOCAL idle_in_transaction_session_timeout = {}; SET LOCAL lock_timeout = {}",
            deadlines.idle.as_millis(),
            deadlines.lock.as_millis(),
        );
        Self { pool, writer: Arc::new(Semaphore::new(1)), deadlines, begin: begin.into() }
    }

    /// The same database by a few connections of its own, which are made when they are needed. A database in memory is
    /// there for its pool alone.
    pub(crate) fn for_relay(&self) -> Self {
        let pool = match &self.pool {
            #[cfg(feature = "postgres")]
            Pool::Postgres(pool) => {
                let options = sqlx::postgres::PgPoolOptions::new().max_connections(RELAY_CONNECTIONS);
                Pool::Postgres(options.connect_lazy_with(pool.connect_options().as_ref().clone()))
            }
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(pool) => {
                let options = pool.connect_options().as_ref().clone();
                let file = options.get_filename().as_os_str().to_string_lossy();
                // The second is what sqlx makes of the first.
                if file.contains(":memory:") || file.contains("sqlx-in-memory") {
                    return self.clone();
                }
                let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(RELAY_CONNECTIONS);
                Pool::Sqlite(pool.connect_lazy_with(options.clone()))
            }
        };
        Self { pool, ..self.clone() }
    }

    /// Whether transactions run one after the other, so that rows appear in the order of their ids.
    pub(crate) fn has_one_writer(&self) -> bool {
        match &self.pool {
            #[cfg(feature = "postgres")]
            Pool::Postgres(_) => false,
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(_) => true,
        }
    }

    /// The rows that a statement answers.
    pub(crate) async fn read(&self, sql: &'static Sql, arguments: Vec<Argument>) -> Result<Vec<Record>, Error> {
        self.in_time(self.deadlines.begin, connection::read(&self.pool, sql, arguments)).await
    }

    /// Runs a statement that writes, in a transaction of its own; answers how many rows it touched and those it
    /// returns.
    pub(crate) async fn write(&self, sql: &'static Sql, arguments: Vec<Argument>) -> Result<Vec<Record>, Error> {
        let writing = async {
            let _permit = self.writer_permit().await?;
            connection::read(&self.pool, sql, arguments).await
        };
        self.in_time(self.deadlines.begin, writing).await
    }

    async fn in_time<T>(
        &self,
        deadline: Duration,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(deadline, work).await {
            Ok(result) => result.map_err(|error| failed("the database", error)),
            Err(_) => Err(timed_out(deadline)),
        }
    }
}

pub(crate) fn timed_out(deadline: Duration) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the database did not answer within {} ms", deadline.as_millis()))
}
