//! Partitions that move between members, and members that are gone.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use messaging::HandlerError;

use crate::{
    ask,
    group::{Log, connect, lag, logging, ok, publish, until_async},
    redis,
};

const KEYS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// Which member owns how many of a topic's partitions, by the leases.
async fn owners(redis: &test_brokers::Redis, topic: &str, partitions: u32) -> Vec<String> {
    let mut owners = Vec::new();
    for partition in 0..partitions {
        let lease = format!("{{{topic}:{partition}}}.g.lease");
        owners.push(ask::<Option<String>>(redis, &["HGET", &lease, "owner"]).await.unwrap_or_default());
    }
    owners
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_share_fairly_and_only_what_must_move_moves() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=8").await;
    let log = Log::default();
    let join = |member| messaging.run_one(logging("t", member, &log, ok));
    let first = join("first").await.unwrap();
    until_async("the first to own all", || async {
        owners(&redis, "t", 8).await.iter().all(|owner| !owner.is_empty())
    })
    .await;
    let alone = owners(&redis, "t", 8).await;
    let second = join("second").await.unwrap();
    let count = |owners: &[String], of: &str| owners.iter().filter(|owner| *owner == of).count();
    until_async("both to own half", || async {
        let now = owners(&redis, "t", 8).await;
        count(&now, &alone[0]) == 4 && now.iter().all(|owner| !owner.is_empty())
    })
    .await;
    let shared = owners(&redis, "t", 8).await;
    let third = join("third").await.unwrap();
    until_async("three to share", || async {
        let now = owners(&redis, "t", 8).await;
        let names: HashSet<&String> = now.iter().collect();
        names.len() == 3 && now.iter().all(|owner| (2..=3).contains(&count(&now, owner)))
    })
    .await;
    let by_three = owners(&redis, "t", 8).await;
    let moved = shared.iter().zip(&by_three).filter(|(before, after)| before != after).count();
    assert_eq!(moved, 2, "{shared:?} {by_three:?}");
    third.shutdown(Duration::from_secs(5)).await.unwrap();
    until_async("two to share again", || async {
        let now = owners(&redis, "t", 8).await;
        now.iter().all(|owner| count(&now, owner) == 4)
    })
    .await;
    let kept = by_three.iter().zip(owners(&redis, "t", 8).await).filter(|(before, after)| *before == after).count();
    assert_eq!(kept, 6);
    first.shutdown(Duration::from_secs(5)).await.unwrap();
    second.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_hand_over_takes_about_a_second_and_repeats_nothing() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=4").await;
    let log = Log::default();
    let work = |_: messaging::Delivery| async {
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok::<(), HandlerError>(())
    };
    let first = messaging.run_one(logging("t", "first", &log, work)).await.unwrap();
    publish(&messaging, "t", &KEYS, 0..400).await;
    log.until_len(50).await;
    let joined = Instant::now();
    let second = messaging.run_one(logging("t", "second", &log, work)).await.unwrap();
    let publishing = async {
        for round in 0..20 {
            publish(&messaging, "t", &KEYS, 400 + round * 40..440 + round * 40).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    publishing.await;
    log.until_len(1_200).await;
    until_async("everything to be settled", || async { lag(&messaging, "t").await == 0 }).await;
    first.shutdown(Duration::from_secs(5)).await.unwrap();
    second.shutdown(Duration::from_secs(5)).await.unwrap();
    let seen = log.all();
    assert_eq!(seen.len(), 1_200, "something came twice");
    for key in KEYS {
        assert!(log.of_key(key).is_sorted(), "{key}");
    }
    let began = seen.iter().find(|seen| seen.member == "second").expect("the second handled nothing").at;
    assert!(began - joined < Duration::from_secs(2), "{:?}", began - joined);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_members_partitions_are_taken_within_the_lease_and_its_pending_first() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=2&lease=2s&command_timeout=1s").await;
    let log = Log::default();
    let never = |_: messaging::Delivery| std::future::pending::<Result<(), HandlerError>>();
    let first = messaging.run_one(logging("t", "first", &log, never)).await.unwrap();
    publish(&messaging, "t", &["a", "b"], 0..40).await;
    log.until_len(2).await;
    drop(first);
    let died = Instant::now();
    publish(&messaging, "t", &["a", "b"], 40..60).await;
    let second = messaging.run_one(logging("t", "second", &log, ok)).await.unwrap();
    log.until_len(62).await;
    assert!(died.elapsed() < Duration::from_secs(4), "{:?}", died.elapsed());
    let of = |key: &str| {
        let seen = log.all().into_iter().filter(|seen| seen.member == "second" && seen.key == key);
        seen.map(|seen| seen.value).collect::<Vec<_>>()
    };
    assert_eq!(of("a"), (0..60).step_by(2).collect::<Vec<_>>());
    assert_eq!(of("b"), (1..60).step_by(2).collect::<Vec<_>>());
    let epochs = |member| log.all().into_iter().filter(move |seen| seen.member == member).map(|seen| seen.epoch).max();
    assert!(epochs("second") > epochs("first"));
    second.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_of_a_clock_that_was_set_back_lapses_in_its_own_time() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=1&lease=2s&command_timeout=1s").await;
    publish(&messaging, "t", &["a"], 0..10).await;
    // As an owner would have left it that renewed an hour from now.
    let time: Vec<u64> = ask(&redis, &["TIME"]).await;
    let in_an_hour = (time[0] + 3_600) * 1_000_000;
    let until_text = in_an_hour.to_string();
    let lease =
        ["HSET", "{t:0}.g.lease", "owner", "gone", "epoch", &until_text, "until", &until_text, "for", "2000000"];
    let _: i64 = ask(&redis, &lease).await;
    let log = Log::default();
    let started = Instant::now();
    let running = messaging.run_one(logging("t", "a", &log, ok)).await.unwrap();
    log.until_len(10).await;
    let took = started.elapsed();
    assert!((Duration::from_millis(1_500)..Duration::from_secs(4)).contains(&took), "{took:?}");
    assert_eq!(log.all()[0].epoch, in_an_hour + 1, "an epoch larger than any before");
    running.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_whose_lease_was_taken_starts_and_settles_nothing_more() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=1").await;
    let log = Log::default();
    let (held, dropped) = tokio::sync::oneshot::channel::<()>();
    let held = std::sync::Arc::new(parking_lot::Mutex::new(Some(held)));
    let hold = move |_: messaging::Delivery| {
        // Only the first is held, for as long as its future lives.
        let held = held.lock().take();
        async move {
            if let Some(held) = held {
                std::future::pending::<()>().await;
                drop(held);
            }
            Ok::<(), HandlerError>(())
        }
    };
    let running = messaging.run_one(logging("t", "a", &log, hold)).await.unwrap();
    publish(&messaging, "t", &["k"], 0..10).await;
    log.until_len(1).await;
    // Somebody else has it, and will not give it back.
    let far = "9000000000000000";
    let lease = ["HSET", "{t:0}.g.lease", "owner", "other", "until", far, "for", far, "clients", ""];
    let _: i64 = ask(&redis, &lease).await;
    // The running handler is cancelled once that is known.
    let _ = tokio::time::timeout(Duration::from_secs(5), dropped).await.expect("the handler runs on");
    publish(&messaging, "t", &["k"], 10..20).await;
    running.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(log.len(), 1);
    assert_eq!(lag(&messaging, "t").await, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_by_hand_under_another_name_is_claimed_too() {
    let Some(redis) = redis().await else { return };
    let messaging = connect(&redis.url(), "partitions=1").await;
    let log = Log::default();
    let running = messaging.run_one(logging("t", "a", &log, ok)).await.unwrap();
    running.shutdown(Duration::from_secs(5)).await.unwrap();
    publish(&messaging, "t", &["k"], 0..10).await;
    let read = ["XREADGROUP", "GROUP", "g", "somebody", "COUNT", "4", "STREAMS", "{t:0}", ">"];
    let _: redis::Value = ask(&redis, &read).await;
    let running = messaging.run_one(logging("t", "a", &log, ok)).await.unwrap();
    log.until_len(10).await;
    assert_eq!(log.of_key("k"), (0..10).collect::<Vec<_>>());
    running.shutdown(Duration::from_secs(5)).await.unwrap();
}
