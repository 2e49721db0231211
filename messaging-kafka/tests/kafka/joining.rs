//! A member joins, and the broker goes away before it has taken its partitions up.

use std::time::Duration;

use messaging::TopicSpec;
use test_brokers::Kafka;

use crate::given::{Seen, connect, log, publish, stop, unique};

/// How long after the member has started the broker goes, in milliseconds.
const MOMENTS: [u64; 4] = [20, 120, 250, 600];
const PARTITIONS: u32 = 24;
const KEYS: u32 = 96;

/// Every partition is read again when the broker is back, whatever the member had asked of its client when it went.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_were_being_taken_up_when_the_broker_went_are_read_when_it_is_back() {
    log();
    let kafka = Kafka::options().nodes(1).routes(0).start().await.unwrap();
    let messaging = connect(&kafka.url()).await;
    let topic = unique("topic");
    let mut spec = TopicSpec::default();
    spec.partitions = PARTITIONS;
    messaging.admin().ensure_topic(&topic, &spec).await.unwrap();
    let seen = Seen::new();
    let first = messaging.run_one(seen.quick("joiners", &topic)).await.unwrap();
    let node = &kafka.nodes().unwrap()[0];
    let mut round = 0;
    for moment in MOMENTS {
        publish(&messaging, &topic, KEYS, round..round + 1).await;
        let joined = connect(&kafka.url()).await;
        let second = joined.run_one(seen.quick("joiners", &topic)).await.unwrap();
        // Not an event to wait for: the test is about whatever the member is at then.
        tokio::time::sleep(Duration::from_millis(moment)).await;
        node.stop().await.unwrap();
        node.start().await.unwrap();
        publish(&messaging, &topic, KEYS, round + 1..round + 2).await;
        round += 2;
        seen.until((KEYS * round) as usize).await;
        stop(second).await;
        joined.close(Duration::from_secs(10)).await.unwrap();
    }
    stop(first).await;
    seen.assert_in_order();
    messaging.close(Duration::from_secs(10)).await.unwrap();
}
