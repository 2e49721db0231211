//! Owners of a partition that die one soon after the other.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use lapin::{options::QueueDeclareOptions, types::FieldTable};
use messaging::{Delivery, Messaging, Router, Running};
use test_brokers::{RabbitMq, Route};
use tokio::sync::Semaphore;

use crate::given::{Diary, SOON, connect, name, numbered, shared, topic};

/// How often everything happens, each time in a group of its own.
const ROUNDS: u64 = 20;
const MESSAGES: u64 = 900;
const KEYS: u64 = 60;
/// Long enough for others to notice a silence and for the broker to hand over.
const PATIENCE: Duration = Duration::from_secs(90);

/// A member that can die: it comes by a way of its own, which is cut.
struct Mortal {
    way: Route,
    messaging: Messaging,
    running: Running,
}

impl Mortal {
    /// Handles as many messages as `permits` lets it.
    async fn start(
        rabbitmq: &RabbitMq,
        member: &'static str,
        (group, topic): (&str, &str),
        concurrency: usize,
        (diary, permits): (&Diary, &Arc<Semaphore>),
    ) -> Self {
        let way = rabbitmq.route().await.unwrap();
        let messaging = connect(&way.url()).await;
        let (diary, permits) = (diary.clone(), permits.clone());
        let router = Router::new(group).concurrency(concurrency).on_message(topic, move |delivery: Delivery| {
            diary.write(member, &delivery);
            let permits = permits.clone();
            async move {
                if let Ok(permit) = permits.acquire().await {
                    permit.forget();
                }
            }
        });
        let running = messaging.run_one(router).await.unwrap();
        Self { way, messaging, running }
    }

    /// Without a word to the broker.
    async fn die(self) {
        self.way.reset();
        drop(self.running);
        drop(self.messaging);
    }
}

/// How many messages of a queue are with nobody.
async fn ready(channel: &lapin::Channel, queue: &str) -> u64 {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap().message_count().into()
}

/// How many are with a member: what nobody has settled, without those that are with nobody.
async fn unacknowledged(
    messaging: &Messaging,
    (group, topic): (&str, &str),
    channel: &lapin::Channel,
    queue: &str,
) -> u64 {
    let unsettled = messaging.admin().progress(group, topic).await.unwrap().iter().map(|row| row.lag).sum::<u64>();
    unsettled.saturating_sub(ready(channel, queue).await)
}

async fn round(rabbitmq: &RabbitMq, messaging: &Messaging, channel: &lapin::Channel) {
    let (topic, group, diary) = (topic(messaging, 1).await, name("group"), Diary::default());
    let queue = format!("{topic}:{group}:0");
    let (few, free) = (Arc::new(Semaphore::new(fastrand::usize(..60))), Arc::new(Semaphore::new(1_000_000)));
    let names = (group.as_str(), topic.as_str());
    let first = Mortal::start(rabbitmq, "first", names, 16, (&diary, &few)).await;
    let messages = (0..MESSAGES).map(|number| numbered(&topic, &format!("key-{}", number % KEYS), number)).collect();
    for outcome in messaging.publish_messages(messages).await {
        outcome.confirmed().unwrap();
    }
    let second = Mortal::start(rabbitmq, "second", names, 3, (&diary, &few)).await;
    // Each has a whole window when it dies, of which it has settled what it could.
    for (member, mortal) in [("first", first), ("second", second)] {
        diary.until(member, PATIENCE, |seen| seen.iter().any(|seen| seen.member == member)).await;
        let asked = async { while unacknowledged(messaging, names, channel, &queue).await < 200 {} };
        tokio::time::timeout(PATIENCE, asked).await.unwrap();
        few.add_permits(fastrand::usize(..20));
        mortal.die().await;
    }
    let third = Mortal::start(rabbitmq, "third", names, 32, (&diary, &free)).await;
    let distinct = |seen: &[crate::given::Seen]| {
        seen.iter()
            .filter(|seen| seen.member == "third")
            .map(|seen| &seen.text)
            .collect::<std::collections::HashSet<_>>()
            .len()
    };
    let all = |seen: &[crate::given::Seen]| {
        seen.iter().map(|seen| &seen.text).collect::<std::collections::HashSet<_>>().len() == MESSAGES as usize
    };
    diary.until("everything is handled", PATIENCE, |seen| all(seen) && distinct(seen) > 0).await;
    diary.assert_in_order();
    third.running.shutdown(SOON).await.unwrap();
    third.messaging.close(SOON).await.unwrap();
    assert_eq!(ready(channel, &queue).await, 0);
}

/// More than the broker gives an owner comes back to the queue twice, each time before anybody else has had it: the order
/// of each lane is kept all the same, as every owner has the same window.
#[tokio::test(flavor = "multi_thread")]
async fn two_deaths_within_a_window_keep_the_order_of_lanes() {
    let Some(rabbitmq) = shared().await else { return };
    let messaging = connect(&rabbitmq.url()).await;
    let own = lapin::Connection::connect(&rabbitmq.url(), lapin::ConnectionProperties::default()).await.unwrap();
    for _ in 0..ROUNDS / 5 {
        let rounds = (0..5).map(|_| async {
            let channel = own.create_channel().await.unwrap();
            round(rabbitmq, &messaging, &channel).await;
        });
        join_all(rounds).await;
    }
    messaging.close(SOON).await.unwrap();
}
