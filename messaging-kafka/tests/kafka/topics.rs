//! Topics: made when missing, found as they grow, limited as they are.

use std::{sync::Arc, time::Duration};

use messaging::{ErrorKind, Message, Outcome, dead_letter_topic};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    config::ClientConfig,
};

use crate::given::{PATIENCE, Seen, connect, kafka, messaging, publish, stop, topic, unique};

async fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", kafka().await.authority()).create().unwrap()
}

async fn setting(topic: &str, name: &str) -> Option<String> {
    let described = admin().await.describe_configs([&ResourceSpecifier::Topic(topic)], &AdminOptions::new()).await;
    described.unwrap().remove(0).unwrap().get(name).and_then(|entry| entry.value.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_made_as_the_address_says() {
    let url = format!("{}?partitions=3&retention=2h", kafka().await.url());
    let messaging = connect(&url).await;
    let published = unique("topic");
    let receipt = messaging.publish_raw(Message::new(published.clone(), "x").with_key("k")).await.unwrap();
    assert!(receipt.partition < 3);
    assert_eq!(messaging.admin().describe(&published).await.unwrap().unwrap().partitions, 3);
    assert_eq!(setting(&published, "retention.ms").await.as_deref(), Some("7200000"));

    let subscribed = unique("topic");
    let seen = Seen::new();
    let running = messaging.run_one(seen.quick("makers", &subscribed)).await.unwrap();
    assert_eq!(messaging.admin().describe(&subscribed).await.unwrap().unwrap().partitions, 3);
    let letters = dead_letter_topic(&subscribed, "makers");
    assert_eq!(messaging.admin().describe(&letters).await.unwrap().unwrap().partitions, 1);
    assert_eq!(
        setting(&letters, "retention.ms").await.as_deref(),
        Some("-1"),
        "nobody decides about letters but people"
    );
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_that_may_not_be_made_is_named() {
    let messaging = connect(&format!("{}?create_topics=false", kafka().await.url())).await;
    let missing = unique("topic");
    let error = messaging.publish_raw(Message::new(missing.clone(), "x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert!(error.to_string().contains(&missing) && error.to_string().contains("create_topics"), "{error}");
    let error = messaging.run_one(Seen::new().quick("refused", &missing)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains(&missing) && error.to_string().contains("create_topics"), "{error}");
    assert_eq!(messaging.admin().describe(&missing).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_finds_partitions_that_were_added() {
    let messaging = connect(&format!("{}?metadata_refresh=200ms", kafka().await.url())).await;
    let topic = topic(&messaging, 1).await;
    messaging.publish_raw(Message::new(topic.clone(), "x").with_key("k")).await.unwrap();
    admin().await.create_partitions([&NewPartitions::new(&topic, 5)], &AdminOptions::new()).await.unwrap();
    let everywhere = async {
        let mut reached = [false; 5];
        while !reached.iter().all(|reached| *reached) {
            let key = format!("{}", fastrand::u32(..));
            let receipt = messaging.publish_raw(Message::new(topic.clone(), "x").with_key(key)).await.unwrap();
            reached[receipt.partition as usize] = true;
        }
    };
    tokio::time::timeout(PATIENCE, everywhere).await.unwrap();
}

/// The broker refuses a batch of records as a whole if it is larger than the topic allows.
#[tokio::test(flavor = "multi_thread")]
async fn small_messages_get_through_where_large_batches_do_not() {
    let small = unique("topic");
    let new = NewTopic::new(&small, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "20000");
    admin().await.create_topics([&new], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    let messaging = messaging().await;
    let message = |bytes: usize| Arc::new(Message::new(small.clone(), vec![b'x'; bytes]).with_key("k"));
    let outcomes = messaging.publish_messages((0..200).map(|_| message(2_000)).collect()).await;
    let refused = outcomes.iter().find(|outcome| !matches!(outcome, Outcome::Confirmed(_)));
    assert!(refused.is_none(), "{refused:?}");
    let error = messaging.publish_raw(Message::new(small.clone(), vec![b'x'; 30_000])).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Rejected | ErrorKind::Unknown), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_gets_what_is_published_into_partitions_that_were_added() {
    let messaging = connect(&format!("{}?metadata_refresh=200ms", kafka().await.url())).await;
    let topic = topic(&messaging, 1).await;
    let seen = Seen::new();
    let running = messaging.run_one(seen.quick("latecomers", &topic).start(messaging::Start::Latest)).await.unwrap();
    publish(&messaging, &topic, 20, 0..1).await;
    seen.until(20).await;
    admin().await.create_partitions([&NewPartitions::new(&topic, 4)], &AdminOptions::new()).await.unwrap();
    // Another publisher, which knows of them at once: also what comes before the group has found them is the group's.
    let other = connect(&kafka().await.url()).await;
    publish(&other, &topic, 20, 1..4).await;
    seen.until(80).await;
    stop(running).await;
    assert_eq!(seen.repeats(), 0);
    messaging.close(Duration::from_secs(10)).await.unwrap();
}
