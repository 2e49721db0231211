//! Publishing: what is confirmed arrives, and what cannot be is told.

use std::time::{Duration, Instant};

use messaging::{Backend as _, ErrorKind, Message, Messaging, MessagingOptions, Outcome};
use messaging_rabbitmq::RabbitMqBackend;
use test_brokers::{RabbitMq, or_skip};

use crate::given::{Diary, SOON, connect, member, name, numbered, shared, show_logs, topic};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_handled_in_the_order_of_its_key() {
    let Some(rabbitmq) = shared().await else { return };
    let messaging = connect(&rabbitmq.url()).await;
    let (topic, group, diary) = (topic(&messaging, 4).await, name("group"), Diary::default());
    let running = member(&messaging, &diary, "one", &group, &topic).await;
    for batch in 0..10 {
        let messages = (0..100).map(|index| numbered(&topic, &format!("key-{}", index % 7), batch * 100 + index));
        for outcome in messaging.publish_messages(messages.collect()).await {
            outcome.confirmed().unwrap();
        }
    }
    diary.until("all are handled", SOON, |seen| seen.len() >= 1_000).await;
    diary.assert_in_order();
    running.shutdown(SOON).await.unwrap();
    assert_eq!(diary.all().len(), 1_000);
    let left: u64 = messaging.admin().progress(&group, &topic).await.unwrap().iter().map(|row| row.lag).sum();
    assert_eq!(left, 0);
    messaging.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_without_a_group_takes_no_message_until_there_is_one() {
    let Some(rabbitmq) = shared().await else { return };
    let messaging = connect(&rabbitmq.url()).await;
    let topic = topic(&messaging, 2).await;
    let error = messaging.publish_raw(Message::new(topic.as_str(), "x")).await.unwrap_err();
    assert!(error.to_string().contains(&topic) && error.is_transient(), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let diary = Diary::default();
    let running = member(&messaging, &diary, "one", &name("group"), &topic).await;
    messaging.publish_raw(Message::new(topic.as_str(), "y")).await.unwrap();
    diary.until("it arrives", SOON, |seen| seen.len() == 1).await;
    running.shutdown(SOON).await.unwrap();
    messaging.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_is_rejected_and_what_a_full_queue_refuses_is_unknown() {
    let Some(rabbitmq) = shared().await else { return };
    let messaging = connect(&rabbitmq.url()).await;
    let (topic, diary) = (topic(&messaging, 1).await, Diary::default());
    let message = |number| numbered(&topic, "key", number);
    let outcomes = messaging.publish_messages(vec![message(0)]).await;
    assert!(matches!(&outcomes[..], [Outcome::Rejected(error)] if error.is_transient()), "{outcomes:?}");
    // Two groups; the queue of one is full at once.
    let (full, other) = (name("full"), name("other"));
    for group in [&full, &other] {
        member(&messaging, &diary, "nobody", group, &topic).await.shutdown(SOON).await.unwrap();
    }
    let pattern = format!("^{topic}:{full}:");
    let limit = r#"{"max-length":2,"overflow":"reject-publish"}"#;
    let policy = ["set_policy", full.as_str(), pattern.as_str(), limit, "--apply-to", "queues"];
    rabbitmq.control(policy).await.unwrap();
    let mut unknown = Vec::new();
    for number in 1..20 {
        match messaging.publish_messages(vec![message(number)]).await.remove(0) {
            Outcome::Confirmed(_) => {}
            Outcome::Unknown(_) => unknown.push(number),
            other => panic!("{other:?}"),
        }
    }
    assert!(!unknown.is_empty(), "the queue takes everything");
    // It was right not to say that they are nowhere.
    let running = member(&messaging, &diary, "other", &other, &topic).await;
    diary.until("the other group has all", SOON, |seen| seen.len() == 19).await;
    running.shutdown(SOON).await.unwrap();
    messaging.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_blocks_makes_publishers_wait_until_their_deadline() {
    show_logs();
    let Some(rabbitmq) = or_skip(RabbitMq::start_new().await) else { return };
    let mut options = MessagingOptions::default();
    options.publisher.deadline = Duration::from_secs(2);
    let broker = RabbitMqBackend.connect(&rabbitmq.url().parse().unwrap()).await.unwrap();
    let messaging = Messaging::new(broker, options).await.unwrap();
    let (topic, diary) = (topic(&messaging, 2).await, Diary::default());
    let running = member(&messaging, &diary, "it", &name("group"), &topic).await;
    messaging.publish_raw(Message::new(topic.as_str(), "before")).await.unwrap();
    rabbitmq.control(["set_vm_memory_high_watermark", "0.000001"]).await.unwrap();
    // The broker blocks a connection with the first that it publishes, which may or may not be stored.
    let first = messaging.publish_messages(vec![numbered(&topic, "key", 1)]).await.remove(0);
    assert!(!matches!(first, Outcome::Confirmed(_)), "{first:?}");
    let began = Instant::now();
    let waiting = messaging.publish_messages(vec![numbered(&topic, "key", 2)]).await.remove(0);
    let took = began.elapsed();
    assert!(matches!(&waiting, Outcome::Rejected(error) if error.to_string().contains("block")), "{waiting:?}");
    assert!((Duration::from_millis(1_500)..Duration::from_secs(4)).contains(&took), "{took:?}");
    // Whoever waits when it ends gets through.
    let message = numbered(&topic, "key", 3);
    let (outcomes, freed) = tokio::join!(
        messaging.publish_messages(vec![message]),
        rabbitmq.control(["set_vm_memory_high_watermark", "0.4"])
    );
    freed.unwrap();
    let mut outcome = outcomes.into_iter().next().unwrap();
    if matches!(outcome, Outcome::Rejected(_)) {
        // The tool that frees it took longer than the deadline.
        outcome = messaging.publish_messages(vec![numbered(&topic, "key", 4)]).await.remove(0);
    }
    outcome.confirmed().unwrap();
    diary.until("it arrives", SOON, |seen| seen.iter().any(|seen| seen.text == "3" || seen.text == "4")).await;
    running.shutdown(SOON).await.unwrap();
    messaging.close(SOON).await.unwrap();
}
