//! Opening SQLite: write-ahead log, one writer, migrations under the write lock.

use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};

use super::{DatabaseError, Migration, Pools, STATEMENT_DEADLINE, migrations::migrator};

/// How long a statement waits for a writer in another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Readers of the write-ahead log do not block each other; more than this only costs memory.
const READERS: u32 = 4;

pub(super) async fn open(
    options: &SqliteConnectOptions,
    migrations: &'static [Migration],
) -> Result<Pools, DatabaseError> {
    let in_memory = options.get_filename().as_os_str().to_string_lossy().contains(":memory:");
    let options = options.clone().busy_timeout(BUSY_TIMEOUT).foreign_keys(true).disable_statement_logging();
    create_folder(&options)?;
    let options = if in_memory { options } else { options.journal_mode(SqliteJournalMode::Wal) };

    // A pool that never drops its connection: an in-memory database lives as long as it does.
    let write = SqlitePoolOptions::new()
        .max_connections(1)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(STATEMENT_DEADLINE)
        .connect_with(options.clone())
        .await?;

    // sqlx's own migration lock does nothing on SQLite. Under the write lock the whole history is
    // one transaction, and another replica waits for it instead of failing half-way.
    let mut transaction = write.begin_with("BEGIN IMMEDIATE").await?;
    migrator(migrations, |migration| migration.sqlite).run_direct(None, &mut *transaction, false).await?;
    transaction.commit().await?;

    let read = if in_memory {
        write.clone()
    } else {
        SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(STATEMENT_DEADLINE)
            .connect_with(options)
            .await?
    };
    Ok(Pools::Sqlite { read, write })
}

/// SQLite creates files, not folders.
fn create_folder(options: &SqliteConnectOptions) -> Result<(), DatabaseError> {
    match options.get_filename().parent() {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::create_dir_all(folder)
            .map_err(|error| DatabaseError::Missing(format!("cannot create {}: {error}", folder.display()))),
        _ => Ok(()),
    }
}
