//! The schema's history, embedded into the program.

use sqlx::SqlSafeStr;
use sqlx::migrate::{MigrationType, Migrator};

/// One step of the schema, in both dialects.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Its place in the history; never changes once released.
    pub version: i64,
    /// What it does, in a word or two.
    pub name: &'static str,
    /// Its text for SQLite.
    pub sqlite: &'static str,
    /// Its text for PostgreSQL.
    pub postgres: &'static str,
}

/// The migrator for one dialect.
///
/// Unknown applied migrations are let pass: in a rolling upgrade an older replica may restart on a
/// schema that a newer one has already extended. Callers use `run_direct`: the future of `run` is not `Send` where it
/// borrows a connection.
pub(super) fn migrator(migrations: &'static [Migration], text: fn(&Migration) -> &'static str) -> Migrator {
    let mut migrator = Migrator::with_migrations(
        migrations
            .iter()
            .map(|migration| {
                sqlx::migrate::Migration::new(
                    migration.version,
                    migration.name.into(),
                    MigrationType::Simple,
                    text(migration).into_sql_str(),
                    false,
                )
            })
            .collect(),
    );
    migrator.set_ignore_missing(true);
    migrator
}
