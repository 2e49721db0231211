//! Groups and their instances: who gets what, and what happens when that changes.

use std::{collections::BTreeMap, time::Duration};

use messaging::{Event, HandlerError, Position, Router, Running, Start};
use messaging_memory::{Assignment, ConsumerId, MemoryBroker};

use crate::given::{Lanes, OrderCreated, Seen, TOPIC, Watch, exact, millis, notes, order, publish_orders, watched};

/// Who has the partitions of the group's topics, those of its replays aside.
fn assignments(bus: &MemoryBroker, group: &str) -> Vec<Assignment> {
    let assignments = bus.assignments(group).into_iter();
    assignments.filter(|assignment| !assignment.topic.ends_with(".replay")).collect()
}

/// How many partitions each consumer has, the most first.
fn shares(bus: &MemoryBroker, group: &str) -> Vec<usize> {
    let mut shares: BTreeMap<Option<ConsumerId>, usize> = BTreeMap::new();
    for assignment in assignments(bus, group) {
        *shares.entry(assignment.owner).or_default() += 1;
    }
    let mut shares: Vec<usize> = shares.into_values().collect();
    shares.sort_unstable_by(|a, b| b.cmp(a));
    shares
}

/// The owner of each partition.
fn owners(bus: &MemoryBroker, group: &str) -> Vec<Option<ConsumerId>> {
    assignments(bus, group).into_iter().map(|assignment| assignment.owner).collect()
}

fn moved(before: &[Option<ConsumerId>], after: &[Option<ConsumerId>]) -> usize {
    before.iter().zip(after).filter(|(before, after)| before != after).count()
}

/// Lets everyone who is woken run.
async fn a_moment() {
    tokio::time::sleep(millis(1)).await;
}

async fn instance(bus: &MemoryBroker, router: Router) -> Running {
    let running = bus.messaging().run_one(router).await.unwrap();
    a_moment().await;
    running
}

#[tokio::test(start_paused = true)]
async fn each_group_gets_everything() {
    let bus = MemoryBroker::new();
    let (billing, shipping) = (Seen::new(), Seen::new());
    let routers = [notes("billing", &billing), notes("shipping", &shipping)];
    let _running = bus.messaging().run(routers).await.unwrap();
    publish_orders(&bus, 10, 3).await;
    bus.settled().await.unwrap();
    for seen in [billing, shipping] {
        let mut orders: Vec<_> = seen.all().into_iter().map(|order| (order.order_id, order.sequence)).collect();
        orders.sort_unstable();
        let expected: Vec<_> = (0..10).flat_map(|key| (0..3).map(move |sequence| (key, sequence))).collect();
        assert_eq!(orders, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn instances_share_the_work() {
    let bus = MemoryBroker::new();
    let seen = [Seen::new(), Seen::new(), Seen::new()];
    let mut running = Vec::new();
    for seen in &seen {
        running.push(instance(&bus, notes("billing", seen)).await);
    }
    assert_eq!(shares(&bus, "billing"), [6, 5, 5]);
    publish_orders(&bus, 300, 1).await;
    bus.settled().await.unwrap();
    let counts: Vec<usize> = seen.iter().map(Seen::count).collect();
    assert_eq!(counts.iter().sum::<usize>(), 300);
    assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn joining_and_leaving_moves_only_what_must() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let held = |index: usize| {
        let consumer = bus.consumers("billing")[index];
        owners(&bus, "billing").iter().filter(|owner| **owner == Some(consumer)).count()
    };
    let first = instance(&bus, notes("billing", &seen)).await;
    let alone = owners(&bus, "billing");
    assert_eq!(shares(&bus, "billing"), [16]);

    let second = instance(&bus, notes("billing", &seen)).await;
    let two = owners(&bus, "billing");
    assert_eq!((shares(&bus, "billing"), moved(&alone, &two)), (vec![8, 8], 8));

    let third = instance(&bus, notes("billing", &seen)).await;
    let three = owners(&bus, "billing");
    assert_eq!((shares(&bus, "billing"), moved(&two, &three)), (vec![6, 5, 5], held(2)));

    let leavers = held(1);
    second.shutdown(Duration::ZERO).await.unwrap();
    a_moment().await;
    let left = owners(&bus, "billing");
    assert_eq!((shares(&bus, "billing"), moved(&three, &left)), (vec![8, 8], leavers));

    drop(third);
    a_moment().await;
    assert_eq!((shares(&bus, "billing"), moved(&left, &owners(&bus, "billing"))), (vec![16], 8));

    first.shutdown(Duration::ZERO).await.unwrap();
    assert_eq!(owners(&bus, "billing"), [None; 16]);
    assert!(bus.consumers("billing").is_empty());
}

#[tokio::test(start_paused = true)]
async fn small_topics_are_shared_over_all_of_them() {
    let bus = MemoryBroker::builder().partitions(1).build().unwrap();
    let router =
        || ["a", "b", "c", "d"].iter().fold(Router::new("g"), |router, topic| router.on_message(*topic, async || ()));
    let _first = instance(&bus, router()).await;
    let _second = instance(&bus, router()).await;
    assert_eq!(shares(&bus, "g"), [2, 2]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_gets_only_the_topics_it_handles() {
    let bus = MemoryBroker::new();
    let _first = instance(&bus, Router::new("g").on_message("a", async || ()).on_message("b", async || ())).await;
    let _second = instance(&bus, Router::new("g").on_message("b", async || ())).await;
    let second = bus.consumers("g")[1];
    let has = |topic: &str| {
        let of_topic = bus.assignments("g").into_iter().filter(|assignment| assignment.topic == *topic);
        of_topic.filter(|assignment| assignment.owner == Some(second)).count()
    };
    assert_eq!((has("a"), has("b")), (0, 8));
}

#[tokio::test(start_paused = true)]
async fn no_lane_overlaps_while_instances_come_go_and_crash() {
    let (bus, lanes) = (MemoryBroker::new(), Lanes::default());
    let router = || {
        let router = watched("billing", &lanes, |order| {
            let pause = millis((order.order_id as u64 * 7 + u64::from(order.sequence) * 13) % 40);
            async move {
                tokio::time::sleep(pause).await;
                Ok(())
            }
        });
        router.concurrency(20)
    };
    let publishing = tokio::spawn({
        let bus = bus.clone();
        async move {
            for sequence in 0..50 {
                for key in 0..40 {
                    bus.publish(&order(key, sequence)).await.unwrap();
                }
                tokio::time::sleep(millis(7)).await;
            }
        }
    });
    let mut running = vec![instance(&bus, router()).await];
    for round in 0..12 {
        tokio::time::sleep(millis(30)).await;
        match round % 4 {
            0 | 1 => running.push(instance(&bus, router()).await),
            2 => running.remove(0).shutdown(Duration::from_secs(1)).await.unwrap(),
            _ => {
                let crashed = bus.consumers("billing")[0];
                bus.crash(crashed).unwrap();
                let dead = running.remove(0);
                assert!(dead.failed().await.unwrap_err().to_string().contains("no member"));
            }
        }
    }
    publishing.await.unwrap();
    bus.settled().await.unwrap();
    lanes.assert_in_order();
    lanes.assert_all_handled(40, 50);
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_what_was_not_settled_comes_again_and_nothing_else() {
    let (bus, first, second) =
        (MemoryBroker::builder().partitions(1).build().unwrap(), Lanes::default(), Lanes::default());
    let slow_head = |lanes: &Lanes| {
        watched("billing", lanes, |order| {
            let slow = order.order_id == 0;
            async move {
                tokio::time::sleep(millis(if slow { 1_000 } else { 1 })).await;
                Ok(())
            }
        })
    };
    let crashing = instance(&bus, slow_head(&first)).await;
    publish_orders(&bus, 10, 1).await;
    tokio::time::sleep(millis(100)).await;
    assert_eq!(first.handled().len(), 9);
    drop(crashing);
    let _successor = instance(&bus, slow_head(&second)).await;
    bus.settled().await.unwrap();
    assert_eq!(second.handled(), [order(0, 0)], "finished beyond the watermark is finished");
    assert_eq!(assignments(&bus, "billing")[0].epoch, 2);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_partition_waits_for_its_running_handlers() {
    let (bus, lanes, watch) =
        (MemoryBroker::builder().partitions(1).build().unwrap(), Lanes::default(), Watch::start());
    let seen = Seen::new();
    let router = || {
        let seen = seen.clone();
        watched("billing", &lanes, move |order| {
            seen.add((order.sequence, watch.ms()));
            async {
                tokio::time::sleep(millis(500)).await;
                Ok(())
            }
        })
    };
    let _pair = (instance(&bus, router()).await, instance(&bus, router()).await);
    let before = assignments(&bus, "billing").remove(0);
    publish_orders(&bus, 1, 3).await;
    a_moment().await;
    bus.revoke("billing", TOPIC, 0).unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.all(), [(0, 2), (1, 502), (2, 1002)], "nothing is repeated and nothing overlaps");
    let after = assignments(&bus, "billing").remove(0);
    assert_eq!(after.epoch, before.epoch + 1);
    assert_ne!(after.owner, before.owner);
    lanes.assert_in_order();
    lanes.assert_no_overlap();
}

#[tokio::test(start_paused = true)]
async fn a_revoked_handler_that_goes_on_is_cut_short_and_comes_again_elsewhere() {
    let (bus, lanes, watch) =
        (MemoryBroker::builder().partitions(1).build().unwrap(), Lanes::default(), Watch::start());
    let seen = Seen::new();
    let router = || {
        let seen = seen.clone();
        let router = watched("billing", &lanes, move |order| {
            seen.add((order.sequence, watch.ms()));
            async {
                tokio::time::sleep(millis(5_000)).await;
                Ok(())
            }
        });
        router.revoke_drain(millis(700))
    };
    let _pair = (instance(&bus, router()).await, instance(&bus, router()).await);
    publish_orders(&bus, 1, 1).await;
    a_moment().await;
    bus.revoke("billing", TOPIC, 0).unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.all(), [(0, 2), (0, 703)]);
    assert_eq!(lanes.handled().len(), 1);
    lanes.assert_in_order();
    lanes.assert_no_overlap();
}

#[tokio::test(start_paused = true)]
async fn a_revoked_retry_comes_again_elsewhere_with_its_first_attempt() {
    let (bus, seen, watch) = (MemoryBroker::builder().partitions(1).build().unwrap(), Seen::new(), Watch::start());
    let router = || {
        let seen = seen.clone();
        let handler = move |_: Event<OrderCreated>, attempt: messaging::Attempt| {
            let seen = seen.clone();
            async move {
                seen.add((attempt.0, watch.ms()));
                if watch.ms() < 300 { Err(HandlerError::transient("away")) } else { Ok(()) }
            }
        };
        Router::new("billing").topic(TOPIC).on_event("orders.created", handler).failure_policy(exact())
    };
    let _pair = (instance(&bus, router()).await, instance(&bus, router()).await);
    bus.publish(&order(1, 0)).await.unwrap();
    tokio::time::sleep(millis(298)).await;
    bus.revoke("billing", TOPIC, 0).unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.all(), [(1, 2), (2, 202), (1, 300)]);
}

#[tokio::test(start_paused = true)]
async fn a_group_starts_where_it_says() {
    let bus = MemoryBroker::builder().partitions(1).build().unwrap();
    publish_orders(&bus, 1, 5).await;
    let mut groups = Vec::new();
    for (group, start, expected) in [
        ("default", Start::Default, vec![0, 1, 2, 3, 4, 5]),
        ("earliest", Start::Earliest, vec![0, 1, 2, 3, 4, 5]),
        ("latest", Start::Latest, vec![5]),
        ("third", Start::Position(Position::new(3)), vec![3, 4, 5]),
        ("beyond", Start::Position(Position::new(30)), vec![5]),
    ] {
        let seen = Seen::new();
        groups.push((instance(&bus, notes(group, &seen).start(start)).await, seen, expected));
    }
    bus.publish(&order(0, 5)).await.unwrap();
    bus.settled().await.unwrap();
    for (_, seen, expected) in &groups {
        let sequences: Vec<u32> = seen.all().into_iter().map(|order| order.sequence).collect();
        assert_eq!(&sequences, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_goes_on_where_it_was_whatever_start_it_says() {
    let (bus, first, second) = (MemoryBroker::new(), Seen::new(), Seen::new());
    instance(&bus, notes("billing", &first)).await.shutdown(Duration::ZERO).await.unwrap();
    publish_orders(&bus, 3, 1).await;
    let _running = instance(&bus, notes("billing", &second).start(Start::Latest)).await;
    bus.settled().await.unwrap();
    assert_eq!((first.count(), second.count()), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_grows_is_read_from_the_beginning_of_what_is_new() {
    let (bus, seen) = (MemoryBroker::builder().partitions(1).build().unwrap(), Seen::new());
    let _first = instance(&bus, notes("billing", &seen).start(Start::Latest)).await;
    let _second = instance(&bus, notes("billing", &seen)).await;
    bus.grow_topic(TOPIC, 8).unwrap();
    publish_orders(&bus, 100, 1).await;
    bus.settled().await.unwrap();
    assert_eq!((seen.count(), shares(&bus, "billing")), (100, vec![4, 4]));
    let error = bus.grow_topic(TOPIC, 4).unwrap_err().to_string();
    assert!(error.contains("order-events") && error.contains("8") && error.contains("4"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn epochs_of_a_partition_strictly_increase() {
    let (bus, seen) = (MemoryBroker::builder().partitions(1).build().unwrap(), Seen::new());
    let mut epochs = Vec::new();
    for _ in 0..4 {
        let _running = instance(&bus, notes("billing", &seen)).await;
        epochs.push(assignments(&bus, "billing")[0].epoch);
    }
    assert_eq!(epochs, [1, 2, 3, 4]);
}
