//! What is told of a group's progress.

use std::sync::Arc;

use messaging::{Delivery, Messaging, OPERATORS, Position, Router, Settler};
use tokio::sync::Semaphore;

use crate::given::{Diary, SOON, connect, name, numbered, shared, topic};

async fn lag(messaging: &Messaging, group: &str, topic: &str) -> u64 {
    messaging.admin().progress(group, topic).await.unwrap().iter().map(|row| row.lag).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_with_a_member_counts_as_not_settled() {
    let Some(rabbitmq) = shared().await else { return };
    let messaging = connect(&rabbitmq.url()).await;
    let (topic, group, diary, gate) =
        (topic(&messaging, 2).await, name("group"), Diary::default(), Arc::new(Semaphore::new(0)));
    let (seen, passed) = (diary.clone(), gate.clone());
    let router = Router::new(group.as_str()).concurrency(4).on_message(topic.as_str(), move |delivery: Delivery| {
        seen.write("it", &delivery);
        let passed = passed.clone();
        async move { passed.acquire().await.map(|permit| permit.forget()).map_err(messaging::HandlerError::transient) }
    });
    let running = messaging.run_one(router).await.unwrap();
    let messages = (0..40).map(|number| numbered(&topic, &format!("key-{}", number % 8), number)).collect();
    for outcome in messaging.publish_messages(messages).await {
        outcome.confirmed().unwrap();
    }
    diary.until("four run", SOON, |seen| seen.len() == 4).await;
    // Another one's connection asks.
    let other = connect(&rabbitmq.url()).await;
    assert_eq!(lag(&other, &group, &topic).await, 40);
    gate.add_permits(10);
    diary.until("ten are done", SOON, |seen| seen.len() == 14).await;
    while lag(&other, &group, &topic).await != 30 {}
    gate.add_permits(30);
    while lag(&other, &group, &topic).await != 0 {}
    running.shutdown(SOON).await.unwrap();
    assert_eq!(lag(&other, &group, &topic).await, 0);
    messaging.close(SOON).await.unwrap();
    other.close(SOON).await.unwrap();
}

/// A quorum queue writes down what it takes back, and counts it only then.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_is_seen_by_whoever_looks_next() {
    const MESSAGES: u64 = 400;
    let Some(rabbitmq) = shared().await else { return };
    let messaging = connect(&rabbitmq.url()).await;
    let topic = topic(&messaging, 1).await;
    let join = || Settler::join(&**messaging.broker(), OPERATORS, topic.as_str());
    join().await.unwrap().leave(SOON).await.unwrap();
    let messages = (0..MESSAGES).map(|number| numbered(&topic, "key", number)).collect();
    for outcome in messaging.publish_messages(messages).await {
        outcome.confirmed().unwrap();
    }
    for round in 0..8 {
        let mut operator = join().await.unwrap();
        operator.next(SOON).await.unwrap().expect("a message");
        operator.leave(SOON).await.unwrap();
        let seen = messaging.admin().browse(&topic, 0, Position::default(), 500).await.unwrap();
        let numbers = seen.iter().map(|one| String::from_utf8_lossy(&one.message.payload).into_owned());
        assert!(numbers.eq((0..MESSAGES).map(|number| number.to_string())), "{} in round {round}", seen.len());
    }
    messaging.close(SOON).await.unwrap();
}
