//! Connections and transactions of either driver, and running a statement on them.

use messaging::Error;
use tokio::sync::OwnedSemaphorePermit;

#[cfg(feature = "postgres")]
use super::held::Held;
use super::{Argument, Database, NewRow, Pool, Record, Sql, failed, insert, is_unsure, timed_out};

/// A connection inside a transaction, for statements of your own: match on it, or ask
/// [`Tx::postgres`](crate::Tx::postgres) or [`Tx::sqlite`](crate::Tx::sqlite) where the dialect is known.
#[derive(Debug)]
#[non_exhaustive]
pub enum Connection<'c> {
    /// PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(&'c mut sqlx::PgConnection),
    /// SQLite.
    #[cfg(feature = "sqlite")]
    Sqlite(&'c mut sqlx::SqliteConnection),
}

/// Binds the arguments, each as `$dialect` says, and fetches all rows.
macro_rules! fetch {
    ($text:expr, $arguments:expr, $executor:expr, $integers:expr, $record:path) => {{
        let mut query = sqlx::query($text);
        for argument in $arguments {
            query = match argument {
                Argument::Integer(value) => query.bind(value),
                Argument::Text(value) => query.bind(value),
                Argument::Integers(values) => query.bind($integers(values)),
            };
        }
        let rows = query.fetch_all($executor).await?;
        Ok(rows.into_iter().map($record).collect())
    }};
}

#[cfg(feature = "sqlite")]
fn json(values: Vec<i64>) -> String {
    let texts: Vec<String> = values.iter().map(i64::to_string).collect();
    format!("[{}]", texts.join(","))
}

#[cfg(feature = "postgres")]
fn array(values: Vec<i64>) -> Vec<i64> {
    values
}

/// On any connection of the pool.
pub(super) async fn read(pool: &Pool, sql: &'static Sql, arguments: Vec<Argument>) -> Result<Vec<Record>, sqlx::Error> {
    match pool {
        #[cfg(feature = "postgres")]
        Pool::Postgres(pool) => fetch!(sql.postgres(), arguments, pool, array, Record::Postgres),
        #[cfg(feature = "sqlite")]
        Pool::Sqlite(pool) => fetch!(sql.sqlite(), arguments, pool, json, Record::Sqlite),
    }
}

impl Connection<'_> {
    /// Runs a statement; answers the rows it returns.
    pub(crate) async fn run(
        &mut self,
        sql: &'static Sql,
        arguments: Vec<Argument>,
    ) -> Result<Vec<Record>, sqlx::Error> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => fetch!(sql.postgres(), arguments, &mut **connection, array, Record::Postgres),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => fetch!(sql.sqlite(), arguments, &mut **connection, json, Record::Sqlite),
        }
    }

    /// Inserts rows in their order: those that are due now, and those that are due later.
    pub(crate) async fn insert(&mut self, rows: &[NewRow]) -> Result<(), sqlx::Error> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => insert::postgres(connection, rows).await,
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => insert::sqlite(connection, rows).await,
        }
    }
}

/// An open transaction. Dropped, it rolls back.
pub(crate) struct Transaction {
    inner: Inner,
    /// After the transaction in the order of dropping: the next writer comes when this one is through.
    _permit: Option<OwnedSemaphorePermit>,
}

enum Inner {
    #[cfg(feature = "postgres")]
    Postgres(Held<sqlx::Postgres>),
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
}

/// How a COMMIT ended that did not succeed.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Surely nothing is stored.
    RolledBack(Error),
    /// It may be stored.
    Unknown(Error),
}

impl Database {
    /// Begins a transaction that may write. On SQLite it waits for those before it, in their order.
    pub(crate) async fn begin(&self) -> Result<Transaction, Error> {
        let beginning = async {
            match &self.pool {
                #[cfg(feature = "postgres")]
                Pool::Postgres(pool) => {
                    let begin = sqlx::AssertSqlSafe(self.begin.clone());
                    let inner = Inner::Postgres(Held::begin(pool, begin).await?);
                    Ok(Transaction { inner, _permit: None })
                }
                #[cfg(feature = "sqlite")]
                Pool::Sqlite(pool) => {
                    let permit = self.writer_permit().await?;
                    let inner = Inner::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?);
                    Ok(Transaction { inner, _permit: permit })
                }
            }
        };
        match tokio::time::timeout(self.deadlines.begin, beginning).await {
            Ok(result) => result.map_err(|error| failed("beginning a transaction", error)),
            Err(_) => Err(timed_out(self.deadlines.begin)),
        }
    }

    pub(super) async fn writer_permit(&self) -> Result<Option<OwnedSemaphorePermit>, sqlx::Error> {
        match &self.pool {
            #[cfg(feature = "postgres")]
            Pool::Postgres(_) => Ok(None),
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(_) => {
                let permit = self.writer.clone().acquire_owned().await;
                permit.map(Some).map_err(|_| sqlx::Error::PoolClosed)
            }
        }
    }

    /// Commits, with these rows inserted by the last statement before. Where there are none, another statement stands
    /// there: a transaction that failed earlier must not pass for a committed one.
    pub(crate) async fn commit(&self, mut transaction: Transaction, rows: &[NewRow]) -> Result<(), Ended> {
        static PROBE: Sql = Sql::new("SELECT 1");
        let deadline = self.deadlines.statement;
        let last = async {
            let mut connection = transaction.connection();
            if rows.is_empty() {
                connection.run(&PROBE, Vec::new()).await.map(drop)
            } else {
                connection.insert(rows).await
            }
        };
        match tokio::time::timeout(deadline, last).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Ended::RolledBack(failed("the transaction cannot be committed", error))),
            Err(_) => return Err(Ended::RolledBack(timed_out(deadline))),
        }
        match tokio::time::timeout(deadline, transaction.commit()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if is_unsure(&error) => Err(Ended::Unknown(failed("COMMIT", error))),
            Ok(Err(error)) => Err(Ended::RolledBack(failed("COMMIT", error))),
            Err(_) => Err(Ended::Unknown(timed_out(deadline))),
        }
    }

    /// Rolls back, within a deadline; the server does it by itself where that fails.
    pub(crate) async fn roll_back(&self, transaction: Transaction) -> Result<(), Error> {
        let deadline = self.deadlines.statement;
        match tokio::time::timeout(deadline, transaction.roll_back()).await {
            Ok(result) => result.map_err(|error| failed("ROLLBACK", error)),
            Err(_) => Err(timed_out(deadline)),
        }
    }
}

impl Transaction {
    pub(crate) fn connection(&mut self) -> Connection<'_> {
        match &mut self.inner {
            #[cfg(feature = "postgres")]
            Inner::Postgres(transaction) => Connection::Postgres(transaction.connection()),
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(transaction) => Connection::Sqlite(&mut *transaction),
        }
    }

    async fn commit(self) -> Result<(), sqlx::Error> {
        match self.inner {
            #[cfg(feature = "postgres")]
            Inner::Postgres(transaction) => transaction.commit().await,
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(transaction) => transaction.commit().await,
        }
    }

    async fn roll_back(self) -> Result<(), sqlx::Error> {
        match self.inner {
            #[cfg(feature = "postgres")]
            Inner::Postgres(transaction) => transaction.roll_back().await,
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(transaction) => transaction.rollback().await,
        }
    }
}
