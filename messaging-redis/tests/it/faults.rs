//! What goes wrong on the way to a server, or in it.

use std::time::Duration;

use crate::{
    group::{Log, connect, lag, logging, ok, publish, until_async},
    redis,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_comes_back_and_everything_is_settled() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=4").await;
    let log = Log::default();
    let running = messaging.run_one(logging("t", "a", &log, ok)).await.unwrap();
    for round in 0..3 {
        publish(&messaging, "t", &["a", "b", "c"], round * 200..(round + 1) * 200).await;
        redis.kill().await.unwrap();
        redis.start().await.unwrap();
    }
    log.until_len(600).await;
    until_async("everything to be settled", || async { lag(&messaging, "t").await == 0 }).await;
    for key in ["a", "b", "c"] {
        assert!(log.of_key(key).is_sorted());
    }
    running.shutdown(Duration::from_secs(5)).await.unwrap();
}
