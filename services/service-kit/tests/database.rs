//! Opening and querying a database as services do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use service_kit::Database;
use service_kit::DatabaseError;
use service_kit::database::{DatabaseSettings, FromRecord, Migration, Record};

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "things",
        sqlite: "CREATE TABLE things (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, weight INTEGER) STRICT;",
        postgres: "CREATE TABLE things (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name TEXT, weight BIGINT);",
    },
    Migration {
        version: 2,
        name: "first thing",
        sqlite: "INSERT INTO things (name) VALUES ('first'); CREATE INDEX things_by_name ON things (name);",
        postgres: "INSERT INTO things (name) VALUES ('first'); CREATE INDEX things_by_name ON things (name);",
    },
];

#[derive(Debug, PartialEq)]
struct Thing {
    id: i64,
    name: Option<String>,
    weight: Option<i64>,
}

impl FromRecord for Thing {
    fn from_record(record: &Record<'_>) -> Result<Self, DatabaseError> {
        Ok(Self { id: record.get("id")?, name: record.get("name")?, weight: record.get("weight")? })
    }
}

fn sqlite(file: &Path) -> DatabaseSettings {
    DatabaseSettings { url: format!("sqlite:{}", file.display()).parse().unwrap(), create: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_once_migrate_once() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let settings = sqlite(&folder.path().join(format!("round-{round}/things.db")));
        let replicas = (0..8).map(|_| {
            let settings = settings.clone();
            tokio::spawn(async move { Database::open(&settings, MIGRATIONS).await })
        });
        let replicas: Vec<_> =
            futures::future::join_all(replicas).await.into_iter().map(|opened| opened.unwrap().unwrap()).collect();
        let count: i64 = replicas[0].read("SELECT COUNT(*) FROM things").one().await.unwrap();
        assert_eq!(count, 1);
    }
}

#[tokio::test]
async fn nulls_and_repeated_placeholders_are_bound() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&sqlite(&folder.path().join("things.db")), MIGRATIONS).await.unwrap();
    let thing: Thing = database
        .write("INSERT INTO things (name, weight) VALUES ($2, $1) RETURNING id, name, weight")
        .bind(None::<i64>)
        .bind("second")
        .one()
        .await
        .unwrap();
    assert_eq!(thing, Thing { id: 2, name: Some("second".to_owned()), weight: None });
    for (name, expected) in [(Some("first"), 1), (None, 2)] {
        let found: Vec<Thing> = database
            .read("SELECT id, name, weight FROM things WHERE $1 IS NULL OR name = $1")
            .bind(name)
            .all()
            .await
            .unwrap();
        assert_eq!(found.len(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_queue_instead_of_failing() {
    let folder = tempfile::tempdir().unwrap();
    let settings = sqlite(&folder.path().join("things.db"));
    // Two processes, as it were, each with many writers and readers.
    let one = Database::open(&settings, MIGRATIONS).await.unwrap();
    let two = Database::open(&settings, MIGRATIONS).await.unwrap();
    let work = (0..400).map(|number: i64| {
        let database = if number % 2 == 0 { one.clone() } else { two.clone() };
        tokio::spawn(async move {
            database.write("INSERT INTO things (weight) VALUES ($1)").bind(number).execute().await?;
            database.read("SELECT COUNT(*) FROM things").one::<i64>().await
        })
    });
    for done in futures::future::join_all(work).await {
        done.unwrap().unwrap();
    }
    assert_eq!(one.read("SELECT COUNT(*) FROM things").one::<i64>().await.unwrap(), 401);
}

#[tokio::test]
async fn a_broken_statement_is_not_unavailability() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&sqlite(&folder.path().join("things.db")), MIGRATIONS).await.unwrap();
    let error = database.read("SELECT nothing FROM nowhere").execute().await.unwrap_err();
    assert!(!error.is_unavailable(), "{error}");
    database.close().await;
    let error = database.ping().await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
}

#[tokio::test]
async fn an_older_program_starts_on_a_newer_schema() {
    let folder = tempfile::tempdir().unwrap();
    let settings = sqlite(&folder.path().join("things.db"));
    Database::open(&settings, MIGRATIONS).await.unwrap();
    Database::open(&settings, &MIGRATIONS[..1]).await.unwrap();
}

#[tokio::test]
async fn an_in_memory_database_is_one_database() {
    let settings = DatabaseSettings { url: "sqlite::memory:".parse().unwrap(), create: false };
    let database = Database::open(&settings, MIGRATIONS).await.unwrap();
    database.write("INSERT INTO things (name) VALUES ('second')").execute().await.unwrap();
    assert_eq!(database.read("SELECT COUNT(*) FROM things").one::<i64>().await.unwrap(), 2);
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_said() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Database::open(&sqlite(&file.path().join("things.db")), MIGRATIONS).await.unwrap_err();
    assert!(error.to_string().contains("cannot create"), "{error}");
}
