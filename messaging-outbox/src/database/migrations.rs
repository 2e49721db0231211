//! The tables' own history, applied beside the user's: a table of migrations of its own, any number of replicas at once.

use std::time::Duration;

use messaging::{Error, ErrorKind};
#[cfg(feature = "sqlite")]
use sqlx::migrate::MigrateError;
use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

use super::{Database, Pool, timed_out};

const TABLE: &str = "_messaging_outbox_migrations";

/// How long a replica waits for others that migrate.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often SQLite is asked again whether another process is through.
#[cfg(feature = "sqlite")]
const PAUSE: Duration = Duration::from_millis(50);

/// One step in both dialects.
struct Step {
    version: i64,
    name: &'static str,
    #[cfg(feature = "postgres")]
    postgres: &'static str,
    #[cfg(feature = "sqlite")]
    sqlite: &'static str,
}

const STEPS: &[Step] = &[Step {
    version: 1,
    name: "outbox and inbox",
    #[cfg(feature = "postgres")]
    postgres: include_str!("../../migrations/postgres/0001_outbox.sql"),
    #[cfg(feature = "sqlite")]
    sqlite: include_str!("../../migrations/sqlite/0001_outbox.sql"),
}];

/// Steps that are applied and unknown here are let pass: an older replica may restart on what a newer one has extended.
fn migrator(text: fn(&Step) -> &'static str) -> Migrator {
    let steps = STEPS.iter().map(|step| {
        Migration::new(step.version, step.name.into(), MigrationType::Simple, text(step).into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(steps.collect());
    migrator.set_ignore_missing(true);
    migrator.dangerous_set_table_name(TABLE);
    migrator
}

impl Database {
    /// Applies what is missing.
    pub(crate) async fn migrate(&self) -> Result<(), Error> {
        let migrating = async {
            match &self.pool {
                #[cfg(feature = "postgres")]
                Pool::Postgres(pool) => {
                    let mut connection = pool.acquire().await?;
                    // Under an advisory lock, which the others wait for. Not under the pool's statement timeout, and
                    // without the notice that the table exists.
                    sqlx::raw_sql("SET statement_timeout = 0; SET client_min_messages = warning")
                        .execute(&mut *connection)
                        .await?;
                    let migrated = migrator(|step| step.postgres).run_direct(None, &mut *connection, false).await;
                    // Its settings go with the connection.
                    connection.close().await?;
                    migrated
                }
                #[cfg(feature = "sqlite")]
                Pool::Sqlite(pool) => loop {
                    match migrate_sqlite(pool).await {
                        Err(error) if is_busy(&error) => tokio::time::sleep(PAUSE).await,
                        migrated => break migrated,
                    }
                },
            }
        };
        match tokio::time::timeout(DEADLINE, migrating).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                Err(Error::new(ErrorKind::Config, "the outbox's tables cannot be migrated").with_source(error))
            }
            Err(_) => Err(timed_out(DEADLINE)),
        }
    }
}

/// The history as one transaction under the write lock: sqlx's own lock does nothing on SQLite.
#[cfg(feature = "sqlite")]
async fn migrate_sqlite(pool: &sqlx::SqlitePool) -> Result<(), MigrateError> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    migrator(|step| step.sqlite).run_direct(None, &mut *transaction, false).await?;
    Ok(transaction.commit().await?)
}

/// SQLITE_BUSY, also in its extended forms.
#[cfg(feature = "sqlite")]
fn is_busy(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else { return false };
    let code = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<i32>().ok());
    code.is_some_and(|code| code & 0xff == 5)
}
