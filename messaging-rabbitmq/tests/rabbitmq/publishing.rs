//! Publishing: what is confirmed arrives, and what cannot be is told.

use messaging::{ErrorKind, Message};

use crate::given::{Diary, SOON, connect, member, name, numbered, shared, topic};

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
