//! Groups that are paused: nothing starts, nothing is lost, and other groups go on.

use std::time::Duration;

use messaging::{Event, HandlerError, Router};
use messaging_memory::MemoryBroker;

use crate::given::{Lanes, OrderCreated, Seen, TOPIC, exact, publish_orders, watched};

/// Virtual time, so that this is as long as it takes all tasks to come to rest, and longer than any retry waits.
async fn a_while() {
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_group_starts_nothing_and_goes_on_where_it_stood() {
    let (bus, paused, other) = (MemoryBroker::new(), Lanes::default(), Lanes::default());
    let quick = |_: &OrderCreated| async { Ok(()) };
    let routers = [watched("billing", &paused, quick).max_in_flight(64), watched("shipping", &other, quick)];
    let running = bus.messaging().run(routers).await.unwrap();
    publish_orders(&bus, 10, 2).await;
    bus.settled().await.unwrap();

    assert!(running.pause("billing"));
    assert!(!running.pause("nobody"));
    assert_eq!(running.paused(), ["billing"]);
    publish_orders(&bus, 50, 20).await;
    a_while().await;
    assert_eq!((paused.handled().len(), other.handled().len()), (20, 1_020));
    assert!(running.health().is_good());

    assert!(running.resume("billing"));
    assert!(running.paused().is_empty());
    bus.settled().await.unwrap();
    assert_eq!((paused.started(), paused.handled().len()), (1_020, 1_020));
    paused.assert_no_overlap();
}

#[tokio::test(start_paused = true)]
async fn what_runs_at_a_pause_ends_and_a_retry_waits_for_the_end_of_it() {
    let (bus, attempts) = (MemoryBroker::new(), Seen::new());
    let handler = {
        let attempts = attempts.clone();
        move |event: Event<OrderCreated>| {
            let attempts = attempts.clone();
            async move {
                attempts.add(event.data.sequence);
                tokio::time::sleep(Duration::from_millis(100)).await;
                if attempts.count() == 1 { Err(HandlerError::transient("away")) } else { Ok(()) }
            }
        }
    };
    // What is published meanwhile would fill half of what may be in flight, and end the retries, were it taken in.
    let router = Router::new("billing").topic(TOPIC).on_event("orders.created", handler).failure_policy(exact());
    let running = bus.messaging().run_one(router.max_in_flight(32).concurrency(1)).await.unwrap();
    publish_orders(&bus, 1, 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(running.pause("billing"));
    publish_orders(&bus, 40, 1).await;
    a_while().await;
    assert_eq!(attempts.count(), 1, "neither the retry nor another is started");

    assert!(running.resume("billing"));
    bus.settled().await.unwrap();
    assert_eq!(attempts.count(), 42);
    assert!(bus.dead_letters("billing").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_paused_group_stops_at_once_and_keeps_what_it_has_not_handled() {
    let (bus, lanes) = (MemoryBroker::new(), Lanes::default());
    let router = || watched("billing", &lanes, |_: &OrderCreated| async { Ok(()) });
    let running = bus.messaging().run_one(router()).await.unwrap();
    assert!(running.pause("billing"));
    publish_orders(&bus, 10, 2).await;
    a_while().await;
    running.shutdown(Duration::from_secs(25)).await.unwrap();
    assert_eq!(lanes.started(), 0);
    let _running = bus.messaging().run_one(router()).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(lanes.handled().len(), 20);
}
