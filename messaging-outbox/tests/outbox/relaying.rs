//! What the relay publishes: everything, in the order of each key, once where nothing fails.

use std::{collections::HashSet, time::Duration};

use messaging::{Event, Outcome, Router};
use messaging_memory::MemoryBroker;
use messaging_outbox::{Connection, OnDead, Tx};

use crate::{
    broker::{Answering, stored},
    given::{Database, Given, OrderCreated, TOPIC, execute, number, on_each_database, order, quick, record, until},
};

on_each_database! {
    committed_events_reach_the_broker_and_their_rows_go,
    a_key_waits_behind_its_failed_head_and_others_go_on,
    an_event_that_is_always_refused_is_given_up_with_its_reason,
    a_dead_event_holds_its_key_if_asked_to,
    a_broker_that_is_away_costs_no_attempt,
    delayed_events_come_when_they_are_due_in_their_order,
    writers_of_one_row_publish_in_the_order_of_their_commits,
    what_another_process_records_is_found,
    relays_share_the_shards_and_take_over,
    settled_waits_for_the_outbox,
}

async fn committed_events_reach_the_broker_and_their_rows_go(database: Database) {
    let broker = Answering::new(|_, _| stored());
    let given = Given::new(database, broker.broker()).await;
    let relay = given.outbox.start_relay(quick()).await.unwrap();
    for sequence in 0..20 {
        given.record((0..50).map(|key| order(key, sequence))).await;
    }
    given.until_count("messaging_outbox", 0).await;
    assert_eq!(broker.stored().len(), 1_000);
    broker.assert_first_occurrences_in_order();
    relay.shutdown(Duration::from_secs(5)).await.unwrap();
}

async fn a_key_waits_behind_its_failed_head_and_others_go_on(database: Database) {
    // Each key's third event is refused four times.
    let broker = Answering::new(|order, tries| match order {
        OrderCreated { sequence: 2, .. } if tries < 4 => Outcome::rejected("not now"),
        _ => stored(),
    });
    let given = Given::new(database, broker.broker()).await;
    for sequence in 0..10 {
        given.record((0..20).map(|key| order(key, sequence))).await;
    }
    let relay = given.outbox.start_relay(quick()).await.unwrap();
    given.until_count("messaging_outbox", 0).await;
    assert_eq!(broker.stored().len(), 200, "nothing came twice");
    broker.assert_first_occurrences_in_order();
    for key in 0..20 {
        let ids = broker.ids(&order(key, 2));
        assert_eq!(ids.len(), 5);
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 1, "the id stays over repeats");
    }
    drop(relay);
}

async fn an_event_that_is_always_refused_is_given_up_with_its_reason(database: Database) {
    let broker = Answering::new(|order, _| match order.order_id {
        3 if order.sequence == 0 => Outcome::rejected("too ugly"),
        _ => stored(),
    });
    let given = Given::new(database, broker.broker()).await;
    given.record((0..3).flat_map(|sequence| (0..5).map(move |key| order(key, sequence)))).await;
    let mut settings = quick();
    settings.max_attempts = 3;
    let relay = given.outbox.start_relay(settings).await.unwrap();
    given.until_count("messaging_outbox", 0).await;
    assert_eq!(broker.stored().len(), 14);
    assert_eq!(broker.ids(&order(3, 0)).len(), 3);
    let dead = given.outbox.dead(10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].attempts, dead[0].message.name()), (3, Some("orders.created")));
    assert!(dead[0].reason.contains("too ugly"), "{}", dead[0].reason);
    assert!(given.outbox.discard_dead(dead[0].id).await.unwrap());
    assert!(!given.outbox.discard_dead(dead[0].id).await.unwrap());
    drop(relay);
}

async fn a_dead_event_holds_its_key_if_asked_to(database: Database) {
    let broker = Answering::new(|order, tries| match order {
        OrderCreated { order_id: 3, sequence: 0 } if tries < 2 => Outcome::rejected("too ugly"),
        _ => stored(),
    });
    let given = Given::new(database, broker.broker()).await;
    given.record((0..3).flat_map(|sequence| (0..5).map(move |key| order(key, sequence)))).await;
    let mut settings = quick();
    settings.max_attempts = 2;
    settings.on_dead = OnDead::HoldKey;
    let relay = given.outbox.start_relay(settings).await.unwrap();
    given.until_count("messaging_outbox_dead", 1).await;
    given.until_count("messaging_outbox", 2).await;
    assert_eq!(broker.stored().len(), 12, "the others went on");
    let dead = given.outbox.dead(10).await.unwrap();
    assert!(given.outbox.retry_dead(dead[0].id).await.unwrap());
    given.until_count("messaging_outbox", 0).await;
    assert_eq!(broker.stored().len(), 15);
    broker.assert_first_occurrences_in_order();
    drop(relay);
}

async fn a_broker_that_is_away_costs_no_attempt(database: Database) {
    let broker = Answering::new(|_, tries| if tries < 8 { Outcome::unknown("away") } else { stored() });
    let given = Given::new(database, broker.broker()).await;
    given.record((0..5).map(|sequence| order(1, sequence))).await;
    let mut settings = quick();
    settings.max_attempts = 2;
    let relay = given.outbox.start_relay(settings).await.unwrap();
    given.until_count("messaging_outbox", 0).await;
    assert_eq!((given.count("messaging_outbox_dead").await, broker.stored().len()), (0, 5));
    broker.assert_first_occurrences_in_order();
    drop(relay);
}

async fn delayed_events_come_when_they_are_due_in_their_order(database: Database) {
    let broker = Answering::new(|_, _| stored());
    let given = Given::new(database, broker.broker()).await;
    let relay = given.outbox.start_relay(quick()).await.unwrap();
    let mut tx = given.outbox.begin().await.unwrap();
    tx.publish_after(&order(1, 3), Duration::from_millis(400)).await.unwrap();
    tx.publish_after(&order(1, 1), Duration::from_millis(200)).await.unwrap();
    tx.publish_after(&order(1, 2), Duration::from_millis(200)).await.unwrap();
    tx.publish_after(&order(1, 9), Duration::from_secs(3_600)).await.unwrap();
    tx.publish(&order(1, 0)).await.unwrap();
    tx.commit().await.unwrap();
    until(|| async { !broker.stored().is_empty() }).await;
    assert_eq!(broker.stored()[0], order(1, 0), "the key is not held up");
    until(|| async { broker.stored().len() == 4 }).await;
    let sequences: Vec<u32> = broker.stored().iter().map(|order| order.sequence).collect();
    assert_eq!(sequences, [0, 1, 2, 3]);
    assert_eq!(given.count("messaging_outbox_delayed").await, 1);
    drop(relay);
}

/// With rows that are inserted when they are recorded, 220 of 599 neighbours were out of order.
async fn writers_of_one_row_publish_in_the_order_of_their_commits(database: Database) {
    let broker = Answering::new(|_, _| stored());
    let given = Given::new(database, broker.broker()).await;
    let relay = given.outbox.start_relay(quick()).await.unwrap();
    execute(&given.database.pool, "INSERT INTO things VALUES (0, 'locked by all')").await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4_u32 {
        let outbox = given.outbox.clone();
        writers.spawn(async move {
            for number in 0..50 {
                let tag = writer * 1_000 + number;
                let mut tx = outbox.begin().await.unwrap();
                // Half of them before they have the lock.
                if writer % 2 == 0 {
                    tx.publish(&order(1, tag)).await.unwrap();
                }
                run(&mut tx, "UPDATE things SET word = word WHERE id = 0", None).await;
                run(&mut tx, "INSERT INTO things (id, word) SELECT MAX(id) + 1, $1 FROM things", Some(tag)).await;
                if writer % 2 == 1 {
                    tx.publish(&order(1, tag)).await.unwrap();
                }
                tx.commit().await.unwrap();
            }
        });
    }
    writers.join_all().await;
    until(|| async { broker.stored().len() == 200 }).await;
    let published: Vec<String> = broker.stored().iter().map(|order| order.sequence.to_string()).collect();
    let mut committed = Vec::new();
    for id in 1..=200 {
        let tag = format!("SELECT CAST(word AS BIGINT) FROM things WHERE id = {id}");
        committed.push(number(&given.database.pool, tag).await.to_string());
    }
    assert_eq!(published, committed);
    drop(relay);
}

async fn run(tx: &mut Tx, sql: &'static str, tag: Option<u32>) {
    let tag = tag.map(|tag| tag.to_string());
    match tx.connection() {
        Connection::Postgres(connection) => {
            let query = sqlx::query(sql);
            let query = if tag.is_some() { query.bind(tag) } else { query };
            query.execute(connection).await.unwrap();
        }
        Connection::Sqlite(connection) => {
            let query = sqlx::query(sql);
            let query = if tag.is_some() { query.bind(tag) } else { query };
            query.execute(connection).await.unwrap();
        }
        _ => unreachable!("there are two kinds"),
    }
}

async fn what_another_process_records_is_found(database: Database) {
    let broker = Answering::new(|_, _| stored());
    let given = Given::new(database, broker.broker()).await;
    let relay = given.outbox.start_relay(quick()).await.unwrap();
    let pool = given.database.again().await;
    let other = messaging_outbox::Outbox::open(pool, &given.messaging, Default::default()).await.unwrap();
    for sequence in 0..5 {
        record(&other, (0..10).map(|key| order(key, sequence))).await;
        until(|| async { broker.stored().len() == 10 * (sequence as usize + 1) }).await;
    }
    broker.assert_first_occurrences_in_order();
    drop(relay);
}

async fn relays_share_the_shards_and_take_over(database: Database) {
    let broker = Answering::new(|_, _| stored());
    let given = Given::new(database, broker.broker()).await;
    let mut settings = quick();
    settings.lease = Duration::from_secs(2);
    settings.publish_deadline = Duration::from_secs(1);
    let owners = "SELECT COUNT(DISTINCT owner) FROM messaging_outbox_shards WHERE shard >= 0 AND owner <> ''";
    let owners = || async { crate::given::number(&given.database.pool, owners.into()).await };
    let first = given.outbox.start_relay(settings.clone()).await.unwrap();
    until(|| async { owners().await == 1 }).await;
    let second = given.outbox.start_relay(settings.clone()).await.unwrap();
    until(|| async { owners().await == 2 }).await;
    let fewest =
        "SELECT MIN(n) FROM (SELECT COUNT(*) AS n FROM messaging_outbox_shards WHERE shard >= 0 GROUP BY owner) AS c";
    until(|| async { crate::given::number(&given.database.pool, fewest.into()).await == 8 }).await;
    given.record((0..100).map(|key| order(key, 0))).await;
    given.until_count("messaging_outbox", 0).await;
    // One dies without a word: its shards are free when their leases expire.
    drop(first);
    given.record((0..100).map(|key| order(key, 1))).await;
    given.until_count("messaging_outbox", 0).await;
    // The other leaves: a third has all at once.
    second.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(owners().await, 0);
    let third = given.outbox.start_relay(settings).await.unwrap();
    given.record((0..100).map(|key| order(key, 2))).await;
    given.until_count("messaging_outbox", 0).await;
    let mut stored = broker.stored();
    stored.dedup();
    assert!(stored.len() >= 300);
    broker.assert_first_occurrences_in_order();
    drop(third);
}

async fn settled_waits_for_the_outbox(database: Database) {
    let bus = MemoryBroker::new();
    let given = Given::on_bus(database, &bus).await;
    let handled = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counting = handled.clone();
    let router =
        Router::<()>::new("counting").topic(TOPIC).on_event("orders.created", move |_: Event<OrderCreated>| {
            counting.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            async {}
        });
    let running = given.messaging.run_one(router).await.unwrap();
    given.record((0..20).map(|key| order(key, 0))).await;
    let waiting = bus.settled_within(Duration::from_millis(50)).await.unwrap_err();
    assert!(waiting.to_string().contains("outbox"), "{waiting}");
    let relay = given.outbox.start_relay(quick()).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(handled.load(std::sync::atomic::Ordering::SeqCst), 20);
    assert_eq!(given.count("messaging_outbox").await, 0);
    drop((relay, running));
}
