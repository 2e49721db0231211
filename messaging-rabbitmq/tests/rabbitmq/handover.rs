//! Partitions that pass from one member to another, and queues that somebody deletes.

use std::{collections::HashSet, time::Duration};

use lapin::options::QueueDeleteOptions;
use messaging::{Delivery, HandlerError, Router};

use crate::given::{Diary, SOON, Seen, connect, member, name, numbered, shared, topic};

const MESSAGES: usize = 6_000;

/// Records everything, and takes a moment for each message; every tenth fails at first, so that there are gaps in what is
/// finished.
fn slow(diary: &Diary, member: &'static str, group: &str, topic: &str) -> Router {
    let diary = diary.clone();
    Router::new(group).concurrency(16).on_message(topic, move |delivery: Delivery| {
        let diary = diary.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(..4))).await;
            if delivery.message.payload.ends_with(b"3") && delivery.attempt == 1 {
                return Err(HandlerError::transient("as the test wants it"));
            }
            diary.write(member, &delivery);
            Ok(())
        }
    })
}

fn distinct(seen: &[Seen]) -> usize {
    seen.iter().map(|seen| &seen.text).collect::<HashSet<_>>().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_come_and_go_lose_and_repeat_and_reorder_nothing() {
    let Some(rabbitmq) = shared().await else { return };
    let messaging = connect(&rabbitmq.url()).await;
    let (topic, group, diary) = (topic(&messaging, 4).await, name("group"), Diary::default());
    let first = messaging.run_one(slow(&diary, "first", &group, &topic)).await.unwrap();
    let publishing = tokio::spawn({
        let (messaging, topic) = (messaging.clone(), topic.clone());
        async move {
            for start in (0..MESSAGES as u64).step_by(40) {
                let batch = (start..start + 40).map(|number| numbered(&topic, &format!("key-{}", number % 50), number));
                for outcome in messaging.publish_messages(batch.collect()).await {
                    outcome.confirmed().unwrap();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    let works = |who: &'static str| move |seen: &[Seen]| seen.iter().filter(|seen| seen.member == who).count() > 200;
    diary.until("the first works", SOON, works("first")).await;
    let others = connect(&rabbitmq.url()).await;
    let second = others.run_one(slow(&diary, "second", &group, &topic)).await.unwrap();
    diary.until("the second works", SOON, works("second")).await;
    first.shutdown(SOON).await.unwrap();
    let third = others.run_one(slow(&diary, "third", &group, &topic)).await.unwrap();
    diary.until("the third works", SOON, works("third")).await;
    second.shutdown(SOON).await.unwrap();
    publishing.await.unwrap();
    diary.until("all are handled", SOON * 2, |seen| distinct(seen) == MESSAGES).await;
    third.shutdown(SOON).await.unwrap();
    diary.assert_in_order();
    assert_eq!(diary.all().len(), MESSAGES, "some came twice");
    messaging.close(SOON).await.unwrap();
    others.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_somebody_deletes_is_declared_anew() {
    let Some(rabbitmq) = shared().await else { return };
    let messaging = connect(&rabbitmq.url()).await;
    let (topic, group, diary) = (topic(&messaging, 2).await, name("group"), Diary::default());
    let running = member(&messaging, &diary, "it", &group, &topic).await;
    let own = lapin::Connection::connect(&rabbitmq.url(), lapin::ConnectionProperties::default()).await.unwrap();
    let channel = own.create_channel().await.unwrap();
    let queue = |partition| format!("{topic}:{group}:{partition}");
    for partition in 0..2 {
        channel.queue_delete(queue(partition).into(), QueueDeleteOptions::default()).await.unwrap();
    }
    // What is published while the queues come and go may go with them.
    let published = async {
        for number in 0.. {
            let _ = messaging.publish_messages(vec![numbered(&topic, "key", number)]).await;
            if !diary.all().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(SOON, published).await.unwrap();
    running.shutdown(SOON).await.unwrap();
    messaging.close(SOON).await.unwrap();
}
