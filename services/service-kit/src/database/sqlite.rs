//! Opening SQLite: write-ahead log, one writer, migrations under the write lock.

use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};

use super::{DatabaseError, Migration, Pools, STATEMENT_DEADLINE, migrations::migrator};

/// How long a statement waits for a writer in another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Readers of the write-ahead log do not block each other; more than this only costs memory.
const READERS: u32 = 4;

/// How long a replica waits for others that open the same file, and how often it looks.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);
const OPEN_PAUSE: Duration = Duration::from_millis(50);

/// Opens the database. Replicas that start at once take turns: switching to the write-ahead log does not wait for the
/// busy timeout, and on a slow disk the migrations of those before may outlast it.
pub(super) async fn open(
    options: &SqliteConnectOptions,
    migrations: &'static [Migration],
) -> Result<Pools, DatabaseError> {
    let deadline = tokio::time::Instant::now() + OPEN_DEADLINE;
    loop {
        match open_now(options, migrations).await {
            Err(error) if is_busy(&error) && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(OPEN_PAUSE).await;
            }
            opened => return opened,
        }
    }
}

/// SQLITE_BUSY, also in its extended forms.
fn is_busy(error: &DatabaseError) -> bool {
    let DatabaseError::Statement(sqlx::Error::Database(error)) = error else { return false };
    error.code().and_then(|code| code.parse::<i32>().ok()).is_some_and(|code| code & 0xff == 5)
}

async fn open_now(options: &SqliteConnectOptions, migrations: &'static [Migration]) -> Result<Pools, DatabaseError> {
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
