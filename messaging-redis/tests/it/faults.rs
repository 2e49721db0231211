//! What goes wrong on the way to a server, or in it.

use std::{sync::Arc, time::Duration};

use messaging::{Message, Messaging, Outcome};
use test_brokers::{Direction, Faults};

use crate::{
    ask,
    group::{Log, connect, lag, logging, ok, publish, until_async},
    lost, redis, redis_with,
};

async fn settled(messaging: &Messaging, topic: &str) {
    until_async("everything to be settled", || async { lag(messaging, topic).await == 0 }).await;
}

/// Whether the server has refused transactions with this error: they end with `EXECABORT`.
async fn refused(redis: &test_brokers::Redis, code: &str) -> bool {
    ask::<String>(redis, &["INFO", "errorstats"]).await.contains(&format!("errorstat_{code}:"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_comes_back_and_everything_is_settled() {
    // Written before it is confirmed; with `everysec` a server that is busy syncing puts that off.
    let Some(redis) = redis_with(&["--appendfsync", "no"]).await else { return };
    lost::count();
    let messaging = connect(&redis.url(), "partitions=4").await;
    let log = Log::default();
    let running = messaging.run_one(logging("killed", "a", &log, ok)).await.unwrap();
    for round in 0..3 {
        // Also the first publish after the server is back: the connection that is gone is not taken for a doubt.
        publish(&messaging, "killed", &["a", "b", "c"], round * 200..(round + 1) * 200).await;
        redis.kill().await.unwrap();
        redis.start().await.unwrap();
    }
    log.until_len(600).await;
    settled(&messaging, "killed").await;
    running.shutdown(Duration::from_secs(5)).await.unwrap();
    let handled: std::collections::BTreeSet<u64> = log.all().iter().map(|seen| seen.value).collect();
    assert_eq!((handled.len(), lost::of("killed")), (600, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lag_is_true_after_a_restart_with_and_without_members() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=2").await;
    let log = Log::default();
    let running = messaging.run_one(logging("t", "a", &log, ok)).await.unwrap();
    publish(&messaging, "t", &["a", "b", "c", "d"], 0..100).await;
    log.until_len(100).await;
    settled(&messaging, "t").await;
    redis.restart().await.unwrap();
    assert_eq!(lag(&messaging, "t").await, 0);
    publish(&messaging, "t", &["a", "b", "c", "d"], 100..120).await;
    log.until_len(120).await;
    settled(&messaging, "t").await;
    running.shutdown(Duration::from_secs(5)).await.unwrap();
    redis.restart().await.unwrap();
    publish(&messaging, "t", &["a", "b", "c", "d"], 120..127).await;
    assert_eq!(lag(&messaging, "t").await, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_has_forgotten_of_settlements_is_settled_again() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=1").await;
    let log = Log::default();
    let running = messaging.run_one(logging("t", "a", &log, ok)).await.unwrap();
    publish(&messaging, "t", &["k"], 0..10).await;
    log.until_len(10).await;
    settled(&messaging, "t").await;
    // As if it had died before it wrote down that these were settled.
    for seen in &log.all()[7..] {
        let id = format!("{}-{}", seen.position.major, seen.position.minor);
        let _: redis::Value = ask(&redis, &["XCLAIM", "{t:0}", "g", "owner", "0", &id, "FORCE", "JUSTID"]).await;
    }
    assert_eq!(lag(&messaging, "t").await, 3);
    redis.restart().await.unwrap();
    settled(&messaging, "t").await;
    assert_eq!(log.of_key("k"), (0..10).chain(7..10).collect::<Vec<_>>());
    running.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_memory_holds_publishers_back_and_nothing_is_lost_or_reordered() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=1").await;
    publish(&messaging, "t", &["k"], 0..10).await;
    let _: String = ask(&redis, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let publishing = tokio::spawn({
        let messaging = messaging.clone();
        async move { publish(&messaging, "t", &["k"], 10..20).await }
    });
    until_async("messages to be refused", || refused(&redis, "OOM")).await;
    assert!(!publishing.is_finished());
    assert_eq!(ask::<u64>(&redis, &["XLEN", "{t:0}"]).await, 10);
    let _: String = ask(&redis, &["CONFIG", "SET", "maxmemory", "0"]).await;
    publishing.await.unwrap();
    let browsed = messaging.admin().browse("t", 0, Default::default(), 100).await.unwrap();
    let values: Vec<u64> =
        browsed.iter().map(|one| str::from_utf8(&one.message.payload).unwrap().parse().unwrap()).collect();
    assert_eq!(values, (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_behind_a_refused_one_are_held_back_with_it() {
    const MESSAGES: u64 = 1_501;
    let Some(redis) = redis().await else { return };
    let route = redis.route().await.unwrap();
    let messaging = connect(&route.url(), "partitions=1").await;
    publish(&messaging, "t", &["k"], 0..1).await;
    // A batch takes a second on its way: the memory is full for the first one, and not any more for those behind it.
    route.set(&Faults::new().bandwidth(Direction::ToBroker, 50_000));
    let _: String = ask(&redis, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let publishing = tokio::spawn({
        let messaging = messaging.clone();
        async move { publish(&messaging, "t", &["k"], 1..MESSAGES).await }
    });
    until_async("messages to be refused", || refused(&redis, "OOM")).await;
    let _: String = ask(&redis, &["CONFIG", "SET", "maxmemory", "0"]).await;
    publishing.await.unwrap();
    let browsed = messaging.admin().browse("t", 0, Default::default(), MESSAGES as usize + 1).await.unwrap();
    let values: Vec<u64> =
        browsed.iter().map(|one| str::from_utf8(&one.message.payload).unwrap().parse().unwrap()).collect();
    assert!(values.iter().copied().eq(0..MESSAGES), "{} are stored, not in their order", values.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_that_fills_between_a_command_and_its_execution_holds_publishers_back() {
    let Some(redis) = redis().await else { return };
    let route = redis.route().await.unwrap();
    let messaging = connect(&route.url(), "partitions=1").await;
    publish(&messaging, "t", &["k"], 0..1).await;
    // `EXEC` takes a third of a second on its way.
    route.set(&Faults::new().bandwidth(Direction::ToBroker, 40));
    let publishing = tokio::spawn({
        let messaging = messaging.clone();
        async move { publish(&messaging, "t", &["k"], 1..2).await }
    });
    let queued = || async { ask::<String>(&redis, &["CLIENT", "LIST"]).await.contains(" multi=1 ") };
    until_async("the server to have queued it", queued).await;
    let _: String = ask(&redis, &["CONFIG", "SET", "maxmemory", "1"]).await;
    until_async("the transaction to be refused", || refused(&redis, "EXECABORT")).await;
    let _: String = ask(&redis, &["CONFIG", "SET", "maxmemory", "0"]).await;
    route.heal();
    publishing.await.unwrap();
    assert_eq!(ask::<u64>(&redis, &["XLEN", "{t:0}"]).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stays_full_rejects_at_the_deadline() {
    let Some(redis) = redis().await else { return };
    let config = messaging::MessagingConfig::from_url(&redis.url()).unwrap().publish_deadline(Duration::from_secs(1));
    let messaging =
        messaging::configure_messaging(&config, vec![Box::new(messaging_redis::RedisBackend)]).await.unwrap();
    publish(&messaging, "t", &["k"], 0..1).await;
    let _: String = ask(&redis, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let outcomes = messaging.publish_messages(vec![Arc::new(Message::new("t", "x").with_key("k"))]).await;
    let Outcome::Rejected(error) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert!(error.is_transient() && error.to_string().contains("OOM"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_server_holds_publishers_back_until_it_is_promoted() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=2").await;
    let log = Log::default();
    let running = messaging.run_one(logging("t", "a", &log, ok)).await.unwrap();
    publish(&messaging, "t", &["k", "l"], 0..10).await;
    log.until_len(10).await;
    // A replica of nobody that answers: it keeps its data, and refuses writes.
    let _: String = ask(&redis, &["REPLICAOF", "127.0.0.1", "1"]).await;
    let publishing = tokio::spawn({
        let messaging = messaging.clone();
        async move { publish(&messaging, "t", &["k", "l"], 10..20).await }
    });
    until_async("messages to be refused", || refused(&redis, "READONLY")).await;
    assert!(!publishing.is_finished());
    let _: String = ask(&redis, &["REPLICAOF", "NO", "ONE"]).await;
    publishing.await.unwrap();
    log.until_len(20).await;
    settled(&messaging, "t").await;
    running.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_stream_is_made_anew_and_what_comes_then_is_handled() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=2").await;
    let log = Log::default();
    let running = messaging.run_one(logging("t", "a", &log, ok)).await.unwrap();
    publish(&messaging, "t", &["a", "b", "c", "d"], 0..20).await;
    log.until_len(20).await;
    settled(&messaging, "t").await;
    let _: i64 = ask(&redis, &["DEL", "{t:0}", "{t:1}"]).await;
    publish(&messaging, "t", &["a", "b", "c", "d"], 20..40).await;
    log.until_len(40).await;
    settled(&messaging, "t").await;
    assert!(log.of_key("a").is_sorted());
    running.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_was_destroyed_goes_on_where_it_was() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=1").await;
    let log = Log::default();
    let running = messaging.run_one(logging("t", "a", &log, ok)).await.unwrap();
    publish(&messaging, "t", &["k"], 0..20).await;
    log.until_len(20).await;
    settled(&messaging, "t").await;
    let _: i64 = ask(&redis, &["XGROUP", "DESTROY", "{t:0}", "g"]).await;
    publish(&messaging, "t", &["k"], 20..40).await;
    log.until_len(40).await;
    settled(&messaging, "t").await;
    assert_eq!(log.of_key("k"), (0..40).collect::<Vec<_>>());
    // Also while nobody is there.
    running.shutdown(Duration::from_secs(5)).await.unwrap();
    let _: i64 = ask(&redis, &["XGROUP", "DESTROY", "{t:0}", "g"]).await;
    publish(&messaging, "t", &["k"], 40..50).await;
    let running = messaging.run_one(logging("t", "a", &log, ok)).await.unwrap();
    log.until_len(50).await;
    assert_eq!(log.of_key("k"), (0..50).collect::<Vec<_>>());
    running.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_emptied_starts_over_with_the_same_partitions() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=3").await;
    let log = Log::default();
    let running = messaging.run_one(logging("t", "a", &log, ok)).await.unwrap();
    publish(&messaging, "t", &["a", "b", "c"], 0..20).await;
    log.until_len(20).await;
    let _: String = ask(&redis, &["FLUSHALL"]).await;
    publish(&messaging, "t", &["a", "b", "c"], 20..40).await;
    log.until_len(40).await;
    settled(&messaging, "t").await;
    let made = || async { ask::<Option<String>>(&redis, &["HGET", "{t}.topic", "partitions"]).await.is_some() };
    until_async("the topic to be made anew", made).await;
    assert_eq!(messaging.admin().describe("t").await.unwrap().unwrap().partitions, 3);
    running.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_whose_connection_is_half_open_gets_what_was_sent_to_it() {
    let Some(redis) = redis().await else { return };
    let direct = connect(&redis.url(), "partitions=1").await;
    let route = redis.route().await.unwrap();
    let messaging = connect(&route.url(), "partitions=1").await;
    let log = Log::default();
    let running = messaging.run_one(logging("t", "a", &log, ok)).await.unwrap();
    publish(&direct, "t", &["k"], 0..10).await;
    log.until_len(10).await;
    // The server answers the waiting read, and the answer does not arrive.
    route.set(&Faults::new().stall(Direction::ToClient));
    publish(&direct, "t", &["k"], 10..20).await;
    let pending = || async { ask::<Vec<redis::Value>>(&redis, &["XPENDING", "{t:0}", "g"]).await };
    until_async("the server to have answered", || async { pending().await.first() == Some(&redis::Value::Int(10)) })
        .await;
    route.reset();
    route.heal();
    publish(&direct, "t", &["k"], 20..30).await;
    log.until_len(30).await;
    assert_eq!(log.of_key("k"), (0..30).collect::<Vec<_>>());
    settled(&direct, "t").await;
    running.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_were_flushed_are_loaded_again() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=1").await;
    let log = Log::default();
    let running = messaging.run_one(logging("t", "a", &log, ok)).await.unwrap();
    publish(&messaging, "t", &["k"], 0..5).await;
    log.until_len(5).await;
    let _: String = ask(&redis, &["SCRIPT", "FLUSH"]).await;
    publish(&messaging, "t", &["k"], 5..10).await;
    log.until_len(10).await;
    settled(&messaging, "t").await;
    running.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_replicas_leave_a_publish_unknown() {
    let Some(redis) = redis().await else { return };
    let url = format!("{}?wait=1", redis.url());
    let config = messaging::MessagingConfig::from_url(&url).unwrap().publish_deadline(Duration::from_secs(1));
    let messaging =
        messaging::configure_messaging(&config, vec![Box::new(messaging_redis::RedisBackend)]).await.unwrap();
    let outcomes = messaging.publish_messages(vec![Arc::new(Message::new("t", "x"))]).await;
    let Outcome::Unknown(error) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert!(error.to_string().contains("replicas"), "{error}");
}
