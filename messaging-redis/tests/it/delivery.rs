//! Publishing, handling, settling and stopping while nothing goes wrong.

use std::time::Duration;

use messaging::Message;

use crate::{
    group::{Log, connect, lag, logging, ok, publish, until_async},
    redis,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_is_handled_in_order_and_settled() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=4").await;
    let log = Log::default();
    let running = messaging.run_one(logging("t", "a", &log, ok)).await.unwrap();
    publish(&messaging, "t", &["a", "b", "c", "d", "e"], 0..1_000).await;
    log.until_len(1_000).await;
    for key in ["a", "b", "c", "d", "e"] {
        assert!(log.of_key(key).is_sorted());
    }
    until_async("everything to be settled", || async { lag(&messaging, "t").await == 0 }).await;
    running.shutdown(Duration::from_secs(5)).await.unwrap();
    messaging.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_stop_settles_what_was_handled_and_leaves_at_once() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=2").await;
    let log = Log::default();
    let running = messaging.run_one(logging("t", "a", &log, ok)).await.unwrap();
    publish(&messaging, "t", &["a", "b"], 0..100).await;
    log.until_len(100).await;
    running.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(lag(&messaging, "t").await, 0);
    // The next instance need not wait for any lease, and nothing comes again.
    let started = std::time::Instant::now();
    let running = messaging.run_one(logging("t", "b", &log, ok)).await.unwrap();
    publish(&messaging, "t", &["a", "b"], 100..110).await;
    log.until_len(110).await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert!(log.all()[100..].iter().all(|seen| seen.member == "b" && seen.value >= 100));
    running.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_message_is_read_as_it_was_published() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=1").await;
    let message =
        Message::new("t", &b"\xff\x00"[..]).with_key("").with_header("tenant", [0xfe]).with_header("key", "x");
    let receipt = messaging.publish_raw(message.clone()).await.unwrap();
    let browsed = messaging.admin().browse("t", 0, Default::default(), 10).await.unwrap();
    assert_eq!(browsed.len(), 1);
    assert_eq!(*browsed[0].message, message);
    assert_eq!((Some(browsed[0].position), browsed[0].partition), (receipt.position, 0));
}
