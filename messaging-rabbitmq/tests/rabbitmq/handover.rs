//! Partitions that pass from one member to another: by joining, leaving, dying.

use std::{sync::Arc, time::Duration};

use messaging::{Delivery, Router};

use crate::given::{Diary, SOON, connect, name, numbered, shared, topic};

/// A router that records everything, and takes a moment for each message.
fn slow(diary: &Diary, member: &'static str, group: &str, topic: &str) -> Router {
    let diary = diary.clone();
    Router::new(group).concurrency(16).on_message(topic, move |delivery: Delivery| {
        let diary = diary.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(..4))).await;
            let number: u64 = delivery.message.key.as_ref().and(std::str::from_utf8(&delivery.message.payload).ok()).and_then(|text| text.parse().ok()).unwrap_or(0);
            // Gaps in what is finished: every tenth fails at first, on whichever member has it.
            if number % 10 == 3 && delivery.attempt == 1 {
                return Err(messaging::HandlerError::transient("as the test wants it"));
            }
            diary.write(member, &delivery);
            Ok(())
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_come_and_go_lose_and_reorder_nothing() {
    let Some(rabbitmq) = shared().await else { return };
    let messaging = connect(&rabbitmq.url()).await;
    let (topic, group, diary) = (topic(&messaging, 4).await, name("group"), Diary::default());
    let first = messaging.run_one(slow(&diary, "first", &group, &topic)).await.unwrap();
    let messages: Vec<_> = (0..8_000).map(|number| numbered(&topic, &format!("key-{}", number % 50), number)).collect();
    let publishing = tokio::spawn({
        let messaging = messaging.clone();
        async move {
            for batch in messages.chunks(40) {
                for outcome in messaging.publish_messages(batch.to_vec()).await {
                    outcome.confirmed().unwrap();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    let seen_by = |who: &'static str| move |seen: &[crate::given::Seen]| seen.iter().any(|seen| seen.member == who);
    diary.until("the first works", SOON, seen_by("first")).await;
    let (others, broker) = (connect(&rabbitmq.url()).await, Arc::new(()));
    let second = others.run_one(slow(&diary, "second", &group, &topic)).await.unwrap();
    diary.until("the second works", SOON, seen_by("second")).await;
    first.shutdown(SOON).await.unwrap();
    let third = others.run_one(slow(&diary, "third", &group, &topic)).await.unwrap();
    diary.until("the third works", SOON, seen_by("third")).await;
    second.shutdown(SOON).await.unwrap();
    publishing.await.unwrap();
    let distinct = |seen: &[crate::given::Seen]| {
        seen.iter().map(|seen| &seen.text).collect::<std::collections::HashSet<_>>().len()
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while distinct(&diary.all()) < 8_000 && std::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let queues = rabbitmq.control(["list_queues", "name", "messages_ready", "messages_unacknowledged", "consumers"]).await.unwrap();
    println!("{} {queues}", distinct(&diary.all()));
    diary.until("all are handled", SOON, |seen| distinct(seen) == 8_000).await;
    diary.assert_in_order();
    third.shutdown(SOON).await.unwrap();
    assert_eq!(diary.all().len(), 8_000, "some came twice");
    drop(broker);
    messaging.close(SOON).await.unwrap();
}
