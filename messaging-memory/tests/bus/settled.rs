//! Waiting until everything has run its course, and what is told when it has not.

use std::time::Duration;

use messaging::{HandlerError, NotSettled};
use messaging_memory::MemoryBroker;

use crate::given::{Lanes, Seen, Watch, exact, millis, notes, order, publish_orders, watched};

#[tokio::test(start_paused = true)]
async fn with_nothing_published_or_nobody_subscribed_it_returns_at_once() {
    let (bus, watch) = (MemoryBroker::new(), Watch::start());
    bus.settled().await.unwrap();
    publish_orders(&bus, 3, 3).await;
    bus.settled().await.unwrap();
    assert_eq!(watch.ms(), 0);
}

#[tokio::test(start_paused = true)]
async fn it_returns_at_the_moment_the_last_one_is_done() {
    let (bus, lanes, watch) = (MemoryBroker::new(), Lanes::default(), Watch::start());
    let router = watched("billing", &lanes, |order| {
        let pause = millis(u64::from(order.sequence) * 1_000);
        async move {
            tokio::time::sleep(pause).await;
            Ok(())
        }
    });
    let _running = bus.messaging().run_one(router).await.unwrap();
    bus.publish(&order(1, 3)).await.unwrap();
    bus.publish(&order(2, 5)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(watch.ms(), 5_000);
}

#[tokio::test(start_paused = true)]
async fn its_error_lists_what_is_parked_running_and_waiting() {
    let (bus, lanes) = (MemoryBroker::builder().partitions(1).build().unwrap(), Lanes::default());
    let router = watched("billing", &lanes, |order| {
        let parked = order.order_id == 0;
        async move {
            if parked {
                return Err(HandlerError::transient("away"));
            }
            tokio::time::sleep(Duration::from_secs(20)).await;
            Ok(())
        }
    });
    let policy = exact().backoff(Duration::from_secs(60), Duration::from_secs(60));
    let _running = bus.messaging().run_one(router.failure_policy(policy)).await.unwrap();
    publish_orders(&bus, 2, 2).await;
    let error = bus.settled_within(millis(5_000)).await.unwrap_err();
    assert_eq!(
        error,
        NotSettled {
            pending: vec![
                "orders.created of group billing on order-events/0@0 is parked, due in 55000 ms".to_owned(),
                "orders.created of group billing on order-events/0@1 is running".to_owned(),
                "group billing has 4 unsettled on order-events/0 (4 with an instance)".to_owned(),
            ]
        }
    );
    assert!(error.to_string().starts_with("not settled before the deadline; pending: orders.created of group billing"));
    bus.settled_within(Duration::from_secs(600)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_group_without_an_instance_is_waited_for_and_named() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let running = bus.messaging().run_one(notes("billing", &seen)).await.unwrap();
    running.shutdown(Duration::ZERO).await.unwrap();
    bus.publish(&order(1, 0)).await.unwrap();
    let watch = Watch::start();
    let pending = bus.settled().await.unwrap_err().pending;
    assert_eq!(watch.ms(), 10_000);
    assert_eq!(pending.len(), 1);
    assert!(pending[0].starts_with("group billing has 1 unsettled on order-events/"), "{pending:?}");
    assert!(pending[0].ends_with("which no instance of the group has"), "{pending:?}");
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_without_joining() {
    let (bus, lanes) = (MemoryBroker::builder().partitions(2).build().unwrap(), Lanes::default());
    let router = watched("billing", &lanes, |order| {
        let slow = order.sequence == 2;
        async move {
            tokio::time::sleep(millis(if slow { 1_000 } else { 1 })).await;
            Ok(())
        }
    });
    let _running = bus.messaging().run_one(router).await.unwrap();
    publish_orders(&bus, 1, 5).await;
    tokio::time::sleep(millis(100)).await;
    let progress = bus.messaging().admin().progress("billing", "order-events").await.unwrap();
    let busy = messaging::partition_for_key(b"0", 2);
    for row in progress {
        let expected = if row.partition == busy { (Some(1), 3) } else { (None, 0) };
        assert_eq!((row.watermark.map(|position| position.major), row.lag), expected);
    }
}
