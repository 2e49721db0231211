//! Owners that go stale: they start nothing once their lease has passed, and what they settle has no effect.

use std::time::Duration;

use messaging::{Event, Fence, HandlerError, Router};
use messaging_memory::{ConsumerId, MemoryBroker};

use crate::given::{
    Lanes, OrderCreated, Seen, TOPIC, Watch, exact, millis, notes, order, publish_orders, publish_sequence, watched,
};

fn leased(partitions: u32) -> MemoryBroker {
    MemoryBroker::builder().partitions(partitions).lease(millis(1_000)).build().unwrap()
}

fn owner(bus: &MemoryBroker) -> Option<ConsumerId> {
    bus.assignments("billing")[0].owner
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_for_as_long_as_its_consumer_lives() {
    let (bus, lanes) = (leased(4), Lanes::default());
    let router = || {
        let router = watched("billing", &lanes, |_| async {
            tokio::time::sleep(millis(1_700)).await;
            Ok(())
        });
        // Also while nothing is taken in.
        router.max_in_flight(1)
    };
    let _pair = (bus.messaging().run_one(router()).await.unwrap(), bus.messaging().run_one(router()).await.unwrap());
    tokio::time::sleep(millis(10)).await;
    let before = bus.assignments("billing");
    publish_orders(&bus, 10, 2).await;
    bus.settled_within(Duration::from_secs(60)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    publish_orders(&bus, 10, 2).await;
    bus.settled_within(Duration::from_secs(60)).await.unwrap();
    assert_eq!(bus.assignments("billing"), before);
    assert_eq!((lanes.handled().len(), lanes.started()), (40, 40));
    assert!(bus.messaging().capabilities().gates_on_validity);
}

#[tokio::test(start_paused = true)]
async fn a_stale_owner_starts_nothing_after_its_lease_and_settles_nothing() {
    let (bus, watch, seen) = (leased(1), Watch::start(), Seen::new());
    let router = || {
        let seen = seen.clone();
        let handler = move |event: Event<OrderCreated>, fence: Fence| {
            let seen = seen.clone();
            async move {
                seen.add((fence.epoch, event.data.sequence, watch.ms()));
                tokio::time::sleep(millis(400)).await;
            }
        };
        Router::new("billing").topic(TOPIC).on_event("orders.created", handler)
    };
    let _stale = bus.messaging().run_one(router()).await.unwrap();
    publish_orders(&bus, 1, 6).await;
    tokio::time::sleep(millis(100)).await;
    let stale = owner(&bus).unwrap();
    bus.silence(stale).unwrap();
    let _successor = bus.messaging().run_one(router()).await.unwrap();
    bus.settled().await.unwrap();
    let (old, new): (Vec<_>, Vec<_>) = seen.all().into_iter().partition(|(epoch, ..)| *epoch == 1);
    // Its lease was last renewed when it joined, at 0 ms; its third handler, begun at 800 ms, still runs at 1,000.
    assert_eq!(old, [(1, 0, 0), (1, 1, 400), (1, 2, 800)]);
    assert_eq!(new, [(2, 2, 1_000), (2, 3, 1_400), (2, 4, 1_800), (2, 5, 2_200)]);
    bus.restore(stale).unwrap();
    bus.publish(&order(1, 9)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.count(), 8, "what the stale owner ended later settled nothing and started nothing");
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_of_a_stale_owner_is_refused() {
    let (bus, seen) = (leased(1), Seen::new());
    let router = || {
        let seen = seen.clone();
        let handler = move |_: Event<OrderCreated>, fence: Fence| {
            let seen = seen.clone();
            async move {
                seen.add(fence.epoch);
                if fence.epoch > 1 {
                    return Ok(());
                }
                tokio::time::sleep(millis(1_500)).await;
                Err(HandlerError::permanent("no such account"))
            }
        };
        Router::new("billing").topic(TOPIC).on_event("orders.created", handler)
    };
    let _stale = bus.messaging().run_one(router()).await.unwrap();
    bus.publish(&order(1, 0)).await.unwrap();
    tokio::time::sleep(millis(100)).await;
    let stale = owner(&bus).unwrap();
    bus.silence(stale).unwrap();
    let _successor = bus.messaging().run_one(router()).await.unwrap();
    bus.settled().await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((seen.all(), bus.dead_letters("billing")), (vec![1, 2], vec![]));
    bus.restore(stale).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((seen.all(), bus.dead_letters("billing")), (vec![1, 2], vec![]));
}

#[tokio::test(start_paused = true)]
async fn an_owner_heard_again_before_its_lease_has_passed_goes_on() {
    let (bus, seen) = (leased(1), Seen::new());
    let _running = bus.messaging().run_one(notes("billing", &seen)).await.unwrap();
    tokio::time::sleep(millis(10)).await;
    let consumer = owner(&bus).unwrap();
    bus.silence(consumer).unwrap();
    bus.publish(&order(1, 0)).await.unwrap();
    tokio::time::sleep(millis(500)).await;
    assert_eq!(seen.count(), 0);
    bus.restore(consumer).unwrap();
    bus.settled().await.unwrap();
    assert_eq!((seen.count(), bus.assignments("billing")[0].epoch), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_taken_for_dead_takes_part_again_once_it_is_heard() {
    let (bus, seen) = (leased(2), Seen::new());
    let _pair = (
        bus.messaging().run_one(notes("billing", &seen)).await.unwrap(),
        bus.messaging().run_one(notes("billing", &seen)).await.unwrap(),
    );
    tokio::time::sleep(millis(10)).await;
    let consumer = bus.consumers("billing")[0];
    let held = || bus.assignments("billing").iter().filter(|assignment| assignment.owner == Some(consumer)).count();
    let before = held();
    bus.silence(consumer).unwrap();
    tokio::time::sleep(millis(1_100)).await;
    assert_eq!((before, held()), (2, 0), "one of the topic, one of its replays");
    bus.restore(consumer).unwrap();
    tokio::time::sleep(millis(10)).await;
    assert_eq!(held(), 2);
    publish_orders(&bus, 20, 2).await;
    bus.settled().await.unwrap();
    assert_eq!(seen.count(), 40);
}

#[tokio::test(start_paused = true)]
async fn what_a_stale_owner_held_does_not_stand_in_the_way_of_what_it_gets_later() {
    let (bus, first, second) = (leased(1), Lanes::default(), Lanes::default());
    let router = |lanes: &Lanes| {
        let router = watched("billing", lanes, |_| async {
            tokio::time::sleep(millis(600)).await;
            Ok(())
        });
        router.max_in_flight(4)
    };
    let _stale = bus.messaging().run_one(router(&first)).await.unwrap();
    publish_orders(&bus, 1, 4).await;
    tokio::time::sleep(millis(100)).await;
    let stale = owner(&bus).unwrap();
    bus.silence(stale).unwrap();
    let successor = bus.messaging().run_one(router(&second)).await.unwrap();
    bus.settled().await.unwrap();
    bus.restore(stale).unwrap();
    successor.shutdown(Duration::from_secs(1)).await.unwrap();
    tokio::time::sleep(millis(10)).await;
    assert_eq!(owner(&bus), Some(stale));
    publish_orders(&bus, 4, 5).await;
    bus.settled_within(Duration::from_secs(60)).await.unwrap();
    assert_eq!(first.started(), 2 + 20, "two before its lease had passed, and all of the later ones");
}

#[tokio::test(start_paused = true)]
async fn without_leases_nobody_goes_stale() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let _running = bus.messaging().run_one(notes("billing", &seen)).await.unwrap();
    let error = bus.silence(bus.consumers("billing")[0]).unwrap_err().to_string();
    assert!(error.contains("lease"), "{error}");
}

/// Order, and nothing lost, whatever happens: failures, revocations, stale owners, crashes, joins and leaves, over 1,000
/// keys of 100 orders each.
#[tokio::test(start_paused = true)]
async fn order_holds_through_everything() {
    let mut random = fastrand::Rng::with_seed(7);
    let (bus, lanes) = (leased(16), Lanes::default());
    let router = |seed: u64| {
        let chance = std::sync::Arc::new(parking_lot::Mutex::new(fastrand::Rng::with_seed(seed)));
        let router = watched("billing", &lanes, move |_| {
            let (pause, fails) = {
                let mut chance = chance.lock();
                (chance.u64(0..20), chance.u32(0..50) == 0)
            };
            async move {
                tokio::time::sleep(millis(pause)).await;
                if fails { Err(HandlerError::transient("by chance")) } else { Ok(()) }
            }
        });
        router.concurrency(100).failure_policy(exact().backoff(millis(5), millis(50)).max_attempts(50))
    };
    let publishing = tokio::spawn({
        let bus = bus.clone();
        async move {
            for sequence in 0..100 {
                publish_sequence(&bus, 1_000, sequence).await;
                tokio::time::sleep(millis(50)).await;
            }
        }
    });
    let mut running = Vec::new();
    for seed in 0..3 {
        running.push(bus.messaging().run_one(router(seed)).await.unwrap());
    }
    let mut faults = 0;
    while !publishing.is_finished() || bus.settled_within(millis(1)).await.is_err() {
        tokio::time::sleep(millis(random.u64(50..400))).await;
        let consumers = bus.consumers("billing");
        let consumer = consumers[random.usize(..consumers.len())];
        match random.u32(..if faults < 40 { 8 } else { 1 }) {
            0 => consumers.iter().for_each(|consumer| bus.restore(*consumer).unwrap()),
            1 | 2 => bus.silence(consumer).unwrap(),
            // Nobody has the partition for a moment.
            3 | 4 => drop(bus.revoke("billing", TOPIC, random.u32(..16))),
            5 => bus.crash(consumer).unwrap(),
            6 => running.push(bus.messaging().run_one(router(random.u64(..))).await.unwrap()),
            _ => {
                let leaving = running.remove(random.usize(..running.len()));
                // A consumer that has crashed has nothing to end.
                let _ = leaving.shutdown(millis(random.u64(..200))).await;
            }
        }
        running.retain(|running| !running.health().failed);
        if running.is_empty() {
            running.push(bus.messaging().run_one(router(random.u64(..))).await.unwrap());
        }
        faults += 1;
    }
    publishing.await.unwrap();
    lanes.assert_in_order();
    lanes.assert_all_handled(1_000, 100);
    assert_eq!(bus.dead_letters("billing"), []);
}
