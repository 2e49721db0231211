//! What a transaction records: all of it or nothing.

use std::time::Duration;

use messaging::{Delivery, ErrorKind, Event, MessagingConfig, Router};
use messaging_memory::MemoryBroker;
use messaging_outbox::{Outbox, OutboxSettings, RelaySettings};

use crate::given::{
    Database, Given, LIMIT, OrderCreated, TOPIC, execute, insert_thing, number, on_each_database, order, until,
};

on_each_database! {
    a_commit_records_rows_and_events_together,
    a_rollback_leaves_neither_rows_nor_events,
    a_dropped_transaction_is_rolled_back,
    a_swallowed_error_is_found_at_the_commit,
    too_much_is_refused_before_it_is_stored,
    replicas_that_open_at_once_agree,
    shards_are_fixed_by_the_first,
    an_attribute_records_in_the_transaction,
    what_is_recorded_without_a_broker_goes_out_by_the_one_that_comes,
}

async fn a_commit_records_rows_and_events_together(database: Database) {
    let given = Given::on_bus(database, &MemoryBroker::new()).await;
    let mut tx = given.outbox.begin().await.unwrap();
    insert_thing(&mut tx, 1, "kept").await.unwrap();
    tx.publish(&order(1, 0)).await.unwrap();
    tx.publish_event(Event::new(order(1, 1)).with_header("a", [0xff])).await.unwrap();
    tx.publish_after(&order(1, 2), Duration::from_secs(3600)).await.unwrap();
    assert_eq!(given.count("messaging_outbox_settings").await, 1, "others can read meanwhile");
    tx.commit().await.unwrap();
    assert_eq!(given.count("things").await, 1);
    assert_eq!(given.count("messaging_outbox").await, 2);
    assert_eq!(given.count("messaging_outbox_delayed").await, 1);
    let lanes = number(&given.database.pool, "SELECT COUNT(DISTINCT lane) FROM messaging_outbox".into()).await;
    assert_eq!(lanes, 1);
}

async fn a_rollback_leaves_neither_rows_nor_events(database: Database) {
    let given = Given::on_bus(database, &MemoryBroker::new()).await;
    let mut tx = given.outbox.begin().await.unwrap();
    insert_thing(&mut tx, 1, "undone").await.unwrap();
    tx.publish(&order(1, 0)).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!((given.count("things").await, given.count("messaging_outbox").await), (0, 0));
}

async fn a_dropped_transaction_is_rolled_back(database: Database) {
    let given = Given::on_bus(database, &MemoryBroker::new()).await;
    let mut tx = given.outbox.begin().await.unwrap();
    insert_thing(&mut tx, 1, "undone").await.unwrap();
    tx.publish(&order(1, 0)).await.unwrap();
    drop(tx);
    // The next writer comes after it.
    given.record([order(2, 0)]).await;
    until(|| async { given.count("things").await == 0 }).await;
    assert_eq!(given.count("messaging_outbox").await, 1);
}

/// PostgreSQL answers COMMIT of a failed transaction as if it had been one.
async fn a_swallowed_error_is_found_at_the_commit(database: Database) {
    let given = Given::on_bus(database, &MemoryBroker::new()).await;
    for with_event in [false, true] {
        let mut tx = given.outbox.begin().await.unwrap();
        insert_thing(&mut tx, 1, "lost").await.unwrap();
        insert_thing(&mut tx, 1, "twice").await.unwrap_err();
        if with_event {
            tx.publish(&order(1, 0)).await.unwrap();
        }
        match tx.commit().await {
            Err(error) => {
                assert_eq!((error.kind(), given.count("things").await), (ErrorKind::Rejected, 0));
            }
            // SQLite goes on after a failed statement.
            Ok(()) => {
                assert_eq!(given.count("things").await, 1);
                execute(&given.database.pool, "DELETE FROM things").await;
            }
        }
    }
    let is_sqlite = matches!(given.database.pool, messaging_outbox::Pool::Sqlite(_));
    assert_eq!(given.count("messaging_outbox").await, i64::from(is_sqlite));
}

async fn too_much_is_refused_before_it_is_stored(database: Database) {
    let bus = MemoryBroker::builder().max_message_bytes(10_000).build().unwrap();
    let given = Given::on_bus(database, &bus).await;
    let mut tx = given.outbox.begin().await.unwrap();
    let large = messaging::Message::new("raw", vec![0; 20_000]);
    assert_eq!(tx.publish_raw(&large).await.unwrap_err().kind(), ErrorKind::Rejected);
    let unnamed = messaging::Message::new("no topic", "");
    assert_eq!(tx.publish_raw(&unnamed).await.unwrap_err().kind(), ErrorKind::Config);
    tx.publish(&order(1, 0)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(given.count("messaging_outbox").await, 1);
}

async fn replicas_that_open_at_once_agree(database: Database) {
    let bus = MemoryBroker::new();
    let mut replicas = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (pool, messaging) = (database.again().await, bus.messaging());
        replicas.spawn(async move { Outbox::open(pool, &messaging, OutboxSettings::default()).await.map(drop) });
    }
    for opened in replicas.join_all().await {
        opened.unwrap();
    }
    assert_eq!(number(&database.pool, "SELECT COUNT(*) FROM messaging_outbox_shards".into()).await, 17);
    assert_eq!(number(&database.pool, "SELECT COUNT(*) FROM _messaging_outbox_migrations".into()).await, 1);
}

async fn shards_are_fixed_by_the_first(database: Database) {
    let bus = MemoryBroker::new();
    let open = async |shards| {
        let mut settings = OutboxSettings::default();
        settings.shards = shards;
        Outbox::open(database.pool.clone(), &bus.messaging(), settings).await
    };
    open(Some(4)).await.unwrap();
    open(None).await.unwrap();
    let error = open(Some(8)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("shards is 8") && error.to_string().contains("with 4"), "{error}");
}

async fn an_attribute_records_in_the_transaction(database: Database) {
    #[messaging::event("orders.created", topic = "order-events", key_field = "order_id")]
    async fn complete(tx: &mut messaging_outbox::Tx, id: i64) -> messaging::Result<crate::given::OrderCreated> {
        insert_thing(tx, id, "completed").await?;
        Ok(order(id, 0))
    }
    let given = Given::on_bus(database, &MemoryBroker::new()).await;
    let mut tx = given.outbox.begin().await.unwrap();
    assert_eq!(complete(&mut tx, 7).await.unwrap(), order(7, 0));
    complete(&mut tx, 7).await.unwrap_err();
    drop(tx);
    let mut tx = given.outbox.begin().await.unwrap();
    complete(&mut tx, 8).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((given.count("things").await, given.count("messaging_outbox").await), (1, 1));
}

async fn what_is_recorded_without_a_broker_goes_out_by_the_one_that_comes(database: Database) {
    let config = MessagingConfig::from_url("memory:").unwrap().source("shop");
    let opening = Outbox::open_without_broker(database.pool.clone(), config.encoder(), OutboxSettings::default());
    let outbox = opening.await.unwrap();
    let mut tx = outbox.begin().await.unwrap();
    tx.publish(&order(1, 0)).await.unwrap();
    tx.publish_event(Event::new(order(1, 1))).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(outbox.messaging().unwrap_err().kind(), ErrorKind::Unavailable);
    let refused = outbox.start_relay(RelaySettings::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");

    let bus = MemoryBroker::new();
    let listening = Router::new("listener").on_message(TOPIC, async |_: Delivery| {});
    let listening = bus.messaging().run_one(listening).await.unwrap();
    outbox.attach(&bus.messaging()).unwrap();
    assert_eq!(outbox.attach(&bus.messaging()).unwrap_err().kind(), ErrorKind::Config);
    let relay = outbox.start_relay(RelaySettings::default()).await.unwrap();
    bus.settled().await.unwrap();
    let published: Vec<Event<OrderCreated>> = bus.published().unwrap();
    let sequences: Vec<_> = published.iter().map(|event| event.data.sequence).collect();
    assert_eq!(sequences, [0, 1]);
    assert!(published.iter().all(|event| event.source() == "shop"), "{published:?}");
    relay.shutdown(LIMIT).await.unwrap();
    listening.shutdown(LIMIT).await.unwrap();
}
