//! What happens to a cluster and to a client, and passes.

use std::{sync::Arc, time::Duration};

use messaging::{Message, Outcome, TopicSpec};
use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use test_brokers::Kafka;

use crate::given::{PATIENCE, Seen, connect, log, numbered, stop, unique};

/// A node of three dies and comes back; nobody has to be told.
#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_lose_one_and_get_it_back() {
    log();
    let kafka = Kafka::options().nodes(3).routes(0).start().await.unwrap();
    let messaging = connect(&kafka.url()).await;
    let topic = unique("topic");
    let mut spec = TopicSpec::default();
    (spec.partitions, spec.replication) = (6, Some(3));
    messaging.admin().ensure_topic(&topic, &spec).await.unwrap();
    let seen = Seen::new();
    let running = messaging.run_one(seen.quick("healed", &topic)).await.unwrap();
    let mut confirmed = 0;
    for (round, node) in kafka.nodes().unwrap().iter().enumerate() {
        for number in 0..100 {
            if number == 30 {
                node.kill().await.unwrap();
            }
            let number = round as u32 * 100 + number;
            let messages = (0..12).map(|key| numbered(&topic, &format!("key-{key}"), number)).collect();
            for outcome in messaging.publish_messages(messages).await {
                outcome.confirmed().unwrap();
                confirmed += 1;
            }
        }
        seen.until(confirmed).await;
        node.start().await.unwrap();
    }
    stop(running).await;
    seen.assert_in_order();
    messaging.close(Duration::from_secs(10)).await.unwrap();
}

/// The broker has lost track of the idempotent producer: a fatal error to the client, not to the publisher.
#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_outlives_a_fatal_error_of_its_client() {
    log();
    let cluster = MockCluster::new(1).unwrap();
    let messaging =
        connect(&format!("kafka://{}?create_topics=false&connect_timeout=1s", cluster.bootstrap_servers())).await;
    cluster.create_topic("letters", 2, 1).unwrap();
    let message = |number: u32| Arc::new(Message::new("letters", number.to_string()).with_key("k"));
    messaging.publish_messages(vec![message(0)]).await.remove(0).confirmed().unwrap();
    let fatal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    cluster.request_errors(RDKafkaApiKey::Produce, &[fatal]);
    let outcome = messaging.publish_messages(vec![message(1)]).await.remove(0);
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    cluster.clear_request_errors(RDKafkaApiKey::Produce);
    let heals = async { while messaging.publish_messages(vec![message(2)]).await.remove(0).confirmed().is_err() {} };
    tokio::time::timeout(PATIENCE, heals).await.unwrap();
    messaging.close(Duration::from_secs(10)).await.unwrap();
}
