//! Order within a key, concurrency across keys.

use std::time::Duration;

use messaging::{Broker, HandlerError, Start, partition_for_key};
use messaging_memory::MemoryBroker;

use crate::given::{Lanes, Seen, Watch, exact, millis, notes, order, publish_orders, watched};

fn one_partition() -> MemoryBroker {
    MemoryBroker::builder().partitions(1).build().unwrap()
}

/// A pause that depends on the order alone, and is all over the place.
fn pause(order: &crate::given::OrderCreated) -> Duration {
    let mix = (order.order_id as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (u64::from(order.sequence) << 7);
    millis(mix.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 58)
}

#[tokio::test(start_paused = true)]
async fn each_key_keeps_its_order_under_uneven_handlers() {
    let (bus, lanes) = (MemoryBroker::new(), Lanes::default());
    let router = watched("billing", &lanes, |order| {
        let pause = pause(order);
        async move {
            tokio::time::sleep(pause).await;
            Ok(())
        }
    });
    let _running = bus.messaging().run_one(router.concurrency(100)).await.unwrap();
    publish_orders(&bus, 200, 20).await;
    bus.settled().await.unwrap();
    lanes.assert_in_order();
    lanes.assert_all_handled(200, 20);
    assert_eq!((lanes.handled().len(), lanes.most()), (4_000, 100));
}

#[tokio::test(start_paused = true)]
async fn keys_of_one_partition_run_at_once() {
    let (bus, lanes, watch) = (one_partition(), Lanes::default(), Watch::start());
    let router = watched("billing", &lanes, |_| async {
        tokio::time::sleep(millis(100)).await;
        Ok(())
    });
    let _running = bus.messaging().run_one(router.concurrency(50)).await.unwrap();
    publish_orders(&bus, 50, 4).await;
    bus.settled().await.unwrap();
    assert_eq!((watch.ms(), lanes.most()), (400, 50));
    lanes.assert_in_order();
}

#[tokio::test(start_paused = true)]
async fn no_more_run_than_the_group_allows() {
    let (bus, lanes, watch) = (one_partition(), Lanes::default(), Watch::start());
    let router = watched("billing", &lanes, |_| async {
        tokio::time::sleep(millis(100)).await;
        Ok(())
    });
    let _running = bus.messaging().run_one(router.concurrency(3)).await.unwrap();
    publish_orders(&bus, 9, 1).await;
    bus.settled().await.unwrap();
    assert_eq!((watch.ms(), lanes.most()), (300, 3));
}

#[tokio::test(start_paused = true)]
async fn messages_without_a_key_are_in_no_order() {
    let (bus, watch, seen) = (one_partition(), Watch::start(), Seen::new());
    let noted = seen.clone();
    let router = messaging::Router::new("billing").on_message("raw", move |body: bytes::Bytes| {
        let seen = noted.clone();
        async move {
            tokio::time::sleep(millis(if body == "slow" { 100 } else { 10 })).await;
            seen.add(watch.ms());
        }
    });
    let _running = bus.messaging().run_one(router).await.unwrap();
    for body in ["slow", "quick", "quick"] {
        bus.messaging().publish_raw(messaging::Message::new("raw", body)).await.unwrap();
    }
    bus.settled().await.unwrap();
    assert_eq!(seen.all(), [10, 10, 100]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_key_is_a_key() {
    let (bus, watch, seen) = (one_partition(), Watch::start(), Seen::new());
    let noted = seen.clone();
    let router = messaging::Router::new("billing").on_message("raw", move || {
        let seen = noted.clone();
        async move {
            tokio::time::sleep(millis(10)).await;
            seen.add(watch.ms());
        }
    });
    let _running = bus.messaging().run_one(router).await.unwrap();
    for _ in 0..3 {
        bus.messaging().publish_raw(messaging::Message::new("raw", "").with_key("")).await.unwrap();
    }
    bus.settled().await.unwrap();
    assert_eq!(seen.all(), [10, 20, 30]);
}

#[tokio::test(start_paused = true)]
async fn a_full_window_of_one_key_lets_others_in_again() {
    let (bus, lanes) = (one_partition(), Lanes::default());
    let router = watched("billing", &lanes, |order| {
        let slow = order.order_id == 0;
        async move {
            tokio::time::sleep(millis(if slow { 100 } else { 1 })).await;
            Ok(())
        }
    });
    publish_orders(&bus, 1, 30).await;
    bus.publish(&order(1, 0)).await.unwrap();
    let router = router.concurrency(4).max_in_flight(8).start(Start::Earliest);
    let _running = bus.messaging().run_one(router).await.unwrap();
    bus.settled().await.unwrap();
    lanes.assert_in_order();
    assert_eq!(lanes.handled().len(), 31);
}

#[tokio::test(start_paused = true)]
async fn an_instance_holds_no_more_than_it_may() {
    let (bus, lanes) = (one_partition(), Lanes::default());
    let router = watched("billing", &lanes, |_| async {
        tokio::time::sleep(millis(1_000)).await;
        Ok(())
    });
    let _running = bus.messaging().run_one(router.concurrency(4).max_in_flight(8)).await.unwrap();
    publish_orders(&bus, 100, 1).await;
    tokio::time::sleep(millis(500)).await;
    let held = Broker::pending(&bus).unwrap().describe();
    assert_eq!(held, ["group billing has 100 unsettled on order-events/0 (8 with an instance)"]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_with_a_long_backlog_does_not_keep_others_out() {
    let (bus, lanes) = (MemoryBroker::builder().partitions(2).build().unwrap(), Lanes::default());
    let of_partition = |number| (0..).find(|key: &i64| partition_for_key(key.to_string().as_bytes(), 2) == number);
    let (long, short) = (of_partition(0).unwrap(), of_partition(1).unwrap());
    for sequence in 0..1_000 {
        bus.publish(&order(long, sequence)).await.unwrap();
    }
    bus.publish(&order(short, 0)).await.unwrap();
    let router = watched("billing", &lanes, |_| async {
        tokio::time::sleep(millis(10)).await;
        Ok(())
    });
    let _running = bus.messaging().run_one(router.max_in_flight(256)).await.unwrap();
    tokio::time::sleep(millis(15)).await;
    assert!(lanes.handled().contains(&order(short, 0)), "{:?}", lanes.handled());
}

#[tokio::test(start_paused = true)]
async fn a_parked_head_behind_which_half_the_window_piles_up_is_given_up_early() {
    let (bus, lanes, watch) = (one_partition(), Lanes::default(), Watch::start());
    let router = watched("billing", &lanes, |order| {
        let poison = order.sequence == 0;
        async move { if poison { Err(HandlerError::transient("away")) } else { Ok(()) } }
    });
    let policy = exact().backoff(Duration::from_secs(600), Duration::from_secs(600));
    let router = router.failure_policy(policy).max_in_flight(32);
    let _running = bus.messaging().run_one(router).await.unwrap();
    publish_orders(&bus, 1, 1).await;
    tokio::time::sleep(millis(10)).await;
    assert_eq!((lanes.started(), bus.dead_letters("billing").len()), (1, 0));
    for sequence in 1..=60 {
        bus.publish(&order(0, sequence)).await.unwrap();
    }
    bus.settled().await.unwrap();
    assert_eq!((watch.ms(), bus.dead_letters("billing").len()), (10, 1));
    let letter = &bus.dead_letters("billing")[0].letter;
    let error = "retries ended early: what waited behind it filled half of what may be in flight; its last error: away";
    assert_eq!((letter.attempts, letter.error.as_str()), (1, error));
}

/// On several threads and in real time: nothing is lost, nothing repeated, no order broken.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_key_keeps_its_order_on_several_threads() {
    let (bus, lanes) = (MemoryBroker::new(), Lanes::default());
    let router = watched("billing", &lanes, |order| {
        let yields = pause(order).as_millis() % 4;
        async move {
            for _ in 0..yields {
                tokio::task::yield_now().await;
            }
            Ok(())
        }
    });
    let seen = Seen::new();
    let _running =
        bus.messaging().run([router.concurrency(32), notes("shipping", &seen).concurrency(8)]).await.unwrap();
    publish_orders(&bus, 100, 100).await;
    bus.settled_within(Duration::from_secs(60)).await.unwrap();
    lanes.assert_in_order();
    lanes.assert_all_handled(100, 100);
    assert_eq!((lanes.handled().len(), seen.count()), (10_000, 10_000));
}
