//! A service's own database: SQLite or PostgreSQL, picked by `DATABASE_URL`.
//!
//! Queries are written once, in SQL that both understand (`$1` placeholders, `RETURNING`), over
//! values that both store alike: 64-bit integers and text. Amounts are integer cents, times are
//! integer microseconds. What differs lives in one file, `query.rs`, and in one folder of migrations each.

mod error;
mod migrations;
#[cfg(feature = "postgres")]
mod postgres;
mod query;
#[cfg(feature = "sqlite")]
mod sqlite;
mod url;

use std::fmt;
use std::time::Duration;

pub use error::DatabaseError;
pub use migrations::Migration;
pub use query::{Argument, Column, FromRecord, Query, Record};
pub use url::DatabaseUrl;

use messaging_outbox::Tx;

use crate::BoxFuture;
use crate::settings::{Environment, Setting, SettingError};

/// The longest that one statement may take, waiting for a connection included.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(10);

/// The longest that opening and migrating may take while other replicas do the same.
const OPEN_DEADLINE: Duration = Duration::from_secs(60);

/// Where the database is.
pub const DATABASE_URL: Setting = Setting::new(
    "DATABASE_URL",
    "`sqlite:orders.db` or `postgres://user:password@host:5432/orders`; SQLAlchemy's `postgresql+asyncpg://` is understood",
)
.secret();

/// Whether to make it.
pub const CREATE_DATABASE: Setting =
    Setting::new("CREATE_DATABASE", "`true` creates a PostgreSQL database that does not exist")
        .default("false")
        .expected("true or false");

/// Which database to open, from `DATABASE_URL` and `CREATE_DATABASE`.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// Where the database is.
    pub url: DatabaseUrl,
    /// Whether to create a PostgreSQL database that does not exist (an SQLite file always is).
    pub create: bool,
}

impl DatabaseSettings {
    /// Reads `DATABASE_URL` and `CREATE_DATABASE` (`false` by default).
    ///
    /// # Errors
    /// One of them is missing or wrong; the error names it and never shows a password.
    pub fn from_environment(environment: &Environment, example: &str) -> Result<Self, SettingError> {
        let url = environment.required(DATABASE_URL, example)?;
        Ok(Self {
            url: url.parse().map_err(|error: url::DatabaseUrlError| DATABASE_URL.error(error))?,
            create: environment.parsed(CREATE_DATABASE)?,
        })
    }
}

/// An open database; clones share its connections.
#[derive(Clone)]
pub struct Database {
    pools: Pools,
}

#[derive(Clone)]
enum Pools {
    /// SQLite takes one writer at a time: writes queue, in order, for a pool of one connection.
    #[cfg(feature = "sqlite")]
    Sqlite { read: sqlx::SqlitePool, write: sqlx::SqlitePool },
    #[cfg(feature = "postgres")]
    Postgres(sqlx::PgPool),
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.pools {
            #[cfg(feature = "sqlite")]
            Pools::Sqlite { .. } => "Database(SQLite)",
            #[cfg(feature = "postgres")]
            Pools::Postgres(_) => "Database(PostgreSQL)",
        })
    }
}

/// Where the outbox has its tables: beside the service's own. Of SQLite the writer's pool, so that transactions and
/// single statements queue for the same connection.
impl From<&Database> for messaging_outbox::Pool {
    fn from(database: &Database) -> Self {
        match &database.pools {
            #[cfg(feature = "sqlite")]
            Pools::Sqlite { write, .. } => write.clone().into(),
            #[cfg(feature = "postgres")]
            Pools::Postgres(pool) => pool.clone().into(),
        }
    }
}

impl Database {
    /// Opens the database and applies the migrations it lacks. Any number of replicas may do this
    /// at the same moment.
    ///
    /// # Errors
    /// It cannot be reached or created within a minute, or a migration fails.
    pub fn open<'a>(
        settings: &'a DatabaseSettings,
        migrations: &'static [Migration],
    ) -> BoxFuture<'a, Result<Self, DatabaseError>> {
        let opening = async move {
            let pools = match &settings.url {
                #[cfg(feature = "sqlite")]
                DatabaseUrl::Sqlite(options) => sqlite::open(options, migrations).await?,
                #[cfg(feature = "postgres")]
                DatabaseUrl::Postgres(options) => postgres::open(options, settings.create, migrations).await?,
            };
            Ok(Self { pools })
        };
        Box::pin(async {
            tokio::time::timeout(OPEN_DEADLINE, opening).await.map_err(|_| DatabaseError::Deadline(OPEN_DEADLINE))?
        })
    }

    /// A statement that only reads.
    pub fn read(&self, sql: &'static str) -> Query<'_> {
        Query::on(&self.pools, query::Intent::Read, sql)
    }

    /// A statement that writes, committed on its own. On SQLite it waits for the one writer: never from inside a
    /// transaction, which [`within`](Self::within) is for.
    pub fn write(&self, sql: &'static str) -> Query<'_> {
        Query::on(&self.pools, query::Intent::Write, sql)
    }

    /// A statement inside a transaction of the outbox, committed with it.
    pub fn within<'t>(tx: &'t mut Tx, sql: &'static str) -> Query<'t> {
        Query::within(tx, sql)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// It does not, within the deadline of a statement.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        self.read("SELECT 1").execute().await
    }

    /// Gives all connections back; statements fail from then on.
    pub fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            match &self.pools {
                #[cfg(feature = "sqlite")]
                Pools::Sqlite { read, write } => {
                    read.close().await;
                    write.close().await;
                }
                #[cfg(feature = "postgres")]
                Pools::Postgres(pool) => pool.close().await,
            }
        })
    }
}
