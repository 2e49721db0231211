//! Graceful stops: nothing finished is repeated, nothing is lost, everything ends in time.

use std::time::Duration;

use messaging::{Attempt, Cancellation, Event, HandlerError, Router};
use messaging_memory::{Fault, MemoryBroker};

use crate::given::{Lanes, OrderCreated, Seen, TOPIC, Watch, exact, millis, notes, order, publish_orders, watched};

#[tokio::test(start_paused = true)]
async fn stops_under_load_repeat_nothing_and_lose_nothing() {
    let (bus, lanes) = (MemoryBroker::new(), Lanes::default());
    let router = || {
        let router = watched("billing", &lanes, |order| {
            let pause = millis((order.order_id as u64 * 3 + u64::from(order.sequence) * 5) % 30);
            async move {
                tokio::time::sleep(pause).await;
                Ok(())
            }
        });
        router.concurrency(10)
    };
    publish_orders(&bus, 50, 20).await;
    while lanes.handled().len() < 1_000 {
        let running = bus.messaging().run_one(router()).await.unwrap();
        tokio::time::sleep(millis(100)).await;
        running.shutdown(Duration::from_secs(1)).await.unwrap();
    }
    bus.settled().await.unwrap();
    assert_eq!((lanes.started(), lanes.handled().len()), (1_000, 1_000), "no start was in vain");
    lanes.assert_in_order();
    lanes.assert_no_overlap();
    lanes.assert_all_handled(50, 20);
}

/// One of 500 keys waits ten minutes for its next attempt while the group is stopped and started again.
#[tokio::test(start_paused = true)]
async fn a_parked_lane_comes_again_after_a_stop_and_nothing_else_does() {
    let bus = MemoryBroker::new();
    let (first, second, watch) = (Seen::new(), Seen::new(), Watch::start());
    let router = |seen: &Seen<(OrderCreated, u32)>, fails: bool| {
        let seen = seen.clone();
        let handler = move |event: Event<OrderCreated>, attempt: Attempt| {
            let seen = seen.clone();
            async move {
                seen.add((event.data.clone(), attempt.0));
                if fails && event.data.order_id == 123 { Err(HandlerError::transient("away")) } else { Ok(()) }
            }
        };
        let policy = exact().backoff(Duration::from_secs(600), Duration::from_secs(600));
        Router::new("billing").topic(TOPIC).on_event("orders.created", handler).failure_policy(policy)
    };
    let running = bus.messaging().run_one(router(&first, true)).await.unwrap();
    publish_orders(&bus, 500, 3).await;
    let pending = bus.settled().await.unwrap_err().pending;
    assert!(pending.iter().any(|line| line.contains("parked")), "{pending:?}");
    let before = watch.ms();
    running.shutdown(Duration::from_secs(25)).await.unwrap();
    assert_eq!(watch.ms(), before, "a parked retry is not waited for");
    assert_eq!(first.count(), 499 * 3 + 1);
    let _running = bus.messaging().run_one(router(&second, false)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(second.all(), [(order(123, 0), 1), (order(123, 1), 1), (order(123, 2), 1)]);
}

#[tokio::test(start_paused = true)]
async fn running_handlers_get_the_time_to_end_and_no_more() {
    let (bus, seen, watch) = (MemoryBroker::new(), Seen::new(), Watch::start());
    let handler = {
        let seen = seen.clone();
        move |event: Event<OrderCreated>, attempt: Attempt, stop: Cancellation| {
            let seen = seen.clone();
            async move {
                let id = event.data.order_id;
                seen.add((id, attempt.0, "starts", watch.ms()));
                match id {
                    1 => tokio::time::sleep(millis(900)).await,
                    2 => tokio::time::sleep(millis(5_000)).await,
                    _ => stop.cancelled().await,
                }
                seen.add((id, attempt.0, "ends", watch.ms()));
            }
        }
    };
    let router = Router::new("billing").topic(TOPIC).on_event("orders.created", handler.clone());
    let running = bus.messaging().run_one(router).await.unwrap();
    for id in 1..=3 {
        bus.publish(&order(id, 0)).await.unwrap();
    }
    tokio::time::sleep(millis(100)).await;
    running.shutdown(millis(1_000)).await.unwrap();
    assert_eq!(watch.ms(), 1_100);
    let mut all = seen.all();
    all.sort_unstable();
    let starts =
        [(1, 1, "ends", 900), (1, 1, "starts", 0), (2, 1, "starts", 0), (3, 1, "ends", 100), (3, 1, "starts", 0)];
    assert_eq!(all, starts);
    // Cut short is no attempt.
    let router = Router::new("billing").topic(TOPIC).on_event("orders.created", handler);
    let _running = bus.messaging().run_one(router).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.all()[5..], [(2, 1, "starts", 1_100), (2, 1, "ends", 6_100)]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_dead_letters_are_refused_loses_none() {
    let bus = MemoryBroker::new();
    let router = || {
        let handler = async |_: Event<OrderCreated>| Err::<(), _>(HandlerError::permanent("no such account"));
        Router::new("billing").topic(TOPIC).on_event("orders.created", handler)
    };
    bus.fail_next_dead_letter(usize::MAX, Fault::Refuse("read only".to_owned()));
    let running = bus.messaging().run_one(router()).await.unwrap();
    publish_orders(&bus, 20, 1).await;
    tokio::time::sleep(millis(500)).await;
    running.shutdown(Duration::from_secs(1)).await.unwrap();
    assert_eq!(bus.dead_letters("billing").len(), 0);
    bus.stop_failing();
    let _running = bus.messaging().run_one(router()).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(bus.dead_letters("billing").len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_stop_hands_over_to_the_instances_that_stay_partition_by_partition() {
    let (bus, lanes, watch) = (MemoryBroker::new(), Lanes::default(), Watch::start());
    let router = || {
        watched("billing", &lanes, |order| {
            let pause = if order.order_id == 0 && order.sequence == 0 { 800 } else { 10 };
            async move {
                tokio::time::sleep(millis(pause)).await;
                Ok(())
            }
        })
    };
    let leaving = bus.messaging().run_one(router()).await.unwrap();
    publish_orders(&bus, 40, 2).await;
    tokio::time::sleep(millis(5)).await;
    let _staying = bus.messaging().run_one(router()).await.unwrap();
    leaving.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(watch.ms(), 800, "it waited for its own handler alone");
    assert!(lanes.handled().len() > 76, "others went on meanwhile: {}", lanes.handled().len());
    bus.settled().await.unwrap();
    assert_eq!(lanes.started(), 80);
    lanes.assert_in_order();
    lanes.assert_no_overlap();
}

#[tokio::test(start_paused = true)]
async fn dropping_the_handle_stops_at_once() {
    let (bus, lanes) = (MemoryBroker::new(), Lanes::default());
    let running = bus
        .messaging()
        .run_one(watched("billing", &lanes, |_| async {
            tokio::time::sleep(millis(1_000)).await;
            Ok(())
        }))
        .await
        .unwrap();
    publish_orders(&bus, 3, 1).await;
    tokio::time::sleep(millis(10)).await;
    drop(running);
    tokio::time::sleep(millis(5_000)).await;
    assert_eq!((lanes.started(), lanes.handled().len()), (3, 0));
    assert_eq!(bus.consumers("billing"), []);
    let seen = Seen::new();
    let _running = bus.messaging().run_one(notes("billing", &seen)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_closed_publisher_refuses_and_the_bus_goes_on() {
    let bus = MemoryBroker::new();
    let other = messaging::Messaging::new(std::sync::Arc::new(bus.clone()), Default::default()).await.unwrap();
    bus.messaging().close(millis(100)).await.unwrap();
    let error = bus.publish(&order(1, 0)).await.unwrap_err();
    assert_eq!(error.kind(), messaging::ErrorKind::Closed);
    other.publish(&order(1, 0)).await.unwrap();
    assert_eq!(bus.published::<OrderCreated>().unwrap().len(), 1);
}
