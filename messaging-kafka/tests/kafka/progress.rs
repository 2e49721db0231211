//! A group's progress at the broker: what is committed, read, forgotten and repaired.

use std::{sync::Arc, time::Duration};

use messaging::{FailurePolicy, GroupProgress, HandlerError, Message, Messaging, Position, Start};
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    config::ClientConfig,
    consumer::{BaseConsumer, CommitMode, Consumer},
};

use crate::given::{PATIENCE, Seen, connect, kafka, messaging, numbered, publish, stop, topic, unique};

async fn progress(messaging: &Messaging, group: &str, topic: &str) -> GroupProgress {
    messaging.admin().progress(group, topic).await.unwrap().remove(0)
}

/// Waits until the broker says so.
async fn until(messaging: &Messaging, group: &str, topic: &str, is: impl Fn(&GroupProgress) -> bool) {
    let look = async {
        while !is(&progress(messaging, group, topic).await) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let result = tokio::time::timeout(PATIENCE, look).await;
    assert!(result.is_ok(), "still {:?}", progress(messaging, group, topic).await);
}

/// Thousands finish behind one that does not: the broker learns of them all, and nothing of it comes again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_finished_behind_an_unfinished_message_is_committed_too() {
    let messaging = messaging().await;
    let (topic, group) = (topic(&messaging, 1).await, unique("group"));
    let seen = Seen::new();
    let first_fails =
        |number: u32| async move { if number == 0 { Err(HandlerError::transient("not now")) } else { Ok(()) } };
    let in_an_hour = Duration::from_secs(3_600);
    let policy = FailurePolicy::default().backoff(in_an_hour, in_an_hour);
    let router = seen.router(&group, &topic, first_fails).failure_policy(policy);
    let running = messaging.run_one(router).await.unwrap();
    messaging.publish_raw(Arc::unwrap_or_clone(numbered(&topic, "parked", 0))).await.unwrap();
    publish(&messaging, &topic, 100, 1..61).await;
    seen.until(6_000).await;
    until(&messaging, &group, &topic, |progress| progress.lag == 1).await;
    let left = progress(&messaging, &group, &topic).await;
    assert_eq!((left.watermark, left.lag), (None, 1), "the watermark waits, what is finished is known all the same");
    stop(running).await;

    let again = Seen::new();
    let running = messaging.run_one(again.quick(&group, &topic)).await.unwrap();
    until(&messaging, &group, &topic, |progress| progress.lag == 0).await;
    stop(running).await;
    let started: Vec<_> = again.starts().into_iter().map(|(key, number, _)| (key, number)).collect();
    assert_eq!(started, [("parked".to_owned(), 0)], "nothing that was finished came again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_reset_is_where_the_group_goes_on() {
    let messaging = messaging().await;
    let (topic, group) = (topic(&messaging, 1).await, unique("group"));
    publish(&messaging, &topic, 1, 0..50).await;
    let seen = Seen::new();
    let running = messaging.run_one(seen.quick(&group, &topic)).await.unwrap();
    seen.until(50).await;
    stop(running).await;
    // As `kafka-consumer-groups --reset-offsets` does it: an offset, and no metadata.
    let (servers, reset, of) = (kafka().await.authority(), topic.clone(), group.clone());
    let commit = move || {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", servers).set("group.id", of).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&reset, 0, Offset::Offset(30)).unwrap();
        consumer.commit(&list, CommitMode::Sync).unwrap();
    };
    tokio::task::spawn_blocking(commit).await.unwrap();
    let again = Seen::new();
    let running = messaging.run_one(again.quick(&group, &topic)).await.unwrap();
    again.until(20).await;
    stop(running).await;
    assert_eq!(again.starts().first().map(|(_, number, _)| *number), Some(30));
    assert_eq!(again.distinct(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_grow_from_owner_to_owner_and_also_over_forgotten_progress() {
    let messaging = messaging().await;
    let (topic, group) = (topic(&messaging, 1).await, unique("group"));
    let mut epochs = Vec::new();
    for round in 0..4 {
        let seen = Seen::new();
        publish(&messaging, &topic, 1, 0..1).await;
        let url = format!("{}?expired_offsets=earliest", kafka().await.url());
        let running = connect(&url).await.run_one(seen.quick(&group, &topic)).await.unwrap();
        seen.until(1).await;
        stop(running).await;
        epochs.push(seen.starts()[0].2);
        if round == 2 {
            forget(&group).await;
        }
    }
    assert!(epochs.windows(2).all(|pair| pair[0] < pair[1]), "{epochs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_progress_expired_is_asked_what_it_wants() {
    let messaging = messaging().await;
    let (topic, group) = (topic(&messaging, 2).await, unique("group"));
    let seen = Seen::new();
    let running = messaging.run_one(seen.quick(&group, &topic).start(Start::Latest)).await.unwrap();
    publish(&messaging, &topic, 10, 0..1).await;
    seen.until(10).await;
    stop(running).await;
    forget(&group).await;
    publish(&messaging, &topic, 10, 1..2).await;

    let error = messaging.run_one(seen.quick(&group, &topic).start(Start::Latest)).await.unwrap_err().to_string();
    for word in [group.as_str(), topic.as_str(), "expired_offsets", "earliest", "latest"] {
        assert!(error.contains(word), "{error}");
    }
    let decided = connect(&format!("{}?expired_offsets=earliest", kafka().await.url())).await;
    let running = decided.run_one(seen.quick(&group, &topic).start(Start::Latest)).await.unwrap();
    seen.until(20).await;
    stop(running).await;
}

/// The broker drops a group's progress, as it does when nobody was there for long.
async fn forget(group: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka().await.authority()).create().unwrap();
    let gone = admin.delete_groups(&[group], &AdminOptions::new()).await.unwrap();
    gone.into_iter().for_each(|group| drop(group.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn browsing_starts_anywhere_and_ends_at_the_end() {
    let messaging = messaging().await;
    let topic = topic(&messaging, 2).await;
    let messages = (0..30u32).map(|number| Arc::new(Message::new(topic.clone(), number.to_string()).with_key("k")));
    let receipts = messaging.publish_messages(messages.collect()).await;
    let partition = receipts.into_iter().next().unwrap().confirmed().unwrap().partition;
    let admin = messaging.admin();
    let numbers = |from: u64, limit: usize| {
        let (admin, topic) = (admin.clone(), topic.clone());
        async move {
            let read = admin.browse(&topic, partition, Position::new(from), limit).await.unwrap();
            read.iter()
                .map(|delivery| String::from_utf8(delivery.message.payload.to_vec()).unwrap())
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(numbers(0, 3).await, ["0", "1", "2"]);
    assert_eq!(numbers(28, 100).await, ["28", "29"]);
    assert!(numbers(30, 10).await.is_empty());
    assert!(admin.browse(&topic, 1 - partition, Position::new(0), 10).await.unwrap().is_empty());
    assert!(admin.browse(&topic, 7, Position::new(0), 1).await.unwrap_err().to_string().contains("no partition 7"));
    let group = unique("group");
    assert_eq!(progress(&messaging, &group, &topic).await.watermark, None, "looking leaves no trace");
}
