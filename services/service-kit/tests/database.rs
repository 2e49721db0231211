//! Opening and querying a database as services do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use futures::future::join_all;
use messaging_memory::MemoryBroker;
use service_kit::database::{DatabaseSettings, FromRecord, Migration, Record};
use service_kit::{Database, DatabaseError, outbox};
use service_testing::TestDatabase;
use test_brokers::{Direction, Faults, Postgres, or_skip};

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

service_testing::on_each_database! { std::future::ready:
    replicas_that_start_at_once_migrate_once,
    nulls_and_repeated_placeholders_are_bound,
    writers_queue_instead_of_failing,
    a_broken_statement_is_not_unavailability,
    an_older_program_starts_on_a_newer_schema,
    transactions_and_single_statements_share_the_writer,
    what_is_written_within_a_transaction_is_committed_with_it,
}

async fn replicas_that_start_at_once_migrate_once(database: TestDatabase) {
    let replicas = (0..8).map(|_| {
        let settings = database.settings();
        tokio::spawn(async move { Database::open(&settings, MIGRATIONS).await })
    });
    let replicas: Vec<_> = join_all(replicas).await.into_iter().map(|opened| opened.unwrap().unwrap()).collect();
    let count: i64 = replicas[0].read("SELECT COUNT(*) FROM things").one().await.unwrap();
    assert_eq!(count, 1);
}

async fn nulls_and_repeated_placeholders_are_bound(database: TestDatabase) {
    let database = Database::open(&database.settings(), MIGRATIONS).await.unwrap();
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

async fn writers_queue_instead_of_failing(database: TestDatabase) {
    // Two processes, as it were, each with many writers and readers.
    let one = Database::open(&database.settings(), MIGRATIONS).await.unwrap();
    let two = Database::open(&database.settings(), MIGRATIONS).await.unwrap();
    let work = (0..400).map(|number: i64| {
        let database = if number % 2 == 0 { one.clone() } else { two.clone() };
        tokio::spawn(async move {
            database.write("INSERT INTO things (weight) VALUES ($1)").bind(number).execute().await?;
            database.read("SELECT COUNT(*) FROM things").one::<i64>().await
        })
    });
    for done in join_all(work).await {
        done.unwrap().unwrap();
    }
    assert_eq!(one.read("SELECT COUNT(*) FROM things").one::<i64>().await.unwrap(), 401);
}

async fn a_broken_statement_is_not_unavailability(database: TestDatabase) {
    let database = Database::open(&database.settings(), MIGRATIONS).await.unwrap();
    let error = database.read("SELECT nothing FROM nowhere").execute().await.unwrap_err();
    assert!(!error.is_unavailable(), "{error}");
    database.close().await;
    let error = database.ping().await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
}

async fn an_older_program_starts_on_a_newer_schema(database: TestDatabase) {
    Database::open(&database.settings(), MIGRATIONS).await.unwrap();
    Database::open(&database.settings(), &MIGRATIONS[..1]).await.unwrap();
}

async fn transactions_and_single_statements_share_the_writer(database: TestDatabase) {
    let database = Database::open(&database.settings(), MIGRATIONS).await.unwrap();
    let outbox = outbox::open(&database, &MemoryBroker::new().messaging()).await.unwrap();
    let work = (0..200).map(|number: i64| {
        let (database, outbox) = (database.clone(), outbox.clone());
        tokio::spawn(async move {
            let insert = "INSERT INTO things (weight) VALUES ($1)";
            if number % 2 == 0 {
                return database.write(insert).bind(number).execute().await.unwrap();
            }
            let mut tx = outbox.begin().await.unwrap();
            Database::within(&mut tx, insert).bind(number).execute().await.unwrap();
            // Others want the writer now, and must wait without holding it up.
            tokio::task::yield_now().await;
            Database::within(&mut tx, insert).bind(number).execute().await.unwrap();
            tx.commit().await.unwrap();
        })
    });
    for done in tokio::time::timeout(Duration::from_secs(60), join_all(work)).await.unwrap() {
        done.unwrap();
    }
    assert_eq!(database.read("SELECT COUNT(*) FROM things").one::<i64>().await.unwrap(), 301);
}

async fn what_is_written_within_a_transaction_is_committed_with_it(database: TestDatabase) {
    let database = Database::open(&database.settings(), MIGRATIONS).await.unwrap();
    let outbox = outbox::open(&database, &MemoryBroker::new().messaging()).await.unwrap();
    let count = async || database.read("SELECT COUNT(*) FROM things").one::<i64>().await.unwrap();
    for (commit, expected) in [(false, 1), (true, 2)] {
        let mut tx = outbox.begin().await.unwrap();
        let inserted: i64 =
            Database::within(&mut tx, "INSERT INTO things (weight) VALUES (7) RETURNING weight").one().await.unwrap();
        assert_eq!(inserted, 7);
        let within: i64 = Database::within(&mut tx, "SELECT COUNT(*) FROM things").one().await.unwrap();
        assert_eq!((within, count().await), (2, 1), "nobody else sees it yet");
        if commit {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
        assert_eq!(count().await, expected);
    }
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
    let url = format!("sqlite:{}", file.path().join("things.db").display());
    let settings = DatabaseSettings { url: url.parse().unwrap(), create: false };
    let error = Database::open(&settings, MIGRATIONS).await.unwrap_err();
    assert!(error.to_string().contains("cannot create"), "{error}");
}

#[tokio::test]
async fn a_missing_database_is_created_only_on_request() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let settings = DatabaseSettings { create: false, ..database.settings() };
    let error = Database::open(&settings, MIGRATIONS).await.unwrap_err();
    assert!(error.to_string().contains("set CREATE_DATABASE=true"), "{error}");
    Database::open(&database.settings(), MIGRATIONS).await.unwrap();
    Database::open(&settings, MIGRATIONS).await.unwrap();
}

#[tokio::test]
async fn a_database_that_went_away_is_unavailable_until_it_is_back() {
    let Some(server) = or_skip(Postgres::start_new().await) else { return };
    let Ok(route) = server.route().await else { return };
    let settings = TestDatabase::at(&route.url()).settings();
    let database = Database::open(&settings, MIGRATIONS).await.unwrap();

    // Half-open: nothing comes back, and nobody says so.
    route.set(&Faults::new().stall(Direction::ToClient));
    let start = std::time::Instant::now();
    let error = database.ping().await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    route.heal();
    database.ping().await.unwrap();

    server.kill().await.unwrap();
    let error = database.ping().await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    server.start().await.unwrap();
    database.ping().await.unwrap();
}
