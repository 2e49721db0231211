//! What is declared, and what is said if it cannot be.

use std::time::Duration;

use messaging::{Backend as _, ErrorKind, FailurePolicy, Router, TopicSpec};
use messaging_rabbitmq::RabbitMqBackend;

use crate::given::{Diary, SOON, connect, member, name, shared, topic};

/// The error with which a connection by this address ends.
async fn refusal(url: &str) -> messaging::Error {
    match RabbitMqBackend.connect(&url.parse().unwrap()).await {
        Ok(_) => panic!("it was let in"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clash_is_told_with_both_values() {
    let Some(rabbitmq) = shared().await else { return };
    let messaging = connect(&rabbitmq.url()).await;
    let (topic, group) = (topic(&messaging, 3).await, name("group"));
    let mut spec = TopicSpec::default();
    spec.partitions = 5;
    let error = messaging.admin().ensure_topic(&topic, &spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains(&topic) && error.to_string().contains("3 in the broker, and 5"), "{error}");
    // The same by the address, and for the window.
    for (option, both) in [("partitions=4", "partitions 3 in the broker, and 4"), ("prefetch=99", "prefetch 256")] {
        let other = connect(&format!("{}?{option}", rabbitmq.url())).await;
        let error = other.run_one(Diary::default().router("it", &group, &topic)).await.unwrap_err();
        assert!(error.to_string().contains(both), "{error}");
        other.close(SOON).await.unwrap();
    }
    // Queues that are there already are of another kind.
    let running = member(&messaging, &Diary::default(), "it", &group, &topic).await;
    running.shutdown(SOON).await.unwrap();
    let classic = connect(&format!("{}?queue_type=classic", rabbitmq.url())).await;
    let error = classic.run_one(Diary::default().router("it", &group, &topic)).await.unwrap_err();
    let told = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Config);
    for part in [format!("{topic}:{group}:0").as_str(), "x-queue-type", "classic", "quorum"] {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
    classic.close(SOON).await.unwrap();
    messaging.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_let_in_is_told_which_setting_is_wrong_and_no_secret() {
    let Some(rabbitmq) = shared().await else { return };
    let url = rabbitmq.url();
    let authority = url.split('@').nth(1).unwrap().split('/').next().unwrap();
    let error = refusal(&format!("amqp://guest:guest@{authority}/nowhere")).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("virtual host") && error.to_string().contains("nowhere"), "{error}");
    let error = refusal(&format!("amqp://guest:hush-hush@{authority}/")).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("user") && error.to_string().contains("guest"), "{error}");
    assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_holds_messages_for_longer_than_the_broker_lets_it_is_refused() {
    let Some(rabbitmq) = shared().await else { return };
    let messaging = connect(&format!("{}?consumer_timeout=10m", rabbitmq.url())).await;
    let (topic, diary) = (topic(&messaging, 1).await, Diary::default());
    let holding = |hold: Duration| {
        let mut policy = FailurePolicy::default();
        policy.max_hold = hold;
        diary.router("it", &name("group"), &topic).failure_policy(policy)
    };
    let refused: Router = holding(Duration::from_secs(300));
    let error = messaging.run_one(refused).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("max_hold = 300 s") && error.to_string().contains("600 s"), "{error}");
    let running = messaging.run_one(holding(Duration::from_secs(299))).await.unwrap();
    running.shutdown(SOON).await.unwrap();
    messaging.close(SOON).await.unwrap();
}
