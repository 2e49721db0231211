//! What the bus keeps, what it forgets, and what it reports as lost.

use std::{collections::HashSet, time::Duration};

use messaging::{Broker, Message, Position, Start, telemetry};
use messaging_memory::MemoryBroker;

use crate::given::{Counters, Lanes, OrderCreated, Seen, TOPIC, millis, notes, order, publish_orders, watched};

fn kept(bus: &MemoryBroker) -> Vec<u32> {
    bus.published::<OrderCreated>().unwrap().into_iter().map(|event| event.data.sequence).collect()
}

fn retaining(messages: usize) -> MemoryBroker {
    MemoryBroker::builder().partitions(1).retain(messages).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn without_groups_the_newest_stay() {
    let bus = retaining(3);
    publish_orders(&bus, 1, 10).await;
    assert_eq!(kept(&bus), [7, 8, 9]);
    let seen = Seen::new();
    let _running = bus.messaging().run_one(notes("billing", &seen).start(Start::Earliest)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.all(), [order(0, 7), order(0, 8), order(0, 9)]);
}

#[tokio::test(start_paused = true)]
async fn what_a_group_has_not_settled_stays_too_until_it_has() {
    let (bus, seen) = (retaining(3), Seen::new());
    let absent = bus.messaging().run_one(notes("absent", &seen)).await.unwrap();
    let _present = bus.messaging().run_one(notes("present", &seen)).await.unwrap();
    absent.shutdown(Duration::ZERO).await.unwrap();
    publish_orders(&bus, 1, 100).await;
    tokio::time::sleep(millis(10)).await;
    assert_eq!((seen.count(), kept(&bus).len()), (100, 100));
    let _absent = bus.messaging().run_one(notes("absent", &seen)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!((seen.count(), kept(&bus)), (200, vec![97, 98, 99]));
}

#[tokio::test(start_paused = true)]
async fn memory_stays_flat_while_groups_settle() {
    let (bus, seen) = (retaining(10), Seen::new());
    let _running = bus.messaging().run_one(notes("billing", &seen)).await.unwrap();
    for _ in 0..200 {
        publish_orders(&bus, 1, 50).await;
        bus.settled().await.unwrap();
        assert!(bus.messages(TOPIC).len() <= 10);
    }
    assert_eq!(seen.count(), 10_000);
}

/// The place of a message that went is the next one's: nothing of the old one may show, and what somebody holds stays.
#[tokio::test]
async fn a_message_in_the_place_of_another_is_its_own() {
    let bus = retaining(2);
    let mut foreign =
        Message::new(TOPIC, "{}").with_key("k").with_header("tenant", "a").with_content_type("text/plain");
    foreign.defect = Some("broken".into());
    bus.messaging().publish_raw(foreign.clone()).await.unwrap();
    let mut ids = HashSet::new();
    let mut held = bus.messages(TOPIC);
    for sequence in 0..20 {
        bus.publish(&order(7, sequence)).await.unwrap();
        let newest = bus.messages(TOPIC).pop().unwrap();
        let envelope = newest.envelope.clone().unwrap();
        assert!(ids.insert(envelope.id.clone()));
        let expected = Message::new(TOPIC, serde_json::to_vec(&order(7, sequence)).unwrap())
            .with_key("7")
            .with_content_type("application/json")
            .with_envelope(envelope);
        assert_eq!(*newest, expected);
        if sequence % 4 == 0 {
            held.push(newest);
        }
    }
    assert_eq!((held.len(), &*held[0]), (6, &foreign));
    let payloads = held[1..].iter().map(|message| serde_json::from_slice::<OrderCreated>(&message.payload).unwrap());
    assert_eq!(payloads.collect::<Vec<_>>(), [0, 4, 8, 12, 16].map(|sequence| order(7, sequence)));
    assert_eq!(kept(&bus), [18, 19]);
}

fn bounded(messages: usize) -> MemoryBroker {
    MemoryBroker::builder().partitions(1).max_messages(messages).build().unwrap()
}

fn pending(bus: &MemoryBroker) -> usize {
    Broker::pending(bus).unwrap().pending()
}

fn sequences(seen: &Seen<OrderCreated>) -> Vec<u32> {
    seen.all().iter().map(|order| order.sequence).collect()
}

#[tokio::test(start_paused = true)]
async fn the_hard_bound_forgets_and_the_loss_is_reported_exactly() {
    let counters = Counters::install();
    let (bus, seen) = (bounded(4), Seen::new());
    let leaving = bus.messaging().run_one(notes("billing", &seen)).await.unwrap();
    publish_orders(&bus, 1, 2).await;
    bus.settled().await.unwrap();
    leaving.shutdown(Duration::ZERO).await.unwrap();
    publish_orders(&bus, 1, 10).await;
    assert_eq!((bus.messages(TOPIC).len(), pending(&bus)), (4, 4), "what is lost is not waited for");
    let _running = bus.messaging().run_one(notes("billing", &seen)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(sequences(&seen), [0, 1, 6, 7, 8, 9]);
    assert_eq!(counters.total(telemetry::LOST), 6);
}

#[tokio::test(start_paused = true)]
async fn what_an_instance_has_is_not_lost_as_long_as_it_has_it() {
    let counters = Counters::install();
    let (bus, first, second) = (bounded(4), Lanes::default(), Lanes::default());
    let slow = |lanes: &Lanes| {
        let router = watched("billing", lanes, |_| async {
            tokio::time::sleep(millis(100)).await;
            Ok(())
        });
        router.max_in_flight(3)
    };
    let running = bus.messaging().run_one(slow(&first)).await.unwrap();
    publish_orders(&bus, 1, 3).await;
    tokio::time::sleep(millis(50)).await;
    for sequence in 3..10 {
        bus.publish(&order(0, sequence)).await.unwrap();
    }
    // It has 0 to 2, of which 0 runs; the log has 6 to 9; 3 to 5 are gone.
    tokio::time::sleep(millis(1)).await;
    assert_eq!((pending(&bus), counters.total(telemetry::LOST)), (7, 3));
    drop(running);
    tokio::time::sleep(millis(1)).await;
    assert_eq!(pending(&bus), 4, "0 to 2 went with the instance");
    let _running = bus.messaging().run_one(slow(&second)).await.unwrap();
    bus.settled().await.unwrap();
    let handled: Vec<u32> = second.handled().iter().map(|order| order.sequence).collect();
    assert_eq!((first.handled().len(), handled), (0, vec![6, 7, 8, 9]));
    assert_eq!(counters.total(telemetry::LOST), 6);
}

#[tokio::test(start_paused = true)]
async fn a_start_before_what_is_kept_reports_what_it_missed() {
    let counters = Counters::install();
    let (bus, seen) = (retaining(4), Seen::new());
    publish_orders(&bus, 1, 10).await;
    let start = Start::Position(Position::new(1));
    let _running = bus.messaging().run_one(notes("billing", &seen).start(start)).await.unwrap();
    bus.settled().await.unwrap();
    tokio::time::sleep(millis(1)).await;
    assert_eq!((sequences(&seen), counters.total(telemetry::LOST)), (vec![6, 7, 8, 9], 5));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_keeps_up_loses_nothing_to_the_hard_bound() {
    let counters = Counters::install();
    let (bus, seen) = (bounded(4), Seen::new());
    let _running = bus.messaging().run_one(notes("billing", &seen)).await.unwrap();
    for sequence in 0..100 {
        bus.publish(&order(0, sequence)).await.unwrap();
        tokio::task::yield_now().await;
    }
    bus.settled().await.unwrap();
    assert_eq!((seen.count(), counters.total(telemetry::LOST)), (100, 0));
}
