//! The bus by its address and its builder, and what is refused.

use std::{sync::Arc, time::Duration};

use messaging::{
    Backend, Broker, Capabilities, Capability, ErrorKind, Fence, MessagingConfig, Router, TopicInfo, TopicSpec,
    configure_messaging,
};
use messaging_memory::{MemoryBackend, MemoryBroker};

use crate::given::{Seen, TOPIC, notes, order};

fn backends() -> Vec<Box<dyn Backend>> {
    vec![Box::new(MemoryBackend)]
}

async fn refused(url: &str) -> String {
    let error = configure_messaging(&MessagingConfig::from_url(url).unwrap(), backends()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error.to_string()
}

#[tokio::test]
async fn an_address_sets_the_options() {
    let url = "memory:?partitions=3&retain=10&max_messages=20&max_message_bytes=1000&lease=6s";
    let messaging = configure_messaging(&MessagingConfig::from_url(url).unwrap(), backends()).await.unwrap();
    assert_eq!(messaging.capabilities().max_message_bytes, 1_000);
    assert!(messaging.capabilities().gates_on_validity);
    messaging.publish(&order(1, 0)).await.unwrap();
    assert_eq!(messaging.admin().describe(TOPIC).await.unwrap(), Some(TopicInfo::new(TOPIC, 3)));
    assert_eq!(messaging.admin().describe("elsewhere").await.unwrap(), None);
}

#[tokio::test]
async fn wrong_options_are_refused_by_name() {
    for (url, words) in [
        ("memory:?partitions=0", vec!["partitions", "at least 1"]),
        ("memory:?partitions=many", vec!["partitions", "many"]),
        ("memory:?max_messages=0", vec!["max_messages", "at least 1"]),
        ("memory:?max_message_bytes=0", vec!["max_message_bytes"]),
        ("memory:?lease=1ms", vec!["lease", "10 ms"]),
        ("memory:?lease=soon", vec!["lease", "soon"]),
        ("memory:?partition=4", vec!["partition", "partitions, retain, max_messages, max_message_bytes, lease"]),
        ("memory://localhost:9092", vec!["localhost:9092", "host"]),
        ("memory:///name", vec!["name", "path"]),
        ("kafka://localhost:9092", vec!["kafka", "memory"]),
    ] {
        let error = refused(url).await;
        assert!(words.iter().all(|word| error.contains(word)), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_program_that_takes_backends_can_be_given_this_bus() {
    let (bus, seen) = (MemoryBroker::builder().partitions(2).build().unwrap(), Seen::new());
    let config = MessagingConfig::from_url("memory:").unwrap().source("orders");
    let program = configure_messaging(&config, vec![bus.backend()]).await.unwrap();
    let _running = bus.messaging().run_one(notes("billing", &seen)).await.unwrap();
    program.publish(&order(1, 0)).await.unwrap();
    bus.settled().await.unwrap();
    assert_eq!(seen.count(), 1);
    assert_eq!(bus.messages(TOPIC)[0].envelope.as_ref().unwrap().source, "orders");
    let config = MessagingConfig::from_url("memory:?partitions=3").unwrap();
    let error = configure_messaging(&config, vec![bus.backend()]).await.unwrap_err().to_string();
    assert!(error.contains("partitions"), "{error}");
}

#[tokio::test]
async fn each_connection_has_a_bus_of_its_own() {
    let config = MessagingConfig::from_url("memory:").unwrap();
    let (one, other) = (
        configure_messaging(&config, backends()).await.unwrap(),
        configure_messaging(&config, backends()).await.unwrap(),
    );
    one.publish(&order(1, 0)).await.unwrap();
    assert_eq!(other.admin().describe(TOPIC).await.unwrap(), None);
}

#[tokio::test]
async fn what_the_bus_cannot_do_is_refused_at_the_start() {
    let bus = MemoryBroker::new();
    let wants = |capability| notes("billing", &Seen::new()).requires(capability);
    for capability in [Capability::Durable, Capability::CountsDeaths] {
        let error = bus.messaging().run_one(wants(capability)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let (name, error) = (capability.as_str(), error.to_string());
        assert!(error.contains(name) && error.contains("memory") && error.contains("billing"), "{error}");
    }
    assert_eq!(bus.consumers("billing"), [], "nothing has joined");
    for capability in Capability::ALL {
        if bus.capabilities().has(capability) {
            drop(bus.messaging().run_one(wants(capability)).await.unwrap());
        }
    }
}

#[tokio::test]
async fn a_router_is_checked_against_backends_by_configuration_alone() {
    async fn writes_elsewhere(_: Fence) {}
    let router: Router = Router::new("billing").on_message("invoices", writes_elsewhere);
    let bus = MemoryBroker::new();
    router.check(bus.name(), bus.capabilities()).unwrap();
    let error = router.check("amqp", &Capabilities::none(1)).unwrap_err().to_string();
    assert!(error.contains("fencing_token") && error.contains("amqp"), "{error}");
}

#[tokio::test]
async fn topics_are_made_as_they_are_wanted_and_a_contradiction_names_both_counts() {
    let bus = MemoryBroker::new();
    let admin = bus.messaging().admin();
    let mut spec = TopicSpec::default();
    spec.partitions = 4;
    for _ in 0..2 {
        assert_eq!(admin.ensure_topic("invoices", &spec).await.unwrap(), TopicInfo::new("invoices", 4));
    }
    spec.partitions = 5;
    let error = admin.ensure_topic("invoices", &spec).await.unwrap_err().to_string();
    assert!(error.contains("invoices") && error.contains('4') && error.contains('5'), "{error}");
    spec.partitions = 0;
    assert!(admin.ensure_topic("more", &spec).await.is_err());
    assert!(admin.ensure_topic("not a name", &TopicSpec::default()).await.is_err());
}

#[tokio::test]
async fn a_retention_that_would_not_be_kept_is_refused() {
    let bus = MemoryBroker::new();
    let admin = bus.messaging().admin();
    let (mut by_age, mut by_bytes) = (TopicSpec::default(), TopicSpec::default());
    by_age.retention = Some(Duration::from_secs(60));
    by_bytes.retention_bytes = Some(1_000_000);
    for spec in [by_age, by_bytes] {
        let error = admin.ensure_topic("invoices", &spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("invoices") && error.to_string().contains("retention"), "{error}");
        assert_eq!(admin.describe("invoices").await.unwrap(), None);
    }
}

#[tokio::test]
async fn faults_on_what_is_not_there_are_errors() {
    let bus = MemoryBroker::new();
    assert!(bus.revoke("billing", TOPIC, 0).unwrap_err().to_string().contains("billing"));
    let running = bus.messaging().run_one(notes("billing", &Seen::new())).await.unwrap();
    let consumer = bus.consumers("billing")[0];
    drop(running);
    tokio::task::yield_now().await;
    for error in [bus.crash(consumer), bus.restore(consumer)] {
        assert!(error.unwrap_err().to_string().contains("no consumer"));
    }
}

#[tokio::test]
async fn a_bus_goes_with_its_last_handle_also_while_publishes_wait_to_be_settled() {
    let bus = MemoryBroker::new();
    let dropped = Arc::new(());
    let held = Arc::downgrade(&dropped);
    let router = Router::new("billing").on_message("raw", move || {
        let _held = dropped.clone();
        async {}
    });
    let running = bus.messaging().run_one(router).await.unwrap();
    running.shutdown(std::time::Duration::ZERO).await.unwrap();
    let messaging = bus.messaging();
    drop(bus);
    let waiting = tokio::spawn(async move {
        messaging.publish_until_settled(vec![Arc::new(messaging::Message::new("raw", ""))]).await.unwrap().len()
    });
    tokio::task::yield_now().await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert_eq!(held.strong_count(), 0);
}
