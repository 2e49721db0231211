//! What is trimmed, what never is, and that every message that went unread is counted.

use std::time::Duration;

use messaging::{HandlerError, Messaging, Start};

use crate::{
    ask,
    group::{Log, connect, lag, logging, ok, publish, until, until_async},
    lost, redis,
};

async fn length(redis: &test_brokers::Redis, stream: &str) -> u64 {
    ask(redis, &["XLEN", stream]).await
}

/// Many small entries fill whole nodes of a stream, which is what trimming takes.
async fn publish_many(messaging: &Messaging, topic: &'static str, values: std::ops::Range<u64>) {
    for first in values.clone().step_by(500) {
        publish(messaging, topic, &["k"], first..(first + 500).min(values.end)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_every_group_has_finished_goes_and_nothing_else() {
    let Some(redis) = redis().await else { return };
    lost::count();
    let options = "partitions=1&retention_finished=true&trim_interval=50ms";
    let messaging = connect(&redis.url(), options).await;
    let log = Log::default();
    let running = messaging.run_one(logging("finished", "a", &log, ok)).await.unwrap();
    // Another group that is away needs them all.
    let other = messaging::Router::new("other").on_message("finished", |_: messaging::Delivery| async {});
    messaging.run_one(other).await.unwrap().shutdown(Duration::from_secs(5)).await.unwrap();
    publish_many(&messaging, "finished", 0..2_000).await;
    log.until_len(2_000).await;
    until_async("everything to be settled", || async { lag(&messaging, "finished").await == 0 }).await;
    let trims = |redis| async move { ask::<Option<String>>(redis, &["GET", "{finished:0}.trim"]).await };
    until_async("a trim", || async { trims(&redis).await.is_some() }).await;
    assert_eq!(length(&redis, "{finished:0}").await, 2_000);
    let _: i64 = ask(&redis, &["XGROUP", "DESTROY", "{finished:0}", "other"]).await;
    until_async("finished messages to go", || async { length(&redis, "{finished:0}").await < 200 }).await;
    assert_eq!(lost::of("finished"), 0);
    running.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn length_keeps_what_is_unread_or_pending() {
    let Some(redis) = redis().await else { return };
    lost::count();
    let messaging = connect(&redis.url(), "partitions=1&retention_length=100&trim_interval=50ms").await;
    let log = Log::default();
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let hold = {
        let gate = gate.clone();
        move |_: messaging::Delivery| {
            let gate = gate.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                Ok::<(), HandlerError>(())
            }
        }
    };
    let running = messaging.run_one(logging("length", "a", &log, hold)).await.unwrap();
    publish_many(&messaging, "length", 0..5_000).await;
    log.until_len(1).await;
    gate.add_permits(1_000);
    until_async("the first thousand to be settled", || async { lag(&messaging, "length").await == 4_000 }).await;
    until_async("them to be trimmed", || async { length(&redis, "{length:0}").await <= 4_200 }).await;
    assert!(length(&redis, "{length:0}").await >= 4_000);
    gate.add_permits(4_000);
    log.until_len(5_000).await;
    until_async("the rest to be trimmed", || async { length(&redis, "{length:0}").await <= 200 }).await;
    assert_eq!((lost::of("length"), log.of_key("k").len()), (0, 5_000));
    running.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_unread_is_counted_exactly() {
    let Some(redis) = redis().await else { return };
    lost::count();
    let options = "partitions=1&retention_length=300&retention_unread=drop&trim_interval=20ms";
    let messaging = connect(&redis.url(), options).await;
    let log = Log::default();
    let slow = |_: messaging::Delivery| async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok::<(), HandlerError>(())
    };
    let running = messaging.run_one(logging("dropped", "a", &log, slow).max_in_flight(64)).await.unwrap();
    publish_many(&messaging, "dropped", 0..20_000).await;
    until("every message to be handled or reported", || log.len() as u64 + lost::of("dropped") >= 20_000).await;
    until_async("everything to be settled", || async { lag(&messaging, "dropped").await == 0 }).await;
    assert!(lost::of("dropped") > 0);
    assert_eq!(log.len() as u64 + lost::of("dropped"), 20_000);
    assert!(log.of_key("k").is_sorted());
    running.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_else_trims_is_counted_exactly_whoever_was_there() {
    let Some(redis) = redis().await else { return };
    lost::count();
    let messaging = connect(&redis.url(), "partitions=1").await;
    let log = Log::default();
    let join = || async { messaging.run_one(logging("theirs", "a", &log, ok)).await.unwrap() };
    let running = join().await;
    publish(&messaging, "theirs", &["k"], 0..100).await;
    log.until_len(100).await;
    until_async("everything to be settled", || async { lag(&messaging, "theirs").await == 0 }).await;
    running.shutdown(Duration::from_secs(5)).await.unwrap();
    // Nobody is there: 100 unread ones go.
    publish(&messaging, "theirs", &["k"], 100..300).await;
    let _: i64 = ask(&redis, &["XTRIM", "{theirs:0}", "MAXLEN", "100"]).await;
    let running = join().await;
    log.until_len(200).await;
    until("the loss to be reported", || lost::of("theirs") == 100).await;
    // Read ones go: no loss.
    let _: i64 = ask(&redis, &["XTRIM", "{theirs:0}", "MAXLEN", "10"]).await;
    publish(&messaging, "theirs", &["k"], 300..400).await;
    log.until_len(300).await;
    until_async("everything to be settled", || async { lag(&messaging, "theirs").await == 0 }).await;
    running.shutdown(Duration::from_secs(5)).await.unwrap();
    // All unread ones go, and the server forgets what it knew of the group.
    publish(&messaging, "theirs", &["k"], 400..450).await;
    let _: i64 = ask(&redis, &["XTRIM", "{theirs:0}", "MAXLEN", "0"]).await;
    redis.kill().await.unwrap();
    redis.start().await.unwrap();
    let running = join().await;
    until("the loss to be reported", || lost::of("theirs") == 150).await;
    publish(&messaging, "theirs", &["k"], 450..460).await;
    log.until_len(310).await;
    running.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(lost::of("theirs"), 150);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_messages_that_are_gone_are_counted() {
    let Some(redis) = redis().await else { return };
    lost::count();
    let messaging = connect(&redis.url(), "partitions=1&lease=1s&command_timeout=500ms").await;
    let log = Log::default();
    let never = |_: messaging::Delivery| std::future::pending::<Result<(), HandlerError>>();
    let running = messaging.run_one(logging("pending", "a", &log, never)).await.unwrap();
    publish(&messaging, "pending", &["a", "b", "c"], 0..30).await;
    log.until_len(3).await;
    // Died: everything is pending, and 20 of it go.
    drop(running);
    let _: i64 = ask(&redis, &["XTRIM", "{pending:0}", "MAXLEN", "10"]).await;
    let running = messaging.run_one(logging("pending", "b", &log, ok)).await.unwrap();
    until("the loss to be reported", || lost::of("pending") == 20).await;
    log.until_len(13).await;
    until_async("everything to be settled", || async { lag(&messaging, "pending").await == 0 }).await;
    running.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!((log.len(), lost::of("pending")), (13, 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_group_on_a_trimmed_stream_has_lost_nothing() {
    let Some(redis) = redis().await else { return };
    lost::count();
    let messaging = connect(&redis.url(), "partitions=1").await;
    publish(&messaging, "trimmed", &["k"], 0..100).await;
    let _: i64 = ask(&redis, &["XTRIM", "{trimmed:0}", "MAXLEN", "40"]).await;
    let log = Log::default();
    let running = messaging.run_one(logging("trimmed", "a", &log, ok)).await.unwrap();
    log.until_len(40).await;
    let late =
        messaging::Router::new("late").start(Start::Latest).on_message("trimmed", |_: messaging::Delivery| async {});
    let late = messaging.run_one(late).await.unwrap();
    publish(&messaging, "trimmed", &["k"], 100..200).await;
    log.until_len(140).await;
    until_async("everything to be settled", || async { lag(&messaging, "trimmed").await == 0 }).await;
    running.shutdown(Duration::from_secs(5)).await.unwrap();
    late.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(lost::of("trimmed"), 0);
}
