//! Publishing: what is kept of it, what its outcomes say, and what faults make of them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use messaging::{
    ErrorKind, Event, HandlerError, Message, MessagingOptions, Outcome, Position, PublisherOptions, Receipt, Router,
    Settling, partition_for_key,
};
use messaging_memory::{Fault, MemoryBroker};

use crate::given::{OrderCreated, Seen, TOPIC, Watch, exact, millis, notes, order, watched};

#[tokio::test(start_paused = true)]
async fn what_is_published_is_handled_and_settled() {
    let bus = MemoryBroker::new();
    let seen = Seen::new();
    let _running = bus.messaging().run_one(notes("billing", &seen)).await.unwrap();
    bus.publish(&order(1, 0)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.all(), [order(1, 0)]);
    let published: Vec<_> = bus.published::<OrderCreated>().unwrap().into_iter().map(|event| event.data).collect();
    assert_eq!(published, [order(1, 0)]);
}

#[tokio::test(start_paused = true)]
async fn published_events_come_in_the_order_of_publishing_over_all_partitions() {
    let bus = MemoryBroker::new();
    for id in 0..100 {
        bus.publish(&order(id, id as u32)).await.unwrap();
        bus.messaging().publish_event(Event::named("orders.other", TOPIC, id)).await.unwrap();
    }
    let published: Vec<_> = bus.published::<OrderCreated>().unwrap().into_iter().map(|event| event.data).collect();
    assert_eq!(published, (0..100).map(|id| order(id, id as u32)).collect::<Vec<_>>());
    assert_eq!(bus.messages(TOPIC).len(), 200);
    assert_eq!(bus.messages("elsewhere"), []);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_decode_is_an_error_and_not_passed_over() {
    let bus = MemoryBroker::new();
    bus.messaging().publish_event(Event::named("orders.created", TOPIC, "no order")).await.unwrap();
    assert_eq!(bus.published::<OrderCreated>().unwrap_err().kind(), ErrorKind::Malformed);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_tells_partition_and_position() {
    let bus = MemoryBroker::new();
    let partition = partition_for_key(b"7", 16);
    for position in 0..3 {
        let receipt = bus.publish(&order(7, 0)).await.unwrap();
        assert_eq!(receipt, Receipt::new(partition, Some(Position::new(position))));
    }
    let there = bus.messaging().admin().browse(TOPIC, partition, Position::new(1), 5).await.unwrap();
    let positions: Vec<_> = there.iter().map(|delivery| (delivery.partition, delivery.position.major)).collect();
    assert_eq!(positions, [(partition, 1), (partition, 2)]);
}

#[tokio::test(start_paused = true)]
async fn messages_without_an_envelope_travel_as_they_are() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let noted = seen.clone();
    let router = Router::new("raw").on_message("foreign", move |message: Arc<Message>| {
        noted.add((*message).clone());
        async {}
    });
    let _running = bus.messaging().run_one(router).await.unwrap();
    let message = Message::new("foreign", &b"\x00\xff"[..]).with_key("k").with_header("h", "v");
    bus.messaging().publish_raw(message.clone()).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.all(), [message]);
}

#[tokio::test(start_paused = true)]
async fn too_large_a_message_is_refused_before_it_is_stored() {
    let bus = MemoryBroker::builder().max_message_bytes(100).build().unwrap();
    bus.messaging().publish_raw(Message::new("t", vec![0; 100])).await.unwrap();
    let error = bus.messaging().publish_raw(Message::new("t", vec![0; 101])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert!(error.to_string().contains("101") && error.to_string().contains("100"), "{error}");
    assert_eq!(bus.messages("t").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_publish_is_not_stored() {
    let bus = MemoryBroker::new();
    bus.fail_next_publish(2, Fault::Refuse("no room".to_owned()));
    for _ in 0..2 {
        let error = bus.publish(&order(1, 0)).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Rejected, "no room"));
    }
    bus.publish(&order(2, 0)).await.unwrap();
    assert_eq!(bus.messages(TOPIC).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_publish_whose_confirm_is_lost_is_unknown_and_stored() {
    let bus = MemoryBroker::new();
    bus.fail_next_publish(1, Fault::LoseConfirm);
    assert_eq!(bus.publish(&order(1, 0)).await.unwrap_err().kind(), ErrorKind::Unknown);
    bus.publish(&order(2, 0)).await.unwrap();
    assert_eq!(bus.messages(TOPIC).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_confirm_holds_up_nobody_else() {
    let (bus, watch) = (MemoryBroker::new(), Watch::start());
    bus.fail_next_publish(1, Fault::Delay(millis(700)));
    let slow = tokio::spawn({
        let bus = bus.clone();
        async move { bus.publish(&order(1, 0)).await.map(|_| watch.ms()) }
    });
    tokio::task::yield_now().await;
    assert_eq!(bus.messages(TOPIC).len(), 1, "it is stored at once");
    bus.publish(&order(2, 0)).await.unwrap();
    assert_eq!(watch.ms(), 0);
    assert_eq!(slow.await.unwrap().unwrap(), 700);
}

#[tokio::test(start_paused = true)]
async fn a_confirm_that_comes_too_late_is_unknown() {
    let bus = MemoryBroker::new();
    let mut options = MessagingOptions::default();
    let mut publisher = PublisherOptions::default();
    publisher.deadline = millis(500);
    options.publisher = publisher;
    let messaging = messaging::Messaging::new(Arc::new(bus.clone()), options).await.unwrap();
    bus.fail_next_publish(1, Fault::Delay(millis(501)));
    let watch = Watch::start();
    assert_eq!(messaging.publish(&order(1, 0)).await.unwrap_err().kind(), ErrorKind::Unknown);
    assert_eq!(watch.ms(), 500);
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_what_is_out_and_no_longer_than_it_may() {
    for (deadline, closes, took) in [(1_000, true, 700), (300, false, 300)] {
        let (bus, watch) = (MemoryBroker::new(), Watch::start());
        let messaging = bus.messaging();
        bus.fail_next_publish(1, Fault::Delay(millis(700)));
        let slow = tokio::spawn({
            let bus = bus.clone();
            async move { bus.publish(&order(1, 0)).await.map_err(|error| error.kind()).map(drop) }
        });
        tokio::task::yield_now().await;
        assert_eq!(messaging.close(millis(deadline)).await.is_ok(), closes);
        assert_eq!(watch.ms(), took);
        assert_eq!(slow.await.unwrap(), if closes { Ok(()) } else { Err(ErrorKind::Unknown) });
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_batch_a_key_does_not_overtake_what_was_not_confirmed() {
    for fault in [Fault::Refuse("no".to_owned()), Fault::LoseConfirm] {
        let bus = MemoryBroker::new();
        let lost = fault == Fault::LoseConfirm;
        bus.fail_next_publish(1, fault);
        let orders = [order(1, 0), order(2, 0), order(1, 1), order(2, 1), order(1, 2)];
        let outcomes = bus.messaging().publish_all(&orders).await.unwrap();
        let confirmed: Vec<bool> = outcomes.iter().map(|outcome| matches!(outcome, Outcome::Confirmed(_))).collect();
        assert_eq!(confirmed, [false, true, false, true, false]);
        assert!(outcomes[2..].iter().all(|outcome| !matches!(outcome, Outcome::Unknown(_))));
        assert_eq!(bus.messages(TOPIC).len(), if lost { 3 } else { 2 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_publishes_in_turn_and_settling_waits_for_that_too() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let (messaging, noted) = (bus.messaging(), seen.clone());
    let chain = Router::new("chain").topic(TOPIC).on_event("orders.created", move |event: Event<OrderCreated>| {
        let (messaging, seen) = (messaging.clone(), noted.clone());
        async move {
            tokio::time::sleep(millis(100)).await;
            seen.add(event.data.sequence);
            if event.data.sequence < 5 {
                let next = Event::new(order(1, event.data.sequence + 1)).caused_by(&event);
                messaging.publish_event(next).await?;
            }
            Ok::<_, messaging::Error>(())
        }
    });
    let _running = bus.messaging().run_one(chain).await.unwrap();
    bus.publish(&order(1, 0)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.all(), [0, 1, 2, 3, 4, 5]);
    let published = bus.published::<OrderCreated>().unwrap();
    assert_eq!(published[5].causation_id(), Some(published[4].id().unwrap().to_string().as_str()));
    assert_eq!(published[5].correlation_id(), Some(published[0].id().unwrap().to_string().as_str()));
}

fn settlings(outcomes: Vec<Outcome>) -> Vec<Settling> {
    let settled = outcomes.into_iter().map(|outcome| match outcome {
        Outcome::Settled(settling) => settling,
        other => panic!("not settled: {other:?}"),
    });
    settled.collect()
}

async fn until_settled(bus: &MemoryBroker, orders: &[OrderCreated]) -> Vec<Settling> {
    let messages = orders.iter().map(|order| bus.messaging().encode(order).unwrap()).collect();
    settlings(bus.messaging().publish_until_settled(messages).await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn publishing_until_settled_tells_how_it_ended_in_every_group() {
    let (bus, watch) = (MemoryBroker::new(), Watch::start());
    let fast = watched("fast", &Default::default(), |order| {
        let poison = order.order_id == 2;
        async move { if poison { Err(HandlerError::permanent("no such account")) } else { Ok(()) } }
    });
    let slow = watched("slow", &Default::default(), |order| {
        let fails = order.order_id == 3;
        async move {
            tokio::time::sleep(millis(500)).await;
            if fails { Err(HandlerError::transient("away")) } else { Ok(()) }
        }
    });
    let _running = bus.messaging().run([fast, slow.failure_policy(exact().max_attempts(2))]).await.unwrap();
    let outcomes = until_settled(&bus, &[order(1, 0), order(2, 0), order(3, 0)]).await;
    assert_eq!(
        outcomes,
        [
            Settling::Handled,
            Settling::DeadLettered("no such account".to_owned()),
            Settling::DeadLettered("away".to_owned())
        ]
    );
    assert_eq!(watch.ms(), 1_200);
}

#[tokio::test(start_paused = true)]
async fn without_a_group_nobody_settles() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    assert_eq!(until_settled(&bus, &[order(1, 0)]).await, [Settling::NoGroup]);
    assert_eq!(bus.messages(TOPIC), [], "whoever asked will publish it again");
    let running = bus.messaging().run_one(notes("billing", &seen)).await.unwrap();
    running.shutdown(Duration::ZERO).await.unwrap();
    let (waiting, again) = (bus.clone(), seen.clone());
    let publishing = tokio::spawn(async move { until_settled(&waiting, &[order(1, 0)]).await });
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(!publishing.is_finished(), "the group has subscribed: it is waited for");
    // A group that comes after it is not waited for, and does not stand in for the one that is.
    let late = Seen::new();
    let _late = bus.messaging().run_one(notes("late", &late)).await.unwrap();
    tokio::time::sleep(millis(10)).await;
    assert_eq!((late.count(), publishing.is_finished()), (1, false));
    let _running = bus.messaging().run_one(notes("billing", &again)).await.unwrap();
    assert_eq!(publishing.await.unwrap(), [Settling::Handled]);
    assert_eq!(seen.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_publisher_leaves_what_was_not_settled_unknown() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let running = bus.messaging().run_one(notes("billing", &seen)).await.unwrap();
    running.shutdown(Duration::ZERO).await.unwrap();
    let waiting = bus.clone();
    let publishing = tokio::spawn(async move {
        let messages = vec![waiting.messaging().encode(&order(1, 0)).unwrap()];
        waiting.messaging().publish_until_settled(messages).await.unwrap().remove(0)
    });
    tokio::task::yield_now().await;
    assert!(bus.messaging().close(millis(200)).await.is_err());
    assert!(matches!(publishing.await.unwrap(), Outcome::Unknown(_)));
}

#[tokio::test(start_paused = true)]
async fn what_retention_took_before_it_was_settled_is_unknown() {
    let (bus, seen) = (MemoryBroker::builder().partitions(1).max_messages(2).build().unwrap(), Seen::new());
    let running = bus.messaging().run_one(notes("billing", &seen)).await.unwrap();
    running.shutdown(Duration::ZERO).await.unwrap();
    let messages = (0..4).map(|sequence| bus.messaging().encode(&order(1, sequence)).unwrap()).collect();
    let messaging = bus.messaging();
    let publishing = tokio::spawn(async move { messaging.publish_until_settled(messages).await.unwrap() });
    tokio::task::yield_now().await;
    let _running = bus.messaging().run_one(notes("billing", &seen)).await.unwrap();
    let outcomes = publishing.await.unwrap();
    let settled: Vec<bool> = outcomes.iter().map(|outcome| matches!(outcome, Outcome::Settled(_))).collect();
    assert_eq!(settled, [false, false, true, true]);
    assert!(outcomes[..2].iter().all(|outcome| matches!(outcome, Outcome::Unknown(_))));
}

#[tokio::test(start_paused = true)]
async fn a_payload_is_shared_and_not_copied() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let routers = ["a", "b"].map(|group| {
        let seen = seen.clone();
        Router::new(group).on_message("raw", move |payload: Bytes| {
            seen.add(payload.as_ptr() as usize);
            async {}
        })
    });
    let _running = bus.messaging().run(routers).await.unwrap();
    let payload = Bytes::from(vec![7; 1_000]);
    bus.messaging().publish_raw(Message::new("raw", payload.clone())).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.all(), [payload.as_ptr() as usize; 2]);
}
