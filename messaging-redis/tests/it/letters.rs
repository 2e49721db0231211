//! Dead letters: written and settled in one step by the owner alone, and read as a topic.

use std::{sync::Arc, time::Duration};

use messaging::{DeadLetter, Delivery, ErrorKind, FailurePolicy, HandlerError, Router};

use crate::{
    ask,
    group::{Log, connect, lag, logging, publish, until_async},
    redis,
};

fn failing(log: &Log) -> Router {
    let fail = |_: Delivery| std::future::ready(Err(HandlerError::permanent("no such account")));
    logging("t", "a", log, fail).failure_policy(FailurePolicy::immediate())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_lies_beside_its_partition_and_is_read_as_a_topic() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=4").await;
    let log = Log::default();
    let running = messaging.run_one(failing(&log)).await.unwrap();
    publish(&messaging, "t", &["a", "b", "c"], 0..30).await;
    log.until_len(30).await;
    until_async("everything to be settled", || async { lag(&messaging, "t").await == 0 }).await;
    let admin = messaging.admin();
    assert_eq!(admin.describe("t.g.dlq").await.unwrap().unwrap().partitions, 4);
    let mut letters = Vec::new();
    for partition in 0..4 {
        let browsed = admin.browse("t.g.dlq", partition, Default::default(), 100).await.unwrap();
        let stream = format!("{{t:{partition}}}.g.dlq");
        assert_eq!(ask::<u64>(&redis, &["XLEN", &stream]).await, browsed.len() as u64);
        for delivery in &browsed {
            let letter = DeadLetter::read(&delivery.message).unwrap();
            assert_eq!((&*letter.topic, letter.partition, &*letter.group), ("t", partition, "g"));
            assert_eq!(delivery.message.topic, "t.g.dlq");
        }
        letters.extend(browsed);
    }
    assert_eq!(letters.len(), 30);
    // An operator's group reads them like anything else, and settles what is resolved.
    let seen = Log::default();
    let operators = {
        let seen = seen.clone();
        Router::new("operators").on_message("t.g.dlq", move |delivery: Delivery| {
            seen.add("operator", &delivery);
            async {}
        })
    };
    let operators = messaging.run_one(operators).await.unwrap();
    seen.until_len(30).await;
    operators.shutdown(Duration::from_secs(5)).await.unwrap();
    let left: u64 = admin.progress("operators", "t.g.dlq").await.unwrap().iter().map(|row| row.lag).sum();
    assert_eq!(left, 0);
    running.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_of_somebody_who_lost_the_partition_is_not_written() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=1").await;
    let log = Log::default();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let fail_later = {
        let gate = gate.clone();
        move |_: Delivery| {
            let gate = gate.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                Err::<(), _>(HandlerError::permanent("too late"))
            }
        }
    };
    let running = messaging.run_one(logging("t", "a", &log, fail_later)).await.unwrap();
    publish(&messaging, "t", &["k"], 0..1).await;
    log.until_len(1).await;
    let far = "9000000000000000";
    let _: i64 = ask(&redis, &["HSET", "{t:0}.g.lease", "owner", "other", "until", far, "for", far]).await;
    gate.add_permits(1);
    // Until the handler has ended and what follows from it, or the loss was noticed before.
    running.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(ask::<String>(&redis, &["HGET", "{t:0}.g.lease", "owner"]).await, "other");
    assert_eq!(ask::<u64>(&redis, &["XLEN", "{t:0}.g.dlq"]).await, 0);
    assert_eq!(lag(&messaging, "t").await, 1);
}

#[tokio::test]
async fn two_pairs_of_the_same_name_are_refused() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=1").await;
    let handler = |_: Delivery| async {};
    let first = messaging.run_one(Router::new("b.c").on_message("a", handler)).await.unwrap();
    let error = messaging.run_one(Router::new("c").on_message("a.b", handler)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("a.b.c.dlq"), "{error}");
    first.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_wait_while_the_memory_is_full_and_settling_goes_on() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=1").await;
    let log = Log::default();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let poison = {
        let gate = gate.clone();
        move |delivery: Delivery| {
            let gate = gate.clone();
            async move {
                let _open = gate.acquire().await.unwrap();
                let fails = delivery.message.payload == "3";
                if fails { Err(HandlerError::permanent("poison")) } else { Ok(()) }
            }
        }
    };
    publish(&messaging, "t", &["a", "b", "c", "d"], 0..8).await;
    let running = messaging.run_one(logging("t", "a", &log, poison)).await.unwrap();
    log.until_len(4).await;
    let _: String = ask(&redis, &["CONFIG", "SET", "maxmemory", "1"]).await;
    gate.add_permits(1);
    log.until_len(7).await;
    until_async("all but the poison's lane to be settled", || async { lag(&messaging, "t").await <= 2 }).await;
    assert_eq!(ask::<u64>(&redis, &["XLEN", "{t:0}.g.dlq"]).await, 0);
    let _: String = ask(&redis, &["CONFIG", "SET", "maxmemory", "0"]).await;
    until_async("everything to be settled", || async { lag(&messaging, "t").await == 0 }).await;
    assert_eq!(ask::<u64>(&redis, &["XLEN", "{t:0}.g.dlq"]).await, 1);
    running.shutdown(Duration::from_secs(5)).await.unwrap();
}
