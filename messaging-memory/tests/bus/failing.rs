//! Handlers that fail: exact attempts and instants, and every field of the dead letters.

use std::time::Duration;

use messaging::{
    Attempt, DeadLetter, Event, FailurePolicy, HandlerError, Json, Message, OnDeadLetter, OnUnhandled, Position, Route,
    Router, Shape, partition_for_key,
};
use messaging_memory::{DeadLettered, Fault, MemoryBroker};
use serde_json::Value;

use crate::given::{OrderCreated, Seen, TOPIC, Watch, exact, millis, order};

/// A group whose handler notes each attempt and its instant, and then does what `outcome` says.
fn attempts<F>(seen: &Seen<(u32, u128)>, outcome: F) -> Router
where
    F: Fn(u32) -> Result<(), HandlerError> + Clone + Send + Sync + 'static,
{
    let (seen, watch) = (seen.clone(), Watch::start());
    let handler = move |_: Event<OrderCreated>, attempt: Attempt| {
        let (seen, outcome) = (seen.clone(), outcome.clone());
        async move {
            seen.add((attempt.0, watch.ms()));
            outcome(attempt.0)
        }
    };
    Router::new("billing").topic(TOPIC).on_event("orders.created", handler).failure_policy(exact())
}

fn only(bus: &MemoryBroker) -> DeadLettered {
    let mut dead = bus.dead_letters("billing");
    assert_eq!(dead.len(), 1, "{dead:?}");
    dead.remove(0)
}

/// How long a message was in trouble.
fn lasted(letter: &DeadLetter) -> Duration {
    letter.first_failed_at.age(letter.last_failed_at)
}

#[tokio::test(start_paused = true)]
async fn fails_twice_and_then_succeeds() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let router = attempts(&seen, |attempt| match attempt {
        1 | 2 => Err(HandlerError::transient("away")),
        _ => Ok(()),
    });
    let _running = bus.messaging().run_one(router).await.unwrap();
    bus.publish(&order(1, 0)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.all(), [(1, 0), (2, 200), (3, 600)]);
    assert_eq!(bus.dead_letters("billing"), []);
}

#[tokio::test(start_paused = true)]
async fn always_failing_ends_in_the_dead_letters_with_everything_that_happened() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let router = attempts(&seen, |attempt| Err(HandlerError::transient(format!("away for the {attempt}. time"))));
    let _running = bus.messaging().run_one(router).await.unwrap();
    bus.publish(&order(41, 0)).await.unwrap();
    let before = messaging::Timestamp::now();
    let original = Event::new(order(42, 7)).with_subject("the second").with_header("tenant", "a");
    bus.messaging().publish_event(original).await.unwrap();
    bus.settled().await.unwrap();
    let expected = [(1, 0), (2, 200), (3, 600), (4, 1400), (5, 3000)];
    assert_eq!(seen.count(), 10);
    assert!(expected.iter().all(|attempt| seen.all().iter().filter(|seen| *seen == attempt).count() == 2));

    let original = bus.messages(TOPIC).remove(1);
    let dead = bus.dead_letters("billing");
    assert_eq!(dead.len(), 2);
    let DeadLettered { letter, message, .. } = dead.into_iter().find(|dead| dead.message.key == original.key).unwrap();
    assert_eq!(letter.topic, TOPIC);
    assert_eq!(letter.partition, partition_for_key(b"42", 16));
    assert_eq!(letter.position, Position::new(0));
    assert_eq!(letter.epoch, 1);
    assert_eq!(letter.group, "billing");
    assert_eq!(letter.handler, "orders.created");
    assert_eq!(letter.attempts, 5);
    assert!(letter.first_failed_at >= before && letter.first_failed_at <= messaging::Timestamp::now());
    assert_eq!(lasted(&letter), millis(3000));
    assert_eq!(letter.error, "away for the 5. time");
    assert_eq!(letter.shape, Shape::Full);
    assert_eq!(message.topic, "order-events.billing.dlq");
    assert_eq!(message.payload, original.payload);
    assert_eq!(message.key.as_deref(), Some(&b"42"[..]));
    assert_eq!(message.envelope, original.envelope);
    assert_eq!(message.attributes.get_str("subject"), Some("the second"));
    assert_eq!(DeadLetter::original_headers(&message), original.headers);
    assert_eq!(original.headers.get_str("tenant"), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_like_any_other() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let router = attempts(&seen, |attempt| match attempt {
        1..=4 => panic!("attempt {attempt}"),
        _ => panic!("the last one"),
    });
    let _running = bus.messaging().run_one(router).await.unwrap();
    bus.publish(&order(1, 0)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.all(), [(1, 0), (2, 200), (3, 600), (4, 1400), (5, 3000)]);
    assert_eq!((only(&bus).letter.error.as_str(), only(&bus).letter.attempts), ("handler panicked: the last one", 5));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_too_long_is_cut_short() {
    let (bus, seen, watch) = (MemoryBroker::new(), Seen::new(), Watch::start());
    let (started, ended) = (seen.clone(), Seen::new());
    let finished = ended.clone();
    let handler = move |_: Event<OrderCreated>| {
        let (started, ended) = (started.clone(), ended.clone());
        async move {
            started.add(watch.ms());
            tokio::time::sleep(millis(1001)).await;
            ended.add(());
        }
    };
    let policy = exact().max_attempts(3).timeout(millis(1000));
    let router = Router::new("billing").topic(TOPIC).on_event("orders.created", handler).failure_policy(policy);
    let _running = bus.messaging().run_one(router).await.unwrap();
    bus.publish(&order(1, 0)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.all(), [0, 1200, 2600]);
    assert_eq!(finished.count(), 0);
    let letter = only(&bus).letter;
    assert_eq!((letter.error.as_str(), letter.attempts), ("handler timed out after 1000 ms", 3));
    assert_eq!(lasted(&letter), millis(2600));
    assert_eq!(watch.ms(), 3600);
}

#[tokio::test(start_paused = true)]
async fn a_handler_just_in_time_is_not_cut_short() {
    let (bus, seen, watch) = (MemoryBroker::new(), Seen::new(), Watch::start());
    let noted = seen.clone();
    let handler = move |_: Event<OrderCreated>| {
        let seen = noted.clone();
        async move {
            tokio::time::sleep(millis(999)).await;
            seen.add(watch.ms());
        }
    };
    let router = Router::new("billing")
        .topic(TOPIC)
        .on_event("orders.created", handler)
        .failure_policy(exact().timeout(millis(1000)));
    let _running = bus.messaging().run_one(router).await.unwrap();
    bus.publish(&order(1, 0)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.all(), [999]);
}

#[tokio::test(start_paused = true)]
async fn garbage_is_dead_lettered_at_once_byte_for_byte() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let _running = bus.messaging().run_one(attempts(&seen, |_| Ok(()))).await.unwrap();
    let envelope = Event::named("orders.created", TOPIC, ());
    let mut garbage = messaging::Message::new(TOPIC, &b"\xff{not json"[..]).with_key("1");
    bus.messaging().publish_event(envelope).await.unwrap();
    garbage.envelope = bus.messages(TOPIC)[0].envelope.clone();
    bus.messaging().publish_raw(garbage.clone()).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.count(), 0);
    let dead = bus.dead_letters("billing");
    assert_eq!(dead.len(), 2, "`null` is no order either");
    let dead = dead.into_iter().find(|dead| dead.message.payload == garbage.payload).unwrap();
    assert_eq!((dead.letter.attempts, lasted(&dead.letter)), (1, Duration::ZERO));
    let error = &dead.letter.error;
    assert!(
        error.starts_with(r#"the data of event "orders.created" on topic "order-events" does not decode: "#),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn permanent_failures_are_not_tried_again() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let _running = bus.messaging().run_one(attempts(&seen, |_| Err(HandlerError::permanent("no such account")))).await;
    bus.publish(&order(1, 0)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.all(), [(1, 0)]);
    assert_eq!((only(&bus).letter.attempts, only(&bus).letter.error.as_str()), (1, "no such account"));
}

#[tokio::test(start_paused = true)]
async fn failures_of_infrastructure_count_as_no_attempt() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let noted = seen.clone();
    let away = attempts(&Seen::new(), move |attempt| {
        noted.add(attempt);
        if noted.count() < 8 { Err(HandlerError::infrastructure("database is locked")) } else { Ok(()) }
    });
    let _running = bus.messaging().run_one(away).await.unwrap();
    bus.publish(&order(1, 0)).await.unwrap();
    bus.settled_within(Duration::from_secs(60)).await.unwrap();
    assert_eq!(seen.all(), [1; 8]);
    assert_eq!(bus.dead_letters("billing"), []);
}

#[tokio::test(start_paused = true)]
async fn a_partition_held_too_long_by_infrastructure_is_given_up_and_comes_again() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let watch = Watch::start();
    let noted = seen.clone();
    let handler = move |_: Event<OrderCreated>, fence: messaging::Fence| {
        let seen = noted.clone();
        async move {
            seen.add(fence.epoch);
            if watch.ms() < 10_000 { Err(HandlerError::infrastructure("away")) } else { Ok(()) }
        }
    };
    let mut policy = exact();
    policy.max_hold = millis(5_000);
    let router = Router::new("billing").topic(TOPIC).on_event("orders.created", handler).failure_policy(policy);
    let _running = bus.messaging().run_one(router).await.unwrap();
    bus.publish(&order(1, 0)).await.unwrap();
    bus.settled_within(Duration::from_secs(60)).await.unwrap();
    let epochs = seen.all();
    assert!(epochs.is_sorted() && epochs.last() > Some(&1), "{epochs:?}");
    assert_eq!(bus.dead_letters("billing"), []);
}

#[tokio::test(start_paused = true)]
async fn a_failing_lane_holds_up_no_other() {
    let (bus, seen, watch) = (MemoryBroker::builder().partitions(1).build().unwrap(), Seen::new(), Watch::start());
    let noted = seen.clone();
    let handler = move |event: Event<OrderCreated>| {
        let seen = noted.clone();
        async move {
            seen.add((event.data.order_id, event.data.sequence, watch.ms()));
            if event.data == order(1, 0) { Err(HandlerError::transient("away")) } else { Ok(()) }
        }
    };
    let router = Router::new("billing")
        .topic(TOPIC)
        .on_event("orders.created", handler)
        .failure_policy(exact().max_attempts(2))
        .concurrency(1);
    let _running = bus.messaging().run_one(router).await.unwrap();
    for order in [order(1, 0), order(1, 1), order(2, 0), order(2, 1)] {
        bus.publish(&order).await.unwrap();
    }
    bus.settled().await.unwrap();
    assert_eq!(seen.all(), [(1, 0, 0), (2, 0, 0), (2, 1, 0), (1, 0, 200), (1, 1, 200)]);
}

#[tokio::test(start_paused = true)]
async fn a_held_key_follows_its_dead_letter_and_no_other_does() {
    let (bus, seen) = (MemoryBroker::builder().partitions(1).build().unwrap(), Seen::new());
    let noted = seen.clone();
    let handler = move |event: Event<OrderCreated>| {
        let seen = noted.clone();
        async move {
            seen.add((event.data.order_id, event.data.sequence));
            if event.data == order(1, 0) { Err(HandlerError::permanent("no such account")) } else { Ok(()) }
        }
    };
    let policy = exact().on_dead_letter(OnDeadLetter::HoldKey);
    let router = Router::new("billing").topic(TOPIC).on_event("orders.created", handler).failure_policy(policy);
    let _running = bus.messaging().run_one(router).await.unwrap();
    for order in [order(1, 0), order(1, 1), order(2, 0), order(1, 2)] {
        bus.publish(&order).await.unwrap();
    }
    bus.settled().await.unwrap();
    bus.publish(&order(1, 3)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.all(), [(1, 0), (2, 0)]);
    let dead = bus.dead_letters("billing");
    let letters: Vec<_> = dead
        .iter()
        .map(|dead| {
            let order: OrderCreated = serde_json::from_slice(&dead.message.payload).unwrap();
            (order.sequence, dead.letter.attempts, dead.letter.error.as_str())
        })
        .collect();
    let follows = "follows a dead letter of its key";
    assert_eq!(letters, [(0, 1, "no such account"), (1, 0, follows), (2, 0, follows), (3, 0, follows)]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_handles_is_skipped_or_dead_lettered() {
    for (on_unhandled, expected) in [(OnUnhandled::Skip, 0), (OnUnhandled::DeadLetter, 2)] {
        let (bus, seen) = (MemoryBroker::new(), Seen::new());
        let router = attempts(&seen, |_| Ok(())).on_unhandled(on_unhandled);
        let _running = bus.messaging().run_one(router).await.unwrap();
        bus.messaging().publish_event(Event::named("orders.unheard", TOPIC, 1)).await.unwrap();
        bus.messaging().publish_raw(Message::new(TOPIC, "raw")).await.unwrap();
        bus.publish(&order(1, 0)).await.unwrap();
        bus.settled().await.unwrap();
        assert_eq!(seen.count(), 1);
        let dead = bus.dead_letters("billing");
        assert_eq!(dead.len(), expected);
        if let Some(first) = dead.iter().find(|dead| dead.message.name().is_some()) {
            assert_eq!(first.letter.error, r#"no handler for event "orders.unheard""#);
            assert_eq!((first.letter.attempts, first.letter.handler.as_str()), (0, TOPIC));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_have_a_policy_of_its_own() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let noted = seen.clone();
    let raw = move |message: Json<Value>| {
        noted.add(message.0);
        async { Err::<(), _>(HandlerError::transient("never")) }
    };
    let route = Route::message("raw", raw).failure_policy(FailurePolicy::immediate().max_attempts(2));
    let _running = bus.messaging().run_one(attempts(&Seen::new(), |_| Ok(())).route(route)).await.unwrap();
    let watch = Watch::start();
    bus.messaging().publish_raw(Message::new("raw", "[1]")).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!((seen.all(), watch.ms()), (vec![serde_json::json!([1]); 2], 0));
    assert_eq!((only(&bus).letter.handler.as_str(), only(&bus).letter.attempts), ("raw", 2));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_whose_confirm_is_lost_stands_once() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let _running = bus.messaging().run_one(attempts(&seen, |_| Err(HandlerError::permanent("no")))).await.unwrap();
    bus.fail_next_dead_letter(2, Fault::LoseConfirm);
    bus.publish(&order(1, 0)).await.unwrap();
    bus.settled().await.unwrap();
    tokio::time::sleep(millis(10_000)).await;
    assert_eq!((seen.count(), bus.dead_letters("billing").len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_refused_gets_smaller_until_it_is_taken() {
    for (refusals, shape) in [(1, Shape::WithoutError), (2, Shape::WithoutHeaders), (3, Shape::Pointer)] {
        let bus = MemoryBroker::new();
        let router = attempts(&Seen::new(), |_| Err(HandlerError::permanent("no")));
        let _running = bus.messaging().run_one(router).await.unwrap();
        bus.fail_next_dead_letter(refusals, Fault::Refuse("too large".to_owned()));
        bus.messaging().publish_event(Event::new(order(1, 0)).with_header("tenant", "a")).await.unwrap();
        bus.settled().await.unwrap();
        let DeadLettered { letter, message, .. } = only(&bus);
        assert_eq!((letter.shape, letter.error.as_str()), (shape, ""));
        assert_eq!(message.payload.is_empty(), shape == Shape::Pointer);
        assert_eq!(message.headers.get("tenant").is_some(), shape == Shape::WithoutError);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_refused_in_every_shape_makes_the_partition_stuck_until_it_is_taken() {
    let (bus, seen) = (MemoryBroker::new(), Seen::new());
    let running = bus.messaging().run_one(attempts(&seen, |_| Err(HandlerError::permanent("no")))).await.unwrap();
    bus.fail_next_dead_letter(usize::MAX, Fault::Refuse("never".to_owned()));
    bus.publish(&order(1, 0)).await.unwrap();
    let pending = bus.settled().await.unwrap_err().pending;
    assert!(pending.iter().any(|line| line.contains("orders.created") && line.contains("parked")), "{pending:?}");
    assert_eq!((running.health().stuck_partitions, running.health().is_good()), (1, false));
    bus.stop_failing();
    bus.settled_within(Duration::from_secs(31)).await.unwrap();
    assert!(running.health().is_good());
    assert_eq!((seen.count(), only(&bus).letter.attempts), (1, 1));
}
