//! Assignments that lapse while nobody hears from the broker, and are lost with their connection.

use std::{collections::HashSet, sync::Arc, time::Duration};

use messaging::{Delivery, Router};
use test_brokers::Faults;
use tokio::sync::Semaphore;

use crate::given::{Diary, SOON, connect, name, numbered, shared, topic};

/// Groups that lose their connections at the same moment: each is another chance for what ends then to end in any order.
const GROUPS: usize = 12;
const MESSAGES: usize = 64;
/// More than what is left of an assignment when the broker falls silent: 1.8 heartbeats of two seconds.
const LAPSE: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_under_a_lapsed_assignment_comes_again_under_the_next() {
    let Some(rabbitmq) = shared().await else { return };
    let (messaging, way) = (connect(&rabbitmq.url()).await, rabbitmq.route().await.unwrap());
    let (topic, permits) = (topic(&messaging, 8).await, Arc::new(Semaphore::new(0)));
    let behind = connect(&format!("{}?heartbeat=2s", way.url())).await;
    let mut groups = Vec::new();
    for _ in 0..GROUPS {
        let (diary, permits, group) = (Diary::default(), permits.clone(), name("group"));
        let seen = diary.clone();
        // One at a time: the others wait in the window.
        let router = Router::new(group).concurrency(1).on_message(topic.as_str(), move |delivery: Delivery| {
            seen.write("member", &delivery);
            let permits = permits.clone();
            async move {
                if let Ok(permit) = permits.acquire().await {
                    permit.forget();
                }
            }
        });
        groups.push((diary, behind.run_one(router).await.unwrap()));
    }
    let messages = (0..MESSAGES as u64).map(|number| numbered(&topic, &format!("key-{number}"), number));
    for outcome in messaging.publish_messages(messages.collect()).await {
        outcome.confirmed().unwrap();
    }
    for (diary, _) in &groups {
        diary.until("one is handled", SOON, |seen| !seen.is_empty()).await;
    }
    way.set(&Faults::new().black_hole());
    tokio::time::sleep(LAPSE).await;
    permits.add_permits(GROUPS * MESSAGES * 4);
    way.heal();
    let distinct = |seen: &[crate::given::Seen]| seen.iter().map(|seen| &seen.text).collect::<HashSet<_>>().len();
    for (diary, running) in groups {
        diary.until("everything is handled", SOON, |seen| distinct(seen) == MESSAGES).await;
        running.shutdown(SOON).await.unwrap();
    }
}
