//! Opening PostgreSQL: bounded statements, a database created on request, migrations under an
//! advisory lock.

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::{DatabaseError, Migration, Pools, STATEMENT_DEADLINE, migrations::migrator};

/// Connections of one process. A server takes a hundred by default, for all replicas together.
const CONNECTIONS: u32 = 10;

/// The database to be connected to while creating another.
const MAINTENANCE_DATABASE: &str = "postgres";

const INVALID_CATALOG_NAME: &str = "3D000";
const DUPLICATE_DATABASE: &str = "42P04";
const UNIQUE_VIOLATION: &str = "23505";
const OBJECT_IN_USE: &str = "55006";

pub(super) async fn open(
    options: &PgConnectOptions,
    create: bool,
    migrations: &'static [Migration],
) -> Result<Pools, DatabaseError> {
    // Without the notice that the table of migrations exists already.
    let options = options.clone().disable_statement_logging().options([("client_min_messages", "warning")]);
    let mut connection = match options.connect().await {
        Err(error) if has_code(&error, INVALID_CATALOG_NAME) => {
            create_database(&options, create).await?;
            options.connect().await?
        }
        other => other?,
    };
    // Without the pool's statement timeout: replicas wait here for the one that migrates.
    migrator(migrations, |migration| migration.postgres).run_direct(None, &mut connection, false).await?;
    connection.close().await?;

    let millis = STATEMENT_DEADLINE.as_millis().to_string();
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(STATEMENT_DEADLINE)
        .connect_with(options.options([("statement_timeout", millis.as_str())]))
        .await?;
    Ok(Pools::Postgres(pool))
}

/// Creates the database of `options` unless another replica was faster.
async fn create_database(options: &PgConnectOptions, create: bool) -> Result<(), DatabaseError> {
    let name = options.get_database().unwrap_or_default().to_owned();
    if !create {
        return Err(DatabaseError::Missing(format!(
            "database \"{name}\" does not exist; create it or set CREATE_DATABASE=true"
        )));
    }
    let mut connection = options.clone().database(MAINTENANCE_DATABASE).connect().await?;
    let statement = format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""));
    let result = loop {
        match run(&mut connection, &statement).await {
            // Two creations copy the same template: the server lets one at a time. The deadline of
            // opening bounds this loop.
            Err(error) if has_code(&error, OBJECT_IN_USE) => tokio::task::yield_now().await,
            other => break other,
        }
    };
    match result {
        Ok(()) => tracing::info!(database = name, "created the database"),
        Err(error) if has_code(&error, DUPLICATE_DATABASE) || has_code(&error, UNIQUE_VIOLATION) => {}
        Err(error) => {
            return Err(DatabaseError::Missing(format!(
                "database \"{name}\" does not exist and cannot be created: {error}"
            )));
        }
    }
    connection.close().await?;
    Ok(())
}

async fn run(connection: &mut PgConnection, statement: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(connection).await.map(drop)
}

fn has_code(error: &sqlx::Error, code: &str) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some(code))
}
